"""The store is held to its promise: every seq in exactly one file or LOST line, every file whole and as listed.

**Cost** Reads every file once for its SHA-256; with `deep` also every page with its checksum, and every seq.
"""

from pathlib import Path

import msgspec

from consumers.manifest import Row, live_files, read_manifest
from consumers.parquet_store import ranges_of, read_file, sha256_of


class RingReport(msgspec.Struct, kw_only=True):
    """One incarnation of one ring."""

    ring: str
    uuid: str
    first_seq: int = 0
    last_seq: int = 0
    rows: int = 0
    lost: int = 0
    files: int = 0
    holes: list[tuple[int, int]] = []
    """Ranges in no file and no LOST line."""
    overlaps: list[tuple[int, int]] = []
    """Ranges that two files or lines speak of."""


class StoreReport(msgspec.Struct, kw_only=True):
    """What `verify_store` found; `ok` is the sum of it."""

    rings: list[RingReport] = []
    damaged: list[str] = []
    """Files that are missing, cut, changed, or hold other seqs than listed, each with what is wrong."""
    unlisted: list[str] = []
    """Files under final names that no line lists: a kill came before the line, the journal is still there."""

    @property
    def ok(self) -> bool:
        """Nothing is missing, doubled or damaged."""
        return not self.damaged and not any(ring.holes or ring.overlaps for ring in self.rings)

    @property
    def rows(self) -> int:
        """Records in all files."""
        return sum(ring.rows for ring in self.rings)

    @property
    def lost(self) -> int:
        """Records in LOST lines."""
        return sum(ring.lost for ring in self.rings)


def verify_store(data_dir: str | Path, deep: bool = False) -> StoreReport:
    """Check a data directory against its manifest.

    Args:
        data_dir: the recorder's.
        deep: also read every page (its checksum is verified) and compare the seqs in it with the listed ranges.

    Raises:
        ManifestDamaged: the manifest itself cannot be believed.
    """
    folder = Path(data_dir)
    rows = read_manifest(folder)
    report = StoreReport()
    for uuid in dict.fromkeys(row.uuid for row in rows):
        report.rings.append(_check_ranges([row for row in rows if row.uuid == uuid]))
    for row in live_files(rows):
        wrong = _check_file(folder / row.file, row, deep)
        report.damaged += [f"{row.file}: {each}" for each in wrong]
    listed = {row.file for row in rows}
    found = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.parquet")}
    report.unlisted = sorted(found - listed)
    return report


def _check_ranges(rows: list[Row]) -> RingReport:
    """Lay the ranges of one ring's incarnation side by side."""
    report = RingReport(ring=rows[0].ring, uuid=rows[0].uuid)
    ranges: list[tuple[int, int]] = []
    for row in rows:
        if row.kind == "FILE":
            ranges += row.ranges
            report.rows += row.rows
            report.files += 1
        elif row.kind == "LOST":
            ranges.append((row.first_seq, row.last_seq))
            report.lost += row.rows
    ranges.sort()
    report.first_seq = ranges[0][0]
    expected = report.first_seq
    for first, last in ranges:
        if first > expected:
            report.holes.append((expected, first - 1))
        elif first < expected:
            report.overlaps.append((first, min(last, expected - 1)))
        expected = max(expected, last + 1)
    report.last_seq = expected - 1
    return report


def _check_file(path: Path, row: Row, deep: bool) -> list[str]:
    """Name what is wrong with one file."""
    if not path.is_file():
        return ["missing"]
    found = []
    n_bytes = path.stat().st_size
    if n_bytes != row.n_bytes:
        found.append(f"{n_bytes} bytes, {row.n_bytes} listed")
    if sha256_of(path) != row.sha256:
        found.append("its SHA-256 is not the listed one")
    if sum(last - first + 1 for first, last in row.ranges) != row.rows:
        found.append(f"{row.rows} rows listed, its ranges hold another number")
    if deep:
        try:
            seqs = read_file(path).column("seq").to_numpy()
        except (OSError, ValueError) as error:  # Arrow's own errors derive from these
            return [*found, f"cannot be read: {error}"]
        if ranges_of(seqs) != row.ranges:
            found.append("it holds other seqs than listed")
    return found
