"""A range of a ring's records goes to a file or a pipe as JSON lines, CSV, Parquet or raw numpy, validated and accounted for.

**Why it is right** The range is copied at once and checked against the head afterwards: what is written was never torn. What
was asked for is what was written, what was overwritten (`lost`) and what is not published yet (`ahead`), to the record.
**Failure** A file appears under its name whole or not at all.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ops.rings import Printer
from shm.durable import replace_file
from shm.errors import ConfigurationError
from shm.reader import Info, Reader, open_reader
from shm.region import RegionName

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".npy": "npy",
}
BINARY = ("parquet", "npy")
SEQ_END = 1 << 61


class Dumped(msgspec.Struct, kw_only=True):
    """What was asked for and what became of it; every number counts records."""

    ring: str
    format: str
    out: str
    asked_from: int
    asked_to: int
    """Inclusive."""
    written: int
    first_seq: int | None
    last_seq: int | None
    lost: int
    """Overwritten before they were copied."""
    ahead: int
    """Not published yet."""
    epoch: int

    @property
    def is_whole(self) -> bool:
        """Every record that was asked for is there."""
        return not (self.lost or self.ahead)


class Copy:
    """A validated copy of a range; each `as_*` returns the bytes of one format."""

    def __init__(
        self, instance: str, records: np.ndarray, epochs: np.ndarray, first_seq: int
    ) -> None:
        self._instance, self._records, self._epochs = instance, records, epochs
        self._first_seq = first_seq

    def as_jsonl(self) -> bytes:
        """One object a line, as `ring tail --json` prints them, prices as exact decimal text."""
        rows = Printer(self._instance).rows(self._records, self._first_seq)
        encode = msgspec.json.Encoder().encode_lines
        return encode([{"epoch": int(e)} | row for e, row in zip(self._epochs, rows, strict=True)])

    def as_csv(self) -> bytes:
        """The columns of `to_arrow`, integers of the ring with their scales; a column of arrays becomes several."""
        from pyarrow import csv

        sink = io.BytesIO()
        csv.write_csv(_flat(self._table()), sink)
        return sink.getvalue()

    def as_parquet(self) -> bytes:
        """The columns of `to_arrow`, integers of the ring with their scales; every page has its checksum."""
        from pyarrow import parquet

        sink = io.BytesIO()
        parquet.write_table(self._table(), sink, compression="zstd", write_page_checksum=True)
        return sink.getvalue()

    def as_npy(self) -> bytes:
        """The records as they are in the ring, for `numpy.load`."""
        sink = io.BytesIO()
        np.save(sink, self._records, allow_pickle=False)
        return sink.getvalue()

    def _table(self) -> Any:
        from shm.frames import to_table

        return to_table(self._records, self._epochs, self._instance, price="fixed")


WRITERS: dict[str, Callable[[Copy], bytes]] = {
    "jsonl": Copy.as_jsonl,
    "csv": Copy.as_csv,
    "parquet": Copy.as_parquet,
    "npy": Copy.as_npy,
}


def dump(
    name: RegionName,
    first: int | None,
    last: int | None,
    n: int | None,
    form: str,
    out: Path | None,
) -> Dumped:
    """Write records `first` .. `last` (inclusive; None: the oldest held, the newest), or the newest `n`.

    Args:
        name: the ring.
        first: first seq.
        last: last seq.
        n: the newest so many, instead of a range; a ring that holds fewer gives what it holds.
        form: a key of WRITERS; "": what the file's suffix says, else JSON lines.
        out: the file; None: stdout.

    Raises:
        ConfigurationError: arguments that contradict each other. AttachError: the ring cannot be attached.
    """
    form = _form(form, out)
    with open_reader(name) as reader:
        first, end = _bounds(reader, first, last, n)
        records, info = reader.read_range(first, end)
        copy = Copy(name.instance, records, reader.epochs_of(records, info), info.first_seq)
    content = WRITERS[form](copy)
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        try:
            replace_file(out, content)
        except OSError as error:
            raise ConfigurationError(
                f"--out {out}: {len(content):,} bytes cannot be written: {error.strerror}; name another file"
            ) from None
    return _account(name, form, out, first, end, len(records), info)


def _account(
    name: RegionName, form: str, out: Path | None, first: int, end: int, n: int, info: Info
) -> Dumped:
    return Dumped(
        ring=str(name),
        format=form,
        out=str(out or "-"),
        asked_from=first,
        asked_to=end - 1,
        written=n,
        first_seq=info.first_seq if n else None,
        last_seq=info.last_seq if n else None,
        lost=info.lost,
        ahead=end - first - n - info.lost,
        epoch=info.epoch,
    )


def _form(form: str, out: Path | None) -> str:
    if not form and out is not None and out.suffix not in SUFFIXES:
        raise ConfigurationError(
            f"--out {out}: its suffix tells no format; name one of {', '.join(SUFFIXES)}, or give --format"
        )
    form = form or (SUFFIXES[out.suffix] if out is not None else "jsonl")
    if form not in WRITERS:
        raise ConfigurationError(f"--format {form}: one of {', '.join(WRITERS)} expected")
    if out is None and form in BINARY and sys.stdout.isatty():
        raise ConfigurationError(
            f"--format {form} is not for a terminal: give --out FILE, or a pipe"
        )
    if out is not None and not out.parent.is_dir():
        raise ConfigurationError(f"--out {out}: there is no directory {out.parent}; make it first")
    return form


def _bounds(reader: Reader, first: int | None, last: int | None, n: int | None) -> tuple[int, int]:
    """Return first and end (exclusive) of what is asked for."""
    oldest, head = reader.oldest_seq, reader.facts().head
    if n is not None and (first is not None or last is not None):
        raise ConfigurationError("--last goes without --from and --to")
    if n is not None:
        if n < 0:
            raise ConfigurationError(f"--last {n}: a number of records from 0 on expected")
        return max(oldest, head - n), head
    first = oldest if first is None else first
    last = head - 1 if last is None else last
    if not 1 <= first <= last + 1 < SEQ_END:
        raise ConfigurationError(
            f"--from {first} --to {last}: seqs from 1 on, in order, expected; {reader.name} holds "
            f"{oldest} .. {head - 1}"
        )
    return first, last + 1


def _flat(table: Any) -> Any:
    """Return the table with each column of arrays as one column an element, and words for categories: CSV knows neither."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_fixed_size_list(column.type):
            whole = column.combine_chunks()
            width = column.type.list_size
            values = whole.flatten()
            columns |= {f"{name}_{i}": values[i::width] for i in range(width)}
        elif pa.types.is_dictionary(column.type):
            columns[name] = column.cast(column.type.value_type)
        else:
            columns[name] = column
    return pa.table(columns)
