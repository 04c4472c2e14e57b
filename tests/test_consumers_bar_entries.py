"""Bars on their way out: stream entries, the view of history, the audit's own count."""

import numpy as np
import pytest
from bars_market import random_prints, scales
from sinks import Feed

from consumers import history
from consumers.bar_engine import BarEngine
from consumers.bar_entries import BarEntries, flag_names
from consumers.bar_series import BarsConfig, series_names
from consumers.instruments import InstrumentTable
from layouts import BAR, BarFlag, BarKind, Kind, Mark
from layouts.bar import FRAMES
from ops.audit_bars import bars_check
from shm.producer import open_ring
from shm.region import ring_name

EPOCH = 7

pytest_plugins = ["sinks_fixtures"]


def bar(**values: object) -> np.ndarray:
    """Give one bar of instrument 1."""
    made = np.zeros(1, BAR)
    made["kind"], made["instrument_id"] = Kind.BAR, 1
    made["bar_kind"], made["parameter"] = BarKind.TIME, FRAMES["1m"]
    made["ts_open"], made["ts_close"] = 60_000_000_999, 120_000_000_000
    for name, value in zip(("open", "high", "low", "close"), (1050, 1101, 999, 1100), strict=True):
        made[name] = value
    made["volume"], made["buy_volume"], made["trades"], made["vwap"] = 12, 5, 3, 1075.5
    for name, value in values.items():
        made[name] = value
    return made


def fields(command: tuple) -> dict[str, object]:
    """Give stream, id and fields of an XADD."""
    rest = command[6:]
    return {"stream": command[1], "id": command[5], **dict(zip(rest[::2], rest[1::2], strict=True))}


def test_a_bar_is_an_entry_of_its_series_with_exact_digits(feed: Feed) -> None:
    """Prices and volumes as the instrument writes them, the vwap with all its digits, flags by name."""
    heartbeat = bar(kind=Kind.HEARTBEAT, instrument_id=0)
    empty = bar(
        vwap=np.nan, bar_flags=BarFlag.EMPTY | BarFlag.GAP, bar_kind=BarKind.TICK, parameter=9
    )
    rows = np.concatenate([heartbeat, bar(), empty])
    found = BarEntries(InstrumentTable(feed.place.name), 100, ()).encode(rows, 10, EPOCH)
    assert (found.records, found.gaps, found.unknown) == (2, 0, 0)
    told = fields(found.commands[0])
    table = InstrumentTable(feed.place.name)
    known = table.latest(1)
    assert known is not None
    assert known.price_scale == 2
    assert (told["stream"], told["id"]) == ("bars:kraken:BTC/USD:1m", "7-11")
    assert (told["timestamp"], told["close_timestamp"]) == (60_000_000, 120_000_000)
    assert [told[n] for n in ("open", "high", "low", "close")] == [
        "10.50",
        "11.01",
        "9.99",
        "11.00",
    ]
    assert told["vwap"] == repr(1075.5 / 100)
    assert (told["trades"], told["seq"], told["flags"]) == (3, 11, "")
    hollow = fields(found.commands[1])
    assert hollow["stream"] == "bars:kraken:BTC/USD:tick_9"
    assert (hollow["vwap"], hollow["flags"]) == ("", "empty,gap")


def test_a_lapped_range_is_told_in_every_series(feed: Feed) -> None:
    """It may have held any of them."""
    names = series_names(BarsConfig(frames=("1s", "1m"), tick_bars=(5,)))
    found = BarEntries(InstrumentTable(feed.place.name), 100, names).lapped(5, 9, EPOCH)
    assert [command[1] for command in found.commands] == [
        f"bars:kraken:BTC/USD:{name}" for name in ("1s", "1m", "tick_5")
    ]
    assert fields(found.commands[0])["gap_to"] == 9


def test_a_bar_of_an_unknown_instrument_is_counted(feed: Feed) -> None:
    """By id, or by version."""
    rows = np.concatenate([bar(instrument_id=9), bar(instrument_version=99)])
    found = BarEntries(InstrumentTable(feed.place.name), 100, ()).encode(rows, 1, EPOCH)
    assert (found.records, found.unknown) == (0, 2)


def test_every_flag_has_its_name() -> None:
    """In the order of the bits."""
    every = sum(BarFlag)
    assert flag_names(int(every)).split(",") == [flag.name.lower() for flag in BarFlag]
    assert flag_names(0) == ""


@pytest.mark.parametrize(("price", "close"), [("float", 11.0), ("fixed", 1100)])
def test_history_shows_bars_by_series_and_symbol(feed: Feed, price: str, close: float) -> None:
    """Live ones here; prices at the instrument's scale, or the ring's integers."""
    ring = open_ring(ring_name(feed.place.name, "bars", "bars"), BAR, 64, feed.place.state_dir)
    ring.publish_batch(bar())
    for kind, parameter in (
        (BarKind.SESSION, FRAMES["1h"]),
        (BarKind.VOLUME, 2_500_000),
        (BarKind.DOLLAR, 10**12),
    ):
        ring.publish_batch(bar(bar_kind=kind, parameter=parameter))
    found = history.sql(
        "select symbol, series, close, trades from bars order by seq", feed.place.name, price=price
    ).fetchall()
    names = ("1m", "session_1h", "volume_2.5", "dollar_1000000")
    assert found == [("BTC/USD", name, close, 3) for name in names]
    ring.close()


def audited(
    records: np.ndarray, rows: np.ndarray, lost: int = 0, first_seq: int = 1
) -> tuple[int, int]:
    """Give what the check expects and what it finds wrong."""
    bars = rows[rows["kind"] == Kind.BAR]
    check = bars_check("x.events", records[first_seq - 1 :], first_seq, bars, lost, "")
    return check.expected, check.unaccounted


@pytest.mark.parametrize("seed", range(4))
def test_the_audit_finds_every_print_in_its_bars(seed: int) -> None:
    """Whole, with the oldest events or bars gone, and with a restart between."""
    records = random_prints(seed, 400)
    rows = BarEngine(BarsConfig(empty_rows=3), scales, lambda _id: "").process(records)
    expected, wrong = audited(records, rows)
    assert expected > 500 and wrong == 0
    assert audited(records, rows, first_seq=200)[1] == 0
    assert audited(records, rows[len(rows) // 2 :])[1] == 0


@pytest.mark.parametrize("defect", ["trades", "late", "missing", "twice", "event"])
def test_the_audit_finds_a_print_too_few_or_a_bar_too_many(defect: str) -> None:
    """A count that is off by one, a bar that is gone or there twice, a trade that no bar has."""
    records = random_prints(9, 400)
    rows = BarEngine(BarsConfig(empty_rows=3), scales, lambda _id: "").process(records)
    rows = rows[rows["kind"] == Kind.BAR]
    at = int(np.flatnonzero((rows["parameter"] == FRAMES["1s"]) & (rows["trades"] > 0))[20])
    if defect == "trades":
        rows["trades"][at] += 1
    elif defect == "late":
        rows["late_prints"][at] += 1
    elif defect == "missing":
        rows = np.delete(rows, at)
    elif defect == "twice":
        rows = np.insert(rows, at, rows[at])
    else:
        inner = np.flatnonzero(
            (records["kind"] == Kind.TRADE)
            & (records["word_1"] > 0)
            & (records["marks"] & Mark.LATE == 0)
        )
        records["kind"][inner[len(inner) // 2]] = Kind.STATE
    assert audited(records, rows)[1] > 0
    if defect != "twice":
        assert audited(records, rows, lost=1)[1] == 0
