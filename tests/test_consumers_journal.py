"""A journal is readable up to its last whole block, whatever byte it was cut or changed at."""

import os
from pathlib import Path

import numpy as np
import pytest

from consumers.journal import (
    Journal,
    JournalDamaged,
    JournalHeader,
    header_for,
    read_header,
    read_journal,
)
from layouts import BOOK, EVENT, FEATURES, INSTRUMENT

UUID = "0123456789abcdef" * 2


def events(first: int, n: int, dtype: np.dtype = EVENT) -> np.ndarray:
    """Make n records of which every byte says something."""
    made = np.frombuffer(np.random.default_rng(first).bytes(n * dtype.itemsize), dtype).copy()
    made["stamp"] = 2 * np.arange(first, first + n) + 2
    return made


def header(first_seq: int = 1, end_seq: int = 1000, dtype: np.dtype = EVENT) -> JournalHeader:
    """Make the header of a journal."""
    return header_for("feed.events", UUID, dtype, first_seq, end_seq)


def written(folder: Path) -> tuple[Path, list[int]]:
    """Write three blocks and a loss; returns the path and the file's length after each step."""
    journal = Journal.create(folder, header())
    lengths = [journal.path.stat().st_size]
    for first, n, epoch in ((1, 3, 5), (4, 2, 5), (6, 4, 6)):
        journal.append(events(first, n), first, epoch)
        lengths.append(journal.path.stat().st_size)
    journal.append_lost(5)
    lengths.append(journal.path.stat().st_size)
    journal.close()
    return journal.path, lengths


@pytest.mark.parametrize("dtype", [EVENT, BOOK, INSTRUMENT, FEATURES])
def test_records_come_back_verbatim(tmp_path: Path, dtype: np.dtype) -> None:
    """Every byte, the seqs, the epochs, for each layout."""
    journal = Journal.create(tmp_path, header(10, 20, dtype))
    journal.append(events(10, 3, dtype), 10, 7)
    journal.append(events(13, 2, dtype), 13, 8)
    journal.close()
    found = read_journal(journal.path)
    expected = np.concatenate([events(10, 3, dtype), events(13, 2, dtype)])
    assert found.records.tobytes() == expected.tobytes()
    assert found.seqs.tolist() == [10, 11, 12, 13, 14]
    assert found.epochs.tolist() == [7, 7, 7, 8, 8]
    assert found.header.dtype == dtype
    assert (found.header.ring, found.header.uuid) == ("feed.events", UUID)


def test_losses_that_touch_are_one(tmp_path: Path) -> None:
    """Two lost blocks in a row are one range; a block between keeps them apart."""
    journal = Journal.create(tmp_path, header())
    journal.append_lost(4)
    journal.append_lost(6)
    journal.append(events(11, 1), 11, 1)
    journal.append_lost(1)
    journal.close()
    found = read_journal(journal.path)
    assert found.lost == [(1, 10), (12, 12)]
    assert found.seqs.tolist() == [11]


def test_a_journal_cut_at_every_byte_goes_on_after_its_last_whole_block(tmp_path: Path) -> None:
    """Whatever the cut, what is read is a prefix of what was written, and writing goes on there."""
    path, lengths = written(tmp_path)
    whole = path.read_bytes()
    ends = dict(zip(lengths, (1, 4, 6, 10, 15), strict=True))
    for cut in range(lengths[0], len(whole) + 1):
        path.write_bytes(whole[:cut])
        next_seq = ends[max(length for length in lengths if length <= cut)]
        journal = Journal.resume(path)
        assert journal.next_seq == next_seq
        journal.append(events(next_seq, 1), next_seq, 9)
        journal.close()
        found = read_journal(path)
        assert found.next_seq == next_seq + 1
        assert found.seqs[-1] == next_seq


def test_a_changed_byte_ends_the_reading_there(tmp_path: Path) -> None:
    """A flipped bit is never read as data: the block that holds it and what follows are not there."""
    path, lengths = written(tmp_path)
    whole = path.read_bytes()
    seqs = read_journal(path).seqs.tolist()
    for at in range(lengths[0], len(whole), 3):
        changed = bytearray(whole)
        changed[at] ^= 1 << (at % 8)
        path.write_bytes(changed)
        kept = max(length for length in lengths if length <= at)
        upto = {lengths[0]: 1, lengths[1]: 4, lengths[2]: 6, lengths[3]: 10}[kept]
        found = read_journal(path)
        assert found.seqs.tolist() == [seq for seq in seqs if seq < upto]


def test_a_header_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    """Cut or changed at any byte: no journal, and the error names the file."""
    path, lengths = written(tmp_path)
    whole = path.read_bytes()[: lengths[0]]
    for cut in range(lengths[0]):
        with pytest.raises(JournalDamaged, match=r"feed\.events"):
            read_header(whole[:cut], path)
    for at in range(lengths[0]):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        with pytest.raises(JournalDamaged):
            read_header(bytes(changed), path)


def test_a_sealed_journal_is_known_as_such(tmp_path: Path) -> None:
    """END is the last block; sealing twice writes it once."""
    journal = Journal.create(tmp_path, header())
    journal.append(events(1, 1), 1, 1)
    journal.seal()
    length = journal.path.stat().st_size
    journal.seal()
    journal.close()
    assert journal.path.stat().st_size == length
    again = Journal.resume(journal.path)
    assert again.sealed
    assert again.next_seq == 2
    again.close()


@pytest.mark.parametrize(("n", "room"), [(1, 9), (9, 1), (10, 0)])
def test_the_border_is_where_room_ends(tmp_path: Path, n: int, room: int) -> None:
    """A journal from 1 to 11 has room for ten records, and refuses the eleventh."""
    journal = Journal.create(tmp_path, header(1, 11))
    journal.append(events(1, n), 1, 1)
    assert journal.room == room
    with pytest.raises(AssertionError):
        journal.append(events(n + 1, room + 1), n + 1, 1)
    journal.close()


def fails_after(
    monkeypatch: pytest.MonkeyPatch, function: str, calls: int, part: int = 0
) -> list[int]:
    """Make a function of os fail from its n-th call on; a write may get some bytes out before."""
    right, count = getattr(os, function), [0]

    def failing(*args):
        count[0] += 1
        if count[0] <= calls:
            return right(*args)
        if part and function == "writev":
            os.write(args[0], b"".join(args[1])[:part])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, failing)
    return count


@pytest.mark.parametrize("part", [0, 1, 39, 40, 41, 100])
def test_a_write_that_fails_half_way_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """The file is cut back to the last whole block, and the next write is right."""
    journal = Journal.create(tmp_path, header())
    journal.append(events(1, 3), 1, 1)
    with monkeypatch.context() as patch:
        fails_after(patch, "writev", 0, part)
        with pytest.raises(OSError, match="No space"):
            journal.append(events(4, 2), 4, 1)
    journal.append(events(4, 2), 4, 1)
    journal.close()
    assert read_journal(journal.path).seqs.tolist() == [1, 2, 3, 4, 5]


def test_revert_takes_back_what_no_sync_has_confirmed(tmp_path: Path) -> None:
    """Records, losses and the seal after the last sync are gone; what it covered stays."""
    journal = Journal.create(tmp_path, header())
    journal.append(events(1, 3), 1, 1)
    journal.append_lost(2)
    mark = journal.mark()
    journal.append(events(6, 1), 6, 1)
    journal.append_lost(4)
    journal.seal()
    journal.made_durable(mark)
    assert journal.revert() == 6
    assert (journal.sealed, journal.lost_ranges, journal.is_dirty) == (False, [(4, 5)], False)
    journal.append(events(6, 2), 6, 1)
    journal.close()
    found = read_journal(journal.path)
    assert found.seqs.tolist() == [1, 2, 3, 6, 7]
    assert found.lost == [(4, 5)]
