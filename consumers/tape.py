"""A tape takes one ring's records into journals of fixed ranges, and knows what of them is durable.

**Protocol** `begin` finds where the last process ended; then `take` and `lose` in seq order; `marks` before a sync
and `synced` after it; journals that are full and durable come out of `finished`, to be published.

**Why it is right** Where a restart goes on is read from the journals and the manifest alone: the seq after the last
whole block. A journal's borders are multiples of `rows`, so the same records always come into the same files,
however often a run is killed.

**Failure** A write that fails is tried again with the same records (`read_again`); a sync that fails takes back what
it was to make durable (`revert`). Either way the ring is read again, and what it no longer holds becomes LOST.
"""

import contextlib
from pathlib import Path
from typing import NamedTuple

import structlog

from consumers.journal import SUFFIX, Journal, JournalDamaged, header_for
from consumers.loop import Input
from consumers.manifest import Manifest
from shm.errors import Retired

SEGMENT_BYTES = 16 << 20
"""A range is cut down to what fits into this many bytes of records."""

log = structlog.get_logger()


def rows_per_segment(segment_rows: int, record_bytes: int) -> int:
    """Return the rows of a range: `segment_rows`, halved until their records fit into SEGMENT_BYTES."""
    rows = segment_rows
    while rows > 1 and rows * record_bytes > SEGMENT_BYTES:
        rows //= 2
    return rows


class Mark(NamedTuple):
    """What a sync that begins now is going to make durable."""

    journal: Journal
    position: tuple[int, int]
    lost: int


class Tape:
    """One input on its way into journals."""

    def __init__(self, source: Input, folder: Path, segment_rows: int) -> None:
        self.source = source
        self.rows = rows_per_segment(segment_rows, source.consumer.dtype.itemsize)
        self.incarnation = -1
        self.uuid = ""
        self.first_seq = self.next_seq = 1
        self.lost = 0
        """Records of this incarnation that were overwritten before they were read."""
        self._durable_lost = 0
        self._folder = folder
        self._journals: list[Journal] = []

    @property
    def rows_journaled(self) -> int:
        """Records of this incarnation that are in a journal or a file."""
        return self.next_seq - self.first_seq - self.lost

    def begin(self, manifest: Manifest) -> list[Path]:
        """Go on behind what is stored of the ring as it is now; returns sealed journals of it to publish."""
        facts = self.source.consumer.facts()
        self.incarnation, self.uuid, self.first_seq = (
            self.source.incarnation,
            facts.uuid,
            facts.first_seq,
        )
        known = [row for row in manifest.rows if row.uuid == self.uuid and row.kind == "LOST"]
        self.lost = sum(row.rows for row in known)
        self.next_seq = max(facts.first_seq, manifest.next_seq(self.uuid))
        sealed, unfinished = recover(self._folder, self.source.name, self.uuid)
        self._journals = [unfinished] if unfinished else []
        for journal in [*sealed, *self._journals]:
            self.next_seq = max(self.next_seq, journal.next_seq)
            lost = journal.lost_ranges
            self.lost += sum(b - a + 1 for a, b in lost if not _listed(manifest, self.uuid, a))
        self._durable_lost = self.lost
        self.source.resume(self.next_seq, self.lost)
        return [journal.path for journal in sealed]

    def take(self, n: int) -> None:
        """Write the `n` records that the source has just polled.

        Raises:
            OSError: `read_again` next.
        """
        source, at = self.source, 0
        assert source.first_seq == self.next_seq, "the source was resumed where the tape ends"
        while at < n:
            journal = self._open_journal()
            part = source.records[at : min(n, at + journal.room)]
            journal.append(part, self.next_seq, source.epoch)
            at += len(part)
            self._wrote(journal, len(part))

    def lose(self, first_seq: int, last_seq: int) -> None:
        """Write that records first_seq .. last_seq are gone.

        Raises:
            OSError: `read_again` next.
        """
        assert first_seq == self.next_seq, "the source was resumed where the tape ends"
        while self.next_seq <= last_seq:
            journal = self._open_journal(last_seq + 1)
            n = min(journal.room, last_seq + 1 - self.next_seq)
            journal.append_lost(n)
            self.lost += n
            self._wrote(journal, n)

    def seal(self) -> None:
        """Nothing more comes for the journal that is open."""
        if self._journals:
            self._journals[-1].seal()

    def marks(self) -> list[Mark]:
        """Return what there is to sync."""
        return [Mark(each, each.mark(), self.lost) for each in self._journals if each.is_dirty]

    def synced(self, marks: list[Mark]) -> None:
        """A sync of all of `marks` has succeeded: the cursor may follow."""
        for mark in marks:
            mark.journal.made_durable(mark.position)
            self._durable_lost = mark.lost
        if marks and self.incarnation == self.source.incarnation:
            self.source.commit(marks[-1].journal.durable_seq)

    def finished(self) -> list[Path]:
        """Close the journals that are sealed and durable, and return them."""
        done = [each for each in self._journals if each.sealed and not each.is_dirty]
        for each in done:
            each.close()
            self._journals.remove(each)
        return [each.path for each in done]

    def read_again(self) -> None:
        """After a failed write: read the ring again from where the journal ends.

        Raises:
            Retired: the ring is gone; the next process goes on with what the journals hold.
        """
        if self.incarnation != self.source.incarnation:
            raise Retired(
                f"ring {self.source.name} was replaced while the disk failed; its last records are lost"
            )
        self.source.resume(self.next_seq, self.lost)

    def revert(self) -> None:
        """After a failed sync: cut back to what is durable and read the ring again from there."""
        dirty = [journal for journal in self._journals if journal.is_dirty]
        if dirty:
            first = self._journals.index(dirty[0])
            self.next_seq = dirty[0].revert()
            for later in self._journals[first + 1 :]:
                later.close()
                later.path.unlink(missing_ok=True)
            del self._journals[first + 1 :]
            self.lost = self._durable_lost
        self.read_again()

    def close(self) -> None:
        """Close what is open; it goes on at the next start."""
        for each in self._journals:
            each.close()
        self._journals.clear()

    def _open_journal(self, lost_to: int = 0) -> Journal:
        if self._journals and self._journals[-1].room == 0:
            self._journals[-1].seal()
        if self._journals and not self._journals[-1].sealed:
            return self._journals[-1]
        border = (self.next_seq // self.rows + 1) * self.rows
        end_seq = max(
            border, lost_to // self.rows * self.rows
        )  # whole lost ranges need one journal
        dtype = self.source.consumer.dtype
        header = header_for(self.source.name, self.uuid, dtype, self.next_seq, end_seq)
        self._journals.append(Journal.create(self._folder, header))
        return self._journals[-1]

    def _wrote(self, journal: Journal, n: int) -> None:
        self.next_seq += n
        if journal.room == 0:
            with contextlib.suppress(OSError):  # it is tried again before the next journal is made
                journal.seal()


def recover(folder: Path, ring: str, uuid: str) -> tuple[list[Journal], Journal | None]:
    """Mend the journals of one incarnation of a ring after a kill; returns the sealed ones, closed, and the one that
    goes on.

    A torn journal that has a successor is filled up with LOST to where that begins: its last records were not
    durable.
    """
    found = []
    for path in sorted(folder.glob(f"{ring}.{uuid[:16]}.*{SUFFIX}")):
        try:
            found.append(Journal.resume(path))
        except JournalDamaged as error:
            log.error("a journal is set aside", error=str(error))
            path.replace(path.with_suffix(".damaged"))
    unfinished = found.pop() if found and not found[-1].sealed and found[-1].room else None
    for i, journal in enumerate(found):
        following = found[i + 1] if i + 1 < len(found) else unfinished
        if not journal.sealed and following is not None:
            missing = min(journal.room, following.header.first_seq - journal.next_seq)
            if missing > 0:
                journal.append_lost(missing)
        journal.seal()
        journal.close()
    return found, unfinished


def _listed(manifest: Manifest, uuid: str, first_seq: int) -> bool:
    return any(
        row.kind == "LOST" and row.uuid == uuid and row.first_seq <= first_seq <= row.last_seq
        for row in manifest.rows
    )
