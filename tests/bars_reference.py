"""Every bar computed slowly from its definition in layouts.bar: each series apart, whole numbers, one window after the other.

It shares nothing with the kernels but the layouts: no frame is made of another one, no window is skipped by arithmetic.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from layouts import BarFlag, BarKind, GapReason, InstrumentState, Kind, Mark

Window = Callable[[int], tuple[int, int]]
"""Start and end of the window that an instant lies in."""
DAY_NS = 86_400_000_000_000
TRUST = (
    InstrumentState.SYNCING,
    InstrumentState.STALE,
    InstrumentState.SUSPECT,
    InstrumentState.LIVE,
)
"""Least trusted first."""


def utc_window(frame: int) -> Window:
    """Give the windows aligned to UTC midnight."""
    return lambda ts: (ts // frame * frame, ts // frame * frame + frame)


def session_window(opens: list[int], frame: int) -> Window:
    """Give the windows counted from these openings."""

    def window(ts: int) -> tuple[int, int]:
        opening = max(each for each in opens if each <= ts)
        following = min(each for each in opens if each > ts)
        if frame == DAY_NS:  # a session's day is as long as the session
            return opening, following
        start = opening + (ts - opening) // frame * frame
        return start, min(start + frame, following)

    return window


@dataclass
class Print:
    """One trade as a bar sees it."""

    price: int
    qty: int
    side: int
    is_price: bool
    state: int
    in_gap: bool
    order: tuple[int, ...] = ()


@dataclass
class Frame:
    """One time frame of one instrument."""

    kind: BarKind
    parameter: int
    window: Window
    empty_rows: int
    start: int = 0
    end: int = 0
    prints: list[Print] = field(default_factory=list)
    late: int = 0
    flags: int = 0
    close: int | None = None
    empties: int = 0
    skipped: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, ts: int) -> None:
        """Open the window of `ts`."""
        self.start, self.end = self.window(ts)
        self.prints, self.late, self.flags = [], 0, 0

    def close_until(self, ts: int, last_state: int, gap_from: int | None) -> None:
        """Close every window that ends at or before `ts`."""
        while self.end <= ts:
            if gap_from is not None and self.end > gap_from:
                self.flags |= BarFlag.GAP
            self.write(last_state)
            self.begin(self.end)

    def write(self, last_state: int) -> None:
        """Write the row of the window, or leave it out."""
        if self.prints:
            self.empties = 0
        elif self.late == 0 and self.empties >= self.empty_rows:
            self.skipped += 1
            return
        else:
            self.empties += 1
        row = bar_of(self.prints, self.close, last_state)
        row["bar_flags"] |= self.flags | (BarFlag.LATE if self.late else 0)
        row |= {"ts_open": self.start, "ts_close": self.end, "late_prints": self.late}
        row |= {"skipped": self.skipped, "bar_no": len(self.rows)}
        self.rows.append(row)
        self.skipped = 0
        if not row["bar_flags"] & BarFlag.NO_PRICE:
            self.close = row["close"]


def bar_of(prints: list[Print], close: int | None, last_state: int) -> dict[str, Any]:
    """Give what a bar's prints add up to."""
    ordered = sorted(prints, key=lambda each: each.order)
    prices = [each.price for each in ordered if each.is_price]
    volume = sum(each.qty for each in prints)
    value = sum(each.price * each.qty for each in prints)
    flags = 0
    if not prints:
        flags |= BarFlag.EMPTY
    if not prices:
        flags |= BarFlag.CARRIED | (BarFlag.NO_PRICE if close is None else 0)
        prices = [close or 0]
    states = {each.state for each in prints} or {last_state}
    return {
        "bar_flags": flags,
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": volume,
        "buy_volume": sum(each.qty for each in prints if each.side > 0),
        "sell_volume": sum(each.qty for each in prints if each.side < 0),
        "value": value,
        "vwap": float(Fraction(value, volume)) if volume else None,
        "trades": len(prints),
        "marks": next(state for state in TRUST if state in states),
    }


class Instrument:
    """All series of one instrument."""

    def __init__(self, chains: list[list[Frame]], others: list["Threshold"]) -> None:
        self.chains, self.others = chains, others
        self.begun = False
        self.last_ts = self.last_recv = self.last_state = 0
        self.gap_from: int | None = None
        self.late_in_a_row = 0
        self.arrived = 0

    @property
    def frames(self) -> list[Frame]:
        """All time frames."""
        return [frame for chain in self.chains for frame in chain]

    def trade(self, record: Any, back_after: int) -> None:
        """Apply a TRADE."""
        marks, ts = int(record["marks"]), int(record["ts_event"])
        price, qty = int(record["word_0"]), int(record["word_1"])
        if qty <= 0:
            return
        if marks & Mark.LATE:
            if not marks & Mark.VOLUME_ONLY:
                for series in (*self.frames, *self.others):
                    series.late += 1
            return
        state = marks & Mark.STATE_MASK
        side = 1 if marks & Mark.BUY else -1 if marks & Mark.SELL else 0
        is_price = not marks & Mark.VOLUME_ONLY
        made = Print(price, qty, side, is_price, state, self.gap_from is not None)
        if ts > 0:
            self._place(made, ts, int(record["ts_recv"]), back_after)
        if made.in_gap and self.begun:
            for frame in self.frames:
                frame.flags |= BarFlag.GAP
        self.last_state = state
        for other in self.others:
            other.add(made, ts, state)
        self.gap_from = None

    def _place(self, made: Print, ts: int, recv: int, back_after: int) -> None:
        if self.late_in_a_row >= back_after:
            for frame in self.frames:
                frame.flags |= BarFlag.CLOCK_BACK
                frame.empties = -1
                frame.write(self.last_state)
                frame.empties = 0
            self.begun, self.late_in_a_row, self.last_ts = False, 0, 0
        if not self.begun:
            for frame in self.frames:
                late = frame.late if not frame.rows else 0
                frame.begin(ts)
                frame.late, frame.flags = late, int(BarFlag.PARTIAL)
            self.begun = True
        for frame in self.frames:
            frame.close_until(ts, self.last_state, self.gap_from)
        self.arrived += 1
        placed = [self._place_in(chain, made, ts) for chain in self.chains]
        self.late_in_a_row = 0 if any(placed) else self.late_in_a_row + 1
        if ts >= self.last_ts:
            self.last_ts, self.last_recv = ts, recv

    def _place_in(self, chain: list[Frame], made: Print, ts: int) -> bool:
        finest = next((i for i, frame in enumerate(chain) if ts >= frame.start), None)
        for frame in chain[:finest]:
            frame.late += 1
        if finest is None:
            return False
        at = chain[finest].start if finest == 0 else chain[finest - 1].start
        order = (at, 1, 0, self.arrived) if finest == 0 else (at, 0, -finest, self.arrived)
        for frame in chain[finest:]:
            frame.prints.append(Print(**{**vars(made), "order": order}))
        return True

    def beat(self, recv: int, settle_ns: int) -> None:
        """Apply a HEARTBEAT."""
        passed = recv - self.last_recv
        if self.begun and passed > settle_ns:
            for frame in self.frames:
                frame.close_until(self.last_ts + passed - settle_ns, self.last_state, self.gap_from)

    def gap(self, ts: int | None) -> None:
        """Apply a GAP of this instrument (its ts_event), or of all (None)."""
        since = self.last_ts if ts is None or ts <= 0 else min(ts, self.last_ts)
        self.gap_from = since if self.gap_from is None else min(since, self.gap_from)


@dataclass
class Threshold:
    """TICK, VOLUME, DOLLAR or IMBALANCE bars of one instrument; `limit` in trades, or at the instrument's scale."""

    kind: BarKind
    parameter: int
    limit: Fraction
    prints: list[Print] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    signs: list[int] = field(default_factory=list)
    late: int = 0
    close: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    last_price: int | None = None
    last_sign: int = 0
    mean_trades: float = 0.0
    mean_sign: float = 0.5

    def add(self, made: Print, ts: int, last_state: int) -> None:
        """Add a print; close the bar that it fills."""
        sign = made.side
        if made.is_price:
            if sign == 0 and self.last_price is not None:
                change = made.price - self.last_price
                sign = (change > 0) - (change < 0) or self.last_sign
            self.last_sign = sign or self.last_sign
            self.last_price = made.price
        order = (len(self.prints),)
        self.prints.append(Print(**{**vars(made), "order": order}))
        self.times.append(ts)
        self.signs.append(sign)
        if not self._is_full():
            return
        row = bar_of(self.prints, self.close, last_state)
        row["bar_flags"] |= BarFlag.PARTIAL if not self.rows else 0
        row["bar_flags"] |= BarFlag.LATE if self.late else 0
        row["bar_flags"] |= BarFlag.GAP if any(each.in_gap for each in self.prints) else 0
        row |= {"ts_open": self.times[0], "ts_close": self.times[-1], "late_prints": self.late}
        self.rows.append(row | {"skipped": 0, "bar_no": len(self.rows)})
        if not row["bar_flags"] & BarFlag.NO_PRICE:
            self.close = row["close"]
        self.prints, self.times, self.signs, self.late = [], [], [], 0

    def _is_full(self) -> bool:
        if self.kind == BarKind.TICK:
            return len(self.prints) >= self.limit
        if self.kind == BarKind.VOLUME:
            return sum(each.qty for each in self.prints) >= self.limit
        if self.kind == BarKind.DOLLAR:
            return sum(each.price * each.qty for each in self.prints) >= self.limit
        expected = self.mean_trades or float(self.parameter)
        theta = sum(self.signs)
        if abs(theta) < expected * max(abs(self.mean_sign), 0.05):
            return False
        moved = expected + 2 / 21 * (len(self.prints) - expected)
        self.mean_trades = min(max(moved, self.parameter / 10), self.parameter * 10)
        self.mean_sign += 2 / 21 * (theta / len(self.prints) - self.mean_sign)
        return True


def play(
    records: np.ndarray, make: Callable[[int], Instrument], settle_ns: int, back_after: int
) -> dict[int, Instrument]:
    """Apply EVENT records of one input; give the instruments with their rows."""
    made: dict[int, Instrument] = {}
    for record in records:
        kind, instrument_id = int(record["kind"]), int(record["instrument_id"])
        if kind == Kind.TRADE:
            if instrument_id not in made:
                made[instrument_id] = make(instrument_id)
            made[instrument_id].trade(record, back_after)
        elif kind == Kind.HEARTBEAT:
            for each in made.values():
                each.beat(int(record["ts_recv"]), settle_ns)
        elif kind == Kind.RESTART or (kind == Kind.GAP and instrument_id == 0):
            if kind == Kind.RESTART or record["word_3"] != GapReason.CHECKSUM:
                for each in made.values():
                    each.gap(None)
        elif kind == Kind.GAP and instrument_id in made and record["word_3"] != GapReason.CHECKSUM:
            made[instrument_id].gap(int(record["ts_event"]))
    return made
