"""A region is a named, fully allocated piece of shared memory that is mapped once and never resized.

**Why it is right** posix_fallocate takes every page at creation, so a full /dev/shm is an error then and never a SIGBUS
later; the mode is set by fchmod whatever the umask; an existing file is opened, never truncated: a shrunk file would
fault every reader. Symlinks and files of other owners are refused on Linux's sticky /dev/shm by an explicit check.

**Failure** A creator that dies half-way leaves a file without magic; only the holder of the ring's `.lock` re-makes it.
"""

import contextlib
import mmap
import os
import re
import stat
from typing import NamedTuple

import posix_ipc

from shm._native import ffi
from shm.errors import ConfigurationError, NoRing, NoSpace, TooShort, WrongPermissions

SHM_DIRECTORY = "/dev/shm"
DATA_MODE = 0o640
PRIVATE_MODE = 0o600
GROUP_MODE = 0o660
PREFIX = "tickring"
_PART = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")


class RegionName(NamedTuple):
    """`tickring.<instance>.<worker>.<ring>`; its files add `.data`, `.ctl`, `.latest` or `.lock`."""

    instance: str
    worker: str
    ring: str

    def file(self, suffix: str) -> str:
        """Return the shared-memory object's name for one of the ring's files."""
        return f"{PREFIX}.{self.instance}.{self.worker}.{self.ring}.{suffix}"

    def __str__(self) -> str:
        return f"{self.worker}.{self.ring}"


def check_part(what: str, part: str) -> str:
    """Return `part` if it may stand in a region's name: a lower-case letter, then letters, digits, `_`; 31 at most."""
    if not _PART.match(part):
        raise ConfigurationError(
            f"{what} {part!r} cannot name a region: a lower-case letter, then lower-case letters, digits or '_', "
            "31 characters at most"
        )
    return part


def ring_name(instance: str, worker: str, ring: str) -> RegionName:
    """Return the checked name of a ring."""
    return RegionName(
        check_part("instance", instance), check_part("worker", worker), check_part("ring", ring)
    )


class Region:
    """One mapping. `address` is where it begins in this process; `writable` says how it is mapped."""

    def __init__(self, file: str, mapping: mmap.mmap, writable: bool, inode: int) -> None:
        self.file = file
        self.writable = writable
        self.inode = inode
        self.n_bytes = len(mapping)
        self._mapping = mapping
        self.pointer = ffi.from_buffer(mapping, require_writable=writable)
        self.address = int(ffi.cast("intptr_t", self.pointer))

    def close(self) -> None:
        """Unmap. Every pointer and array into the region is invalid afterwards."""
        ffi.release(self.pointer)
        with contextlib.suppress(BufferError):
            self._mapping.close()


def create(file: str, n_bytes: int, mode: int = PRIVATE_MODE, group: int = -1) -> Region:
    """Make and map a region that must not exist yet, every page taken.

    Args:
        file: the shared-memory object's name, without a slash.
        n_bytes: length.
        mode: permission bits, set whatever the umask is.
        group: group id that owns the file; -1: leave it.

    Raises:
        FileExistsError: the name is taken.
        NoSpace: the file system cannot hold it; nothing is left behind.
    """
    try:
        memory = posix_ipc.SharedMemory(f"/{file}", posix_ipc.O_CREX, mode=mode, size=0)
    except posix_ipc.ExistentialError as error:
        raise FileExistsError(file) from error
    try:
        os.fchmod(memory.fd, mode)
        if group >= 0:
            os.fchown(memory.fd, -1, group)
        try:
            os.posix_fallocate(memory.fd, 0, n_bytes)
        except OSError as error:
            free = os.statvfs(SHM_DIRECTORY)
            raise NoSpace(
                f"{file}: {n_bytes:,} bytes do not fit into {SHM_DIRECTORY} "
                f"({free.f_bavail * free.f_frsize:,} bytes free): {error.strerror}; "
                "enlarge it (mount -o remount,size=...), or lower `slots` in the configuration"
            ) from error
        return _map(memory.fd, file, n_bytes, writable=True)
    except BaseException:
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_shared_memory(f"/{file}")
        raise
    finally:
        memory.close_fd()


def attach(file: str, writable: bool = False, least_bytes: int = 1) -> Region:
    """Map an existing region; read-only unless `writable`.

    Raises:
        NoRing: nothing under that name.
        WrongPermissions: we may not open it, or its file is not one that tickring makes.
        TooShort: fewer than `least_bytes` bytes.
    """
    path = f"{SHM_DIRECTORY}/{file}"
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        raise NoRing(
            f"no region {file} in {SHM_DIRECTORY}; is the instance up? (tickring status)"
        ) from None
    except OSError as error:
        raise WrongPermissions(
            f"region {file} cannot be opened {'read-write' if writable else 'read-only'}: {error.strerror}; "
            "a reader needs to be in the reader group of the configuration"
        ) from error
    try:
        facts = os.fstat(fd)
        _check_file(file, facts)
        if facts.st_size < least_bytes:
            raise TooShort(
                f"region {file}: {facts.st_size} bytes, at least {least_bytes} expected; remove it"
            )
        return _map(fd, file, facts.st_size, writable)
    finally:
        os.close(fd)


def attach_fd(fd: int, label: str, writable: bool = False) -> Region:
    """Map a memfd that was handed to us (replay rings: no name, nothing left behind)."""
    return _map(fd, label, os.fstat(fd).st_size, writable)


def create_memfd(label: str, n_bytes: int) -> tuple[Region, int]:
    """Make an anonymous region; returns it and the inheritable descriptor that others map."""
    fd = os.memfd_create(label, 0)
    os.posix_fallocate(fd, 0, n_bytes)
    return _map(fd, label, n_bytes, writable=True), fd


def unlink(file: str) -> bool:
    """Remove the name; True for the one caller that did it."""
    try:
        posix_ipc.unlink_shared_memory(f"/{file}")
    except posix_ipc.ExistentialError:
        return False
    return True


def inode_of(file: str) -> int:
    """Return the inode that the name stands for now, 0 when there is none: readers see a successor by it."""
    try:
        return os.stat(f"{SHM_DIRECTORY}/{file}", follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def _check_file(file: str, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise WrongPermissions(
            f"region {file} is no regular file (mode {facts.st_mode:o}); remove it"
        )
    if facts.st_mode & stat.S_IWOTH:
        raise WrongPermissions(
            f"region {file} is writable by everybody (mode {stat.S_IMODE(facts.st_mode):o}): not made by tickring; remove it"
        )


def _map(fd: int, file: str, n_bytes: int, writable: bool) -> Region:
    if n_bytes <= 0:
        raise TooShort(f"region {file}: {n_bytes} bytes; its creator died at once, remove it")
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    mapping = mmap.mmap(fd, n_bytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=protection)
    return Region(file, mapping, writable, os.fstat(fd).st_ino)
