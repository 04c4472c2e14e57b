"""A region is a named, fully allocated piece of shared memory that is mapped once and never resized.

**Why it is right** posix_fallocate takes every page at creation, so a full /dev/shm is an error then and never a SIGBUS
later; the mode is set by fchmod whatever the umask; an existing file is opened, never truncated: a shrunk file would
fault every reader. In a directory where anybody may make files, a symlink, a file of another owner, and one whose mode
lets others in are refused: what we write into must be our own, or shared with us by group on purpose.

**Failure** A creator that dies half-way leaves a file without magic; only the holder of the ring's `.lock` re-makes it.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import re
import stat
from typing import NamedTuple

import posix_ipc

from shm._native import ffi, lib
from shm.errors import (
    ConfigurationError,
    NoMagic,
    NoRing,
    NoSpace,
    TooShort,
    WrongPermissions,
)

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

    def keep_in_memory(self) -> bool:
        """Lock the pages where the limit allows (`ulimit -l`); tells whether it did."""
        return int(lib.tr_lock_memory(self.pointer, self.n_bytes)) == 0

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
        memory = posix_ipc.SharedMemory(f"/{file}", posix_ipc.O_CREX, mode=PRIVATE_MODE, size=0)
    except posix_ipc.ExistentialError as error:
        raise FileExistsError(file) from error
    except OSError as error:
        raise _no_space(file, n_bytes, error) from error
    try:
        if group >= 0:
            _give_to_group(memory.fd, file, group)
        os.fchmod(memory.fd, mode)
        try:
            os.posix_fallocate(memory.fd, 0, n_bytes)
        except OSError as error:
            raise _no_space(file, n_bytes, error) from error
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
        NoMagic: it is empty. TooShort: fewer than `least_bytes` bytes.
    """
    path = f"{SHM_DIRECTORY}/{file}"
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        raise NoRing(
            f"no region {file} in {SHM_DIRECTORY}; is the instance up? (tickring status)"
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise WrongPermissions(
                f"region {file} is a symbolic link: not made by tickring; remove it"
            ) from error
        raise WrongPermissions(
            f"region {file} cannot be opened {'read-write' if writable else 'read-only'}: {error.strerror}; "
            "a reader needs to be in the reader group of the configuration"
        ) from error
    try:
        facts = os.fstat(fd)
        _check_file(file, facts, writable)
        if 0 < facts.st_size < least_bytes:
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
    fd = os.memfd_create(label, os.MFD_ALLOW_SEALING)
    os.posix_fallocate(fd, 0, n_bytes)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return _map(fd, label, n_bytes, writable=True), fd


def unlink(file: str) -> bool:
    """Remove the name; True for the one caller that did it."""
    try:
        posix_ipc.unlink_shared_memory(f"/{file}")
    except posix_ipc.ExistentialError:
        return False
    return True


def rename(file: str, new: str) -> None:
    """Give a region another name at once, over whatever bore it."""
    os.rename(f"{SHM_DIRECTORY}/{file}", f"{SHM_DIRECTORY}/{new}")


def inode_of(file: str) -> int:
    """Return the inode that the name stands for now, 0 when there is none: readers see a successor by it."""
    try:
        return os.stat(f"{SHM_DIRECTORY}/{file}", follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def _check_file(file: str, facts: os.stat_result, writable: bool) -> None:
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISREG(facts.st_mode):
        raise WrongPermissions(
            f"region {file} is no regular file (mode {facts.st_mode:o}); remove it"
        )
    if mode & stat.S_IRWXO:
        raise WrongPermissions(
            f"region {file} is open to everybody (mode {mode:o}): not made by tickring; remove it"
        )
    if writable and facts.st_uid != os.geteuid():
        shared = mode == GROUP_MODE and facts.st_gid in (os.getegid(), *os.getgroups())
        if not shared or os.geteuid() == 0:  # root, a member of every group, was not meant by it
            raise WrongPermissions(
                f"region {file} belongs to uid {facts.st_uid} (mode {mode:o}), we are uid {os.geteuid()}: "
                "run as its owner, or remove it"
            )


def _give_to_group(fd: int, file: str, group: int) -> None:
    try:
        os.fchown(fd, -1, group)
    except OSError as error:
        raise ConfigurationError(
            f"region {file} cannot be given to group {group}: {error.strerror}; "
            "the user that runs tickring has to be a member of it"
        ) from error


def _no_space(file: str, n_bytes: int, error: OSError) -> NoSpace:
    free = os.statvfs(SHM_DIRECTORY)
    return NoSpace(
        f"{file}: {n_bytes:,} bytes do not fit into {SHM_DIRECTORY} "
        f"({free.f_bavail * free.f_frsize:,} bytes free): {error.strerror or error}; "
        "enlarge it (mount -o remount,size=...), or lower `slots` in the configuration"
    )


def _map(fd: int, file: str, n_bytes: int, writable: bool) -> Region:
    if n_bytes <= 0:
        raise NoMagic(
            f"region {file} is empty: its producer is starting, or died while it was; restart it"
        )
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    mapping = mmap.mmap(fd, n_bytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=protection)
    return Region(file, mapping, writable, os.fstat(fd).st_ino)
