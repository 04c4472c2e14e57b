"""A frame ends in one count, a loss is told and mended for one instrument alone, and nothing wrong reaches a book."""

import json

import pytest
from decoding import Pipeline, books_from, kinds
from kraken_frames import ASKS, BETTER_BID, BIDS, SNAPSHOTS, crc, snapshot_v1, snapshot_v2, update

from collectors.decoder import Subscription
from layouts import GapReason, InstrumentState, Kind, Mark, StateReason
from shm._native import lib
from shm.outlet import COUNT_NAMES, Reject


@pytest.fixture(params=["kraken_v1", "kraken_v2"])
def venue(request) -> str:
    return request.param


@pytest.fixture
def pipeline(venue):
    made = Pipeline(venue, [Subscription("book", ("A/B", "C/D"), 10)], accept_any=False)
    yield made
    assert made.accounted() == made.fed
    assert made.counts.get("records_published", 0) == len(made.events())
    made.close()


def test_the_c_enumerations_are_the_python_ones() -> None:
    """Reasons, count names and their order agree between C and Python."""
    assert len(COUNT_NAMES) == lib.TR_COUNTS
    for reason in Reject:
        assert getattr(lib, f"TR_FRAME_{reason.name}") == reason
        assert COUNT_NAMES[reason] == f"rejected.{reason.name.lower()}"
    for reason in GapReason:
        assert COUNT_NAMES[lib.TR_COUNT_GAPS + reason] == f"gaps.{reason.name.lower()}"
    for name in (
        "checksums_ok",
        "checksums_bad",
        "levels",
        "levels_absent",
        "trades",
        "trades_duplicate",
    ):
        assert COUNT_NAMES[getattr(lib, f"TR_COUNT_{name.upper()}")] == name
    assert COUNT_NAMES[lib.TR_COUNT_RECORDS] == "records_published"
    assert COUNT_NAMES[lib.TR_COUNT_BOOKS] == "books_published"


def test_a_snapshot_and_an_update_in_the_order_of_the_layout(venue, pipeline) -> None:
    """BEGIN, levels worst to best, END, STATE LIVE, QUOTE; then LEVEL, QUOTE; the last of each frame says so."""
    assert pipeline.feed(SNAPSHOTS[venue]()) == 0
    first = pipeline.drain()
    assert kinds(first) == ["SNAPSHOT_BEGIN", *["LEVEL"] * 6, "SNAPSHOT_END", "STATE", "QUOTE"]
    assert first["word_0"][1:7].tolist() == [998, 999, 1000, 1003, 1002, 1001]
    assert [bool(m & Mark.BUY) for m in first["marks"][1:7]] == [True] * 3 + [False] * 3
    assert first[0]["word_0"] == 6
    assert first[0]["word_1"] == 10
    assert first[7]["word_0"] == first[7]["word_1"] == 3
    assert [int(m) & Mark.STATE_MASK for m in first["marks"]] == [0] * 8 + [1] * 2
    assert pipeline.feed(update(venue, *BETTER_BID)) == 0
    second = pipeline.drain()
    assert kinds(second) == ["LEVEL", "QUOTE"]
    assert second[1]["word_1"] == 7000
    assert second[0]["word_3"] == 1
    for frame in (first, second):
        assert [bool(m & Mark.LAST_IN_FRAME) for m in frame["marks"]] == [False] * (
            len(frame) - 1
        ) + [True]


def test_a_wrong_checksum_publishes_no_level_and_asks_for_one_instrument(venue, pipeline) -> None:
    """GAP and STATE(SUSPECT), a resubscription of that symbol only, updates dropped until the snapshot."""
    for symbol in ("A/B", "C/D"):
        assert pipeline.feed(SNAPSHOTS[venue](symbol)) == 0
    pipeline.drain()
    good = update(venue, *BETTER_BID)
    assert pipeline.feed(update(venue, *BETTER_BID, checksum=1)) == Reject.CHECKSUM
    events = pipeline.drain()
    assert kinds(events) == ["GAP", "STATE"]
    assert events[0]["word_3"] == GapReason.CHECKSUM
    assert events[1]["word_0"] == InstrumentState.SUSPECT
    assert events[1]["word_1"] == StateReason.CHECKSUM
    assert (events["marks"] & Mark.STATE_MASK == InstrumentState.SUSPECT).all()
    sent = [json.loads(frame) for frame in pipeline.decoder.outbox]
    assert len(sent) == 2
    assert all("A/B" in json.dumps(frame) and "C/D" not in json.dumps(frame) for frame in sent)
    assert pipeline.feed(good) == Reject.NO_SNAPSHOT
    assert pipeline.feed(update(venue, *BETTER_BID, symbol="C/D")) == 0
    assert pipeline.feed(SNAPSHOTS[venue]()) == 0
    assert pipeline.feed(good) == 0
    assert pipeline.decoder.books_live == pipeline.decoder.books_total == 2
    assert pipeline.counts["checksums_bad"] == 1


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([["10.00", "1.0005"]], Reject.TOO_MANY_DIGITS),
        ([["10.001", "1.000"]], Reject.TOO_MANY_DIGITS),
        ([["10.00", "1234567890123456789"]], Reject.TOO_MANY_DIGITS),
        ([["10.00", "-1.000"]], Reject.OUT_OF_RANGE),
        ([["0.00", "1.000"]], Reject.OUT_OF_RANGE),
        ([["-10.00", "1.000"]], Reject.OUT_OF_RANGE),
        ([["10.01", "1.000"]], Reject.CROSSED),
        ([["10.02", "1.000"]], Reject.CROSSED),
    ],
)
def test_a_bad_level_refuses_the_whole_frame(venue, pipeline, rows, reason) -> None:
    """A good level beside it is not applied either; the instrument is SUSPECT and a snapshot mends it."""
    pipeline.feed(SNAPSHOTS[venue]())
    pipeline.drain()
    frame = update(venue, [["9.99", "9.000"], *rows], [], (BIDS, ASKS))
    assert pipeline.feed(frame) == reason
    events = pipeline.drain()
    assert kinds(events) == ["GAP", "STATE"]
    assert events[0]["word_3"] == GapReason.REFUSED_FRAME
    line = pipeline.decoder.instruments["A/B"]
    assert line.live.state == InstrumentState.SUSPECT
    if reason != Reject.CROSSED:
        assert line.live.depth(1, 9) == [(1000, 1000), (999, 2000), (998, 3000)]
    assert len(pipeline.decoder.outbox) == 2
    assert pipeline.feed(SNAPSHOTS[venue]()) == 0
    assert line.live.state == InstrumentState.LIVE


def test_excess_zero_digits_are_accepted(venue, pipeline) -> None:
    """10.000 and 7.000000 at scales 2 and 3 are what they are."""
    pipeline.feed(SNAPSHOTS[venue]())
    _, _, book = BETTER_BID
    assert pipeline.feed(update(venue, [["10.000", "7.000000"]], [], book)) == 0


def test_a_refused_digit_widens_the_next_snapshot_s_version(venue, pipeline) -> None:
    """The version after it holds the digit, the checksum still covers the digits as the venue writes them."""
    pipeline.feed(SNAPSHOTS[venue]())
    assert (
        pipeline.feed(update(venue, [["10.00", "1.00055"]], [], (BIDS, ASKS)))
        == Reject.TOO_MANY_DIGITS
    )
    assert pipeline.feed(SNAPSHOTS[venue]()) == 0
    line = pipeline.decoder.instruments["A/B"]
    assert (line.live.version, line.live.scales) == (2, (2, 5))
    assert line.live.depth(1, 1) == [(1000, 100_000)]
    assert line.live.crc_kraken == crc(BIDS, ASKS)
    assert pipeline.feed(update(venue, *BETTER_BID)) == 0
    versions = pipeline.instruments()
    assert versions["version"].tolist() == [1, 2]
    assert versions["qty_scale"].tolist() == [3, 5]


def test_a_wider_snapshot_opens_a_version_and_a_narrower_one_does_not(venue, pipeline) -> None:
    """Scales only grow; records carry the version that they are written in."""
    wide_bids = [["10.0000", "1.000"]]
    wide_asks = [["10.0100", "1.000"]]
    pipeline.feed(SNAPSHOTS[venue]())
    assert pipeline.feed(SNAPSHOTS[venue](bids=wide_bids, asks=wide_asks)) == 0
    assert pipeline.feed(SNAPSHOTS[venue]()) == 0
    line = pipeline.decoder.instruments["A/B"]
    assert (line.live.version, line.live.scales) == (2, (4, 3))
    assert pipeline.feed(update(venue, *BETTER_BID)) == 0
    begins = pipeline.of(Kind.SNAPSHOT_BEGIN)
    assert begins["instrument_version"].tolist() == [1, 2, 2]


def test_levels_beyond_the_depth_are_cut_and_told(venue, pipeline) -> None:
    """With ten levels a side an eleventh is cut: its LEVEL has quantity 0, and consumers end with ten too."""
    bids = [[f"{9.99 - i / 100:.2f}", "1.000"] for i in range(10)]
    pipeline.feed(SNAPSHOTS[venue](bids=bids))
    pipeline.drain()
    best = ["10.00", "2.000"]
    assert pipeline.feed(update(venue, [best], [], ([best, *bids[:9]], ASKS))) == 0
    events = pipeline.drain()
    assert kinds(events) == ["LEVEL", "LEVEL", "QUOTE"]
    assert (events[1]["word_0"], events[1]["word_1"]) == (990, 0)
    assert events[1]["marks"] & Mark.BUY
    assert books_from(pipeline.events())[1].depth(1, 99) == [(1000, 2000)] + [
        (999 - i, 1000) for i in range(9)
    ]


def test_a_snapshot_deeper_than_the_subscription_is_cut(venue, pipeline) -> None:
    """Twelve levels at depth ten: ten are held and published."""
    bids = [[f"{9.99 - i / 100:.2f}", "1.000"] for i in range(12)]
    assert pipeline.feed(SNAPSHOTS[venue](bids=bids)) == 0
    assert pipeline.of(Kind.SNAPSHOT_END)["bid_levels"].tolist() == [10]


def test_a_delete_of_an_absent_level_is_counted_not_published(venue, pipeline) -> None:
    """Nothing changes, the checksum still holds, and the frame is decoded."""
    pipeline.feed(SNAPSHOTS[venue]())
    pipeline.drain()
    assert pipeline.feed(update(venue, [["9.50", "0.000"]], [], (BIDS, ASKS))) == 0
    assert len(pipeline.drain()) == 0
    assert pipeline.counts["levels_absent"] == 1


def test_deleting_the_best_level_quotes_the_next(venue, pipeline) -> None:
    """A quantity of zero deletes, and the QUOTE is the level behind it."""
    pipeline.feed(SNAPSHOTS[venue]())
    pipeline.drain()
    assert pipeline.feed(update(venue, [], [["10.01", "0.000"]], (BIDS, ASKS[1:]))) == 0
    events = pipeline.drain()
    assert kinds(events) == ["LEVEL", "QUOTE"]
    assert events[1]["word_2"] == 1002


def test_an_emptied_side_quotes_zero(venue, pipeline) -> None:
    """The QUOTE of an empty side has price and quantity 0."""
    pipeline.feed(SNAPSHOTS[venue](asks=[["10.01", "4.000"]]))
    assert pipeline.feed(update(venue, [], [["10.01", "0.000"]], (BIDS, []))) == 0
    last = pipeline.of(Kind.QUOTE)[-1]
    assert (last["ask_price"], last["ask_qty"], last["bid_price"]) == (0, 0, 1000)


def test_an_update_before_the_snapshot_is_dropped_and_counted(venue, pipeline) -> None:
    """Nothing is applied to an empty book, and nothing is published."""
    assert pipeline.feed(update(venue, *BETTER_BID)) == Reject.NO_SNAPSHOT
    assert len(pipeline.events()) == 0
    assert pipeline.counts == {"rejected.no_snapshot": 1}


BROKEN = [
    (b"", Reject.MALFORMED_JSON),
    (b"{", Reject.MALFORMED_JSON),
    (b"[1,2", Reject.MALFORMED_JSON),
    (b"\xff\xfe", Reject.MALFORMED_JSON),
    (b'{"event":"\xff","channel":"\xff"}', Reject.MALFORMED_JSON),
    (b"[" * 100_000, Reject.MALFORMED_JSON),
    (b'{"data":' * 50_000, Reject.MALFORMED_JSON),
    (b"null", Reject.UNEXPECTED_SHAPE),
    (b"[]", Reject.UNEXPECTED_SHAPE),
    (b"{}", Reject.UNEXPECTED_SHAPE),
    (b"5", Reject.UNEXPECTED_SHAPE),
    (b"[1,2,3,4]", Reject.UNEXPECTED_SHAPE),
]


@pytest.mark.parametrize(("frame", "reason"), BROKEN)
def test_a_broken_frame_is_a_gap_that_names_no_instrument(venue, pipeline, frame, reason) -> None:
    """It is counted with its reason; the books stay as they are, their own checks guard them."""
    pipeline.feed(SNAPSHOTS[venue]())
    pipeline.drain()
    assert pipeline.feed(frame) == reason
    events = pipeline.drain()
    assert kinds(events) == ["GAP"]
    assert events[0]["instrument_id"] == 0
    assert events[0]["word_2"] == 1
    assert events[0]["marks"] & Mark.LAST_IN_FRAME
    assert pipeline.feed(update(venue, *BETTER_BID)) == 0


def test_an_unknown_symbol_is_counted_and_no_loss(venue, pipeline) -> None:
    """What nobody asked for is no gap."""
    assert pipeline.feed(SNAPSHOTS[venue]("X/Y")) == Reject.UNKNOWN_SYMBOL
    assert len(pipeline.events()) == 0


@pytest.mark.parametrize("over", [0, 1])
def test_the_frame_limit_is_exact(venue, over) -> None:
    """A frame of the limit is taken, one byte more is refused before it is read."""
    frame = snapshot_v2() if venue == "kraken_v2" else json.dumps(snapshot_v1())
    pipeline = Pipeline(venue, max_frame_bytes=len(frame) - over)
    assert pipeline.feed(frame) == (Reject.TOO_LARGE if over else 0)
    pipeline.close()
