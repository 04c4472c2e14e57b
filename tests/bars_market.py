"""Made-up trades for the tests of bars: late ones, silences, beats, gaps, clocks that go back."""

import random
from fractions import Fraction
from typing import Any

import bars_reference
import numpy as np
from bars_reference import Frame, Instrument, Threshold, session_window, utc_window

from consumers.bar_engine import BarEngine
from consumers.bar_series import BarsConfig, Session, openings, series_of
from consumers.bar_state import CLOCK_BACK_PRINTS
from layouts import EVENT, BarKind, GapReason, InstrumentState, Kind, make_marks
from layouts.bar import FRAMES, MILLIONTHS, SECOND_NS

START_NS = 1_790_000_000_000_000_000
SCALES = (2, 3)
LIVE = InstrumentState.LIVE
NEW_YORK = {"us": Session(open="09:30", time_zone="America/New_York")}
SECONDS = BarsConfig(frames=("1s", "5s"), empty_rows=3)
DAY_START_NS = START_NS - START_NS % FRAMES["1d"]
COMPARED = (
    *("bar_flags", "skipped", "bar_no", "ts_open", "ts_close", "open", "high", "low", "close"),
    *("volume", "buy_volume", "sell_volume", "trades", "late_prints", "marks"),
)


class Prints:
    """Collects records; `records()` gives them with the stamps of a ring."""

    def __init__(self, ts: int = START_NS) -> None:
        self.ts = ts
        self.lag_ns = 5_000_000
        self.rows: list[tuple[int, ...]] = []

    def add(
        self,
        kind: Kind,
        instrument_id: int,
        words: tuple[int, ...],
        marks: int = 0,
        ts: int | None = None,
    ) -> None:
        """Add one record; its stamp is `ts` or the market's time."""
        padded = (*words, 0, 0, 0, 0)[:4]
        stamp = self.ts if ts is None else ts
        self.rows.append(
            (0, stamp, self.ts + self.lag_ns, instrument_id, int(kind), marks, 0, *padded)
        )

    def trade(
        self, price: int, qty: int = 1, instrument_id: int = 1, ts: int | None = None, **marks: Any
    ) -> None:
        """Add a TRADE."""
        state = marks.pop("state", LIVE)
        self.add(
            Kind.TRADE,
            instrument_id,
            (price, qty),
            make_marks(state, last_in_frame=True, **marks),
            ts,
        )

    def beat(self) -> None:
        """Add a HEARTBEAT, whose clock is ours."""
        self.add(Kind.HEARTBEAT, 0, (len(self.rows),), ts=self.ts + self.lag_ns)

    def gap(self, instrument_id: int = 1, reason: GapReason = GapReason.SEQUENCE) -> None:
        """Add a GAP."""
        self.add(Kind.GAP, instrument_id, (0, 0, 1, reason))

    def records(self, first_seq: int = 1) -> np.ndarray:
        """Give the records as they come off a ring."""
        made = np.array(self.rows, EVENT)
        made["stamp"] = 2 * np.arange(first_seq, first_seq + len(made)) + 2
        return made


def random_prints(seed: int, n: int, ids: tuple[int, ...] = (1, 2)) -> np.ndarray:
    """Give `n` records of a market in which everything happens."""
    rng = random.Random(seed)
    made = Prints(START_NS + rng.randrange(10**15))
    price = 10_000
    for _ in range(n):
        pace = rng.choice((10**7, 10**8, 10**9, 10**9, 10**10, rng.choice((10**8, 10**11, 10**13))))
        made.ts += rng.randrange(pace)
        roll, each = rng.random(), rng.choice(ids)
        price = max(1, price + rng.randrange(-3, 4))
        if roll < 0.08:
            made.beat()
        elif roll < 0.11:
            made.gap(rng.choice((0, *ids)), rng.choice((GapReason.SEQUENCE, GapReason.CHECKSUM)))
        elif roll < 0.115:
            made.add(Kind.RESTART, 0, (2, 1, 0))
        else:
            back = rng.choice((0, 0, 0, 0, 10**8, 10**9, 5 * 10**9, 10**11))
            made.trade(
                price,
                rng.choice((0, 1, rng.randrange(10**5), rng.randrange(10**9))),
                each,
                made.ts - (rng.randrange(back) if back else 0),
                side=rng.choice((1, -1, 0)),
                late=rng.random() < 0.03,
                volume_only=rng.random() < 0.1,
                state=rng.choice((*[LIVE] * 6, *InstrumentState)),
            )
    return made.records()


def scales(_instrument_id: int, _version: int) -> tuple[int, int]:
    """Give digits of price and quantity."""
    return SCALES


def reference(records: np.ndarray, config: BarsConfig) -> dict[int, Instrument]:
    """Give what the slow computation makes of these records; every instrument has the first session."""
    sessions = list(config.sessions.values())
    stamps = records["ts_event"][records["ts_event"] > 0]
    opens: list[int] = []
    if sessions and len(stamps):
        low = openings(sessions, int(stamps.min()))
        opens = openings(sessions, int(stamps.max()), low).table[0].tolist()

    def make(_instrument_id: int) -> Instrument:
        chains: list[list[Frame]] = [[], []]
        others = []
        for kind, parameter in series_of(config).tolist():
            if kind in (BarKind.TIME, BarKind.SESSION):
                by_session = kind == BarKind.SESSION
                window = session_window(opens, parameter) if by_session else utc_window(parameter)
                frame = Frame(BarKind(kind), parameter, window, config.empty_rows)
                chains[by_session].append(frame)
                continue
            limit = Fraction(parameter)
            if kind in (BarKind.VOLUME, BarKind.DOLLAR):
                digits = SCALES[1] + (SCALES[0] if kind == BarKind.DOLLAR else 0)
                limit = Fraction(parameter, MILLIONTHS) * 10**digits
            others.append(Threshold(BarKind(kind), parameter, limit))
        return Instrument(chains, others)

    return bars_reference.play(records, make, config.settle_ns, CLOCK_BACK_PRINTS)


def assert_same(rows: np.ndarray, wanted: dict[int, Instrument]) -> int:
    """Every bar of every series equals the slow one; gives how many were compared."""
    bars = rows[rows["kind"] == Kind.BAR]
    compared = 0
    for instrument_id, instrument in wanted.items():
        for series in (*instrument.frames, *instrument.others):
            chosen = bars[
                (bars["instrument_id"] == instrument_id)
                & (bars["bar_kind"] == series.kind)
                & (bars["parameter"] == series.parameter)
            ]
            for found, row in zip(chosen, series.rows, strict=False):
                for name in COMPARED:
                    where = f"{instrument_id} {series.kind.name} {series.parameter} bar {row['bar_no']} {name}"
                    assert int(found[name]) == int(row[name]), f"{where}: {found} {row}"
                value = int(found["value_high"]) * 2**64 + int(found["value_low"]) % 2**64
                assert value == row["value"]
                assert (row["vwap"] is None) == bool(np.isnan(found["vwap"]))
                assert row["vwap"] is None or found["vwap"] == row["vwap"]
            assert len(chosen) == len(series.rows), f"{series.kind.name} {series.parameter}"
            compared += len(chosen)
    assert compared == len(bars)
    return compared


def engine(config: BarsConfig = SECONDS) -> BarEngine:
    """Make an engine whose instruments have prices in hundredths and quantities in thousandths."""
    return BarEngine(config, scales, lambda _id: "test:I")


def at(seconds: float) -> int:
    """Give an instant so long after midnight."""
    return DAY_START_NS + round(seconds * SECOND_NS)


def market(*trades: tuple[float, int], **more: object) -> Prints:
    """Give trades of quantity 1 at (seconds after midnight, price)."""
    made = Prints(DAY_START_NS)
    for seconds, price in trades:
        made.ts = max(made.ts, at(seconds))
        made.trade(price, ts=at(seconds))
    return made
