"""An outlet publishes frames whole, keeps the newest book of every instrument readable, and counts where counts survive."""

import numpy as np
import pytest
from decoding import Pipeline, kinds
from kraken_frames import ASKS, BETTER_BID, BIDS, SNAPSHOTS, snapshot_v1, timed, update, v1
from ring_kit import RingMaker

from collectors.decoder import Subscription
from layouts import BOOK, GapReason, InstrumentState, Kind, StateReason
from shm._native import ffi, lib
from shm.counters import Counters, read_counters
from shm.outlet import COUNT_NAMES, SNAPSHOT, WIDER, Outlet, Reject, apply_levels, stage_trade
from shm.producer import open_latest
from shm.reader import open_reader
from shm.region import unlink

TRADE = [7, [["10.00", "1.500", "1700000000.123456", "b", "l", ""]], "trade", "A/B"]


@pytest.fixture
def ring(instance):
    made = RingMaker(instance.name, instance.state_dir)
    yield made
    made.close()


def text(rows) -> bytes:
    return ("[" + ",".join(f'["{price}","{qty}"]' for price, qty in rows) + "]").encode()


def snapshot(live, bids=BIDS, asks=ASKS) -> int:
    b, a = text(bids), text(asks)
    return apply_levels(live.handle, SNAPSHOT, b, len(b), a, len(a), b"", 0, 0, 1_000)


def newest(reader, index: int) -> np.ndarray | None:
    out = np.zeros(1, BOOK)
    status = lib.tr_latest_load(reader.handle, index, ffi.cast("void *", out.ctypes.data))
    return out[0] if status == lib.TR_OK else None


def test_latest_holds_the_newest_book_and_its_state(ring) -> None:
    """Each instrument has its slot; a book that is not valid shows its state and no level."""
    events, books = ring(64), ring(64, "books", dtype=BOOK)
    latest = ring.keep(open_latest(books.name, BOOK, 4, books.epoch))
    reader = ring.keep(open_reader(books.name, BOOK, suffix="latest"))
    outlet = Outlet(events, books, latest)
    one, two = outlet.open_live(7, 10, 0), outlet.open_live(8, 10, 3)
    for live in (one, two):
        live.set_depth(10)
        assert snapshot(live) == WIDER
        live.set_version(1, *live.wanted_scales)
        assert snapshot(live) == 0
    book = newest(reader, 3)
    assert book["instrument_id"] == 8
    assert book["bid_price"][:3].tolist() == [1000, 999, 998]
    assert book["marks"] & 3 == InstrumentState.LIVE
    assert book["event_seq"] == events.next_seq - 1
    assert newest(reader, 1) is None
    two.set_state(InstrumentState.SUSPECT, StateReason.CHECKSUM, 2_000, GapReason.CHECKSUM, 1)
    book = newest(reader, 3)
    assert book["marks"] & 3 == InstrumentState.SUSPECT
    assert book["bid_levels"] == book["ask_levels"] == 0
    assert not book["bid_price"].any()
    assert newest(reader, 0)["marks"] & 3 == InstrumentState.LIVE
    assert outlet.counts()["books_published"] == books.next_seq - 1 == 2


def test_counts_lie_in_the_worker_s_counters(ring, instance) -> None:
    """What was counted is there for whoever reads, and for the next process of that name."""
    events = ring(64)
    for run in (1, 2):
        counters = Counters.create(instance.name, "worker", COUNT_NAMES)
        live = Outlet(events, counters=counters).open_live(7, 10)
        live.set_version(1, 2, 3)
        assert snapshot(live) == 0
        values = read_counters(instance.name, "worker").values
        assert values["records_published"] == events.next_seq - 1 == run * 10
        assert values["levels"] == run * 6
        counters.close()
    for suffix in ("counters", "counters.lock"):
        unlink(f"tickring.{instance.name}.worker.{suffix}")


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_of_levels_is_exact(ring, over) -> None:
    """A frame of max_levels is taken, one level more is TOO_LARGE and leaves the book SUSPECT."""
    outlet = Outlet(ring(64), max_levels=6)
    live = outlet.open_live(7, 10)
    live.set_version(1, 2, 3)
    bids = [*BIDS, ["9.97", "1.000"]][: 3 + over]
    assert snapshot(live, bids) == (Reject.TOO_LARGE if over else 0)
    assert live.is_valid is not bool(over)


def test_staged_trades_leave_together_or_not_at_all(ring) -> None:
    """Nothing is in the ring before the commit, and nothing of an abandoned frame is remembered."""
    events = ring(64)
    outlet = Outlet(events)
    live = outlet.open_live(7, 0)
    live.set_version(1, 2, 3)

    def stage(trade_id: int) -> int:
        price, qty, time = b"10.00", b"1.500", b"1700000000.5"
        texts = (price, len(price), qty, len(qty), time, len(time))
        return stage_trade(live.handle, 0, *texts, trade_id, 1, 1_000)

    assert stage(5) == stage(6) == 0
    assert events.next_seq == 1
    outlet.abandon()
    assert (live.last_trade_id, live.state) == (0, InstrumentState.SYNCING)
    assert stage(5) == stage(5) == 0
    assert outlet.commit() == 0
    assert events.next_seq == 3  # STATE LIVE, and the trade once
    assert (live.last_trade_id, live.state) == (5, InstrumentState.LIVE)
    assert outlet.counts()["trades_duplicate"] == 1


def test_trades_alone_make_an_instrument_live_until_a_book_is_wanted() -> None:
    """Without a book the first trade says LIVE, also after a lost link; a wanted book waits for its snapshot."""
    pipeline = Pipeline("kraken_v1")
    pipeline.feed(TRADE)
    assert kinds(pipeline.drain()) == ["STATE", "TRADE"]
    pipeline.feed(TRADE)
    assert kinds(pipeline.drain()) == ["TRADE"]
    pipeline.decoder.on_close(pipeline.ts)
    assert kinds(pipeline.drain()) == ["GAP", "STATE"]
    pipeline.feed(TRADE)
    assert kinds(pipeline.drain()) == ["STATE", "TRADE"]
    line = pipeline.decoder.instruments["A/B"]
    assert pipeline.feed(v1(a=timed([["10.01", "8.000"]]), c="1")) == Reject.NO_SNAPSHOT
    assert line.live.state == InstrumentState.SYNCING
    assert pipeline.feed(snapshot_v1()) == 0
    assert line.live.state == InstrumentState.LIVE
    pipeline.close()


def test_a_thousand_instruments_share_one_outlet() -> None:
    """Each book is its own; one that is lost leaves the other 999 as they are."""
    symbols = tuple(f"S{i}/B" for i in range(1000))
    wanted = [Subscription("book", symbols, 10)]
    pipeline = Pipeline("kraken_v2", wanted, accept_any=False)
    for symbol in symbols:
        assert pipeline.feed(SNAPSHOTS["kraken_v2"](symbol)) == 0
    assert (
        pipeline.feed(update("kraken_v2", *BETTER_BID, symbol="S500/B", checksum=1))
        == Reject.CHECKSUM
    )
    assert pipeline.decoder.books_live == 999
    assert pipeline.feed(update("kraken_v2", *BETTER_BID, symbol="S501/B")) == 0
    assert len(pipeline.of(Kind.GAP)) == 1
    assert len(set(pipeline.instruments()["instrument_id"])) == 1000
    pipeline.close()
