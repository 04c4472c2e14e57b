"""A capture keeps every frame that came, or counts it; it never disturbs who decodes; a killed one is finished by the next."""

import errno
import os
from pathlib import Path

import pytest
from wslogs import Feed, clean, entries_of, frames, parse, read

from collectors import wslog_disk
from collectors.wslog_salvage import salvage, stage_file
from collectors.wslog_writer import HOUR_NS
from layouts import Entry
from layouts.wslog import IN_HAND, STATUS_ABANDONED, STATUS_IN_HAND
from shm import clock
from shm._native import ffi, lib
from shm.region import SHM_DIRECTORY


@pytest.fixture
def make(instance):
    feeds: list[Feed] = []

    def build(**spec: object) -> Feed:
        feeds.append(Feed(instance, **spec))
        return feeds[-1]

    yield build
    for feed in feeds:
        if feed.capture.is_on:
            feed.capture._disk.finish(10)
    clean(instance.name)


def closes(feed: Feed) -> None:
    """The account: what came is kept, lost, or was not asked for."""
    values = feed.values()
    assert values["frames_in"] == values["frames"] + values["lost"] + values["unasked"], values
    assert values["frames_in"] == values["accounted"], values


def kept(feed: Feed) -> list[bytes]:
    return [e.data for e in entries_of(feed.files(), Entry.FRAME)]


def test_what_came_before_and_after_is_not_asked_for(make) -> None:
    """Frames while capture is off are counted as such, and nothing is written."""
    feed = make()
    feed.decode = feed.publish
    for text in frames(7):
        feed.take(text)
    feed.start()
    for text in frames(5):
        feed.take(text)
    feed.end()
    assert kept(feed) == frames(5)
    assert (feed.values()["unasked"], feed.values()["frames"]) == (7, 5)
    closes(feed)


def test_an_account_is_of_one_instant_through_every_switch(make) -> None:
    """Frames that come between two accounts move none of its numbers, while capture is on, off, and on again."""
    feed = make()
    feed.decode = feed.publish
    came = 0

    def come(n: int) -> None:
        nonlocal came
        before = feed.values()
        for text in frames(n):
            feed.take(text)
        came += n
        after = feed.values()
        assert after["frames_in"] == came
        assert after | {"frames_in": 0} == before | {"frames_in": 0}
        assert after["accounted"] == after["frames"] + after["lost"] + after["unasked"]

    for _ in range(2):
        feed.start()
        come(40)
        feed.capture.tick()
        come(30)
        feed.capture.stop()
        feed.decode = feed.publish
        closes(feed)
        come(20)
        feed.capture.tick()
        closes(feed)
        come(10)
    assert feed.values()["frames"] == 140
    feed.end()


def test_every_frame_gets_to_the_file_while_it_runs(make) -> None:
    """More than both halves hold: halves change places, and what was handed over can be read at once."""
    feed = make(buffer_bytes=65_536).start()
    texts = frames(3000)
    for i, text in enumerate(texts):
        feed.take(text)
        if i % 50 == 0:
            feed.settle(lambda: not any(feed.capture._disk.is_busy))
    feed.settle(lambda: feed.capture._stage.head.used[feed.capture._stage.head.half] == 0)
    feed.settle(lambda: not any(feed.capture._disk.is_busy))
    assert [p for p in read(feed.files()[0])[1] if p] == [t for t in texts if t]
    feed.end()
    assert feed.values()["lost"] == 0
    closes(feed)


def test_an_entry_longer_than_a_half_is_kept_by_reference(make) -> None:
    """In its place among the others, with its key; one that just fits is staged."""
    feed = make(buffer_bytes=65_536).start()
    fits, large = b"f" * (32_768 - 64), b"l" * (32_768 - 63)
    texts = [b"before", large, b"between", fits, large * 3, b"after"]
    for text in texts:
        feed.take(text)
        feed.settle(lambda: not any(feed.capture._disk.is_busy))
    feed.capture.note(Entry.REST, 9, large, b"https://venue/depth")
    feed.end()
    assert kept(feed) == texts
    rest = list(entries_of(feed.files(), Entry.REST))
    assert [(e.key, e.data) for e in rest] == [(b"https://venue/depth", large)]
    assert [e.records for e in entries_of(feed.files(), Entry.FRAME)] == [len(t) % 4 for t in texts]
    closes(feed)


def test_a_stuck_disk_costs_frames_that_are_counted_and_never_a_wait(make, monkeypatch) -> None:
    """Both halves full: the frame is decoded all the same, its number is skipped, and later ones are kept again."""
    import threading

    feed = make(buffer_bytes=65_536).start()
    gate = threading.Event()
    write = wslog_disk.write_all
    monkeypatch.setattr(wslog_disk, "write_all", lambda *a: (gate.wait(30), write(*a))[1])
    published = feed.events.next_seq
    for _ in range(300):
        feed.take(b"x" * 401)
        feed.capture.tick()
    assert feed.events.next_seq == published + 300
    lost = int(feed.capture._stage.head.frames_lost)
    assert lost > 0
    gate.set()
    feed.settle(lambda: not any(feed.capture._disk.is_busy))
    feed.take(b"again")
    feed.end()
    log, _, _ = read(feed.files()[0])
    assert sum(last - first + 1 for first, last in log.scan.missing) == lost
    assert feed.values()["lost"] == lost
    assert kept(feed)[-1] == b"again" and len(kept(feed)) == 301 - lost
    closes(feed)


def test_a_full_disk_stops_the_capture_and_it_comes_back(make, monkeypatch) -> None:
    """ENOSPC in mid-write: the file ends at its last whole write, frames meanwhile are counted, a new file begins later."""
    feed = make(retry_s=0.01).start()
    feed.take(b"one")
    feed.settle(lambda: feed.capture._disk.written_bytes > 0)
    write = wslog_disk.write_all

    def full(fd, parts):
        os.write(fd, bytes(parts[0])[:30])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wslog_disk, "write_all", full)
    monkeypatch.setattr(wslog_disk.Disk, "open", lambda self, work, real=wslog_disk.Disk.open: None)
    feed.take(b"lost with the write")
    feed.settle(lambda: feed.values()["failed"] == 1)
    feed.take(b"lost after it")
    feed.settle(lambda: feed.values()["lost"] == 2)
    monkeypatch.undo()
    assert wslog_disk.write_all is write
    feed.settle(lambda: feed.values()["failed"] == 0)
    feed.take(b"two")
    feed.end()
    assert len(feed.files()) == 2
    assert [e.data for e in entries_of(feed.files(), Entry.FRAME)] == [b"one", b"two"]
    assert feed.values()["lost"] == 2
    closes(feed)


def test_a_disk_with_too_little_room_is_left_alone(make) -> None:
    """Capture stops before `free_bytes_min` is used up, says why, and the feed goes on."""
    feed = make(free_bytes_min=1 << 60).start()
    for text in frames(20):
        feed.take(text)
    feed.settle(lambda: feed.values()["failed"] == 1)
    assert "free_bytes_min" in feed.capture._disk.error
    feed.end()
    assert kept(feed) == []
    assert feed.values()["lost"] == 20
    closes(feed)


def test_no_folder_and_no_memory_are_told_and_the_feed_goes_on(make, tmp_path: Path) -> None:
    """A folder that cannot be made counts every frame as lost; a region that does not fit leaves capture off."""
    (tmp_path / "file").write_text("")
    feed = make(folder=str(tmp_path / "file" / "below"), retry_s=0.01).start()
    feed.take(b"a frame")
    feed.settle(lambda: feed.values()["lost"] == 1)
    assert feed.values()["failed"] == 1
    feed.end()
    closes(feed)


def test_a_region_that_does_not_fit_leaves_capture_off(make, monkeypatch) -> None:
    """Counted as failed; frames are decoded by the decoder itself."""
    from collectors import wslog_writer
    from shm.errors import NoSpace

    feed = make()

    def refuse(*_: object) -> None:
        raise NoSpace("no room")

    monkeypatch.setattr(wslog_writer.regions, "create", refuse)
    feed.start()
    assert not feed.capture.is_on and feed.values()["failed"] == 1
    assert feed.capture.through(feed.publish) == feed.publish
    feed.take(b"decoded")
    feed.capture.tick()
    closes(feed)
    feed.end()


def test_a_new_hour_begins_a_new_file(make) -> None:
    """Of the collector's own clock, forwards and backwards; numbers go on, every file is whole and sealed."""
    now = [1_700_000_000_000_000_000]
    with clock.replaced(wall=lambda: now[0]):
        feed = make().start()
        for hour in (0, 0, 1, 2, 1, -50_000):
            now[0] = 1_700_000_000_000_000_000 + hour * HOUR_NS
            files = len(feed.files())
            feed.settle(lambda: not any(feed.capture._disk.is_busy))
            feed.capture.tick()
            feed.take(b"hour %d" % hour)
            feed.settle(lambda: not any(feed.capture._disk.is_busy))
            assert len(feed.files()) >= files
        feed.end()
    files = sorted(feed.files(), key=lambda p: p.name.split(".")[3])
    assert len(files) == 5
    numbers = [e.entry_no for e in entries_of(files)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(parse(path)[-1].entry == Entry.END for path in files)
    assert [e.data for e in entries_of(files, Entry.FRAME)] == [
        b"hour %d" % hour for hour in (0, 0, 1, 2, 1, -50_000)
    ]


def test_a_decoder_that_fails_leaves_its_frame_abandoned(make) -> None:
    """Staged or large, with the GAP that tells it; the next frame is kept as ever."""
    feed = make(buffer_bytes=65_536).start()

    def fail(frame: bytes, ts: int) -> int:
        raise RuntimeError("decoder")

    broken = feed.capture.through(fail)
    for text in (b"small", b"x" * 40_000):
        feed.counters.add("frames_in")
        with pytest.raises(RuntimeError):
            broken(text, 5)
        feed.publish(b"1", 5)  # the GAP
        feed.take(b"fine")
        feed.settle(lambda: not any(feed.capture._disk.is_busy))
    feed.end()
    found = list(entries_of(feed.files(), Entry.FRAME))
    assert [(e.data[:5], e.status) for e in found] == [
        (b"small", STATUS_ABANDONED),
        (b"fine", 0),
        (b"xxxxx", STATUS_ABANDONED),
        (b"fine", 0),
    ]
    assert found[0].records == 1
    closes(feed)


# ---- after a kill ----


def test_a_killed_process_loses_nothing_that_was_staged(make) -> None:
    """Its successor writes it to the last file, once, and seals it; the account goes on."""
    first = make().start()
    texts = frames(40)
    for i, text in enumerate(texts):
        first.take(text)
        if i == 20:
            first.settle(lambda: first.capture._disk.written_bytes > 0)
    first.die()
    second = make().start()
    assert kept(second) == texts
    assert parse(second.files()[0])[-1].entry == Entry.END
    second.take(b"next")
    second.end()
    assert [e.epoch for e in entries_of(second.files(), Entry.FRAME)] == [1] * 40 + [2]
    assert (second.values()["frames"], second.values()["lost"]) == (41, 0)
    closes(second)


def test_a_salvage_that_is_done_twice_writes_once(make, instance) -> None:
    """Killed after the write and before the region was removed: the second finds everything in the file."""
    feed = make().start()
    for text in frames(30):
        feed.take(text)
    feed.die()
    file = Path(SHM_DIRECTORY) / stage_file(instance.name, "feed")
    saved = file.read_bytes()
    assert salvage(instance.name, "feed").entries_written == 30
    once = feed.files()[0].read_bytes()
    file.write_bytes(saved)
    file.chmod(0o600)
    assert salvage(instance.name, "feed").entries_written == 0
    assert feed.files()[0].read_bytes() == once
    assert salvage(instance.name, "feed") is None


@pytest.mark.parametrize("cut", [0, 1, 63, 64, 65, 200])
def test_a_torn_end_of_the_file_is_written_anew(make, cut: int) -> None:
    """A write that a power cut or the kill left in its middle: the staged entries replace it."""
    feed = make().start()
    for text in frames(10):
        feed.take(text)
    feed.settle(lambda: feed.capture._disk.written_bytes > 0)
    for text in frames(10, seed=2):
        feed.take(text)
    half = int(feed.capture._stage.head.half)
    used = int(feed.capture._stage.head.used[half])
    staged = bytes(feed.capture._halves[half * feed.capture._half_bytes :][:used])
    feed.capture._disk.finish(10)
    with feed.files()[0].open("ab") as file:
        file.write(staged[:cut])
    feed.die()
    second = make().start()
    assert kept(second) == frames(10) + frames(10, seed=2)
    second.end()
    closes(second)


STEPS = ["before S1", "S1", "S2", "S3", "decoded", "S4 half", "S4", "S5"]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_each_step_of_a_frame(make, step: str, large: bool) -> None:
    """From S3 on the frame in hand is kept; before it is lost and counted. What came before is whole in any case."""
    feed = make(buffer_bytes=65_536).start()
    for text in frames(5):
        feed.take(text)
    feed.settle(lambda: feed.capture._disk.written_bytes > 0)
    text = b"in hand" * (10_000 if large else 1)
    feed.counters.add("frames_in")
    stage, head = feed.capture._stage, feed.capture._stage.head
    used, half = int(head.used[0]), int(head.half)
    used = int(head.used[half])
    reached = STEPS.index(step)
    if reached:
        lib.tr_stage_frame(stage, text, len(text), 5)
    if reached and reached < 3 and not large:
        head.used[half] = used
        head.open_at = 0 if step == "S1" else head.open_at
    if reached >= 4:
        feed.publish(b"333", 5)
    if step == "S4 half" and not large:
        at = ffi.cast("char *", head) + head.open_at - 1
        ffi.cast("uint32_t *", at)[12] = 3  # records are stored, the CRC is not
    elif reached >= 6:
        opened = head.open_at
        lib.tr_stage_end(stage, 0)
        head.open_at = opened if step == "S4" else 0
    feed.die()
    second = make().start()
    found = list(entries_of(second.files(), Entry.FRAME))
    is_kept = reached >= 3 and not large
    assert [e.data for e in found] == frames(5) + [text] * is_kept
    if is_kept:
        ended = step == "S5"
        assert found[-1].status == (0 if ended else STATUS_IN_HAND)
        assert found[-1].records == (3 if ended else IN_HAND)
    assert second.values()["lost"] == (0 if is_kept else 1)
    closes(second)
    second.end()
