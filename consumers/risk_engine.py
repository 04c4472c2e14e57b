"""The decisions over a stream of orders, controls and market events, live or replayed: the same code over the same state.

    engine = RiskEngine(names, accounts, currency, roles)     roles: "orders", "control" or "events" of each input
    made = engine.apply(address, n, source, epoch)            RISK_DECISION rows in engine.rows[:made]

**Why it is right** All that a decision depends on is in the state and in the records: who sets a limit or halts the trading
does so by a CONTROL record. An instrument's venue and symbol never change; its scales are looked up by version.

**Failure** Records lost to overwriting: of events, no top of that input is known until its next quote; of orders or
controls, the state is no longer known: HALTED. A restart with `halt_on_restart` is HALTED until it is resumed.
"""

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import structlog

from consumers.rates import DIGITS, PRICE_END, Rate
from consumers.risk_booking import begin_day
from consumers.risk_kernels import decide
from consumers.risk_limits import join, value_of, write_least
from consumers.risk_market import follow
from consumers.risk_memory import RiskMemory, number_of
from consumers.risk_opening import openings, settle, take_opening
from consumers.risk_scales import Named, Names, link_rates, take_scales, take_version
from consumers.risk_state import (
    COUNTERS,
    CURRENCY_RATE,
    INSTRUMENT_RISK,
    KEPT,
    MONEY_DIGITS,
    OPEN_ORDER,
    SCOPE_ROW,
    Request,
)
from layouts import (
    APPLIED_INPUTS,
    CONTROL,
    EVENT,
    ORDER,
    RISK_DECISION,
    Action,
    Check,
    Kind,
    Opening,
    RiskReason,
    Scope,
    TradingState,
    Verdict,
    abi_hash,
)
from shm._native import ffi, lib
from shm.njit import address_of, entry_point

BATCH_RECORDS = 256
_SCALED_BY = {"orders": ORDER, "control": CONTROL, "events": EVENT}
_ONE_FOR_ALL = {
    Check.COLLAR: "collar_bp",
    Check.ORDER_RATE: "rate_orders",
    Check.BOOK_AGE: "book_age_ns",
    Check.RATE_AGE: "rate_age_ns",
}
log = structlog.get_logger()


class RiskEngine:
    """All accounts and instruments of one risk worker."""

    output = RISK_DECISION
    batch_records = BATCH_RECORDS
    unfinished = False

    def __init__(
        self,
        names: Names,
        accounts: Sequence[int],
        currency: str,
        roles: Sequence[str],
        halt_on_restart: bool = True,
    ) -> None:
        self._names, self._accounts, self._currency = names, tuple(accounts), currency
        self._roles, self._halts = tuple(roles), halt_on_restart
        self.identity = _identity(self._accounts, currency, self._roles)
        self.memory = RiskMemory()
        self._context = self.memory.context
        self._context["base_currency"] = currency.encode()
        self.rows = np.zeros(BATCH_RECORDS, RISK_DECISION)
        """Where `apply` puts the rows of one batch."""
        self._decide, self._follow, self._day, self._settle = _entries()

    @property
    def counters(self) -> dict[str, int]:
        """What was counted; part of the state, so that a replay counts nothing twice."""
        found = {name: int(self._context[name][0]) for name in COUNTERS}
        state = {"trading_state": int(self._context["trading_state"][0])}
        return found | state | {"orders_open": int(self._context["orders_open"][0])}

    @property
    def trading_state(self) -> TradingState:
        """What orders may do now."""
        return TradingState(int(self._context["trading_state"][0]))

    def apply(self, records: int, n: int, source: int, epoch: int) -> int:
        """Apply `n` records at an address, at most a batch; return how many rows `self.rows` now begins with."""
        c = self._context
        c["source"], c["epoch"] = source, epoch
        role = self._roles[source]
        if role == "control":
            made = self._take_controls(records, n, source, epoch)
        else:
            made = self._run(self._decide if role == "orders" else self._follow, records, n)
        if n:
            self.note_applied(source, _last_seq(records, n, _SCALED_BY[role]))
        return made

    def note_applied(self, source: int, seq: int) -> None:
        """Remember how far an input was applied, for the rows to tell."""
        self._context["applied"][0][source] = seq

    def forget(self, source: int) -> None:
        """Records of this input were lost."""
        if self._roles[source] == "events":
            mine = self.memory.instruments["source"] == source
            self.memory.instruments["top_known"][mine] = 0
            return
        self._context["trading_state"] = TradingState.HALTED
        log.error("orders or controls were lost: HALTED until resumed", input=source)

    def wanting(self, _source: int) -> list[int]:
        """Tops come by themselves with the next quote."""
        return []

    def idle(self) -> None:
        """Nothing is due."""

    def restarted(self, record: np.ndarray) -> None:
        """Put into the RESTART record what this restart did to the trading."""
        if self._halts:
            self._context["trading_state"] = TradingState.HALTED
        record["trading_state"] = self._context["trading_state"]

    def follow_restart(self, row: np.void) -> None:
        """An earlier process began here."""
        self._context["trading_state"] = row["trading_state"]

    def to_bytes(self) -> bytes:
        """Return the state."""
        return self.memory.to_bytes()

    def load(self, image: bytes) -> None:
        """Go on from what `to_bytes` returned; this engine must not have been used."""
        self.memory.load(image)

    # ---- what the kernel cannot do by itself ----

    def _run(self, entry: int, records: int, n: int) -> int:
        c = self._context
        rows = address_of(self.rows)
        made: int = lib.tr_call_4(entry, address_of(c), records, n, rows)
        while int(c["request"][0]) != Request.NOTHING:
            self._serve(Request(int(c["request"][0])), records)
            room = rows + made * RISK_DECISION.itemsize
            made += lib.tr_call_4(entry, address_of(c), records, n, room)
        return made

    def _serve(self, request: Request, records: int) -> None:
        c = self._context
        instrument_id, version = int(c["request_id"][0]), int(c["request_version"][0])
        if request is Request.NEW_VERSION:
            take_version(self.memory, self._names, instrument_id, version)
            return
        if request is Request.NEW_DAY:
            lib.tr_call_4(self._day, address_of(c), version, self.memory.n_rows, 0)
            return
        at = records + int(c["request_row"][0]) * ORDER.itemsize
        order = np.frombuffer(ffi.buffer(ffi.cast("char *", at), ORDER.itemsize), ORDER)
        if request is Request.OPENING:
            self._open(order)
        elif request is Request.NEW_SCALES:
            c["refusal"] = take_scales(self.memory, self._names, instrument_id, order)
        else:
            c["refusal"] = self._add_position(instrument_id, order)

    def _open(self, record: np.ndarray) -> None:
        """Take over what an OPENING tells; if that cannot be, nothing may be traded in this run."""
        c = self._context
        reason, number = take_opening(self.memory, self._names, self._add_position, record)
        if number >= 0 and reason is RiskReason.NONE:
            with_cash = int(record["reason"][0] == Opening.HELD)
            if lib.tr_call_4(self._settle, address_of(c), number, with_cash, 0):
                reason = RiskReason.OVERFLOW
        if reason is not RiskReason.NONE:
            c["openings_refused"] += 1
            c["trading_state"] = TradingState.HALTED
            log.error("an opening position was refused: HALTED", reason=reason.name)
        c["refusal"], c["opened"] = reason, 1

    @property
    def openings_refused(self) -> int:
        """How many OPENINGs could not be taken; above 0: what is held is not known."""
        return int(self._context["openings_refused"][0])

    def openings(self) -> np.ndarray:
        """Return the OPENING records that another run begins with (consumers.carried)."""
        return openings(self.memory)

    def _add_position(
        self, instrument_id: int, order: np.ndarray, named: Named | None = None
    ) -> RiskReason:
        """Make the rows of a position that is new."""
        account = int(order["account"][0])
        if account not in self._accounts:
            return RiskReason.UNKNOWN_ACCOUNT
        named = named or self._names(instrument_id, 0)
        if named is None:
            return RiskReason.UNKNOWN_INSTRUMENT
        currency = bytes(order["quote_currency"][0]).decode("ascii", "replace")
        currency_no = self.memory.currency_number(currency)
        if currency_no is None:
            return RiskReason.OTHER_CURRENCY
        wanted = (
            (Scope.VENUE, account, named.venue, number_of(self.memory.venues, named.venue)),
            (Scope.CURRENCY, account, currency, currency_no),
            (Scope.ACCOUNT, account, "", account),
            (Scope.PORTFOLIO, 0, "", 0),
        )
        above = [self.memory.scope_row(*each) for each in wanted]
        money = above
        if currency != self._currency:
            mixed = (Scope.VENUE, Scope.ACCOUNT, Scope.PORTFOLIO)
            money = [
                self.memory.part_row(each, currency, currency_no) if scope in mixed else each
                for each, (scope, *_) in zip(above, wanted, strict=True)
            ]
        name = f"{named.venue}:{named.symbol}"
        number = self.memory.scope_row(Scope.INSTRUMENT, account, name, instrument_id)
        st = self.memory.instruments[instrument_id : instrument_id + 1]
        row = self.memory.scopes[number : number + 1]
        row["instrument_id"], row["next_row"] = instrument_id, st["first_row"]
        row["above"][0], row["money_rows"][0] = above, money
        row["qty_unit"] = 10 ** (MONEY_DIGITS - int(st["qty_scale"][0]))
        st["first_row"] = number + 1
        write_least(self.memory.scopes, number)
        return RiskReason.NONE

    def _take_controls(self, records: int, n: int, source: int, epoch: int) -> int:
        """Apply CONTROL records, a decision each."""
        buffer = ffi.buffer(ffi.cast("char *", records), n * CONTROL.itemsize)
        made = 0
        for record in np.frombuffer(buffer, CONTROL):
            if record["kind"] != Kind.CONTROL:
                continue
            seq = (int(record["stamp"]) - 2) >> 1
            self.note_applied(source, seq)
            reason = self._take_control(record)
            self._context["controls_refused" if reason else "controls_applied"] += 1
            self._context["decisions"] += 1
            row = self.rows[made : made + 1]
            row.view(np.int64)[:] = 0
            for name in ("ts_event", "ts_recv", "instrument_id", "account"):
                row[name] = record[name]
            row["kind"], row["cause_kind"], row["input"] = Kind.RISK_DECISION, Kind.CONTROL, source
            row["source_epoch"], row["source_seq"], row["source_count"] = epoch, seq, 1
            row["applied_seq"] = self._context["applied"]
            row["decision_no"] = self._context["decisions"]
            row["verdict"] = Verdict.REJECTED if reason else Verdict.CONTROL_APPLIED
            row["reason"], row["trading_state"] = reason, self._context["trading_state"]
            row["orders_open"] = self._context["orders_open"]
            made += 1
        return made

    def _take_control(self, record: np.void) -> RiskReason:
        action, check = int(record["action"]), int(record["check"])
        states = {
            Action.HALT: TradingState.HALTED,
            Action.REDUCE: TradingState.REDUCING,
            Action.RESUME: TradingState.ACTIVE,
        }
        if action == Action.RESUME and self._context["openings_refused"][0]:
            return RiskReason.INPUT_LOST
        if action in states:
            self._context["trading_state"] = states[Action(action)]
            return RiskReason.NONE
        if action in (Action.INPUT, Action.ACCOUNT):
            return RiskReason.NONE
        if action in (Action.SET_RATE, Action.CLEAR_RATE):
            return self._take_rate(record)
        if action not in (Action.SET_LIMIT, Action.CLEAR_LIMIT):
            return RiskReason.BAD_LIMIT
        if check in _ONE_FOR_ALL:
            value = 0 if action == Action.CLEAR_LIMIT else value_of(record, check)
            if value is None:
                return RiskReason.BAD_LIMIT
            self._context[_ONE_FOR_ALL[Check(check)]] = value
            if check == Check.ORDER_RATE:
                self._context["rate_window_ns"] = record["window_ns"]
            return RiskReason.NONE
        reason = self.memory.limits.take(record, self._currency)
        if reason is RiskReason.NONE:
            self.memory.write_limits()
        return reason

    def _take_rate(self, record: np.void) -> RiskReason:
        """Take another rate of a currency, or none."""
        currency = bytes(record["currency"]).decode("ascii", "replace")
        rate = None
        if record["action"] == Action.SET_RATE:
            price = join(int(record["value_low"]), int(record["value_high"]))
            instrument = bytes(record["scope_name"]).decode("utf-8", "replace")
            rate = Rate(instrument, price, int(record["value_scale"]))
            if not (0 < price < PRICE_END if not instrument else price == 0) or rate.scale > DIGITS:
                return RiskReason.BAD_RATE
        elif currency not in self.memory.conversions:
            return RiskReason.BAD_RATE
        if currency in ("", self._currency) or not self.memory.convert_by(currency, rate):
            return RiskReason.BAD_RATE
        seen = np.flatnonzero(self.memory.instruments["seen"]).tolist()
        link_rates(self.memory, self._names, seen)
        return RiskReason.NONE


def _last_seq(records: int, n: int, dtype: np.dtype) -> int:
    """Return the seq of the last of `n` records at an address."""
    word = ffi.cast("int64_t *", records + (n - 1) * dtype.itemsize)
    return (int(word[0]) - 2) >> 1


def _identity(accounts: Sequence[int], currency: str, roles: Sequence[str]) -> str:
    """Name the meaning of the state's bytes: a checkpoint of another one is refused."""
    dtypes = (INSTRUMENT_RISK, SCOPE_ROW, OPEN_ORDER, CURRENCY_RATE)
    described = ([each.descr for each in dtypes], KEPT)
    text = repr((described, sorted(accounts), currency, list(roles), APPLIED_INPUTS))
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return f"risk {abi_hash(RISK_DECISION).hex()} {digest}"


@cache
def _entries() -> tuple[int, int, int, int]:
    return (
        entry_point(decide),
        entry_point(follow),
        entry_point(begin_day),
        entry_point(settle),
    )
