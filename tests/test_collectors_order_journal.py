"""The journal of orders: what it holds is what was published, a cut end is left out, and all other damage is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Instance
from test_collectors_orders import Shop

from collectors.order_journal import (
    ENTRY,
    JournalDamaged,
    Journaled,
    OrderJournal,
    journal_path,
    read_journal,
    write_journal,
)
from layouts import ORDER, Kind, Opening
from shm import region as regions
from shm.registry import files_of

HEAD_BYTES = 64


def orders(n: int, kind: Kind = Kind.ORDER) -> np.ndarray:
    """Make `n` records."""
    made = np.zeros(n, ORDER)
    made["kind"], made["order_id"], made["qty"] = kind, np.arange(1, n + 1), 5
    return made


def written(folder: Path, n: int = 3) -> Path:
    """Leave a journal of `n` records of a run."""
    journal = OrderJournal(folder, is_first=True)
    journal.bind("a" * 32, 1)
    journal.add(orders(n))
    journal.close()
    return journal_path(folder)


def test_what_was_written_is_read_with_its_seqs(tmp_path: Path) -> None:
    """Private, of its ring, closed by a clean end and by nothing else."""
    path = written(tmp_path)
    found = read_journal(path)
    assert (found.uuid, found.is_closed, found.last_order_id) == ("a" * 32, True, 0)
    assert found.records["order_id"].tolist() == [1, 2, 3]
    assert found.records["stamp"].tolist() == [4, 6, 8]
    assert path.stat().st_mode & 0o777 == 0o600
    again = OrderJournal(tmp_path, is_first=False)
    again.bind("a" * 32, 4)
    assert not read_journal(path).is_closed
    os.close(again._fd)


def test_cut_at_every_byte_whole_records_count_or_it_is_refused(tmp_path: Path) -> None:
    """Inside the head it is refused; behind it what is whole counts, and what comes next is whole again."""
    path = written(tmp_path)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        if cut < HEAD_BYTES:
            with pytest.raises(JournalDamaged, match="head"):
                read_journal(path)
            continue
        n = (cut - HEAD_BYTES) // ENTRY.itemsize
        journal = OrderJournal(tmp_path, is_first=False)
        assert len(journal.records) == n
        journal.bind("a" * 32, n + 1)
        journal.add(orders(1))
        journal.close()
        assert len(read_journal(path).records) == n + 1


def test_a_flipped_byte_is_refused_unless_it_is_in_the_end(tmp_path: Path) -> None:
    """In the head or in a record with whole ones behind it: told. In the last one: as if cut."""
    path = written(tmp_path)
    whole = path.read_bytes()
    last = HEAD_BYTES + 2 * ENTRY.itemsize
    for at in range(0, len(whole), 5):
        data = bytearray(whole)
        data[at] ^= 0x10
        path.write_bytes(bytes(data))
        if at < HEAD_BYTES:
            with pytest.raises(JournalDamaged):
                read_journal(path)
        elif at < last and (at - HEAD_BYTES) % ENTRY.itemsize not in range(4, 8):
            with pytest.raises(JournalDamaged, match="is damaged"):
                read_journal(path)
        elif at >= last and (at - HEAD_BYTES) % ENTRY.itemsize not in range(4, 8):
            assert len(read_journal(path).records) == 2
    path.write_bytes(whole[:HEAD_BYTES] + whole[HEAD_BYTES + ENTRY.itemsize :])
    with pytest.raises(JournalDamaged, match="one is missing"):
        read_journal(path)


def test_one_that_is_gone_or_of_another_ring_is_refused(tmp_path: Path) -> None:
    """Where nothing was ever ordered there may be none; a ring that it lacks records of is not its own."""
    with pytest.raises(JournalDamaged, match="positions reset"):
        OrderJournal(tmp_path, is_first=False)
    path = written(tmp_path)
    journal = OrderJournal(tmp_path, is_first=False)
    with pytest.raises(JournalDamaged, match=r"another orders\.orders"):
        journal.bind("b" * 32, 1)
    with pytest.raises(JournalDamaged, match="3 records, and 4"):
        journal.bind("a" * 32, 5)
    assert len(journal.bind("a" * 32, 2)) == 2
    os.close(journal._fd)
    path.unlink()
    with pytest.raises(JournalDamaged):
        OrderJournal(tmp_path, is_first=False)


def test_a_fill_is_on_the_disk_before_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order waits for the next beat."""
    synced: list[int] = []
    journal = OrderJournal(tmp_path, is_first=True)
    journal.bind("a" * 32, 1)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    journal.add(orders(1))
    assert synced == []
    journal.add(orders(1, Kind.FILL))
    assert len(synced) == 1
    journal.sync()
    assert len(synced) == 1
    os.close(journal._fd)


def test_killed_between_journal_and_ring_the_record_is_published_at_the_next_start(
    instance: Instance,
) -> None:
    """The client asks again and gets its order; what stands is what the journal says, also beyond the ring's slots."""
    shop = Shop(instance)
    try:
        shop.new()
        record = shop.records()[-1:].copy()
        record["order_id"] = shop.ids.add("main", "a2")
        record["client_order_id"] = b"a2"
        shop.journal.add(record)
        shop.die()
        shop.start()
        assert [each["order_id"] for each in shop.records()] == [1, 2]
        assert shop.new(client_order_id="a2").repeated
        assert shop.counters.get("ids_burned") == 0
        for i in range(80):
            shop.new(client_order_id=f"more {i}")
        shop.die()
        shop.start()
        assert len(shop.ask(do="list").orders) == 82
    finally:
        shop.die()
        for file in files_of(instance.name):
            regions.unlink(file)


def test_a_new_ring_begins_with_the_openings_of_its_journal(instance: Instance) -> None:
    """In order, before anything else; an order that stands can be filled; killed half-way the rest follows."""
    opening = orders(3, Kind.OPENING)
    opening["reason"] = (Opening.HELD, Opening.STANDS, Opening.POSITION)
    opening["order_id"], opening["account"], opening["instrument_id"] = (20, 7, 20), 1, 7
    opening["qty_scale"], opening["price_scale"], opening["quote_currency"] = 3, 2, b"USD"
    write_journal(journal_path(instance.state_dir), Journaled("", False, 7, opening))
    shop = Shop(instance)
    try:
        assert shop.records()["kind"].tolist() == [Kind.OPENING] * 3
        assert not read_journal(journal_path(instance.state_dir)).is_closed
        assert [each.order_id for each in shop.ask(do="list").orders] == [7]
        assert shop.ask(do="fill", order_id=7, qty="0.005", price="1").ok
        shop.die()
        shop.start()
        assert len(shop.records()) == 4 and shop.ask(do="list").orders == []
    finally:
        shop.die()
        for file in files_of(instance.name):
            regions.unlink(file)
