"""A desk for the tests of risk: an engine, and short words for what comes to it."""

from typing import Any

import numpy as np

from consumers.risk_engine import RiskEngine
from consumers.risk_limits import join
from consumers.risk_scales import Named
from layouts import (
    CONTROL,
    EVENT,
    ORDER,
    Action,
    Check,
    InstrumentState,
    Kind,
    Mark,
    OrderType,
    RiskReason,
    Scope,
    TradingState,
    Verdict,
    make_marks,
)
from shm.njit import address_of

ROLES = ("orders", "control", "events", "events")
ORDERS, CONTROLS, EVENTS, OTHER_EVENTS = range(4)
NAMES = {
    1: Named("north", "A/USD", 2, 3),
    2: Named("north", "B/USD", 2, 3),
    3: Named("south", "A/USD", 2, 3),
    4: Named("south", "A/EUR", 2, 3),
    5: Named("north", "EUR/USD", 2, 3),
    6: Named("south", "A/JPY", 2, 3),
}
CURRENCIES = {4: "EUR", 6: "JPY"}
"""Of the instruments that are not quoted in USD."""
ACCOUNTS = (1, 2)
DAY_NS = 86_400_000_000_000
START_NS = 20_000 * DAY_NS + 1_000


def names(instrument_id: int, version: int) -> Named | None:
    """Tell an instrument; its version 2 has one more digit on each side."""
    found = NAMES.get(instrument_id)
    if found is None or version < 2:
        return found
    return found._replace(price_scale=found.price_scale + 1, qty_scale=found.qty_scale + 1)


class Desk:
    """An engine that is fed by hand."""

    def __init__(self, halt_on_restart: bool = True) -> None:
        self.engine = RiskEngine(names, ACCOUNTS, "USD", ROLES, halt_on_restart)
        self.engine.memory.context["trading_state"] = TradingState.ACTIVE
        self.seqs = [0] * len(ROLES)
        self.ts = START_NS
        self.orders = 0
        self.journal: list[tuple[int, np.ndarray]] = []
        self.decisions: list[np.ndarray] = []

    def feed(self, source: int, record: np.ndarray) -> np.ndarray:
        """Apply one record; return its rows."""
        self.seqs[source] += 1
        record["stamp"] = 2 * self.seqs[source] + 2
        self.journal.append((source, record.copy()))
        made = self.engine.apply(address_of(record), 1, source, 1)
        rows: np.ndarray = self.engine.rows[:made].copy()
        self.decisions.append(rows)
        return rows

    def event(self, kind: Kind, instrument_id: int, state: int = 1, **words: int) -> None:
        """Apply one EVENT record."""
        record = np.zeros(1, EVENT)
        record["kind"], record["instrument_id"] = kind, instrument_id
        record["ts_event"] = record["ts_recv"] = self.ts
        record["marks"] = make_marks(InstrumentState(state), last_in_frame=True)
        for name, value in words.items():
            record[name] = value
        self.feed(EVENTS if instrument_id in (0, 1, 2, 5) else OTHER_EVENTS, record)

    def quote(self, instrument_id: int, bid: int, ask: int, state: int = 1, qty: int = 5) -> None:
        """Apply a QUOTE."""
        words = {"word_0": bid, "word_1": qty, "word_2": ask, "word_3": qty}
        self.event(Kind.QUOTE, instrument_id, state, **words)

    def open(self, instrument_id: int = 1, bid: int = 9_990, ask: int = 10_010) -> None:
        """Make an instrument LIVE with a top around 100.00."""
        self.event(Kind.SNAPSHOT_END, instrument_id, word_2=1)
        self.quote(instrument_id, bid, ask)

    def order(self, qty: int, price: int = 10_000, side: int = 1, **fields: Any) -> np.void:
        """Apply an ORDER of the next id; return its decision."""
        self.orders += 1
        return self.record(Kind.ORDER, qty, price, side, **({"order_id": self.orders} | fields))

    def fill(self, qty: int, price: int = 10_000, side: int = 1, **fields: Any) -> np.void:
        """Apply a FILL, of the last order unless another one is named."""
        fields = {"order_id": self.orders, "fee_currency": b"USD"} | fields
        return self.record(Kind.FILL, qty, price, side, **fields)

    def cancel(self, order_id: int, **fields: Any) -> np.void:
        """Apply a CANCEL."""
        return self.record(Kind.CANCEL, 0, 0, 1, order_id=order_id, **fields)

    def record(self, kind: Kind, qty: int, price: int, side: int, **fields: Any) -> np.void:
        """Apply one record of the orders ring; return its decision."""
        record = np.zeros(1, ORDER)
        record["kind"], record["qty"], record["price"] = kind, qty, price
        record["marks"] = {1: int(Mark.BUY), -1: int(Mark.SELL), 0: 0}[side]
        record["instrument_id"], record["account"], record["instrument_version"] = 1, 1, 1
        record["order_type"] = OrderType.LIMIT
        record["price_scale"], record["qty_scale"], record["multiplier"] = 2, 3, 1
        record["quote_currency"], record["client_order_id"] = b"USD", b"client's own"
        record["ts_event"] = record["ts_recv"] = self.ts
        for name, value in fields.items():
            record[name] = value
        rows = self.feed(ORDERS, record)
        assert len(rows) == 1
        row: np.void = rows[0]
        return row

    def control(self, action: Action, **fields: Any) -> np.void:
        """Apply a CONTROL record; return its decision."""
        record = np.zeros(1, CONTROL)
        record["kind"], record["action"] = Kind.CONTROL, action
        record["currency"], record["ts_recv"] = b"USD", self.ts
        for name, value in fields.items():
            record[name] = value
        row: np.void = self.feed(CONTROLS, record)[0]
        return row

    def rate(self, currency: str, price: int = 0, digits: int = 0, instrument: str = "") -> np.void:
        """Set a rate; return its decision."""
        return self.control(
            Action.SET_RATE,
            currency=currency.encode(),
            value_low=price,
            value_scale=digits,
            scope_name=instrument.encode(),
        )

    def limit(
        self,
        check: Check,
        value: int,
        scope: Scope | int = Scope.INSTRUMENT,
        digits: int = 0,
        name: str = "",
        account: int = 0,
        **fields: Any,
    ) -> np.void:
        """Set a limit; return its decision."""
        return self.control(
            Action.SET_LIMIT,
            check=check,
            scope=scope,
            value_low=value,
            value_scale=digits,
            scope_name=name.encode(),
            account=account,
            **fields,
        )


def accepted(row: np.void) -> bool:
    """Tell whether an order was accepted; it must be a decision on an order."""
    assert row["verdict"] in (Verdict.ACCEPTED, Verdict.REJECTED)
    assert (row["verdict"] == Verdict.ACCEPTED) == (row["reason"] == RiskReason.NONE)
    return bool(row["verdict"] == Verdict.ACCEPTED)


def reason(row: np.void) -> RiskReason:
    """Return what refused."""
    return RiskReason(int(row["reason"]))


def told(row: np.void, name: str) -> int:
    """Return a 128-bit column."""
    return join(int(row[f"{name}_low"]), int(row[f"{name}_high"]))
