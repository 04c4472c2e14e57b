"""Fills and events for the tests of P&L, and what their rows have to be, in plain Python."""

from fractions import Fraction
from typing import Any

import numpy as np
from position_reference import Position

from layouts import EVENT, ORDER, InstrumentState, Kind, MarkKind, PositionFault, make_marks
from layouts.position import join_words

DAY_NS = 86_400 * 10**9
T0 = 20_000 * DAY_NS + 10**9
PRICE_SCALE, QTY_SCALE = 2, 3
WIDES = ("cost", "realised", "unrealised", "fees", "realised_total", "fees_total", "carried")
LIVE, SUSPECT = InstrumentState.LIVE, InstrumentState.SUSPECT


def fill(
    side: int,
    price: int,
    qty: int,
    ts: int = T0,
    account: int = 1,
    instrument_id: int = 1,
    **more: Any,
) -> np.ndarray:
    """Make one FILL; more: any field of ORDER."""
    record = np.zeros(1, ORDER)
    record["kind"], record["instrument_id"], record["account"] = Kind.FILL, instrument_id, account
    record["ts_event"] = record["ts_recv"] = ts
    record["marks"] = make_marks(InstrumentState.LIVE, side) if side else 0
    record["price"], record["qty"], record["multiplier"] = price, qty, 1
    record["price_scale"], record["qty_scale"] = PRICE_SCALE, QTY_SCALE
    record["quote_currency"] = record["fee_currency"] = b"USD"
    record["instrument_version"] = 1
    for name, value in more.items():
        record[name] = value
    return record


def event(
    kind: Kind,
    *words: int,
    ts: int = T0,
    instrument_id: int = 1,
    state: int = LIVE,
    last: bool = True,
) -> np.ndarray:
    """Make one EVENT."""
    record = np.zeros(1, EVENT)
    record["kind"], record["instrument_id"] = kind, instrument_id
    record["ts_event"] = record["ts_recv"] = ts
    record["marks"] = make_marks(InstrumentState(state), last_in_frame=last)
    for i, word in enumerate(words):
        record[f"word_{i}"] = word
    return record


def quote(bid: int, ask: int, bid_qty: int = 1, ask_qty: int = 1, **more: Any) -> np.ndarray:
    """Make a QUOTE that is a frame of its own."""
    return event(Kind.QUOTE, bid, bid_qty, ask, ask_qty, **more)


def trade(price: int, qty: int = 1, **more: Any) -> np.ndarray:
    """Make a TRADE that is a frame of its own."""
    return event(Kind.TRADE, price, qty, 1, 1, **more)


def money(row: Any, name: str) -> int:
    """Give a pair of a row."""
    return join_words(row[f"{name}_low"], row[f"{name}_high"])


class Stream:
    """One input's records: stamps them as its ring would."""

    def __init__(self) -> None:
        self.seq = 0

    def take(self, *records: np.ndarray) -> np.ndarray:
        """Give them in order with their stamps."""
        joined = np.concatenate(records)
        joined["stamp"] = 2 * np.arange(self.seq + 1, self.seq + 1 + len(joined)) + 2
        self.seq += len(joined)
        return joined


class Market:
    """What is known of one instrument's market."""

    def __init__(self) -> None:
        self.price: Fraction | None = None
        self.state = 0
        self.stale = self.crossed = False


class Reference:
    """Rows of fills and events with the scales above, as dictionaries of what they tell."""

    def __init__(self, room: int, mark: MarkKind, pause_ns: int) -> None:
        self.room, self.mark, self.pause_ns = room, mark, pause_ns
        self.markets: dict[int, Market] = {}
        self.positions: dict[tuple[int, int], dict[str, Any]] = {}

    def take(self, record: Any) -> list[dict[str, Any]]:
        """Give the rows of one record."""
        market = self.markets.setdefault(int(record["instrument_id"]), Market())
        return (
            self._fill(record, market)
            if record["kind"] == Kind.FILL
            else self._event(record, market)
        )

    def _fill(self, record: Any, market: Market) -> list[dict[str, Any]]:
        key = int(record["account"]), int(record["instrument_id"])
        day = int(record["ts_event"]) // DAY_NS
        held = self.positions.setdefault(key, new_position(self.room, day))
        late = day == held["day"] - 1
        if day > held["day"] or day < held["day"] - 1:
            self._roll(held, market, day)
        side = 1 if int(record["marks"]) & 4 else -1
        before = held["lots"].realised
        held["lots"].fill(side, 10 * int(record["price"]), int(record["qty"]))
        gain = held["lots"].realised - before
        held["realised"] += gain
        held["realised_total"] += gain
        held["fees"] += int(record["fee"]) * 10
        held["fees_total"] += int(record["fee"]) * 10
        held["fills"] += 1
        return [self._row(key, held, market, late)]

    def _event(self, record: Any, market: Market) -> list[dict[str, Any]]:
        instrument_id, ts = int(record["instrument_id"]), int(record["ts_event"])
        mine = [(k, p) for k, p in self.positions.items() if k[1] == instrument_id]
        if record["kind"] in (Kind.QUOTE, Kind.TRADE):
            for _, held in mine:
                if ts // DAY_NS > held["day"]:
                    self._roll(held, market, ts // DAY_NS)
        self._follow(record, market)
        rows = []
        for key, held in reversed(mine):
            pausing = held["ts_row"] is not None and abs(ts - held["ts_row"]) < self.pause_ns
            told = self._told(held, market)
            if (
                int(record["marks"]) & 16
                and held["lots"].qty
                and not pausing
                and told != held["told"]
            ):
                rows.append(self._row(key, held, market, late=False))
                held["ts_row"] = ts
        return rows

    def _follow(self, record: Any, market: Market) -> None:
        market.state = int(record["marks"]) & 3
        if record["kind"] == Kind.QUOTE and self.mark == MarkKind.MID:
            bid, bid_qty, ask, ask_qty = (int(record[f"word_{i}"]) for i in range(4))
            market.stale = not (bid_qty and ask_qty)
            market.crossed = not market.stale and bid >= ask
            if not market.stale and not market.crossed:
                market.price = Fraction(bid + ask, 2)
        if record["kind"] == Kind.TRADE and self.mark == MarkKind.LAST:
            market.price = Fraction(int(record["word_0"]))

    def _told(self, held: dict[str, Any], market: Market) -> tuple[Any, int]:
        faults = PositionFault.LOTS_MERGED * (held["lots"].merged and self.room > 1)
        if market.price is None:
            return 0, faults | PositionFault.NO_MARK
        faults |= PositionFault.MARK_STALE * (market.stale or market.state != LIVE)
        return market.price * 10, faults | PositionFault.MARK_CROSSED * market.crossed

    def _roll(self, held: dict[str, Any], market: Market, day: int) -> None:
        held["carried"] = (
            held["lots"].unrealised(market.price * 10) if market.price is not None else 0
        )
        held |= {"day": day, "realised": 0, "fees": 0, "ts_row": None, "told": None}

    def _row(
        self, key: tuple[int, int], held: dict[str, Any], market: Market, late: bool
    ) -> dict[str, Any]:
        mark, faults = held["told"] = self._told(held, market)
        lots = held["lots"]
        known = market.price is not None
        row = {
            "account": key[0],
            "instrument_id": key[1],
            "qty": lots.qty,
            "cost": lots.cost,
            "unrealised": lots.unrealised(mark) if known else 0,
            "average_price": round(lots.cost / lots.qty) if lots.qty else 0,
            "mark_price": mark,
            "mark_kind": int(self.mark) if known else 0,
            "lots": len(lots.lots),
            "faults": faults | (PositionFault.LATE if late else 0),
        }
        same = ("fills", "realised", "fees", "realised_total", "fees_total", "carried")
        return row | {"day_no": held["day"]} | {name: held[name] for name in same}


def new_position(room: int, day: int) -> dict[str, Any]:
    """A position before its first fill."""
    sums = dict.fromkeys(
        ("realised", "fees", "realised_total", "fees_total", "carried", "fills"), 0
    )
    return {"lots": Position(room), "day": day, "ts_row": None, "told": None, **sums}


def told_of(rows: np.ndarray) -> list[dict[str, Any]]:
    """Give of POSITION rows what `Reference` gives."""
    plain = ("account", "instrument_id", "qty", "average_price", "mark_price", "mark_kind", "lots")
    plain += ("faults", "day_no", "fills")
    return [{n: int(r[n]) for n in plain} | {n: money(r, n) for n in WIDES} for r in rows]


def offline(
    engine: Any, rows: np.ndarray, records: list[np.ndarray], epochs: list[list[int]]
) -> np.ndarray:
    """Give the rows of an engine that is fed in the order that `rows` tell, and then what is left of each input.

    Args:
        engine: one that has not been used.
        rows: data rows of a worker, in order.
        records: what each input held from its first record on, with stamps.
        epochs: of each input, for finding a row's cause.
    """
    at, made = [0] * len(records), []

    def advance(i: int, seq: int) -> None:
        if seq > at[i]:
            made.append(engine.process(records[i][at[i] : seq].copy(), i, epochs[i][0]))
            at[i] = seq

    for row in rows:
        cause = next(i for i, mine in enumerate(epochs) if row["source_epoch"] in mine)
        for i in range(len(records)):
            if i != cause:
                advance(i, int(row["applied_seq"][i]))
        advance(cause, int(row["applied_seq"][cause]))
    for i, each in enumerate(records):
        advance(i, len(each))
    return np.concatenate(made) if made else rows[:0]


def bytes_of(rows: np.ndarray) -> list[bytes]:
    """Give data rows as bytes, without what a ring stamps."""
    data = rows[rows["kind"] == Kind.POSITION].copy()
    for name in ("stamp", "publish_delta_ns", "source_epoch"):
        data[name] = 0
    return [row.tobytes() for row in data]


def desk_tape(rng: Any, fills: int, events: int) -> list[np.ndarray]:
    """Make fills of four accounts over four instruments, and the events of two rings with two instruments each."""
    orders, rings = Stream(), [Stream(), Stream()]
    traded = [
        fill(
            rng.choice([1, -1]), rng.randrange(900, 1100), rng.randrange(1, 50),
            T0 + i * 3600 * 10**9, rng.randrange(1, 5), rng.choice([1, 2, 11, 12]), fee=rng.randrange(3), fee_scale=4,
        )
        for i in range(fills)
    ]  # fmt: skip
    seen = []
    for first in (1, 11):
        mine = []
        for i in range(events):
            bid = rng.randrange(900, 1100)
            more = {
                "ts": T0 + i * 3600 * 10**9 * fills // events,
                "instrument_id": first + rng.randrange(2),
            }
            mine.append(
                quote(bid, bid + rng.randrange(3), **more)
                if rng.random() < 0.9
                else trade(bid, **more)
            )
        seen.append(mine)
    return [orders.take(*traded), rings[0].take(*seen[0]), rings[1].take(*seen[1])]
