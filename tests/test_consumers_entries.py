"""Stream entries: exact decimal text, the scale in force at each record, gaps told where they were."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import numpy as np
import pytest
from conftest import Instance
from hypothesis import given
from hypothesis import strategies as st
from sinks import Feed, remove_regions

from consumers.entries import Entries, EventEntries, FeatureEntries, decimal_text
from consumers.instruments import InstrumentTable
from layouts import COLUMNS, EVENT, FEATURES, GapReason, Kind
from layouts.features import READY_BIT
from shm.reader import open_reader
from shm.region import ring_name

EPOCH = 7


@pytest.fixture
def feed(instance: Instance) -> Iterator[Feed]:
    """A feed with one instrument, and its regions removed at the end."""
    made = Feed(instance)
    made.add_instrument("BTC/USD")
    yield made
    made.close()
    remove_regions(instance)


def encoder(feed: Feed) -> EventEntries:
    """Make the encoder of the feed's events ring."""
    return EventEntries(feed.worker, InstrumentTable(feed.place.name), maxlen=100)


def encoded(feed: Feed, by: EventEntries) -> Entries:
    """Encode all that the feed has published."""
    with open_reader(ring_name(feed.place.name, feed.worker, "events"), EVENT) as reader:
        records, info = reader.last(1000)
    return by.encode(records, info.first_seq, EPOCH)


def fields(command: tuple) -> dict:
    """Return an XADD's stream, id and fields."""
    assert command[:1] == ("XADD",)
    assert command[2:5] == ("MAXLEN", "~", 100)
    pairs = dict(zip(command[6::2], command[7::2], strict=True))
    return {"stream": command[1], "id": command[5], **pairs}


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 20))
def test_decimal_text_is_exact(value: int, scale: int) -> None:
    """The text is the integer over a power of ten, with all its decimals."""
    text = decimal_text(value, scale)
    assert Decimal(text) == Decimal(value).scaleb(-scale)
    assert len(text.partition(".")[2]) == scale
    assert "e" not in text.lower()


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (0, 0, "0"),
        (0, 2, "0.00"),
        (5, 2, "0.05"),
        (-5, 2, "-0.05"),
        (99, 2, "0.99"),
        (100, 2, "1.00"),
        (123456, 1, "12345.6"),
        (7, -2, "700"),
    ],
)
def test_decimal_text_at_its_bounds(value: int, scale: int, text: str) -> None:
    """Leading zeros are added and no sign is lost."""
    assert decimal_text(value, scale) == text


def test_a_trade_becomes_the_entry_of_the_schema(feed: Feed) -> None:
    """Stream, id and every field, in the order that readers see."""
    feed.trades(1)
    (command,) = encoded(feed, encoder(feed)).commands
    assert fields(command) == {
        "stream": "trades:kraken:BTC/USD",
        "id": "7-1",
        "timestamp": 1000,
        "price": "0.01",
        "volume": "0.00000003",
        "side": "buy",
        "trade_id": 1,
        "seq": 1,
    }


def test_a_wider_scale_holds_from_its_state_record_on(feed: Feed) -> None:
    """A trade before the new version keeps the old scale, even when the table already has the new one."""
    feed.record(Kind.STATE, 1, 2, 1)
    feed.trades(1)
    feed.add_instrument("BTC/USD", version=2, price_scale=4)
    feed.trades(1)
    feed.record(Kind.SNAPSHOT_BEGIN, 10, 10, 2)
    feed.trades(1)
    by = encoder(feed)
    prices = [fields(command)["price"] for command in encoded(feed, by).commands]
    assert prices == ["0.01", "0.02", "0.0003"]
    assert by.scales.versions() == {1: 2}


def test_versions_survive_a_restart_in_mid_stream(feed: Feed) -> None:
    """What was in force is restored, though the table has a newer version."""
    feed.add_instrument("BTC/USD", version=2, price_scale=4)
    feed.trades(1)
    by = encoder(feed)
    by.scales.restore({1: 1})
    assert fields(encoded(feed, by).commands[0])["price"] == "0.01"
    by.scales.forget()
    assert fields(encoded(feed, by).commands[0])["price"] == "0.0001"


def test_a_venue_gap_is_told_in_its_stream(feed: Feed) -> None:
    """A break of the line is a gap in the trades; a wrong book checksum is not."""
    feed.record(Kind.GAP, 4, 9, 0, GapReason.DISCONNECT)
    feed.record(Kind.GAP, 0, 0, 1, GapReason.CHECKSUM)
    found = encoded(feed, encoder(feed))
    assert (found.records, found.gaps) == (0, 1)
    told = fields(found.commands[0])
    assert (told["gap_from"], told["gap_to"], told["reason"]) == (4, 9, "disconnect")
    assert told["id"] == "7-1"


@pytest.mark.parametrize("instrument_id", [0, 1])
def test_a_gap_of_the_whole_line_is_told_in_every_stream(feed: Feed, instrument_id: int) -> None:
    """Instrument 0 stands for all of the ring's instruments."""
    feed.add_instrument("ETH/USD", offset=1)
    feed.record(Kind.GAP, 0, 0, 0, GapReason.SILENCE, instrument_id=instrument_id)
    streams = {fields(c)["stream"] for c in encoded(feed, encoder(feed)).commands}
    assert streams == {"trades:kraken:BTC/USD"} | (
        {"trades:kraken:ETH/USD"} if instrument_id == 0 else set()
    )


def test_a_lapped_range_is_told_in_every_stream_of_the_ring(feed: Feed) -> None:
    """The id is that of the last lost record, so that what follows is larger."""
    feed.add_instrument("ETH/USD", offset=1)
    other = Feed(feed.place, "other", first_id=100)
    other.add_instrument("XBT/EUR")
    found = encoder(feed).lapped(11, 25, EPOCH)
    assert found.gaps == 2
    for command, symbol in zip(found.commands, ("BTC/USD", "ETH/USD"), strict=True):
        told = fields(command)
        assert told["stream"] == f"trades:kraken:{symbol}"
        assert told["id"] == "7-25"
        assert (told["gap_from"], told["gap_to"], told["reason"]) == (11, 25, "lapped")
    other.close()


def test_a_trade_of_an_unknown_instrument_is_counted(feed: Feed) -> None:
    """It has no stream; the next trade of a known one is not held up."""
    feed.trades(2, instrument_id=9)
    feed.trades(1)
    found = encoded(feed, encoder(feed))
    assert (found.records, found.unknown, len(found.commands)) == (1, 2, 1)


def test_a_feature_row_carries_its_ready_columns_with_all_digits(feed: Feed) -> None:
    """Columns that are not ready are left out; floats come back bit for bit."""
    rows = np.zeros(3, FEATURES)
    rows["kind"] = Kind.FEATURES
    rows["kind"][0] = Kind.HEARTBEAT
    rows["instrument_id"] = 1
    rows["ts_event"], rows["row_no"] = 5_000_999, [0, 41, 42]
    rows["source_epoch"], rows["source_seq"] = 3, 1234
    rows["mid"], rows["bid"] = 0.1 + 0.2, 1e-300
    rows["ready"] = [0, 1 << READY_BIT["mid"] | 1 << READY_BIT["bid"], 0]
    found = FeatureEntries(InstrumentTable(feed.place.name), 100).encode(rows, 10, EPOCH)
    assert found.records == 2
    told = fields(found.commands[0])
    assert told["stream"] == "features:kraken:BTC/USD"
    assert (told["id"], told["timestamp"], told["row_no"]) == ("7-11", 5000, 41)
    assert told["source"] == "3-1234"
    assert msgspec.json.decode(told["values"]) == {"mid": 0.1 + 0.2, "bid": 1e-300}
    assert fields(found.commands[1])["values"] == b"{}"


def test_every_column_is_where_its_name_says(feed: Feed) -> None:
    """The float block is read column by column as the layout names them."""
    rows = np.zeros(2, FEATURES)
    rows["kind"], rows["instrument_id"] = Kind.FEATURES, 1
    for i, column in enumerate(COLUMNS):
        rows[column.name] = [i + 0.5, -i]
    rows["ready"] = (1 << len(COLUMNS)) - 1
    found = FeatureEntries(InstrumentTable(feed.place.name), 100).encode(rows, 1, EPOCH)
    values = [msgspec.json.decode(fields(command)["values"]) for command in found.commands]
    assert values[0] == {column.name: i + 0.5 for i, column in enumerate(COLUMNS)}
    assert values[1] == {column.name: -i for i, column in enumerate(COLUMNS)}
