"""An instrument's id is on disk before it is used, is the same after every restart, and is never another's."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from decoding import Ring

from collectors.instruments import InstrumentTable, Steps, step_at
from layouts import INSTRUMENT
from shm.errors import ConfigurationError


@pytest.fixture
def ring():
    made = Ring("instruments", INSTRUMENT, 4096)
    yield made
    made.close()


def table(ring, folder: Path | None = None, first_id: int = 100, ids: int = 10) -> InstrumentTable:
    return InstrumentTable("kraken", "kraken", first_id, ids, ring.producer, folder)


def ids_of(made: InstrumentTable, *symbols: str) -> list[int]:
    return [instrument.instrument_id for instrument in made.reserve(symbols)]


def test_ids_come_from_the_block_in_order_of_asking(ring, tmp_path) -> None:
    """The same symbol has the same id, a new one the next."""
    made = table(ring, tmp_path)
    assert ids_of(made, "A/B", "C/D", "A/B") == [100, 101]
    assert ids_of(made, "E/F", "C/D") == [102, 101]
    assert made.index_of(made.reserve(["C/D"])[0]) == 1


def test_ids_and_versions_survive_a_restart(ring, tmp_path) -> None:
    """A new process finds ids, versions and steps, and tells a new ring all of them."""
    made = table(ring, tmp_path)
    instrument = made.reserve(["A/B"])[0]
    assert made.open_version(instrument, 2, 8, 7) == 1
    assert made.open_version(instrument, 3, 8, 9) == 2
    made.describe(instrument, Steps("0.01", "0.00000001"), depth=10)
    before = ring.drain()
    assert before["version"].tolist() == [1, 2, 2]
    assert before["ts_recv"].tolist() == [7, 9, 9]
    again = table(ring, tmp_path)
    assert ids_of(again, "X/Y", "A/B") == [101, 100]
    told = ring.drain()
    assert told["version"].tolist() == [1, 2]
    assert told["tick"].tolist() == [1, 10]
    assert told["ts_recv"].tolist() == [7, 9]
    assert told["lot"].tolist() == [1, 1]
    assert again.reserve(["A/B"])[0].depth == 10


def test_a_ring_taken_over_is_told_only_what_it_lacks(ring, tmp_path) -> None:
    """After a crash the ring still holds the records: they are not repeated."""
    made = table(ring, tmp_path)
    made.open_version(made.reserve(["A/B"])[0], 2, 8, 7)
    ring.drain()
    ring.producer.previous_epoch = 1  # what a producer says that took its ring over
    table(ring, tmp_path)
    assert len(ring.drain()) == 0


def test_records_hold_symbol_venue_worker_and_scales(ring) -> None:
    """One row says all that a reader needs to make decimals of integers."""
    made = table(ring)
    made.open_version(made.reserve(["XBT/USD"])[0], 5, 8, 7)
    row = ring.drain()[0]
    assert (row["symbol"], row["venue"], row["worker"]) == (b"XBT/USD", b"kraken", b"kraken")
    assert (row["base_currency"], row["quote_currency"]) == (b"XBT", b"USD")
    assert (row["price_scale"], row["qty_scale"], row["multiplier"]) == (5, 8, 1)
    assert (row["instrument_id"], row["kind"]) == (100, 17)


@pytest.mark.parametrize("count", [9, 10, 11])
def test_the_block_is_the_bound(ring, count) -> None:
    """Ten ids are ten; the eleventh symbol is an error that names the block."""
    made = table(ring)
    symbols = [f"S{i}/B" for i in range(count)]
    if count <= 10:
        assert ids_of(made, *symbols) == list(range(100, 100 + count))
    else:
        with pytest.raises(ConfigurationError, match="all 10 from 100 on are taken"):
            made.reserve(symbols)


@pytest.mark.parametrize(("first_id", "ids"), [(0, 1), (-1, 5), (1, 0), (65_535, 2), (1, 65_536)])
def test_an_impossible_block_is_refused(ring, first_id, ids) -> None:
    """Ids are 1 to 65535: 0 means no instrument."""
    with pytest.raises(ConfigurationError, match="1 to 65535 exist"):
        table(ring, None, first_id, ids)


def test_the_last_id_is_usable(ring) -> None:
    """65535 fits the record's field."""
    assert ids_of(table(ring, None, 65_535, 1), "A/B") == [65_535]


@pytest.mark.parametrize("symbol", ["", "x" * 65, "\u20ac" * 22, "A\0B", "A\nB"])
def test_a_symbol_that_does_not_fit_its_field_is_refused(ring, symbol) -> None:
    """64 bytes at most, counted in UTF-8, and nothing that a terminal or a file name would stumble over."""
    with pytest.raises(ConfigurationError, match="1 to 64 bytes"):
        table(ring).reserve([symbol])


def test_another_block_than_the_file_s_is_refused(ring, tmp_path) -> None:
    """Moving a block would make old records name other instruments."""
    ids_of(table(ring, tmp_path), "A/B")
    with pytest.raises(ConfigurationError, match="keep the block or rename the worker"):
        table(ring, tmp_path, first_id=200)


@pytest.mark.parametrize("damage", ["", "{", '{"venue": 5}', "null"])
def test_a_damaged_file_stops_the_collector(ring, tmp_path, damage) -> None:
    """Guessing would give an id twice, so the error says what to do."""
    ids_of(table(ring, tmp_path), "A/B")
    (tmp_path / "instruments" / "kraken.json").write_text(damage)
    with pytest.raises(ConfigurationError, match="restore it"):
        table(ring, tmp_path)


def test_a_file_with_a_hole_in_its_ids_is_refused(ring, tmp_path) -> None:
    """Ids are taken in order; a hole means that the file was edited."""
    ids_of(table(ring, tmp_path), "A/B", "C/D")
    path = tmp_path / "instruments" / "kraken.json"
    file = json.loads(path.read_text())
    del file["instruments"][0]
    path.write_text(json.dumps(file))
    with pytest.raises(ConfigurationError, match="not contiguous"):
        table(ring, tmp_path)


@pytest.mark.parametrize(
    ("text", "scale", "step"),
    [
        ("0.01", 2, 1),
        ("0.01", 5, 1000),
        ("0.5", 1, 5),
        ("1e-3", 3, 1),
        ("0.001", 2, 0),
        ("", 2, 0),
        ("0", 2, 0),
        ("-1", 2, 0),
        ("NaN", 2, 0),
        ("Infinity", 2, 0),
        ("100", 0, 100),
    ],
)
def test_steps_are_integers_at_the_scale_or_unknown(text, scale, step) -> None:
    """A step finer than the wire's digits is unknown (0), never rounded."""
    assert step_at(text, scale) == step


def _reserve_until_killed(folder: Path, told) -> None:
    ring = Ring("instruments", INSTRUMENT, 4096)
    made = table(ring, folder, 1, 60_000)
    while True:
        symbol = f"S{len(made)}/B"
        told.send((symbol, made.reserve([symbol])[0].instrument_id))


@pytest.mark.parametrize("after", [1, 7, 20, 41])
def test_an_id_that_was_told_is_kept_through_a_kill(tmp_path, ring, after) -> None:
    """SIGKILL at any moment: every id that left the table is the same symbol's in the next process."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(
        target=_reserve_until_killed, args=(tmp_path, theirs)
    )
    child.start()
    theirs.close()
    told = [ours.recv() for _ in range(after)]
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    while ours.poll():
        try:
            told.append(ours.recv())
        except EOFError:
            break
    made = table(ring, tmp_path, 1, 60_000)
    assert [made.reserve([symbol])[0].instrument_id for symbol, _ in told] == [i for _, i in told]
    ours.close()
