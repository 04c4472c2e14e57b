"""Ring records become stream entries whose ids are the records' own identities, so that an entry cannot be added twice.

**Layout** `trades:<venue>:<symbol>`, id `<epoch>-<seq>`, one entry per TRADE:
    timestamp   microseconds since the epoch, the venue's clock
    price       decimal string with the instrument's own digits, exact
    volume      decimal string likewise
    side        buy | sell (the taker's) | "" where the venue does not say
    trade_id    the venue's number, 0 where it gives none
    seq         the record's seq in its ring
`features:<venue>:<symbol>`, id `<epoch>-<seq>`, one entry per FEATURES row:
    timestamp   microseconds since the epoch, the venue's clock
    row_no      rows of this instrument before this one
    source      `<epoch>-<seq>` of the event that caused the row (a trade's row: that trade's id)
    seq         the row's seq in its ring
    values      JSON object {column: value} of the columns that are ready, floats with all their digits
A gap is an entry of the same stream; readers tell it by the field `gap_from`:
    gap_from, gap_to   first and last number missing: ring seqs where reason is "lapped", else the venue's own
    reason             lapped (overwritten before it was sent) or a GapReason in lower case
    seq                the gap record's seq; of a lapped range its last one

**Why it is right** Prices and volumes are integers times a power of ten: the text is made from the integer, never
from a float. A lapped range may have held any instrument, so it is told in every stream of the ring.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from consumers.instruments import Instrument, InstrumentTable, ScaleTracker
from consumers.redis_link import Command
from layouts import COLUMNS, FEATURES, GapReason, Kind, Mark

_SIDE_MASK = int(Mark.SIDE_MASK)
_SIDES = {int(Mark.BUY): "buy", int(Mark.SELL): "sell"}
_TRADE, _GAP = int(Kind.TRADE), int(Kind.GAP)
_VERSIONED = frozenset(map(int, (Kind.SNAPSHOT_BEGIN, Kind.SNAPSHOT_END, Kind.STATE)))
_BOOK_ONLY = (GapReason.CHECKSUM,)
"""Gaps of these reasons concern a book alone; no trade is missing."""
_COLUMNS_AT = FEATURES.fields["return_1"][1] if FEATURES.fields else 0
_READY_COUNT = 4096


class Entries(NamedTuple):
    """Commands that add entries: how many of records, how many of gaps; and how many records had no known instrument."""

    commands: list[Command]
    records: int
    gaps: int
    unknown: int


NO_ENTRIES = Entries([], 0, 0, 0)


class EventEntries:
    """Turns the records of one events ring into entries of its `trades:` streams."""

    def __init__(self, worker: str, table: InstrumentTable, maxlen: int) -> None:
        self.scales = ScaleTracker(table)
        self._table = table
        self._worker = worker
        self._maxlen = maxlen
        wanted = np.zeros(256, bool)
        wanted[[_TRADE, _GAP, *_VERSIONED]] = True
        self._wanted = wanted

    def encode(self, records: np.ndarray, first_seq: int, epoch: int) -> Entries:
        """Return the entries of records first_seq .. first_seq + len(records) - 1."""
        picked = np.flatnonzero(self._wanted[records["kind"]])
        commands: list[Command] = []
        trades = gaps = unknown = 0
        for at, row in zip(picked.tolist(), records[picked].tolist(), strict=True):
            _, ts_event, ts_recv, instrument_id, kind, marks, _, w0, w1, w2, w3 = row
            seq = first_seq + at
            if kind != _TRADE:
                if kind in _VERSIONED:
                    self.scales.note(instrument_id, w2)
                elif w3 not in _BOOK_ONLY:
                    added = self._gap(instrument_id, (w0, w1), w3, epoch, seq)
                    commands += added
                    gaps += len(added)
            else:
                found = self.scales.at(instrument_id, ts_recv)
                if found is None:
                    unknown += 1
                    continue
                trades += 1
                commands.append(
                    (
                        *self._head(found, epoch, seq),
                        *("timestamp", ts_event // 1000),
                        *("price", decimal_text(w0, found.price_scale)),
                        *("volume", decimal_text(w1, found.qty_scale)),
                        *("side", _SIDES.get(marks & _SIDE_MASK, "")),
                        *("trade_id", w2, "seq", seq),
                    )
                )
        return Entries(commands, trades, gaps, unknown)

    def lapped(self, first_seq: int, last_seq: int, epoch: int) -> Entries:
        """Return the gap entries that tell a lost range in every stream of this ring."""
        self.scales.forget()
        instruments = self._table.of_worker(self._worker)
        commands = [
            (*self._head(each, epoch, last_seq), *lapped_fields(first_seq, last_seq))
            for each in instruments
        ]
        return Entries(commands, 0, len(commands), 0)

    def _gap(
        self, instrument_id: int, missing: tuple[int, int], reason: int, epoch: int, seq: int
    ) -> list[Command]:
        instruments = (
            self._table.of_worker(self._worker)
            if instrument_id == 0
            else self._table.some(instrument_id)
        )
        name = (
            GapReason(reason).name.lower()
            if reason in GapReason.__members__.values()
            else str(reason)
        )
        fields = (*_gap_fields(*missing, name), "seq", seq)
        return [(*self._head(each, epoch, seq), *fields) for each in instruments]

    def _head(self, instrument: Instrument, epoch: int, seq: int) -> Command:
        return xadd("trades", instrument, self._maxlen, epoch, seq)


class FeatureEntries:
    """Turns the rows of one features ring into entries of the `features:` streams."""

    def __init__(self, table: InstrumentTable, maxlen: int) -> None:
        self.scales = ScaleTracker(table)
        self._table = table
        self._maxlen = maxlen
        self._ready: dict[int, tuple[list[str], np.ndarray]] = {}

    def encode(self, records: np.ndarray, first_seq: int, epoch: int) -> Entries:
        """Return the entries of rows first_seq .. first_seq + len(records) - 1."""
        commands: list[Command] = []
        unknown = 0
        values = _column_matrix(records)
        names = ("ts_event", "instrument_id", "source_epoch", "source_seq", "row_no", "ready")
        picked = np.flatnonzero(records["kind"] == Kind.FEATURES)
        for at, row in zip(
            picked.tolist(), records[list(names)][picked].tolist(), strict=True
        ):  # one row, its fields in the order of `names`
            ts_event, instrument_id, source_epoch, source_seq, row_no, ready = row
            found = self._table.latest(instrument_id)
            if found is None:
                unknown += 1
                continue
            columns, indexes = self._ready_columns(ready)
            seq = first_seq + at
            pairs = dict(zip(columns, values[at, indexes].tolist(), strict=True))
            commands.append(
                (
                    *xadd("features", found, self._maxlen, epoch, seq),
                    *("timestamp", ts_event // 1000, "row_no", row_no),
                    *("source", f"{source_epoch}-{source_seq}", "seq", seq),
                    *("values", msgspec.json.encode(pairs)),
                )
            )
        return Entries(commands, len(commands), 0, unknown)

    def lapped(self, first_seq: int, last_seq: int, epoch: int) -> Entries:
        """Return the gap entries that tell a lost range in every features stream."""
        fields = lapped_fields(first_seq, last_seq)
        commands = [
            (*xadd("features", each, self._maxlen, epoch, last_seq), *fields)
            for each in self._table.of_worker()
        ]
        return Entries(commands, 0, len(commands), 0)

    def _ready_columns(self, ready: int) -> tuple[list[str], np.ndarray]:
        found = self._ready.get(ready)
        if found is None:
            indexes = [i for i in range(len(COLUMNS)) if ready >> i & 1]
            found = [COLUMNS[i].name for i in indexes], np.array(indexes, np.intp)
            if len(self._ready) < _READY_COUNT:
                self._ready[ready] = found
        return found


def xadd(
    kind: str, instrument: Instrument, maxlen: int, epoch: int, seq: int, part: str = ""
) -> Command:
    """Return the front of an XADD with the explicit id of a record; `part` is what follows the symbol, if anything."""
    stream = f"{kind}:{instrument.venue}:{instrument.symbol}{part and ':'}{part}"
    return ("XADD", stream, "MAXLEN", "~", maxlen, f"{epoch}-{seq}")


def decimal_text(value: int, scale: int) -> str:
    """Return `value` / 10**scale as exact decimal text with `scale` decimals."""
    if scale <= 0:
        return str(value * 10**-scale)
    digits = f"{abs(value):0{scale + 1}d}"
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def lapped_fields(first_seq: int, last_seq: int) -> Command:
    """Return the fields of the entry that tells of records overwritten before they were sent."""
    return (*_gap_fields(first_seq, last_seq, "lapped"), "seq", last_seq)


def _gap_fields(gap_from: int, gap_to: int, reason: str) -> Command:
    return ("gap_from", gap_from, "gap_to", gap_to, "reason", reason)


def _column_matrix(records: np.ndarray) -> np.ndarray:
    """View the float columns of FEATURES records as a (rows, columns) matrix."""
    return np.ndarray(
        (len(records), len(COLUMNS)),
        np.float64,
        records,
        offset=_COLUMNS_AT,
        strides=(records.strides[0], 8),
    )
