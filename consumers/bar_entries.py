"""Bars become stream entries, one stream a series, prices and quantities as exact decimal strings.

**Layout** `bars:<venue>:<symbol>:<series>` (layouts.bar.series_name: `1m`, `session_1h`, `tick_100`, ...), id
`<epoch>-<seq>`, one entry per BAR row:
    timestamp                   microseconds since the epoch at which the bar opens, the venue's clock
    close_timestamp             likewise, at which it closes
    open, high, low, close      decimal strings with the instrument's own digits, exact
    volume, buy_volume, sell_volume   likewise
    vwap                        decimal string of a float64, "" where nothing was traded
    trades, late_prints, skipped   counts
    flags                       names of `BarFlag` in lower case, with commas between
    bar_no, seq                 the bar's number in its series, the row's seq in its ring
A lapped range is told in every series of every instrument, as in consumers.entries.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from consumers.entries import Entries, decimal_text, lapped_fields, xadd
from consumers.instruments import Instrument, InstrumentTable, ScaleTracker
from consumers.redis_link import Command
from layouts import BarFlag, Kind
from layouts.bar import series_name

_READ = (
    *("instrument_id", "instrument_version", "bar_kind", "parameter", "bar_flags", "skipped"),
    *("ts_open", "ts_close", "open", "high", "low", "close"),
    *("volume", "buy_volume", "sell_volume", "vwap", "trades", "late_prints", "bar_no"),
)


class BarEntries:
    """Turns the rows of one bars ring into entries of the `bars:` streams."""

    def __init__(self, table: InstrumentTable, maxlen: int, series: Sequence[str]) -> None:
        self.scales = ScaleTracker(table)
        self._table = table
        self._maxlen = maxlen
        self._series = tuple(series)
        self._names: dict[tuple[int, int], str] = {}

    def encode(self, records: np.ndarray, first_seq: int, epoch: int) -> Entries:
        """Return the entries of rows first_seq .. first_seq + len(records) - 1."""
        commands: list[Command] = []
        unknown = 0
        picked = np.flatnonzero(records["kind"] == Kind.BAR)
        for at, row in zip(picked.tolist(), records[list(_READ)][picked].tolist(), strict=True):
            instrument_id, version, bar_kind, parameter, *values = row
            found = (
                self._table.version(instrument_id, version)
                if version
                else self._table.latest(instrument_id)
            )
            if found is None:
                unknown += 1
                continue
            key = bar_kind, parameter
            name = self._names.get(key) or self._names.setdefault(key, series_name(*key))
            seq = first_seq + at
            head = xadd("bars", found, self._maxlen, epoch, seq, name)
            commands.append((*head, *_fields(values, found), "seq", seq))
        return Entries(commands, len(commands), 0, unknown)

    def lapped(self, first_seq: int, last_seq: int, epoch: int) -> Entries:
        """Return the gap entries that tell a lost range in every series of every instrument."""
        fields = lapped_fields(first_seq, last_seq)
        commands = [
            (*xadd("bars", each, self._maxlen, epoch, last_seq, name), *fields)
            for each in self._table.of_worker()
            for name in self._series
        ]
        return Entries(commands, 0, len(commands), 0)


def flag_names(flags: int) -> str:
    """Return the flags' names in lower case, with commas between."""
    return ",".join(flag.name.lower() for flag in BarFlag if flags & flag and flag.name)


def _fields(values: list[Any], instrument: Instrument) -> Command:
    flags, skipped, ts_open, ts_close, *numbers = values
    price = [decimal_text(each, instrument.price_scale) for each in numbers[:4]]
    volume = [decimal_text(each, instrument.qty_scale) for each in numbers[4:7]]
    vwap, trades, late, bar_no = numbers[7:]
    return (
        *("timestamp", ts_open // 1000, "close_timestamp", ts_close // 1000),
        *("open", price[0], "high", price[1], "low", price[2], "close", price[3]),
        *("volume", volume[0], "buy_volume", volume[1], "sell_volume", volume[2]),
        *("vwap", "" if math.isnan(vwap) else repr(vwap / 10**instrument.price_scale)),
        *("trades", trades, "late_prints", late, "skipped", skipped),
        *("flags", flag_names(flags), "bar_no", bar_no),
    )
