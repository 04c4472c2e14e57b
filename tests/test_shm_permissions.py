"""Permissions do the work: who may not write cannot, and files that we did not make are not believed."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ring_kit import RingMaker, filled, outcome, ring_maker

from layouts import EVENT
from shm import region as regions
from shm.errors import NoSpace, OwnershipError, WrongPermissions
from shm.lock import OwnerLock
from shm.producer import open_latest
from shm.reader import open_reader

NOBODY = 65534
READER_GROUP = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root only: it makes files of other users")


@pytest.fixture
def ring(instance) -> Iterator[RingMaker]:
    """Open rings that end with the test."""
    yield from ring_maker(instance)


def modes(ring: RingMaker, ring_of_files: str = "events") -> dict[str, str]:
    name = ring.name(ring_of_files)
    files = ("data", "ctl", "latest", "lock")
    return {s: f"{os.stat(f'/dev/shm/{name.file(s)}').st_mode & 0o7777:o}" for s in files}


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_files_are_born_right_whatever_the_umask(ring, umask: int) -> None:
    """.data and .latest 0640, .ctl 0600, .lock 0600; nothing is open to everybody at any time."""
    before = os.umask(umask)
    try:
        producer = ring(16)
        ring.keep(open_latest(producer.name, EVENT, 4, producer.epoch))
    finally:
        os.umask(before)
    assert modes(ring) == {"data": "640", "ctl": "600", "latest": "640", "lock": "600"}


@as_root
def test_groups_are_given_their_files(ring) -> None:
    """A reader group may read .data, a consumer group may write .ctl (0660)."""
    producer = ring(16, reader_group=READER_GROUP, consumer_group=READER_GROUP + 1)
    assert modes_and_groups(producer) == {
        "data": ("640", READER_GROUP),
        "ctl": ("660", READER_GROUP + 1),
    }


def modes_and_groups(producer) -> dict[str, tuple[str, int]]:
    found = {}
    for suffix in ("data", "ctl"):
        facts = os.stat(f"/dev/shm/{producer.name.file(suffix)}")
        found[suffix] = (f"{facts.st_mode & 0o7777:o}", facts.st_gid)
    return found


OTHER = """
import ctypes, errno, fcntl, json, mmap, os, sys
import shm
from shm.consumer import join
data, control, lock, uid, gid, instance = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
os.setgroups([gid] if gid else []); os.setgid(65534); os.setuid(uid)
said = {}
def attempt(what, call):
    try:
        call(); said[what] = "OK"
    except OSError as e:
        said[what] = errno.errorcode[e.errno]
    except Exception as e:
        said[what] = type(e).__name__
attempt("open data rw", lambda: os.open(data, os.O_RDWR))
attempt("open control", lambda: os.open(control, os.O_RDONLY))
attempt("open lock", lambda: os.open(lock, os.O_RDWR))
attempt("truncate", lambda: os.truncate(data, 0))
attempt("unlink", lambda: os.unlink(data))
attempt("rename", lambda: os.rename(data, data + ".x"))
attempt("chmod", lambda: os.chmod(data, 0o666))
attempt("open data ro", lambda: os.open(data, os.O_RDONLY))
if said["open data ro"] == "OK":
    fd = os.open(data, os.O_RDONLY)
    attempt("map rw", lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
    attempt("reopen by proc", lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
    attempt("ftruncate", lambda: os.ftruncate(fd, 0))
    attempt("fallocate", lambda: os.posix_fallocate(fd, 0, 1 << 20))
    libc = ctypes.CDLL(None, use_errno=True)
    m = mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    address = libc.mmap(None, 4096, 1, 1, fd, 0)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    def protect():
        if libc.mprotect(address, 4096, 3):
            raise OSError(ctypes.get_errno(), "mprotect")
    attempt("mprotect", protect)
    attempt("lock data", lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
    child = os.fork()
    if child == 0:
        ctypes.memset(address, 0xff, 1)
        os._exit(0)
    said["store"] = -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    reader = shm.attach("worker.events", instance)
    records, info = reader.last(100)
    said["read"] = [len(records), info.last_seq]
    reader.seek_oldest()
    records, info = next(reader.follow(on_lapped="oldest"))
    said["notebook"] = [len(records), [row.name for row in shm.rings(instance)], "lag 0 lost 0" in repr(reader)]
    attempt("join", lambda: join(reader.name, "x", reader.dtype))
print(json.dumps(said), flush=True)
if len(sys.argv) > 7:
    sys.stdin.readline()
"""


def said_by_other(ring: RingMaker, gid: int, hold: bool = False):
    """Run OTHER as user nobody, member of group `gid` or of none."""
    name = ring.name()
    paths = [f"/dev/shm/{name.file(s)}" for s in ("data", "ctl", "lock")]
    command = [sys.executable, "-c", OTHER, *paths, str(NOBODY), str(gid), ring.instance]
    child = subprocess.Popen(
        command + ["hold"] * hold, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    said = json.loads(child.stdout.readline())
    return said, child


def finish(child: subprocess.Popen) -> None:
    child.communicate("\n", timeout=30)


@as_root
def test_a_stranger_can_do_nothing(ring) -> None:
    """Another user outside the reader group: every door is shut."""
    producer = ring(16, reader_group=READER_GROUP)
    producer.publish_batch(filled(1, 10))
    said, child = said_by_other(ring, 0)
    finish(child)
    doors = ("open data rw", "open data ro", "open control", "open lock", "truncate", "chmod")
    assert {said[door] for door in doors} <= {"EACCES", "EPERM"}, said
    assert {said["unlink"], said["rename"]} <= {"EACCES", "EPERM"}, said
    assert producer.publish(filled(11, 1)) == 11


@as_root
def test_a_member_of_the_reader_group_reads_and_cannot_disturb(ring) -> None:
    """It attaches and reads; each way to write fails; what it locks keeps nobody out."""
    producer = ring(16, reader_group=READER_GROUP)
    producer.publish_batch(filled(1, 10))
    before = Path("/dev/shm", producer.name.file("data")).read_bytes()
    said, child = said_by_other(ring, READER_GROUP, hold=True)
    try:
        denied = {
            what: answer
            for what, answer in said.items()
            if what not in ("read", "notebook", "store")
        }
        denied.pop("open data ro")
        assert denied.pop("lock data") == "OK", "the kernel lets a reader lock what it may read"
        assert denied.pop("join") == "WrongPermissions"
        assert set(denied.values()) <= {"EACCES", "EPERM", "EINVAL", "EBADF"}, said
        assert said["store"] == 11, "a store into the mapping ends the one who tries"
        assert said["read"] == [10, 10]
        assert said["notebook"] == [10, ["worker.events"], True]
        assert Path("/dev/shm", producer.name.file("data")).read_bytes() == before
        producer.close()
        successor = ring(16, reader_group=READER_GROUP)  # while that lock is held
        assert successor.publish(filled(11, 1)) == 11
    finally:
        finish(child)


def test_links_and_other_kinds_of_files_are_refused(ring, tmp_path) -> None:
    """A name in a directory where anybody may make files is not believed for its name."""
    target = tmp_path / "target"
    target.write_bytes(bytes(8192))
    name = ring.name()
    for suffix in ("data", "ctl", "lock", "latest"):
        path = Path("/dev/shm", name.file(suffix))
        path.symlink_to(target)
        if suffix in ("data", "latest"):
            kind, text = outcome(lambda s=suffix: open_reader(name, EVENT, s))
            assert (kind, "symbolic link" in text) == ("WrongPermissions", True)
        with pytest.raises(WrongPermissions):
            ring(16) if suffix != "latest" else open_latest(name, EVENT, 4, 1)
        path.unlink()
        for other in ("data", "ctl", "lock"):
            regions.unlink(name.file(other))
    assert target.read_bytes() == bytes(8192)
    path = Path("/dev/shm", name.file("data"))
    os.mkfifo(path)  # must not stop a reader for ever
    assert outcome(lambda: open_reader(name, EVENT)).kind == "WrongPermissions"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert outcome(lambda: open_reader(name, EVENT)).kind == "WrongPermissions"
    path.unlink()
    path.mkdir()
    assert outcome(lambda: open_reader(name, EVENT)).kind == "WrongPermissions"
    path.rmdir()


@pytest.mark.parametrize("mode", [0o642, 0o644, 0o666, 0o604, 0o641])
def test_a_file_open_to_everybody_is_refused(ring, mode: int) -> None:
    """No region of ours is ever readable or writable by others."""
    producer = ring(16)
    producer.close()
    for suffix in ("data", "ctl"):
        path = Path("/dev/shm", producer.name.file(suffix))
        good = path.stat().st_mode & 0o777
        path.chmod(mode)
        with pytest.raises(WrongPermissions, match="open to everybody"):
            ring(16)
        if suffix == "data":
            assert outcome(lambda: open_reader(producer.name, EVENT)).kind == "WrongPermissions"
        path.chmod(good)
    ring(16)


@as_root
@pytest.mark.parametrize("suffix", ["data", "ctl", "lock"])
def test_what_another_user_made_is_not_written_to(ring, suffix: str) -> None:
    """A file prepared by somebody who may still have it mapped is not taken over, least of all by root."""
    producer = ring(16)
    producer.close()
    os.chown(f"/dev/shm/{producer.name.file(suffix)}", NOBODY, NOBODY)
    with pytest.raises(WrongPermissions, match=f"uid {NOBODY}"):
        ring(16)
    os.chmod(f"/dev/shm/{producer.name.file(suffix)}", 0o660)
    with pytest.raises(WrongPermissions):
        ring(16)


def test_a_lock_belongs_to_a_file_that_has_its_name(ring) -> None:
    """Won on a file that was removed meanwhile, it is taken again on the one that is there."""
    name = ring.name().file("lock")
    first = OwnerLock(name)
    with pytest.raises(OwnershipError):
        OwnerLock(name)
    regions.unlink(name)
    second = OwnerLock(name)
    first.release()
    with pytest.raises(OwnershipError):
        OwnerLock(name)
    second.release()
    second.release()
    OwnerLock(name).release()


# ---------------------------------------------------------------- a full /dev/shm

FULL = """
import json, os, subprocess, sys
from pathlib import Path
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=1777", "none", "/dev/shm"], check=True)
from layouts import EVENT
from shm.errors import NoSpace
from shm.producer import open_ring
from shm.region import ring_name
from shm.counters import Counters
answers = []
room = 256 * 1024
for step in range(room // 4096 + 1):
    filler = Path("/dev/shm/filler")
    fd = os.open(filler, os.O_RDWR | os.O_CREAT)
    if step:
        os.posix_fallocate(fd, 0, step * 4096)
    try:
        p = open_ring(ring_name("full", "w", "r"), EVENT, 1024, sys.argv[1])
        for _ in range(3000):
            p.publish_slot()
        p.close()
        answers.append("OK")
    except NoSpace as error:
        assert "do not fit" in str(error) and "slots" in str(error), error
        answers.append("NoSpace")
    left = [path.name for path in Path("/dev/shm").iterdir()]
    if answers[-1] == "NoSpace":
        assert not any(name.endswith((".ctl",)) for name in left), left
    for path in Path("/dev/shm").iterdir():
        path.unlink()
    os.close(fd)
print(json.dumps(answers))
"""


@as_root
def test_a_full_memory_is_an_error_at_every_page_and_never_a_signal(tmp_path, require_tool) -> None:
    """/dev/shm filled up to each 4 KiB: the ring is made whole and used, or refused, with no half of it left."""
    unshare = require_tool("unshare", "util-linux")
    command = [unshare, "-m", sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert len(answers) == 65
    fits = answers.count("OK")
    assert answers == ["OK"] * fits + ["NoSpace"] * (65 - fits)
    assert fits == (256 - (4 + 4 + 64 + 16)) // 4 + 1, "header, description, slots, control"


def test_what_does_not_fit_names_the_sizes(ring) -> None:
    """The error tells what was wanted, what is free, and what to do."""
    with pytest.raises(NoSpace, match=r"bytes do not fit into /dev/shm \([\d,]+ bytes free\)"):
        ring(1 << 34)
    with pytest.raises(Exception, match="power of two"):
        ring(1 << 41)
