"""The quant's door: a notebook attaches, reads and converts, in a few lines, exactly, and without disturbing anything."""

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from ring_kit import RingMaker, ring_maker

import shm
from layouts import BAR, BOOK, EVENT, INSTRUMENT, POSITION, InstrumentState, Kind, make_marks
from layouts.event import QUOTE, TRADE
from shm._native import ffi, lib
from shm.errors import NoRing
from shm.producer import open_latest, open_ring
from shm.region import ring_name

T0 = 1_763_600_000_000_000_000
BTC, ETH = 7, 8


class Market:
    """A small running instance: trades and quotes of two instruments, their table, one book."""

    def __init__(self, ring: RingMaker) -> None:
        self.instance = ring.instance
        self.state_dir = ring.state_dir
        self.ring = ring
        self.events = self.open("events", EVENT, 64)
        self.table = self.open("instruments", INSTRUMENT, 16)
        self.books = self.open("books", BOOK, 4)
        self.latest = ring.keep(open_latest(self.books.name, BOOK, 4, self.books.epoch))
        self.instrument(BTC, 1, "BTC/USD", 1, 8, T0)
        self.instrument(ETH, 1, "ETH/USD", 2, 8, T0)

    def open(self, name: str, dtype: np.dtype, slots: int):
        full = ring_name(self.instance, "kraken", name)
        self.ring._names.add(full)
        return self.ring.keep(open_ring(full, dtype, slots, self.state_dir))

    def instrument(self, number, version, symbol, price_scale, qty_scale, ts_recv) -> None:
        record = np.zeros(1, INSTRUMENT)
        record["instrument_id"], record["kind"], record["version"] = (
            number,
            Kind.INSTRUMENT,
            version,
        )
        record["price_scale"], record["qty_scale"] = price_scale, qty_scale
        record["venue"], record["symbol"], record["ts_recv"] = b"kraken", symbol.encode(), ts_recv
        self.table.publish(record)

    def trade(self, number: int, price: int, qty: int, side: int, at: int) -> None:
        record = np.zeros(1, TRADE)
        record["instrument_id"], record["kind"] = number, Kind.TRADE
        record["marks"] = make_marks(InstrumentState.LIVE, side, last_in_frame=True)
        record["price"], record["qty"], record["ts_recv"] = price, qty, at
        record["ts_event"] = at - 1000
        self.events.publish(record)

    def quote(self, number: int, bid: int, ask: int, at: int) -> None:
        record = np.zeros(1, QUOTE)
        record["instrument_id"], record["kind"], record["ts_recv"] = number, Kind.QUOTE, at
        record["bid_price"], record["ask_price"] = bid, ask
        record["marks"] = make_marks(InstrumentState.SUSPECT)
        self.events.publish(record)

    def book(self, index: int, number: int, levels: int, state=InstrumentState.LIVE) -> None:
        record = np.zeros(1, BOOK)
        record["instrument_id"], record["kind"] = number, Kind.BOOK
        record["marks"], record["ts_recv"] = make_marks(state), lib.tr_now_ns()
        record["event_epoch"], record["event_seq"] = 1, self.events.next_seq - 1
        record["bid_levels"], record["ask_levels"] = levels, levels + 1
        record["bid_price"][0, :levels] = 650_000 - np.arange(levels)
        record["ask_price"][0, : levels + 1] = 650_001 + np.arange(levels + 1)
        record["bid_qty"][0, :levels] = record["ask_qty"][0, :levels] = 150_000_000
        pointer = ffi.cast("void *", record.ctypes.data)
        assert lib.tr_latest_store(self.latest.handle, index, pointer) == lib.TR_OK


@pytest.fixture
def ring(instance) -> Iterator[RingMaker]:
    """Open rings that end with the test."""
    yield from ring_maker(instance)


@pytest.fixture
def market(ring) -> Market:
    """Four records: a trade, a quote, a trade of the other instrument, a trade after a wider scale."""
    market = Market(ring)
    market.trade(BTC, 650_001, 12_345_678, 1, T0 + 1)
    market.quote(BTC, 650_000, 650_001, T0 + 2)
    market.trade(ETH, 250_005, 1, -1, T0 + 3)
    market.instrument(BTC, 2, "BTC/USD", 3, 8, T0 + 4)
    market.trade(BTC, 65_000_125, 1, -1, T0 + 5)
    market.trade(99, 5, 5, 0, T0 + 6)
    return market


def test_trades_as_floats_with_names_and_times(market) -> None:
    """One kind under its own columns; each price at the scale in force when it came."""
    with shm.attach("kraken.events", market.instance) as reader:
        table = reader.to_arrow(kind="trade")
    assert table["seq"].to_pylist() == [1, 3, 4, 5]
    assert table["epoch"].to_pylist() == [1] * 4
    assert table["symbol"].to_pylist() == ["BTC/USD", "ETH/USD", "BTC/USD", None]
    assert table["venue"].to_pylist() == ["kraken"] * 3 + [None]
    assert table["price"].to_pylist() == [65000.1, 2500.05, 65000.125, None]
    assert table["side"].to_pylist() == [1, -1, -1, 0]
    assert table["book_state"].to_pylist() == ["LIVE"] * 4
    assert str(table.schema.field("ts_recv").type) == "timestamp[ns, tz=UTC]"


def test_decimals_are_exact_and_fixed_is_what_the_ring_holds(market) -> None:
    """No digit is lost in either; fixed comes with its scales."""
    with shm.attach("kraken.events", market.instance) as reader:
        exact = reader.to_arrow(kind=Kind.TRADE, price="decimal")
        fixed = reader.to_arrow(kind="TRADE", price="fixed", tz=None, symbols=False)
    assert exact["price"].to_pylist()[:3] == [
        Decimal("65000.1"), Decimal("2500.05"), Decimal("65000.125"),
    ]  # fmt: skip
    assert exact["qty"].to_pylist()[0] == Decimal("0.12345678")
    assert fixed["price"].to_pylist() == [650_001, 250_005, 65_000_125, 5]
    assert fixed["price_scale"].to_pylist() == [1, 2, 3, None]
    assert fixed["ts_recv"].to_pylist() == [T0 + 1, T0 + 3, T0 + 5, T0 + 6]
    assert "symbol" not in fixed.column_names


def test_all_kinds_at_once_are_words(market) -> None:
    """Without `kind` nothing is interpreted but the header."""
    with shm.attach("kraken.events", market.instance) as reader:
        table = reader.to_arrow()
        assert len(reader.to_arrow(2)) == 2
    assert table["kind"].to_pylist() == [1, 2, 1, 1, 1]
    assert table["word_0"].to_pylist()[:2] == [650_001, 650_000]
    assert table["book_state"].to_pylist()[1] == "SUSPECT"


def test_polars_and_pandas_hold_the_same(market, require_rival) -> None:
    """Each library's own types, the same values."""
    polars = require_rival("polars")
    require_rival("pandas")
    with shm.attach("kraken.events", market.instance) as reader:
        ours = reader.to_arrow(kind="quote")
        there = reader.to_polars(kind="quote")
        frame = reader.to_pandas(kind="quote")
    assert isinstance(there, polars.DataFrame)
    assert there["bid_price"].to_list() == frame["bid_price"].tolist() == [65000.0]
    assert list(frame.columns) == ours.column_names == there.columns


def test_other_layouts_become_columns_too(market) -> None:
    """Books as fixed-size lists, instrument tables with their text."""
    with shm.attach("kraken.instruments", market.instance) as reader:
        table = reader.to_arrow(symbols=False)
    assert table["symbol"].to_pylist() == ["BTC/USD", "ETH/USD", "BTC/USD"]
    market.books.publish(np.zeros(1, BOOK))
    with shm.attach("kraken.books", market.instance) as reader:
        assert reader.to_arrow()["bid_price"].type.list_size == 50
        with pytest.raises(ValueError, match="only EVENT records"):
            reader.to_arrow(kind="trade")


@pytest.mark.parametrize(
    ("price", "tick", "lot", "multiplier"),
    [
        ("float", 0.05, 0.00000001, 0.25),
        ("decimal", Decimal("0.05"), Decimal("1E-8"), Decimal("0.25")),
        ("fixed", 5, 1, 25),
    ],
)
def test_steps_of_an_instrument_are_at_its_own_scales(market, price, tick, lot, multiplier) -> None:
    """Tick at its version's price scale, lot at its quantity's, multiplier at its own; what is not known is 0."""
    row = np.zeros(1, INSTRUMENT)
    row["instrument_id"], row["kind"], row["version"], row["tick"], row["lot"] = 9, 17, 1, 5, 1
    row["price_scale"], row["qty_scale"], row["multiplier_scale"], row["multiplier"] = 2, 8, 2, 25
    market.table.publish(row)
    with shm.attach("kraken.instruments", market.instance) as reader:
        frame = reader.to_polars(price=price)
    rows = [frame[name].to_list() for name in ("tick", "lot", "multiplier", "price_scale")]
    assert [values[-1] for values in rows] == [tick, lot, multiplier, 2]
    assert [values[0] for values in rows[:3]] == [0, 0, 0]


def test_a_table_of_nothing_has_its_columns(market) -> None:
    """An empty answer can be concatenated with a later one."""
    with shm.attach("kraken.events", market.instance) as reader:
        empty, full = reader.to_arrow(0, kind="trade"), reader.to_arrow(kind="trade")
    assert len(empty) == 0
    assert empty.column_names == full.column_names


@pytest.mark.parametrize(
    "wrong", [{"price": "cents"}, {"kind": "candle"}, {"tz": "Mars"}, {"tz": ""}, {"tz": "+1"}]
)
def test_unknown_switches_are_refused(market, wrong) -> None:
    """The error names what there is."""
    with shm.attach("kraken.events", market.instance) as reader:
        with pytest.raises(ValueError, match="expected"):
            reader.to_arrow(**wrong)


@pytest.mark.parametrize(
    ("tz", "shown"),
    [("UTC", "UTC"), ("Europe/Zurich", "Europe/Zurich"), ("+01:00", "+01:00"), (None, None)],
)
def test_times_are_in_the_zone_asked_for(market, tz: str | None, shown: str | None) -> None:
    """The instant is the same; None is the integer of the ring."""
    with shm.attach("kraken.events", market.instance) as reader:
        column = reader.to_arrow(kind="trade", tz=tz)["ts_recv"]
    assert getattr(column.type, "tz", None) == shown
    assert column.cast("int64").to_pylist()[0] == T0 + 1


# ---------------------------------------------------------------- the newest book


def test_the_newest_book_is_a_table_of_levels(market) -> None:
    """Best first; float with NaN where there is none, fixed with 0; state, age and event with it."""
    market.book(2, BTC, 3)
    with shm.book("kraken", "BTC/USD", market.instance) as book:
        levels = book.depth(5)
        assert levels.shape == (5, 4)
        assert levels[0].tolist() == [650.0, 1.5, 650.001, 1.5]
        assert np.isnan(levels[3, 0]) and not np.isnan(levels[3, 2])
        fixed = book.depth(5, price="fixed")
        assert (fixed.dtype, fixed[1].tolist()) == (
            np.int64,
            [649_999, 150_000_000, 650_002, 150_000_000],
        )
        assert (book.state, book.event_epoch, book.event_seq) == ("LIVE", 1, 5)
        assert 0 <= book.age_s < 60
        assert "BTC/USD LIVE bid 1.5 @ 650 ask 1.5 @ 650.001" in repr(book)
        market.book(2, BTC, 1, InstrumentState.STALE)
        assert book.state == "STALE"
        assert book.depth(0).shape == (0, 4)
        for wrong in (-1, 51):
            with pytest.raises(ValueError, match="0 to 50"):
                book.depth(wrong)
        with pytest.raises(ValueError, match="expected"):
            book.depth(1, price="decimal")
    with pytest.raises(ValueError, match="closed"):
        book.depth(1)


def test_a_book_before_its_first_frame_is_empty_and_syncing(market) -> None:
    """And found as soon as it comes, whatever its slot."""
    with shm.book("kraken", "ETH/USD", market.instance) as book:
        assert (book.state, book.age_s, book.event_seq) == ("SYNCING", float("inf"), 0)
        assert np.isnan(book.depth(10)).all()
        market.book(0, BTC, 2)
        market.book(3, ETH, 2)
        assert book.state == "LIVE"


def test_an_unknown_book_names_those_there_are(market) -> None:
    """What was asked for, and what could have been."""
    with pytest.raises(NoRing, match=r"kraken BTC/USD, kraken ETH/USD"):
        shm.book("kraken", "DOGE/USD", market.instance)
    assert [i.symbol for i in shm.instruments(market.instance)] == ["BTC/USD", "ETH/USD"]
    assert shm.instruments(market.instance)[0].price_scale == 3


EXAMPLE = """
import sys
import shm

INSTANCE = sys.argv[1]
for row in shm.rings(INSTANCE):
    print(row.name, row.layout, row.state, row.depth)
r = shm.attach("kraken.events", INSTANCE)
a, info = r.last(10_000)
print(len(a), info.first_seq, info.last_seq, info.lost, info.epoch)
print(r.to_polars(kind="trade")["price"].to_list())
print(shm.book("kraken", "BTC/USD", INSTANCE).depth(10).shape)
r.seek_oldest()
for a, info in r.follow(poll_ms=50):
    print("follow", len(a), info.lost)
    break
print(r)
assert "numba" not in sys.modules
"""


def test_the_example_runs_as_it_stands(market, require_rival) -> None:
    """In a plain interpreter of its own; closing it leaves every region where it was."""
    require_rival("polars")
    market.book(0, BTC, 10)
    before = sorted(path.name for path in Path("/dev/shm").glob(f"tickring.{market.instance}.*"))
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLE, market.instance],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kraken.events event LIVE 64\n" in done.stdout
    assert "5 1 5 0 1\n" in done.stdout
    assert "(10, 4)\nfollow 5 0\n" in done.stdout
    after = sorted(path.name for path in Path("/dev/shm").glob(f"tickring.{market.instance}.*"))
    assert after == before
    market.trade(BTC, 1, 1, 1, T0)


PREAMBLE = """
import functools, sys
import shm
from consumers import history

instance, data_dir = sys.argv[1:]
for name in ("rings", "attach", "book", "instruments"):
    setattr(shm, name, functools.partial(getattr(shm, name), instance=instance))
history.sql = functools.partial(history.sql, instance=instance, data_dir=data_dir)
"""


def test_the_readme_s_example_runs(market, require_rival, tmp_path: Path) -> None:
    """As it stands but for the instance's name, and an endless loop that ends at its first records."""
    require_rival("polars")
    require_rival("pandas")
    market.book(0, BTC, 10)
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    block = readme.partition("## For the quant\n\n")[2].partition("\n`repr(r)`")[0]
    lines = [line.removeprefix("    ") for line in block.splitlines()]
    assert "    ..." in lines
    code = "\n".join("    break" if line == "    ..." else line for line in lines)
    code = code.replace("for records, info", "r.seek_oldest()\nfor records, info")
    command = [sys.executable, "-c", PREAMBLE + code + "\nprint(r, len(records))"]
    done = subprocess.run(
        [*command, market.instance, str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "<Reader kraken.events LIVE seq 5 epoch 1 lag 0 lost 0" in done.stdout


@pytest.mark.parametrize(
    ("price", "wanted"),
    [
        ("float", [[65000.1, 65000.2, 64999.9, 65000.0, 65000.05, 1.5, 0.5], [65000.125, 1.0]]),
        (
            "fixed",
            [
                [650001, 650002, 649999, 650000, 650000.5, 150000000, 50000000],
                [65000125, 100000000],
            ],
        ),
        (
            "decimal",
            [
                ["65000.1", "65000.2", "64999.9", "65000", 65000.05, "1.5", "0.5"],
                ["65000.125", "1"],
            ],
        ),
    ],
)
def test_a_bar_is_at_the_scales_of_its_version(market, price: str, wanted) -> None:
    """All its prices and volumes; also of a bar that is told after its instrument's scales have changed."""
    bars = np.zeros(2, BAR)
    bars["kind"], bars["instrument_id"], bars["ts_recv"] = Kind.BAR, BTC, T0 + 9
    bars["instrument_version"] = [1, 2]
    for name, value in (("open", 650001), ("high", 650002), ("low", 649999), ("close", 650000)):
        bars[name][0] = value
    bars["vwap"][0], bars["volume"], bars["sell_volume"][0] = (
        650000.5,
        [150000000, 100000000],
        50000000,
    )
    bars["open"][1] = 65000125
    market.open("bars", BAR, 4).publish_batch(bars)
    table = shm.attach("kraken.bars", market.instance).to_arrow(2, price=price)
    names = ("open", "high", "low", "close", "vwap", "volume", "sell_volume")
    first = [table[name][0].as_py() for name in names]
    assert first == [Decimal(each) if isinstance(each, str) else each for each in wanted[0]]
    second = [table[name][1].as_py() for name in ("open", "volume")]
    assert second == [Decimal(each) if isinstance(each, str) else each for each in wanted[1]]


@pytest.mark.parametrize(
    ("price", "mark", "realised"),
    [
        ("float", 63004.95, -0.0005),
        ("decimal", Decimal("63004.95"), Decimal("-0.0005")),
        ("fixed", 6300495, -5),
    ],
)
def test_a_position_is_at_the_scales_that_it_carries(market, price: str, mark, realised) -> None:
    """Its mark is finer than the instrument's prices; its money is one column of the two words."""
    row = np.zeros(1, POSITION)
    row["kind"], row["instrument_id"], row["mark_price"] = Kind.POSITION, BTC, 6300495
    row["price_scale"], row["mark_scale"], row["money_scale"] = 1, 2, 4
    row["realised_low"], row["realised_high"] = -5, -1
    market.open("positions", POSITION, 4).publish_batch(row)
    table = shm.attach("kraken.positions", market.instance).to_arrow(1, price=price)
    assert table["mark_price"][0].as_py() == mark
    assert table["realised"][0].as_py() == realised
    assert table["realised_low"][0].as_py() == -5
    assert table["price_scale"][0].as_py() == 1
