"""Verbs that trade and that keep trading safe: order, halt, reduce, resume, limits, rates, risk."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from ops import control, show
from ops.cli_app import OK, UNWELL, Flag, InstanceName, Json, app
from shm.errors import ConfigurationError
from shm.registry import DEFAULT_INSTANCE

order = App(
    name="order", help="Place and cancel orders, list what stands.", help_format="plaintext"
)
limits = App(name="limits", help="Show and change the limits of risk.", help_format="plaintext")
rates = App(
    name="rates",
    help="Show and change the rates that limits over several currencies convert by.",
    help_format="plaintext",
)
risk = App(name="risk", help="Look at the decisions of risk.", help_format="plaintext")
for _each in (order, limits, rates, risk):
    app.command(_each)

Why = Annotated[str, Parameter(help="For the record.")]


@app.command
def halt(instance: InstanceName = DEFAULT_INSTANCE, why: Why = "", json: Json = False) -> int:
    """Let no order pass any more, at once; cancels pass. `tickring resume --yes` ends it."""
    return _order(instance, "halt", {"why": why}, json)


@app.command
def reduce(instance: InstanceName = DEFAULT_INSTANCE, why: Why = "", json: Json = False) -> int:
    """Let only those orders pass that make a position smaller; cancels pass."""
    return _order(instance, "reduce", {"why": why}, json)


@app.command
def resume(
    instance: InstanceName = DEFAULT_INSTANCE,
    yes: Annotated[bool, Flag] = False,
    why: Why = "",
    json: Json = False,
) -> int:
    """Let orders pass again, within the limits.

    Parameters
    ----------
    yes
        That it is meant.
    """
    if not yes:
        raise ConfigurationError("resume: orders will pass again; say so with --yes")
    return _order(instance, "resume", {"why": why}, json)


@limits.command(name="set")
def limits_set(
    check: str,
    value: str,
    scope: str = "",
    name: str = "",
    account: str = "",
    window_s: float = 1.0,
    instance: InstanceName = DEFAULT_INSTANCE,
    why: Why = "",
    json: Json = False,
) -> int:
    """Change a limit while it runs: `limits set exposure 250000 --scope account`.

    Parameters
    ----------
    check
        order_size, position_size, exposure, open_positions, daily_loss; or collar (hundredths of a percent), order_rate
        (orders in window_s), book_age (ns), rate_age (ns), which have no scope.
    value
        Decimal number, in the unit of the check.
    scope
        instrument, venue, currency, account or portfolio.
    name
        Of the venue, the currency, or "<venue>:<symbol>"; without it each one.
    account
        Of the topology; without it each one.
    window_s
        Window of order_rate, seconds.
    """
    if not value:
        raise ConfigurationError("value: a decimal number expected; `tickring limits clear` clears")
    named = {"check": check, "scope": scope, "name": name, "account": account}
    details = named | {"value": value, "window_s": window_s, "why": why}
    return _order(instance, "limit", details, json)


@limits.command(name="clear")
def limits_clear(
    check: str,
    scope: str = "",
    name: str = "",
    account: str = "",
    instance: InstanceName = DEFAULT_INSTANCE,
    why: Why = "",
    json: Json = False,
) -> int:
    """Take a limit back, as it was set."""
    details = {"check": check, "scope": scope, "name": name, "account": account, "why": why}
    return _order(instance, "limit", details, json)


@limits.command(name="show")
def limits_show(instance: InstanceName = DEFAULT_INSTANCE, json: Json = False) -> int:
    """List the limits in force: who set each, and why."""
    from ops import trade_log

    rows = trade_log.limits_in_force(instance)
    if json:
        show.as_json(rows)
    else:
        columns = ("check", "scope", "name", "account", "value", "unit", "who", "why")
        show.table(columns, [[row[column] for column in columns] for row in rows])
    return OK


@rates.command(name="set")
def rates_set(
    currency: str,
    rate: str,
    instance: InstanceName = DEFAULT_INSTANCE,
    why: Why = "",
    json: Json = False,
) -> int:
    """Change what one unit of a currency is worth in the currency of risk: `rates set EUR 1.085`.

    Parameters
    ----------
    rate
        A decimal number, or the instrument whose mid it is: kraken:EUR/USD.
    """
    if not rate:
        raise ConfigurationError("rate: a number or an instrument; `tickring rates clear` clears")
    return _order(instance, "rate", {"currency": currency, "value": rate, "why": why}, json)


@rates.command(name="clear")
def rates_clear(
    currency: str, instance: InstanceName = DEFAULT_INSTANCE, why: Why = "", json: Json = False
) -> int:
    """Take a rate back: orders whose limits add up this currency and another one are refused."""
    return _order(instance, "rate", {"currency": currency, "why": why}, json)


@rates.command(name="show")
def rates_show(instance: InstanceName = DEFAULT_INSTANCE, json: Json = False) -> int:
    """List the rates in force: who set each, and why."""
    from ops import trade_log

    rows = trade_log.rates_in_force(instance)
    if json:
        show.as_json(rows)
    else:
        columns = ("currency", "rate", "who", "why")
        show.table(columns, [[row[column] for column in columns] for row in rows])
    return OK


@order.command(name="new")
def order_new(
    side: Literal["buy", "sell"],
    qty: str,
    instrument: str,
    price: str = "",
    client_id: str = "",
    account: str = "main",
    time_in_force: Literal["gtc", "ioc", "fok"] = "gtc",
    reduce_only: Annotated[bool, Flag] = False,
    post_only: Annotated[bool, Flag] = False,
    instance: InstanceName = DEFAULT_INSTANCE,
    json: Json = False,
) -> int:
    """Place an order and say what risk decided: `order new buy 0.5 kraken:BTC/USD 63000.0`. Exit 1 where it was rejected.

    Parameters
    ----------
    price
        Without one it is a market order.
    client_id
        Your own name of the order: asked again with the same one, nothing is placed twice.
    """
    import uuid

    from collectors.order_requests import New

    asked = New(
        client_order_id=client_id or uuid.uuid4().hex,
        account=account,
        instrument=instrument,
        side=side,
        qty=qty,
        price=price,
        type="limit" if price else "market",
        time_in_force=time_in_force,
        reduce_only=reduce_only,
        post_only=post_only,
    )
    return _request(instance, asked, json)


@order.command(name="cancel")
def order_cancel(
    order_id: int, instance: InstanceName = DEFAULT_INSTANCE, json: Json = False
) -> int:
    """Cancel an order; a cancel always passes."""
    from collectors.order_requests import Cancel

    return _request(instance, Cancel(order_id=order_id), json)


@order.command(name="fill")
def order_fill(
    order_id: int,
    qty: str,
    price: str,
    fee: str = "0",
    instance: InstanceName = DEFAULT_INSTANCE,
    json: Json = False,
) -> int:
    """Report a test fill of an order (orders.test_fills = true)."""
    from collectors.order_requests import Fill

    return _request(instance, Fill(order_id=order_id, qty=qty, price=price, fee=fee), json)


@order.command(name="list")
def order_list(instance: InstanceName = DEFAULT_INSTANCE, json: Json = False) -> int:
    """List the orders that were neither filled nor cancelled, with what risk decided of each."""
    from collectors.order_requests import List
    from ops import trade_log

    lines = trade_log.ask(instance, List()).orders
    verdicts = trade_log.verdicts(instance)
    if json:
        show.as_json(
            [{"order": line, "verdict": verdicts.get(line.order_id, "")} for line in lines]
        )
    else:
        rows: list[list[Any]] = [
            [
                *(each.order_id, each.account, each.instrument, each.side, each.qty, each.open_qty),
                *(each.price, verdicts.get(each.order_id), each.client_order_id),
            ]
            for each in lines
        ]
        columns = [
            "id",
            "account",
            "instrument",
            "side",
            "qty",
            "open",
            "price",
            "risk",
            "client id",
        ]
        show.table(columns, rows)
    return OK


@risk.command(name="verify")
def risk_verify(
    day: str = "",
    instance: InstanceName = DEFAULT_INSTANCE,
    data_dir: Path | None = None,
    json: Json = False,
) -> int:
    """Make the decisions again from recorded orders, controls and events. Exit 1 where one differs, or nothing was compared.

    Parameters
    ----------
    day
        UTC date, e.g. 2026-11-20: its decisions are compared. Without it all that are stored or in the rings.
    data_dir
        Where the recorder's files are, when the instance is down and its state directory is not the default one.
    """
    from ops import trade_verify

    found = trade_verify.verify_decisions(instance, day, data_dir)
    if json:
        show.as_json(found._asdict() | {"sound": found.is_sound})
    else:
        columns = ("decisions", "differing", "undecided")
        show.table(columns, [(found.decisions, found.differing, found.undecided)])
        for each in found.differences:
            show.complain(
                f"decision {each.decision_no}: {each.column} is {each.recorded}, made again {each.made_again}"
            )
    for sentence in found.incomplete:
        show.complain(sentence)
    if not found.decisions:
        show.complain("no decisions to compare: nothing is proved")
    return OK if found.is_sound else UNWELL


def _order(instance: str, verb: str, details: dict[str, Any], json: bool) -> int:
    """Have the supervisor write it, and wait until risk has applied it."""
    from ops import trade_log, trading

    answer = control.ask(instance, verb, [], details=details | {"who": trading.me()})
    if not answer.ok:
        raise ConfigurationError(f"{verb}: {answer.error}")
    return _tell(trade_log.decision_of(instance, trade_log.CONTROLS, answer.seq), verb, json)


def _request(instance: str, asked: Any, json: bool) -> int:
    from ops import trade_log

    answer = trade_log.ask(instance, asked)
    if answer.repeated:
        show.say(f"order {answer.order_id}: placed before under that client id")
        return OK
    decision = trade_log.decision_of(instance, trade_log.ORDERS, answer.seq)
    return _tell(decision, f"order {answer.order_id}", json)


def _tell(decision: dict[str, Any] | None, what: str, json: bool) -> int:
    if decision is None:
        show.complain(f"{what}: published, and not decided on within 5 s; see `tickring status`")
        return UNWELL
    if json:
        show.as_json(decision)
    else:
        why = f": {decision['reason']}" if decision["reason"] != "NONE" else ""
        bound = (
            f" ({decision['observed']} against a limit of {decision['limit']})"
            if decision["limit"]
            else ""
        )
        show.say(
            f"{what}: {decision['verdict']}{why}{bound}; trading is {decision['trading_state']}"
        )
    return UNWELL if decision["verdict"] == "REJECTED" else OK
