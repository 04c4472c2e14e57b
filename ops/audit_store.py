"""The stored files are held to their manifest, and the manifest to the rings: every seq in one file or one LOST line, once.

**Why it is right** Ranges of seqs are compared, not totals; every file is read whole for its SHA-256. While the recorder
runs, its newest records are in the journal, not yet in a file; when it has drained only those of a ring whose producer
never said STOPPED are, and the next start publishes them.
"""

from pathlib import Path

import msgspec

from shm.counters import WorkerFacts
from shm.header import RingFacts


class Check(msgspec.Struct, kw_only=True):
    """One independent count: `unaccounted` is how many records it misses or finds twice."""

    name: str
    expected: int
    found: int
    unaccounted: int
    note: str = ""


def store_checks(
    data_dir: Path, rings: dict[str, RingFacts], recorder: WorkerFacts | None, closing: bool
) -> list[Check]:
    """Return a check of each ring's ranges, and one of all files."""
    from consumers.store_audit import verify_store

    report = verify_store(data_dir)
    found = {each.uuid: each for each in report.rings}
    left = journal_rows(data_dir)
    checks = []
    for ring, facts in rings.items():
        stored = found.get(facts.uuid)
        last = stored.last_seq if stored else facts.first_seq - 1
        upto = facts.head - 1 if closing else last
        doubled = missing = 0
        if stored is not None:
            missing = max(0, stored.first_seq - facts.first_seq) + _records(stored.holes)
            doubled = _records(stored.overlaps)
        missing += max(0, upto - last)
        journal = left.get(facts.uuid, 0)
        if closing:
            missing = max(0, missing - journal)
        elif recorder is not None:
            journal = max(0, recorder.values.get(f"in.{ring}.seq", 0) - last)
        notes = []
        if journal:
            notes.append(f"{journal} more in the journal")
        if stored is not None and stored.lost:
            notes.append(f"{stored.lost} told as LOST")
        checks.append(
            Check(
                name=f"stored of {ring}",
                expected=upto - facts.first_seq + 1,
                found=(stored.rows + stored.lost) if stored else 0,
                unaccounted=missing + doubled,
                note=", ".join(notes),
            )
        )
    return [*checks, *file_checks(data_dir)]


def journal_rows(data_dir: Path) -> dict[str, int]:
    """Return by ring uuid how many records wait in journals."""
    from consumers.journal import SUFFIX, JournalDamaged, read_journal

    rows: dict[str, int] = {}
    for path in (data_dir / "journal").glob(f"*{SUFFIX}"):
        try:
            contents = read_journal(path)
        except JournalDamaged:
            continue
        rows[contents.header.uuid] = rows.get(contents.header.uuid, 0) + len(contents.records)
    return rows


def file_checks(data_dir: Path) -> list[Check]:
    """Return the check of all files against the manifest, of this run and of earlier ones."""
    from consumers.store_audit import verify_store

    if not data_dir.is_dir():
        return []
    report = verify_store(data_dir)
    listed = sum(ring.files for ring in report.rings)
    holes = sum(_records(ring.holes) + _records(ring.overlaps) for ring in report.rings)
    return [
        Check(
            name="files (ranges and SHA-256)",
            expected=listed,
            found=listed - len(report.damaged),
            unaccounted=len(report.damaged) + holes,
            note="; ".join(report.damaged[:3]),
        )
    ]


def _records(ranges: list[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)
