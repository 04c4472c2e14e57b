"""The control ring: what an operator orders of the trading becomes a CONTROL record, written by the supervisor alone.

**Protocol** A new ring begins with what risk reads and who may trade, then the limits and rates of the configuration, each a
record of its own, then the state that it wants (`[risk] start`): until then nothing may be traded. A supervisor that comes back
goes on writing: limits and rates that were changed meanwhile stay changed until `down`.
"""

import os
import pwd
from typing import Any

import msgspec
import numpy as np
import structlog

from collectors.order_requests import Refused, digits_of
from consumers import rates
from consumers.risk_limits import MONEY_CHECKS, QTY_CHECKS, split
from consumers.risk_state import MONEY_DIGITS, RATE_PLACES
from layouts import APPLIED_INPUTS, CONTROL, Action, Check, Kind, Scope
from ops import control
from ops.opening import Opened, prepare
from ops.options import CONTROL_SLOTS, Topology
from ops.options_trading import LimitOptions, RiskOptions
from shm.clock import now_ns
from shm.errors import ConfigurationError
from shm.producer import Producer, open_ring
from shm.region import ring_name

WORKER = RING = "control"
VERBS = ("halt", "reduce", "resume", "limit", "rate")
_STARTS = {"active": Action.RESUME, "reducing": Action.REDUCE, "halted": Action.HALT}
_NS = 10**9
_WHY_BYTES = CONTROL["why"].itemsize
log = structlog.get_logger()


class Order(msgspec.Struct, kw_only=True):
    """What is ordered: `value` a decimal string, of a rate also an instrument ("" clears limit or rate), `name` of a venue,
    currency or "<venue>:<symbol>"; `currency`: that a rate is of.
    """

    who: str = ""
    why: str = ""
    check: str = ""
    scope: str = ""
    account: str = ""
    name: str = ""
    value: str = ""
    currency: str = ""
    window_s: float = 1.0


def me() -> str:
    """Return the user that runs this process, with its uid."""
    uid = os.getuid()
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"({uid})"


class ControlRing:
    """The supervisor's hand on the trading."""

    def __init__(self, topology: Topology, opened: Opened) -> None:
        self._risk, self._accounts = topology.risk, topology.orders.accounts
        name = ring_name(topology.instance, WORKER, RING)
        self._ring: Producer = open_ring(name, CONTROL, CONTROL_SLOTS, topology.state_path)
        if self._ring.is_restart:
            record = np.zeros(1, CONTROL)
            record["kind"] = Kind.RESTART
            record["control_no"], record["value_low"] = self._ring.epoch, self._ring.previous_epoch
            self._ring.publish_batch(record)
        else:
            for record in configured(topology):
                self._publish(record)
            for order in orders_of(self._risk):
                verb = "rate" if order.currency else "limit"
                self._publish(control_of(verb, order, self._risk, self._accounts))
            start = control_of("resume", Order(who="configuration"), self._risk, self._accounts)
            start["action"] = _STARTS[self._risk.start]
            if opened.why and (self._risk.halt_on_restart or not opened.is_known):
                start["action"], start["why"] = Action.HALT, opened.why.encode()[:_WHY_BYTES]
            self._publish(start)

    def order(self, verb: str, details: dict[str, Any]) -> int:
        """Write what is ordered; returns its seq in control.control.

        Raises:
            ConfigurationError: it makes no sense; nothing was written.
        """
        try:
            order = msgspec.convert(details, Order)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"{verb}: {error}") from None
        return self._publish(control_of(verb, order, self._risk, self._accounts))

    def beat(self) -> None:
        """Show that the producer lives."""
        self._ring.heartbeat()

    def stop(self) -> None:
        """Say that nothing more comes, and unmap."""
        if self._ring.handle is not None:
            self._ring.stop()
            self._ring.close()

    def _publish(self, record: np.ndarray) -> int:
        record["control_no"] = self._ring.next_seq
        record["ts_event"] = record["ts_recv"] = now_ns()
        return self._ring.publish_batch(record)


def open_control(config: dict[str, Any]) -> ControlRing | None:
    """Bring over what the last run held, and return the control ring of an instance with risk, None for one without."""
    topology = msgspec.convert(config, Topology)
    opened = prepare(topology)
    if opened.why:
        log.error("trading begins HALTED", why=opened.why, positions_known=opened.is_known)
    elif opened.records:
        log.info("positions carried over", records=opened.records)
    return ControlRing(topology, opened) if topology.risk.enabled else None


def order(ring: ControlRing | None, verb: str, details: dict[str, Any]) -> control.Answer:
    """Do what a client of the supervisor orders."""
    if ring is None:
        why = "nothing is traded here: risk.enabled is false, or the instance is going down"
        return control.Answer(ok=False, error=why)
    try:
        seq = ring.order(verb, details)
    except ConfigurationError as error:
        return control.Answer(ok=False, error=str(error))
    log.warning("ordered", verb=verb, **details)
    return control.Answer(seq=seq)


def configured(topology: Topology) -> list[np.ndarray]:
    """Return the records that say what risk reads and who may trade, so that its decisions can be made again later."""
    found = []
    rings = [(Action.INPUT, i, 0, ring) for i, ring in enumerate(topology.inputs_of(topology.risk))]
    accounts = [
        (Action.ACCOUNT, 0, number, name) for name, number in topology.orders.accounts.items()
    ]
    for action, number, account, name in [*rings, *accounts]:
        record = np.zeros(1, CONTROL)
        record["kind"], record["action"], record["value_low"] = Kind.CONTROL, action, number
        record["account"], record["scope_name"] = account, name.encode()
        record["currency"], record["who"] = topology.risk.currency.encode(), b"configuration"
        found.append(record)
    return found


def orders_of(risk: RiskOptions) -> list[Order]:
    """Return what a configuration orders, limit by limit and rate by rate."""
    general = [
        Order(check="collar", value=str(risk.collar_bp)),
        Order(check="order_rate", value=str(risk.rate_orders), window_s=risk.rate_window_s),
        Order(check="book_age", value=str(round(risk.book_age_s * _NS))),
        Order(check="rate_age", value=str(round(risk.rate_age_s * _NS))),
    ]
    given = [Order(currency=currency, value=text) for currency, text in risk.rates.items()]
    found = [*general, *(_order_of(limit) for limit in risk.limits), *given]
    return [msgspec.structs.replace(order, who="configuration") for order in found]


def control_of(verb: str, order: Order, risk: RiskOptions, accounts: dict[str, int]) -> np.ndarray:
    """Return an order as a CONTROL record (array of one).

    Raises:
        ConfigurationError: what is wrong with it.
    """
    record = np.zeros(1, CONTROL)
    record["kind"], record["currency"] = Kind.CONTROL, risk.currency.encode()
    for field, text in (("who", order.who), ("why", order.why), ("scope_name", order.name)):
        width = record.dtype[field].itemsize
        if len(text.encode()) > width:
            raise ConfigurationError(f"{field} {text[:40]!r}...: {width} bytes at most")
        record[field] = text.encode()
    if verb == "rate":
        return _rate_of(record, order, risk)
    if verb != "limit":
        record["action"] = Action[verb.upper()]
        return record
    record["action"] = Action.SET_LIMIT if order.value else Action.CLEAR_LIMIT
    check = _member(Check, order.check, "check")
    record["check"] = check
    if Check.ORDER_SIZE <= check <= Check.DAILY_LOSS:
        scope = _member(Scope, order.scope, "scope")
        record["scope"], record["account"] = scope, _account(order, scope, accounts)
        if scope == Scope.CURRENCY and order.name:
            record["currency"] = order.name.encode()
    elif order.scope or order.name or order.account:
        raise ConfigurationError(
            f"limit {order.check}: one for all orders; leave scope, name and account out"
        )
    if order.value:
        value, digits = _value(order, check)
        record["value_low"], record["value_high"] = split(value)
        record["value_scale"], record["window_ns"] = digits, round(order.window_s * _NS)
    return record


def _rate_of(record: np.ndarray, order: Order, risk: RiskOptions) -> np.ndarray:
    """Fill in the rate of a currency, or that it has none any more."""
    if mistakes := rates.mistakes_of("rate", {order.currency: order.value or "1"}, risk.currency):
        raise ConfigurationError("; ".join(mistakes))
    record["currency"] = order.currency.encode()
    record["action"] = Action.SET_RATE if order.value else Action.CLEAR_RATE
    if order.value:
        rate = rates.parse_rate(order.value)
        if len(rate.instrument.encode()) > record.dtype["scope_name"].itemsize:
            raise ConfigurationError(f"rate {order.value[:40]!r}...: too long a name")
        record["scope_name"] = rate.instrument.encode()
        record["value_low"], record["value_high"] = split(rate.price)
        record["value_scale"] = rate.scale
    return record


def mistakes_of(topology: Topology) -> list[str]:
    """Return a line for each thing that is wrong with [orders] and [risk]."""
    risk, orders = topology.risk, topology.orders
    found = []
    numbers = list(orders.accounts.values())
    if len(set(numbers)) != len(numbers) or not numbers:
        found.append(
            f"orders.accounts = {orders.accounts}: different numbers, at least one, expected"
        )
    for limit in risk.limits:
        try:
            control_of("limit", _order_of(limit), risk, orders.accounts)
        except ConfigurationError as error:
            words = " ".join(filter(None, [limit.check, limit.scope, limit.name, limit.account]))
            found.append(f"risk.limits: {words}: {error}")
    found += rates.mistakes_of("risk.rates", risk.rates, risk.currency)
    if not risk.enabled:
        return found
    if not orders.enabled:
        found.append("risk.enabled: there is nothing to decide on while orders.enabled is false")
    events = topology.expand(risk.inputs)
    if len(events) > APPLIED_INPUTS - 2:
        found.append(
            f"risk.inputs: {len(events)} rings ({', '.join(events)}); a decision tells how far {APPLIED_INPUTS - 2} of them "
            "were: name those that are traded"
        )
    return found


def _order_of(limit: LimitOptions) -> Order:
    return msgspec.convert(msgspec.to_builtins(limit), Order)


def _member(of: Any, text: str, what: str) -> Any:
    names = [each.name.lower() for each in of if each.value]
    if text not in names:
        raise ConfigurationError(f"{what} {text!r}: one of {', '.join(names)} expected")
    return of[text.upper()]


def _account(order: Order, scope: Scope, accounts: dict[str, int]) -> int:
    if not order.account:
        return 0
    if scope == Scope.PORTFOLIO:
        raise ConfigurationError(
            f"account {order.account!r}: the portfolio is all accounts; leave it out"
        )
    if order.account not in accounts:
        raise ConfigurationError(
            f"account {order.account!r}: not one of orders.accounts ({', '.join(accounts)})"
        )
    return accounts[order.account]


def _value(order: Order, check: Check) -> tuple[int, int]:
    """Return a limit's value as an integer and its decimals."""
    most = MONEY_DIGITS if check in (*QTY_CHECKS, *MONEY_CHECKS) else 0
    digits = min(len(order.value.partition(".")[2].rstrip("0")), most)
    try:
        value = digits_of(order.value, digits, "value")
    except Refused as refused:
        raise ConfigurationError(f"limit {order.check}: {refused}") from None
    limit = {Check.ORDER_RATE: RATE_PLACES, Check.COLLAR: 10_000}.get(check, value)
    if value > limit:
        raise ConfigurationError(f"limit {order.check}: value {order.value!r}: at most {limit}")
    return value, digits
