"""The bars engine: every series equals the slow computation of its definition, whatever comes in whatever order."""

from fractions import Fraction

import numpy as np
import pytest
from bars_market import (
    DAY_START_NS,
    NEW_YORK,
    SECONDS,
    Prints,
    assert_same,
    at,
    engine,
    market,
    random_prints,
    reference,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.bar_series import BarsConfig
from consumers.bar_state import CLOCK_BACK_PRINTS, QTY_LIMIT, TS_LIMIT
from layouts import EVENT, BarFlag, BarKind, GapReason, InstrumentState, Kind
from layouts.bar import FRAMES, SECOND_NS

EVERYTHING = BarsConfig(
    session_frames=("1m", "30m", "4h", "1d"),
    tick_bars=(1, 7),
    volume_bars=(2.5, 1000.0),
    dollar_bars=(1e5, 1e9),
    imbalance_bars=(5,),
    empty_rows=3,
    sessions=NEW_YORK,
)


def bars_of(prints: Prints, config: BarsConfig = SECONDS, frame: str = "1s") -> np.ndarray:
    """Give the bars of one time frame."""
    rows = engine(config).process(prints.records())
    return rows[(rows["kind"] == Kind.BAR) & (rows["parameter"] == FRAMES[frame])]


@pytest.mark.parametrize("seed", range(12))
def test_every_bar_of_every_series_is_the_slow_one(seed: int) -> None:
    """UTC and session frames, tick, volume, dollar and imbalance bars, with everything that can go wrong."""
    records = random_prints(seed, 300)
    assert assert_same(engine(EVERYTHING).process(records), reference(records, EVERYTHING)) > 1000


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([0, 1, SECOND_NS - 1, SECOND_NS, 5 * SECOND_NS, 61 * SECOND_NS, -1]),
            st.sampled_from([0, 0, 0, 1, SECOND_NS, 7 * SECOND_NS]),
            st.integers(1, 5),
            st.sampled_from(["trade", "trade", "trade", "beat", "gap", "late", "volume"]),
        ),
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_borders_hit_exactly_are_the_slow_ones(steps: list[tuple[int, int, int, str]]) -> None:
    """Steps of one window, one less, none, and back."""
    config = BarsConfig(frames=("1s", "5s", "1m"), empty_rows=2)
    made = Prints(DAY_START_NS)
    for step, back, price, what in steps:
        made.ts += step
        if what == "beat":
            made.beat()
        elif what == "gap":
            made.gap(reason=GapReason.SEQUENCE)
        else:
            made.trade(price, ts=made.ts - back, late=what == "late", volume_only=what == "volume")
    records = made.records() if made.rows else np.zeros(0, EVENT)
    assert_same(engine(config).process(records), reference(records, config))


@pytest.mark.parametrize("seed", [3, 4])
def test_a_state_taken_anywhere_goes_on_as_if_it_had_never_stopped(seed: int) -> None:
    """A checkpoint after any record: the same rows."""
    records = random_prints(seed, 200)
    whole = engine(EVERYTHING).process(records)
    for cut in range(0, len(records), 23):
        first = engine(EVERYTHING)
        before = first.process(records[:cut].copy())
        second = engine(EVERYTHING)
        second.load(first.to_bytes())
        after = second.process(records[cut:].copy())
        assert np.concatenate([before, after]).tobytes() == whole.tobytes()
        assert second.counters["trades_in_bars"] >= first.counters["trades_in_bars"]


def test_a_state_that_is_none_is_refused() -> None:
    """Cut, of other series, or nonsense."""
    made = engine()
    made.process(market((1, 10)).records())
    image = made.to_bytes()
    for bad in (b"", image[:-1], image + b"x"):
        with pytest.raises(ValueError, match="bars state of"):
            engine().load(bad)
    with pytest.raises(ValueError, match="does not hold"):
        engine(BarsConfig(frames=("1s",))).load(image)
    assert engine().identity != engine(BarsConfig(frames=("1s",))).identity


def test_a_window_begins_with_its_first_nanosecond_and_ends_before_its_last() -> None:
    """A trade at the border is the next bar's."""
    made = market((0, 10), (0.999999999, 11), (1, 12), (2, 13))
    bars = bars_of(made)
    assert bars["ts_open"].tolist() == [at(0), at(1)]
    assert bars["ts_close"].tolist() == [at(1), at(2)]
    assert bars["open"].tolist() == [10, 12]
    assert bars["close"].tolist() == [11, 12]
    assert bars["trades"].tolist() == [2, 1]


def test_the_sum_of_a_bar_is_exact_and_its_vwap_rounded_once() -> None:
    """Price x quantity beyond 64 bits, the quotient as Fraction has it."""
    made = Prints(DAY_START_NS)
    trades = [(10**14 + 1, 10**15 + 7), (10**14 + 3, 10**15 + 11), (3, 1)]
    for price, qty in trades:
        made.trade(price, qty)
    made.ts += SECOND_NS
    made.trade(1)
    (bar,) = bars_of(made)
    value = sum(price * qty for price, qty in trades)
    assert int(bar["value_high"]) * 2**64 + int(bar["value_low"]) % 2**64 == value
    assert bar["vwap"] == float(Fraction(value, sum(qty for _, qty in trades)))
    assert bar["high"] == 10**14 + 3 and bar["low"] == 3


def test_sides_are_the_takers_and_a_trade_without_one_is_in_the_volume_alone() -> None:
    """Buy, sell, unknown."""
    made = Prints(DAY_START_NS)
    for qty, side in ((5, 1), (3, -1), (2, 0)):
        made.trade(10, qty, side=side)
    made.ts += SECOND_NS
    made.trade(10)
    (bar,) = bars_of(made)
    assert [int(bar[name]) for name in ("volume", "buy_volume", "sell_volume")] == [10, 5, 3]


@pytest.mark.parametrize("silence", [1, 2, 3, 4, 5, 6, 100, 10**8])
def test_empty_windows_are_rows_up_to_the_limit_and_counted_beyond(silence: int) -> None:
    """Three rows with the close carried; what is left out is told by the next bar with a trade."""
    made = market((0, 10), (silence, 20), (silence + 1, 30))
    bars = bars_of(made)
    empty = min(silence - 1, 3)
    assert len(bars) == empty + 2
    hollow = bars[1:-1]
    assert (hollow["bar_flags"] & BarFlag.EMPTY != 0).all()
    assert (hollow["trades"] == 0).all()
    for name in ("open", "high", "low", "close"):
        assert hollow[name].tolist() == [10] * empty
    assert np.isnan(hollow["vwap"]).all()
    assert bars["skipped"].tolist() == [0] * (empty + 1) + [silence - 1 - empty]
    assert bars["ts_open"][-1] == at(silence)


def test_the_first_bar_of_a_series_says_that_it_is_partial() -> None:
    """What was traded before is not known; the second one is whole."""
    bars = bars_of(market((0.5, 10), (1, 11), (2, 12)))
    assert [int(flags & BarFlag.PARTIAL) for flags in bars["bar_flags"]] == [BarFlag.PARTIAL, 0]


def test_a_print_that_is_late_for_a_second_is_in_the_five_seconds_that_are_open() -> None:
    """It is kept out of the finer frame, and told there; the coarser one takes it as before the open second."""
    made = market((0, 10), (2, 12), (1.5, 99), (3, 13), (5, 15))
    seconds, fives = bars_of(made), bars_of(made, frame="5s")
    assert seconds["late_prints"].tolist() == [0, 0, 1, 0, 0]
    assert seconds["high"].max() == 13
    assert seconds["bar_flags"][2] & BarFlag.LATE
    assert [int(fives[name][0]) for name in ("open", "high", "low", "close")] == [10, 99, 10, 13]
    assert fives["trades"].tolist() == [4]
    assert fives["late_prints"].tolist() == [0]


def test_a_print_marked_late_is_in_no_bar() -> None:
    """Though its time would fit; every series tells it."""
    made = market((0, 10))
    made.trade(99, late=True)
    made.ts = at(5)
    made.trade(11)
    assert bars_of(made)["late_prints"][0] == 1
    assert bars_of(made, frame="5s")["high"].tolist() == [10]
    both = engine()
    made.trade(50, late=True, volume_only=True)
    both.process(made.records())
    assert both.counters["trades_void"] == 1
    assert both.counters["trades_late"] == 1


def test_a_print_that_counts_for_volume_sets_no_price() -> None:
    """Also where it is the only one: the close is carried, or there is none yet."""
    made = Prints(DAY_START_NS)
    made.trade(99, 7, volume_only=True)
    made.ts = at(1)
    made.trade(10, 1)
    made.trade(77, 2, volume_only=True)
    made.ts = at(2)
    made.trade(55, 3, volume_only=True)
    made.ts = at(3)
    made.trade(11)
    bars = bars_of(made)
    assert bars["volume"].tolist() == [7, 3, 3]
    assert bars["high"].tolist() == [0, 10, 10]
    carried, unknown = int(BarFlag.CARRIED), int(BarFlag.CARRIED | BarFlag.NO_PRICE)
    assert [int(f) & unknown for f in bars["bar_flags"]] == [unknown, 0, carried]


@pytest.mark.parametrize("qty", [0, -1])
def test_a_trade_without_quantity_is_no_trade(qty: int) -> None:
    """It moves nothing, not even a window, and is counted."""
    made = market((0, 10))
    made.ts = at(9)
    made.trade(99, qty)
    both = engine()
    rows = both.process(made.records())
    assert len(rows) == 0
    assert both.counters["trades_sizeless"] == 1


@pytest.mark.parametrize(
    ("ts", "counted"), [(0, 1), (-1, 1), (1, 0), (TS_LIMIT, 0), (TS_LIMIT + 1, 1)]
)
def test_a_trade_without_a_time_is_in_no_time_frame(ts: int, counted: int) -> None:
    """It counts for the bars that need no time."""
    made = Prints(DAY_START_NS)
    made.trade(10, ts=ts)
    both = engine(BarsConfig(frames=("1s",), tick_bars=(1,)))
    rows = both.process(made.records())
    assert both.counters["trades_untimed"] == counted
    assert rows["bar_kind"].tolist() == [BarKind.TICK]


def test_a_gap_flags_what_is_open_until_the_next_trade_has_come() -> None:
    """The bar it fell into, the empty ones behind it, the next trade's; not the one before and not the one after."""
    made = market((0, 10), (1, 11))
    made.ts = at(1.2)
    made.gap()
    for second in (3, 4, 5):
        made.ts = at(second)
        made.trade(10 + second)
    bars, fives = bars_of(made), bars_of(made, frame="5s")
    assert [bool(flags & BarFlag.GAP) for flags in bars["bar_flags"]] == [False, *[True] * 3, False]
    assert fives["bar_flags"][0] & BarFlag.GAP


@pytest.mark.parametrize("reason", [GapReason.CHECKSUM, GapReason.DISCONNECT])
def test_a_gap_of_the_book_alone_is_none_of_the_trades(reason: GapReason) -> None:
    """A checksum that failed lost no trade; a link that broke did, of every instrument."""
    made = market((0, 10))
    made.gap(0, reason)
    made.ts = at(1)
    made.trade(11)
    flagged = bool(bars_of(made)["bar_flags"][0] & BarFlag.GAP)
    assert flagged == (reason != GapReason.CHECKSUM)


def test_records_that_the_worker_lost_flag_its_instruments() -> None:
    """Those of the input that lost them, and no other's."""
    one = engine()
    one.process(market((0, 10)).records(), source=0)
    other = market((0, 10))
    other.rows = [(*row[:3], 2, *row[4:]) for row in other.rows]
    one.process(other.records(), source=1)
    one.forget(1)
    ended = np.zeros(1, EVENT)
    ended["kind"], ended["ts_recv"] = Kind.HEARTBEAT, at(4)
    rows = np.concatenate([one.process(ended, source=source) for source in (0, 1)])
    for instrument_id, flagged in ((1, False), (2, True)):
        mine = rows[(rows["kind"] == Kind.BAR) & (rows["instrument_id"] == instrument_id)]
        assert len(mine) and all(bool(f & BarFlag.GAP) == flagged for f in mine["bar_flags"])


def test_the_least_trusted_state_of_the_trades_is_the_bars() -> None:
    """An empty bar has that of the last trade."""
    made = Prints(DAY_START_NS)
    made.trade(10, state=InstrumentState.LIVE)
    made.trade(10, state=InstrumentState.STALE)
    made.trade(10, state=InstrumentState.SUSPECT)
    made.ts = at(2)
    made.trade(10)
    assert bars_of(made)["marks"].tolist() == [InstrumentState.STALE, InstrumentState.SUSPECT]


@pytest.mark.parametrize(("passed", "closed"), [(2.999999999, 0), (3.0, 1), (3.000000001, 1)])
def test_a_beat_closes_what_ended_two_seconds_before_it(passed: float, closed: int) -> None:
    """On the venue's clock as the last trade told it, however wrong that clock is; and it is passed on."""
    made = Prints(DAY_START_NS)
    made.lag_ns = 10**17
    made.ts = at(0)
    made.trade(10)
    made.ts = at(passed)
    made.beat()
    rows = engine().process(made.records())
    assert np.count_nonzero(rows["kind"] == Kind.BAR) == closed
    assert rows["kind"][-1] == Kind.HEARTBEAT
    assert rows["bar_no"][-1] == 1


def test_beats_change_no_bar_but_when_it_comes() -> None:
    """Data records equal with beats and without, where no print is later than the time they wait."""
    made = Prints(DAY_START_NS)
    rng = np.random.default_rng(5)
    for _ in range(300):
        made.ts += int(rng.integers(10**8, 3 * 10**9))
        made.trade(
            int(rng.integers(1, 50)),
            int(rng.integers(1, 9)),
            ts=made.ts - int(rng.integers(0, 10**9)),
        )
    trades = made.records()
    seconds = np.arange(trades["ts_recv"][0], trades["ts_recv"][-1], SECOND_NS)
    beats = np.zeros(len(seconds), EVENT)
    beats["kind"], beats["ts_recv"] = Kind.HEARTBEAT, seconds
    mixed = np.concatenate([trades, beats])
    mixed = mixed[np.argsort(mixed["ts_recv"], kind="stable")].copy()
    mixed["stamp"] = 2 * np.arange(1, len(mixed) + 1) + 2
    config = BarsConfig(empty_rows=3)
    plain, beaten = (engine(config).process(each) for each in (trades, mixed))
    beaten = beaten[beaten["kind"] == Kind.BAR]
    for frame in FRAMES.values():
        wanted = plain[plain["parameter"] == frame].copy()
        found = beaten[beaten["parameter"] == frame][: len(wanted)].copy()
        for name in ("source_seq", "source_index", "source_count", "ts_recv"):
            wanted[name] = found[name] = 0
        assert found.tobytes() == wanted.tobytes()


def test_a_clock_that_went_back_for_good_is_followed_in_the_end() -> None:
    """After a thousand prints that are late everywhere the open bars end, flagged, and new ones begin."""
    made = market((100, 10), (101, 11))
    for i in range(CLOCK_BACK_PRINTS + 1):
        made.trade(5, ts=at(20 + i / 1e6))
    made.trade(6, ts=at(21))
    both = engine(BarsConfig(frames=("1s", "5s")))
    records = made.records()
    rows = both.process(records)
    assert both.counters["clocks_back"] == 1
    back = rows[rows["bar_flags"] & BarFlag.CLOCK_BACK != 0]
    assert back["late_prints"].tolist() == [CLOCK_BACK_PRINTS] * 2
    assert rows["ts_open"][-1] == at(20) and rows["trades"][-1] == 1
    assert_same(rows, reference(records, BarsConfig(frames=("1s", "5s"))))


def test_a_year_of_silence_costs_no_more_than_a_minute() -> None:
    """Windows left out are counted, not walked through, in session frames too."""
    config = BarsConfig(session_frames=tuple(FRAMES), sessions=NEW_YORK, empty_rows=1)
    made = market((0, 10), (366 * 86_400 + 7, 11), (732 * 86_400, 12))
    both = engine(config)
    rows = both.process(made.records())
    assert len(rows) < 100
    daily = rows[(rows["parameter"] == FRAMES["1d"]) & (rows["bar_kind"] == BarKind.SESSION)]
    assert max(daily["skipped"].tolist()) in (364, 365)
    assert np.all(daily["ts_open"] < daily["ts_close"])


def test_volumes_saturate_and_say_so() -> None:
    """Beyond 2**62 nothing wraps."""
    made = Prints(DAY_START_NS)
    made.trade(1, QTY_LIMIT)
    made.ts = at(1)
    made.trade(1, QTY_LIMIT)
    made.trade(1, 1)
    made.ts = at(2)
    made.trade(1, QTY_LIMIT + 1)
    made.ts = at(3)
    made.trade(1)
    bars = bars_of(made)
    assert bars["volume"].tolist() == [QTY_LIMIT] * 3
    saturated = [bool(flags & BarFlag.SATURATED) for flags in bars["bar_flags"]]
    assert saturated == [False, True, True]
