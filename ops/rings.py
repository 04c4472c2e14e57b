"""Rings are listed and followed by a passive reader: looking at a pipeline never disturbs it.

Prices and quantities are printed as the exact decimals of their instrument, taken from its worker's table.
"""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from layouts import EVENT, EVENT_VIEWS, INSTRUMENT, InstrumentState, Kind, Mark
from shm.errors import AttachError
from shm.reader import open_reader
from shm.region import RegionName
from shm.registry import ring_names

_SCALED = {
    "price": "price_scale",
    "qty": "qty_scale",
    "bid_price": "price_scale",
    "bid_qty": "qty_scale",
    "ask_price": "price_scale",
    "ask_qty": "qty_scale",
}
_HIDDEN = ("stamp", "marks", "kind", "ts_event", "ts_recv", "instrument_id", "publish_delta_ns")
_SIDES = {int(Mark.BUY): "buy", int(Mark.SELL): "sell"}


class Scale(msgspec.Struct):
    """How an instrument's integers read."""

    symbol: str
    venue: str
    price_scale: int
    qty_scale: int


def decimal_text(value: int, scale: int) -> str:
    """Return `value` x 10**-scale with exactly `scale` decimals."""
    if scale <= 0:
        return str(value * 10**-scale)
    sign, digits = ("-", str(-value)) if value < 0 else ("", str(value))
    digits = digits.rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def read_scales(instance: str) -> dict[int, Scale]:
    """Return the newest version of every instrument of an instance, by id."""
    scales: dict[int, Scale] = {}
    for name in ring_names(instance):
        if name.ring != "instruments":
            continue
        try:
            with open_reader(name, INSTRUMENT) as reader:
                records, _ = reader.last(reader.facts().slots)
        except AttachError:
            continue
        scales |= scales_of(records)
    return scales


def scales_of(records: np.ndarray) -> dict[int, Scale]:
    """Return the newest version of each instrument in INSTRUMENT records, by id."""
    return {
        int(r["instrument_id"]): Scale(
            r["symbol"].decode(), r["venue"].decode(), int(r["price_scale"]), int(r["qty_scale"])
        )
        for r in records
    }


class Printer:
    """Turns records of any ring into plain dictionaries, reading the instrument table again when an id is new."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._scales = read_scales(instance)

    def rows(self, records: np.ndarray, first_seq: int) -> Iterator[dict[str, Any]]:
        """Yield one dictionary per record."""
        is_event = records.dtype == EVENT
        for i, record in enumerate(records):
            kind = int(record["kind"])
            view = records[i : i + 1]
            if is_event and kind in EVENT_VIEWS:
                view = view.view(EVENT_VIEWS[Kind(kind)])
            yield self._row(view[0], first_seq + i)

    def _row(self, record: Any, seq: int) -> dict[str, Any]:
        kind = int(record["kind"])
        marks = int(record["marks"])
        scale = self._scale(int(record["instrument_id"]))
        row: dict[str, Any] = {
            "seq": seq,
            "kind": Kind(kind).name if kind in Kind._value2member_map_ else kind,
            "symbol": scale.symbol if scale else "",
            "state": InstrumentState(marks & Mark.STATE_MASK).name,
            "side": _SIDES.get(marks & Mark.SIDE_MASK, ""),
            "last_in_frame": bool(marks & Mark.LAST_IN_FRAME),
            "ts_event": int(record["ts_event"]),
            "ts_recv": int(record["ts_recv"]),
            "publish_delta_ns": int(record["publish_delta_ns"]),
        }
        for name in record.dtype.names:
            if name not in _HIDDEN and name != "zeros" and not name.startswith("zero_"):
                row[name] = _plain(record[name], name, scale if kind != Kind.FEATURES else None)
        return row

    def _scale(self, instrument_id: int) -> Scale | None:
        if instrument_id and instrument_id not in self._scales:
            self._scales = read_scales(self._instance)
        return self._scales.get(instrument_id)


def follow(name: RegionName, n: int, forever: bool) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Yield (rows, records lost before them): the last `n` first, then, if `forever`, what comes."""
    with open_reader(name) as reader:
        printer = Printer(name.instance)
        records, info = reader.last(n)
        yield list(printer.rows(records, info.first_seq)), 0
        reader.seek(info.last_seq + 1)
        while forever:
            records, info = reader.poll()
            if len(records) or info.lost:
                yield list(printer.rows(records, info.first_seq)), info.lost
            else:
                time.sleep(0.05)


def _plain(value: Any, name: str, scale: Scale | None) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(entry, name, scale) for entry in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.floating):
        number = float(value)
        return number if np.isfinite(number) else None
    if scale is not None and name in _SCALED:
        return decimal_text(int(value), getattr(scale, _SCALED[name]))
    return int(value)
