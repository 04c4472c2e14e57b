"""Records become Arrow, polars or pandas columns under the names that storage uses, exact where exactness is asked for.

**Layout** seq and epoch (int64) first, then the record's fields in order; `book_state` and `side` are taken out of `marks`.
Of EVENT records, `kind=` chooses one kind and gives its four words their names; without it they are word_0 .. word_3.
Money in 128 bits (`realised_low`, `realised_high`, ...) is there once more in one column (`realised`), in its currency.
**Why it is right** A price is an integer and a scale; the scale is the record's own where it carries one, else that of the
instrument's version in force at `ts_recv` (layouts.scales).
Importing this module imports pyarrow; polars and pandas only where they are asked for.
"""

import re
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa

from layouts import EVENT, EVENT_VIEWS, InstrumentState, Kind, Mark
from layouts.position import join_words
from layouts.scales import INSTRUMENT_SCALES, scale_of, wide_columns
from shm.instruments import Instrument, versions

PRICES = ("float", "fixed", "decimal")
_TIMES = ("ts_event", "ts_recv")
_DECIMAL_DIGITS = 38
_WIDE_DIGITS = 76
_VERSION = "instrument_version"
_OFFSET = re.compile(r"[+-][0-2]\d:[0-5]\d")


def to_table(
    records: np.ndarray,
    epochs: np.ndarray,
    instance: str,
    kind: Kind | str | None = None,
    price: str = "float",
    tz: str | None = "UTC",
    symbols: bool = True,
) -> pa.Table:
    """Return records, as a reader copied them, as an Arrow table.

    Args:
        records: of one layout.
        epochs: the epoch of each record.
        instance: whose instrument tables name symbols and scales.
        kind: of EVENT records only this kind, under its own column names: "trade", "quote", "level", ...
        price: prices and quantities as "float" (float64), "fixed" (the int64 of the ring, with columns price_scale and
            qty_scale) or "decimal" (exact decimal128). Null where no table knows the instrument, but in "fixed".
        tz: time zone of ts_event (the venue's clock) and ts_recv (ours), ns: an IANA name or "+01:00"; None: int64 ns since
            the epoch.
        symbols: add columns venue and symbol, null where no table knows the instrument.
    """
    if price not in PRICES:
        raise ValueError(f'price={price!r}: "float", "fixed" or "decimal" expected')
    _check_tz(tz)
    if kind is not None:
        records, epochs = _only(records, epochs, kind)
    columns: dict[str, Any] = {
        "seq": pa.array(records["stamp"] // 2 - 1),
        "epoch": pa.array(epochs),
    }
    known = _Scales(records, versions(instance))
    assert records.dtype.names is not None
    wide = wide_columns(records.dtype)
    for name in records.dtype.names[1:]:
        columns[name] = _column(records, name, price, tz, known)
        if name.endswith("_high") and name.removesuffix("_high") in wide:
            whole = name.removesuffix("_high")
            columns[whole] = _wide(records, whole, wide[whole], price)
        if name == "instrument_id" and symbols:
            columns["venue"], columns["symbol"] = known.text("venue"), known.text("symbol")
        if name == "marks":
            columns["book_state"] = _states(records["marks"])
            columns["side"] = pa.array(_sides(records["marks"]))
    if price == "fixed":
        for scale in INSTRUMENT_SCALES:
            columns.setdefault(scale, known.numbers(scale))
    return pa.table(columns)


def to_polars(table: pa.Table) -> Any:
    """Return an Arrow table as a polars frame, without a copy where polars can."""
    import polars as pl

    return pl.from_arrow(table)


def to_pandas(table: pa.Table) -> Any:
    """Return an Arrow table as a pandas frame; decimals become Python's."""
    return table.to_pandas()


class _Scales:
    """For each record, the version of its instrument that was in force."""

    def __init__(self, records: np.ndarray, known: dict[int, list[Instrument]]) -> None:
        self.rows: list[Instrument | None] = [None]
        self.row_of = np.zeros(len(records), np.int64)
        for number in np.unique(records["instrument_id"]).tolist():
            found = known.get(number, [])
            if not found:
                continue
            at = records["instrument_id"] == number
            since = np.array([each.ts_recv for each in found])
            place = np.maximum(np.searchsorted(since, records["ts_recv"][at], side="right") - 1, 0)
            if _VERSION in (records.dtype.names or ()):  # it says it itself; 0: no matter which
                of_version = np.array([each.version for each in found])
                same = records[_VERSION][at][:, None] == of_version
                place = np.where(same.any(1), same.argmax(1), place)
            self.row_of[at] = len(self.rows) + place
            self.rows += found

    def text(self, field: str) -> pa.Array:
        """A dictionary-encoded column."""
        words = pa.array([getattr(row, field, None) for row in self.rows], pa.string())
        return words.take(pa.array(self.row_of)).dictionary_encode()

    def numbers(self, field: str) -> pa.Array:
        """An integer column, null where the instrument is not known."""
        return pa.array([getattr(row, field, None) for row in self.rows], pa.int64()).take(
            pa.array(self.row_of)
        )

    def scales(self, field: str) -> tuple[np.ndarray, np.ndarray]:
        """The scale of each record and whether it is known."""
        scale = np.array([getattr(row, field, 0) for row in self.rows])
        return scale[self.row_of], self.row_of > 0


def _check_tz(tz: str | None) -> None:
    if tz is None or _OFFSET.fullmatch(tz):
        return
    try:
        ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f'tz={tz!r}: a zone like "UTC" or "Europe/Zurich", an offset like "+01:00", or None expected'
        ) from None


def _only(
    records: np.ndarray, epochs: np.ndarray, kind: Kind | str
) -> tuple[np.ndarray, np.ndarray]:
    names = [each.name.lower() for each in EVENT_VIEWS]
    if records.dtype != EVENT:
        raise ValueError(f"kind={kind!r}: only EVENT records have kinds; leave it out")
    if isinstance(kind, str):
        if kind.lower() not in names:
            raise ValueError(f"kind={kind!r}: one of {', '.join(names)} expected")
        kind = Kind[kind.upper()]
    chosen = records["kind"] == kind
    return records[chosen].view(EVENT_VIEWS[kind]), epochs[chosen]


def _column(records: np.ndarray, name: str, price: str, tz: str | None, known: _Scales) -> pa.Array:
    values = records[name]
    if name in _TIMES and tz is not None:
        return pa.array(values).cast(pa.timestamp("ns", tz))
    scale = scale_of(records.dtype, name)
    if scale and price != "fixed":
        if scale in (records.dtype.names or ()):
            own = records[scale].astype(np.int64)
            return _scaled(values, price, own, np.ones(len(values), bool))
        return _scaled(values, price, *known.scales(scale))
    if values.dtype.kind == "S":
        return pa.array([word.decode() for word in values.tolist()])
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.array(values)


def _wide(records: np.ndarray, name: str, scale: str, price: str) -> pa.Array:
    """The 128-bit integer that two columns hold: whole for "fixed", else at the scale that the record carries."""
    pairs = zip(records[f"{name}_low"].tolist(), records[f"{name}_high"].tolist(), strict=True)
    whole = [join_words(low, high) for low, high in pairs]
    scales = records[scale].tolist()
    exact = [
        Decimal(each) if price == "fixed" else Decimal(each).scaleb(-n)
        for each, n in zip(whole, scales, strict=True)
    ]
    if price == "float":
        return pa.array([float(each) for each in exact], pa.float64())
    places = max(scales, default=0) if price == "decimal" else 0
    return pa.array(exact, pa.decimal256(_WIDE_DIGITS, places))


def _scaled(values: np.ndarray, price: str, scale: np.ndarray, is_known: np.ndarray) -> pa.Array:
    width = values.shape[1] if values.ndim == 2 else 1
    flat, scale, is_known = values.ravel(), np.repeat(scale, width), np.repeat(is_known, width)
    if price == "float" or flat.dtype == np.float64:
        column = pa.array(flat / np.power(10.0, scale), mask=~is_known)
    else:
        places = int(scale.max(initial=0))
        exact = [
            Decimal(value).scaleb(-digits) if is_in else None
            for value, digits, is_in in zip(flat.tolist(), scale.tolist(), is_known, strict=True)
        ]
        column = pa.array(exact, pa.decimal128(_DECIMAL_DIGITS, places))
    return pa.FixedSizeListArray.from_arrays(column, width) if values.ndim == 2 else column


def _states(marks: np.ndarray) -> pa.Array:
    names = pa.array([state.name for state in InstrumentState])
    return names.take(pa.array(marks & int(Mark.STATE_MASK))).dictionary_encode()


def _sides(marks: np.ndarray) -> np.ndarray:
    side = marks & int(Mark.SIDE_MASK)
    sides: np.ndarray = np.subtract(side == Mark.BUY, side == Mark.SELL, dtype=np.int8)
    return sides
