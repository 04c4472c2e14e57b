"""A synthetic market is the same for the same seed, never impossible, and always in checksum."""

import asyncio
import hashlib
import json
import re
from collections import Counter
from itertools import pairwise

import pytest
from decoding import Pipeline
from venue_client import CheckedBooks, FakeListener, FakeTiming

from collectors.synthetic import (
    DEFAULT_INSTRUMENTS,
    SyntheticInstrument,
    SyntheticSpec,
    SyntheticTape,
    synthetic_frames,
)
from collectors.synthetic_book import RESERVE, BookSide
from collectors.venue_dialect import BOOK_DEPTHS, Stream
from collectors.venue_dialect_v2 import KrakenV2
from collectors.venue_market import Market
from shm import clock

START_NS = 1_790_000_000_123_456_000
TWO = DEFAULT_INSTRUMENTS[:2]


def spec(**fields: object) -> SyntheticSpec:
    return SyntheticSpec(**{"start_ns": START_NS, "frames": 4000, "seed": 5, **fields})


def digest(given: SyntheticSpec, protocol: str = "kraken_v2") -> str:
    return hashlib.sha256(
        b"\n".join(data for _, data in synthetic_frames(given, protocol))
    ).hexdigest()


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Twice in one process, and on every machine and Python: the digests are written down."""
    assert digest(spec()) == digest(spec())
    assert digest(spec()).startswith("7ed168af419d59c8")
    assert digest(spec(), "kraken_v1").startswith("fdf58d95b7ef8aa0")


@pytest.mark.parametrize(
    "other", [{"seed": 6}, {"depth": 25}, {"instruments": TWO}, {"start_ns": START_NS + 1000}]
)
def test_another_specification_gives_other_bytes(other: dict) -> None:
    """Seed, depth, instruments and start all count."""
    assert digest(spec()) != digest(spec(**other))


@pytest.mark.parametrize("protocol", ["kraken_v1", "kraken_v2"])
@pytest.mark.parametrize("depth", [10, 25, 100, 500, 1000])
def test_every_checksum_is_right_at_every_depth(protocol: str, depth: int) -> None:
    """Kept by a client that knows nothing of the maker: snapshot, updates, cut to the depth."""
    given = spec(depth=depth, frames=1000 if depth < 500 else 400, instruments=TWO)
    symbols = [i.symbol if protocol == "kraken_v2" else i.symbol.replace("BTC", "XBT") for i in TWO]
    checked = CheckedBooks(dict.fromkeys(symbols, depth))
    frames = [data for _, data in synthetic_frames(given, protocol)]
    for data in frames:
        checked.take(data)
    updates = sum(b'"checksum"' in data or b'"c":' in data for data in frames)
    assert (checked.right, checked.wrong) == (updates, 0)
    assert updates > 300
    for symbol in symbols:
        book = checked.books[symbol]
        assert max(map(float, book["bids"])) < min(map(float, book["asks"]))
        assert len(book["bids"]) == len(book["asks"]) == depth


@pytest.mark.parametrize("protocol", ["kraken_v1", "kraken_v2"])
def test_the_collectors_decoder_refuses_nothing_of_it(protocol: str) -> None:
    """Made by one code and read by another: every frame decoded, every checksum right."""
    pipeline = Pipeline(protocol)
    frames = [data for _, data in synthetic_frames(spec(depth=25), protocol)]
    for data in frames:
        assert pipeline.feed(data) == 0
    counts = pipeline.counts
    told = sum(b'"checksum"' in data or b'"c":' in data for data in frames)
    assert (counts["frames_decoded"], counts["checksums_ok"]) == (len(frames), told)
    assert "checksums_bad" not in counts
    assert counts["trades"] > 100
    assert pipeline.decoder.books_live == len(DEFAULT_INSTRUMENTS)
    pipeline.close()


def test_trades_take_what_the_book_shows() -> None:
    """Each print is at the best price left, for no more than is there; the next update agrees."""
    checked = CheckedBooks({i.symbol: 10 for i in DEFAULT_INSTRUMENTS})
    frames = [data for _, data in synthetic_frames(spec(frames=10_000), "kraken_v2")]
    seen = Counter()
    last_id: dict[str, int] = {}
    for data, following in pairwise(frames):
        message = json.loads(data, parse_float=str)
        if message["channel"] == "book":
            checked.take(data)
            continue
        assert message["type"] == "update"
        symbol = message["data"][0]["symbol"]
        book = checked.books[symbol]
        left: dict[str, int] = {}
        for item in message["data"]:
            side = "asks" if item["side"] == "buy" else "bids"
            levels = sorted(book[side], key=float, reverse=side == "bids")
            best = levels[len(left)]
            assert item["price"] == best
            there = int(book[side][best].replace(".", ""))
            left[best] = there - int(item["qty"].replace(".", ""))
            assert left[best] >= 0
            assert item["trade_id"] == last_id.get(symbol, item["trade_id"] - 1) + 1
            last_id[symbol] = item["trade_id"]
            seen[item["side"]] += 1
        # Only the last level may be left in part.
        assert all(qty == 0 for qty in list(left.values())[:-1])
        after = json.loads(following, parse_float=str)
        assert (after["channel"], after["data"][0]["symbol"]) == ("book", symbol)
        assert after["data"][0]["timestamp"] == message["data"][0]["timestamp"]
        changed = {lv["price"]: lv["qty"] for lv in after["data"][0][side]}
        assert {p: int(changed[p].replace(".", "")) for p in left} == left
    assert checked.wrong == 0
    assert seen["buy"] > 150
    assert seen["sell"] > 150


def test_the_book_is_never_crossed_and_its_spread_comes_back() -> None:
    """At every moment bid < ask; the spread widens at times and returns to a few steps."""
    tape = SyntheticTape(spec(frames=0), "kraken_v2")
    spreads: dict[str, list[int]] = {i.symbol: [] for i in DEFAULT_INSTRUMENTS}
    for _ in range(20_000):
        symbol = tape.step()[-1].stream.symbol
        instrument = tape._by_stream[Stream("book", symbol, 10)]
        spreads[symbol].append(instrument.asks.best - instrument.bids.best)
    for given in DEFAULT_INSTRUMENTS:
        found = sorted(spreads[given.symbol])
        step = max(int(given.price.replace(".", "")) // 40_000, 1)
        assert found[0] == 1
        assert found[len(found) // 2] <= 4 * step
        assert found[-1] > 4 * step
        assert found[-1] < 100 * step


def test_prices_stay_near_their_beginning() -> None:
    """The pull back lets a market run for ever; quantities and reserves stay bounded too."""
    tape = SyntheticTape(spec(frames=0), "kraken_v2")
    for _ in range(30_000):
        tape.step()
    for number, given in enumerate(DEFAULT_INSTRUMENTS):
        instrument, _, _ = tape._markets[number]
        start = int(given.price.replace(".", ""))
        assert abs(instrument.bids.best - start) < start // 20
        for side in (instrument.bids, instrument.asks):
            assert 10 < len(side.keys) == len(side.levels) <= 10 + 5 * RESERVE
            assert all(level.qty > 0 for level in side.levels.values())


def test_quantities_cluster_on_round_sizes() -> None:
    """About every other resting size is a round number of lots."""
    tape = SyntheticTape(spec(depth=1000, instruments=TWO), "kraken_v2")
    sizes = [level.qty for _, level in tape._markets[0][0].bids.visible()]
    lot = tape._markets[0][0]._lot
    round_ones = sum(qty % lot == 0 for qty in sizes)
    assert 0.35 < round_ones / len(sizes) < 0.65


@pytest.mark.parametrize("frames", [1, 2, 3, 500, 501])
def test_a_bounded_tape_ends_on_its_last_frame(frames: int) -> None:
    """No frame more or less, though a trade takes two."""
    for seed in range(20):
        tape = SyntheticTape(spec(frames=frames, seed=seed), "kraken_v2")
        count = 0
        while tape.next_offset_ns() is not None:
            count += len(tape.step())
        assert count == frames == tape.frames


@pytest.mark.parametrize("frames_per_s", [10.0, 20_000.0])
def test_time_passes_at_the_rate_asked_for(frames_per_s: float) -> None:
    """Counted on the market's own clock; times never go back and follow the offsets."""
    tape = SyntheticTape(spec(frames=0, frames_per_s=frames_per_s), "kraken_v1")
    count, before = 0, -1
    while count < 20_000:
        offset = tape.next_offset_ns()
        assert offset >= before
        before = offset
        for step in tape.step():
            count += 1
            stamp = re.findall(rb'"(\d{10}\.\d{6})"', step.data)[-1]
            assert int(stamp.replace(b".", b"")) == (START_NS + offset) // 1000
    assert 0.8 < count / (before / 1e9) / frames_per_s < 1.25


def test_without_a_start_the_market_begins_when_it_is_played() -> None:
    """Its stamps are the clock's, from the moment that somebody listens."""

    async def first_stamp() -> str:
        timing = FakeTiming()
        tape = SyntheticTape(spec(start_ns=0, frames=1), "kraken_v2")
        market = Market(KrakenV2(), tape, timing, speed="max", grace_s=0.0)
        listener = FakeListener(timing)
        for instrument in DEFAULT_INSTRUMENTS:
            market.subscribe(listener, Stream("book", instrument.symbol, 10))
        with clock.replaced(wall=lambda: 1_800_000_000_000_000_000):
            await market.play()
        return json.loads(listener.sent[0][1])["data"][0]["timestamp"]

    assert asyncio.run(first_stamp()) == "2027-01-15T08:00:00.000000Z"


def test_both_protocols_tell_of_one_market() -> None:
    """The same events, prices and quantities, however they are written."""
    first = SyntheticTape(spec(), "kraken_v1")
    second = SyntheticTape(spec(), "kraken_v2")
    numbers = re.compile(rb"\d+\.\d+")
    while second.next_offset_ns() is not None:
        assert first.next_offset_ns() == second.next_offset_ns()
        for one, two in zip(first.step(), second.step(), strict=True):
            assert one.stream.channel == two.stream.channel
            stamped = set(numbers.findall(one.data)) - set(numbers.findall(two.data))
            assert len(stamped) == 1
    assert first.next_offset_ns() is None


def test_a_new_listener_is_told_the_present() -> None:
    """In mid-tape a snapshot shows the book that the updates so far have made, and the prints."""
    tape = SyntheticTape(spec(instruments=TWO), "kraken_v2")
    book, trade = Stream("book", "ETH/USD", 10), Stream("trade", "ETH/USD")
    followed = CheckedBooks({"ETH/USD": 10, "BTC/USD": 10})
    prints: list[dict] = []
    for stream in tape.streams:
        for data in tape.opening(stream, wants_trades=False):
            followed.take(data)
    for _ in range(2000):
        for step in tape.step():
            followed.take(step.data)
            if step.stream == trade:
                prints += json.loads(step.data)["data"]
    (snapshot,) = tape.opening(book, wants_trades=False)
    fresh = CheckedBooks({"ETH/USD": 10})
    fresh.take(snapshot)
    assert (fresh.right, fresh.wrong) == (1, 0)
    assert fresh.books["ETH/USD"] == followed.books["ETH/USD"]
    (last,) = tape.opening(trade, wants_trades=True)
    assert json.loads(last)["data"] == prints[-50:]
    assert tape.opening(trade, wants_trades=False) == []
    assert tape.opening(Stream("ohlc", "ETH/USD"), wants_trades=False) == []


def test_cheap_and_whole_prices_are_written_right() -> None:
    """Leading zeros after the dot, no dot without decimals, and the checksum over them."""
    given = spec(
        frames=800,
        instruments=(
            SyntheticInstrument("PEPE/USD", "0.0000124300", qty_digits=0),
            SyntheticInstrument("BTC/JPY", "9512345", qty_digits=4),
        ),
    )
    checked = CheckedBooks({"PEPE/USD": 10, "BTC/JPY": 10})
    for _, data in synthetic_frames(given, "kraken_v2"):
        checked.take(data)
    assert checked.wrong == 0
    assert checked.right > 700
    assert all(re.fullmatch(r"0\.0000\d{6}", price) for price in checked.books["PEPE/USD"]["bids"])
    assert all(re.fullmatch(r"\d+", qty) for qty in checked.books["PEPE/USD"]["bids"].values())
    assert all(re.fullmatch(r"\d{7}", price) for price in checked.books["BTC/JPY"]["asks"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"depth": 11}, "depth 11"),
        ({"frames_per_s": 0.0}, "frames_per_s"),
        ({"frames_per_s": 2e9}, "frames_per_s"),
        ({"instruments": ()}, "no instruments"),
        ({"instruments": TWO + TWO}, "once"),
        ({"instruments": (SyntheticInstrument("A/B", "0.591"),)}, "at least 592 units"),
        ({"instruments": (SyntheticInstrument("A/B", "x"),)}, "at least"),
        ({"instruments": (SyntheticInstrument('A"/B', "1000.0"),)}, "like BTC/USD"),
        ({"instruments": (SyntheticInstrument("A/B", "1000.0", qty_digits=13),)}, "qty_digits 13"),
    ],
)
def test_impossible_markets_are_refused(fields: dict, says: str) -> None:
    """Each with the value and what is allowed."""
    with pytest.raises(ValueError, match=says):
        SyntheticSpec(**fields)


@pytest.mark.parametrize(("depth", "price"), [(10, "0.592"), (1000, "0.8512")])
def test_the_lowest_price_allowed_works(depth: int, price: str) -> None:
    """On the allowed side of the bound a market runs."""
    given = spec(depth=depth, frames=400, instruments=(SyntheticInstrument("A/B", price),))
    checked = CheckedBooks({"A/B": depth})
    for _, data in synthetic_frames(given, "kraken_v2"):
        checked.take(data)
    assert checked.wrong == 0
    assert len(checked.books["A/B"]["bids"]) == depth


def test_the_default_instruments_have_books_of_any_depth() -> None:
    """What is given without thinking works at the deepest book on offer."""
    for depth in BOOK_DEPTHS:
        tape = SyntheticTape(spec(depth=depth), "kraken_v1")
        for instrument, _, _ in tape._markets:
            assert len(instrument.bids.visible()) == len(instrument.asks.visible()) == depth


def test_a_level_that_leaves_lets_the_next_one_in() -> None:
    """The change of a removal in sight tells both; out of sight it tells nothing."""
    side = BookSide(3, is_bid=False)
    for price in (10, 11, 12, 13, 14):
        side.put(-price, price * 100, 0)
    assert side.best == 10
    assert side.put(-13, 1, 0) == []
    assert side.remove(1) == [(11, 0), (13, 1)]
    assert side.remove(3) == []
    assert side.put(-9, 7, 0) == [(9, 7)]
    assert [price for price, _ in side.visible()] == [9, 10, 12]
    assert side.remove(0) == [(9, 0), (13, 1)]
    assert side.remove(0) == [(10, 0)]
