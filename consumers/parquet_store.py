"""A published file is whole, checksummed page by page, listed with its SHA-256, and holds its range of records once.

**Layout** `<data_dir>/<ring>/<first 16 digits of uuid>-<first_seq>.parquet`: `seq` and `epoch` (int64), then one
column per field of the record's layout under the same name; arrays as fixed-size lists, byte strings as text. Prices
and quantities are the integers of the ring, at the instrument's scale. File metadata: tickring.ring, tickring.uuid,
tickring.layout (hash) and tickring.description.

**Protocol** publish: temporary file -> fsync -> rename -> fsync of the folder -> manifest lines -> the journal is
removed. Each step may be repeated after a kill: the same journal gives the same file under the same name and the
same lines.

**Why it is right** pyarrow writes no page checksums by default and then reads most single-bit flips as good data;
here they are written and verified, and the whole file is held to its SHA-256.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.journal import Contents, read_journal
from consumers.manifest import Manifest, Row, live_files
from shm.durable import sync_folder

_GROUP_BYTES = 4 << 20
"""Records of about this many bytes are converted at once, so that memory stays flat."""
_STEADY = ("seq", "stamp", "ts_event", "ts_recv", "row_no", "source_seq")


def to_table(records: np.ndarray, seqs: np.ndarray, epochs: np.ndarray) -> pa.Table:
    """Return records as an Arrow table with their seq and epoch."""
    columns = {"seq": pa.array(seqs), "epoch": pa.array(epochs)}
    assert records.dtype.names is not None
    for name in records.dtype.names:
        columns[name] = _column(records[name])
    return pa.table(columns)


def publish(journal: Path, data_dir: Path, manifest: Manifest) -> Row | None:
    """Turn a sealed journal into a file and manifest lines, and remove it; returns the FILE line, if it held any record.

    Raises:
        OSError: try again later; nothing is half done that a repetition would not mend.
    """
    contents = read_journal(journal)
    rows = [_lost_row(contents, each) for each in contents.lost]
    if len(contents.records):
        row = _file_row(contents)
        # A journal that a power cut brought back is published already: its file is left as it is listed.
        if not manifest.has(row):
            rows.append(_write(contents, data_dir, row))
    manifest.add(rows)
    journal.unlink()
    return rows[-1] if rows and rows[-1].kind == "FILE" else None


def read_file(path: Path) -> pa.Table:
    """Return a published file, every page's checksum verified.

    Raises:
        OSError, pa.ArrowInvalid: it is damaged or cut.
    """
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read()


def description_of(path: Path) -> str:
    """Return the layout description that a published file carries; "" where it cannot be read."""
    try:
        told = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return ""
    found: bytes = told.get(b"tickring.description", b"")
    return found.decode()


def remove_old(manifest: Manifest, data_dir: Path, before_ns: int) -> list[Row]:
    """Remove files whose newest record is older than `before_ns` (ts_recv); the manifest keeps their ranges."""
    old = [row for row in live_files(manifest.rows) if row.ts_last_ns < before_ns]
    gone = [
        Row(
            kind="REMOVED",
            ring=row.ring,
            uuid=row.uuid,
            first_seq=row.first_seq,
            last_seq=row.last_seq,
            file=row.file,
        )
        for row in old
    ]
    manifest.add(gone)
    for row in gone:
        (data_dir / row.file).unlink(missing_ok=True)
    return gone


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ranges_of(seqs: np.ndarray) -> list[tuple[int, int]]:
    """Return the (first, last) runs of contiguous numbers in ascending seqs."""
    if not len(seqs):
        return []
    breaks = np.flatnonzero(np.diff(seqs) != 1)
    firsts, lasts = seqs[[0, *(breaks + 1)]], seqs[[*breaks, -1]]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def layout_hash(description: str) -> str:
    """Return the hash of a layout description, as a ring's header has it."""
    return hashlib.blake2b(description.encode(), digest_size=16).hexdigest()


def _file_row(contents: Contents) -> Row:
    """Return the FILE line of a journal's records, without what only the written file tells."""
    header, seqs = contents.header, contents.seqs
    first_of_epoch = np.flatnonzero(np.diff(contents.epochs, prepend=-1))
    received = contents.records["ts_recv"]
    return Row(
        kind="FILE",
        ring=header.ring,
        uuid=header.uuid,
        first_seq=int(seqs[0]),
        last_seq=int(seqs[-1]),
        rows=len(seqs),
        file=f"{header.ring}/{header.uuid[:16]}-{int(seqs[0]):019d}.parquet",
        ranges=ranges_of(seqs),
        epochs=[(int(contents.epochs[i]), int(seqs[i])) for i in first_of_epoch],
        layout=layout_hash(header.description),
        ts_first_ns=int(received.min()),
        ts_last_ns=int(received.max()),
    )


def _write(contents: Contents, data_dir: Path, row: Row) -> Row:
    path = data_dir / row.file
    if not path.parent.exists():
        path.parent.mkdir(mode=0o750)
        sync_folder(data_dir)
    temporary = path.with_suffix(".tmp")
    try:
        _write_groups(contents, temporary)
        _sync_file(temporary)
        facts = temporary.stat().st_size, sha256_of(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return msgspec.structs.replace(row, n_bytes=facts[0], sha256=facts[1])


def _write_groups(contents: Contents, path: Path) -> None:
    """Write one row group after the other."""
    header = contents.header
    told = {
        "tickring.ring": header.ring,
        "tickring.uuid": header.uuid,
        "tickring.layout": layout_hash(header.description),
        "tickring.description": header.description,
    }
    dtype = contents.records.dtype
    group = max(1, _GROUP_BYTES // dtype.itemsize)
    schema = to_table(*_cut(contents, 0, 0)).schema.with_metadata(told)
    names = set(schema.names)
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        write_page_checksum=True,
        use_dictionary=texts or False,
        column_encoding={name: "DELTA_BINARY_PACKED" for name in _STEADY if name in names},
    ) as writer:
        for first in range(0, len(contents.records), group):
            writer.write_table(to_table(*_cut(contents, first, first + group)).cast(schema))


def _cut(contents: Contents, first: int, end: int) -> Sequence[np.ndarray]:
    return contents.records[first:end], contents.seqs[first:end], contents.epochs[first:end]


def _column(values: np.ndarray) -> pa.Array:
    if values.ndim > 1:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if values.dtype.kind == "S":
        return pa.array([each.decode("utf-8", "replace") for each in values.tolist()], pa.string())
    return pa.array(np.ascontiguousarray(values))


def _lost_row(contents: Contents, lost: tuple[int, int]) -> Row:
    first, last = lost
    header = contents.header
    return Row(
        kind="LOST",
        ring=header.ring,
        uuid=header.uuid,
        first_seq=first,
        last_seq=last,
        rows=last - first + 1,
    )


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
