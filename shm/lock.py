"""Ownership is a lock on a 0600 file of its own: death releases it, and no reader can take it.

**Why it is right** A process with a read-only descriptor of `.data` may flock it, so `.data` is never locked. The name is
checked again after the lock is won: a cleaner may have removed the file in between, and a lock on an unnamed file owns nothing.
"""

import fcntl
import os
import stat
from types import TracebackType
from typing import Self

from shm.errors import OwnershipError, WrongPermissions
from shm.region import PRIVATE_MODE, SHM_DIRECTORY, inode_of


class OwnerLock:
    """The held lock; released by `release` or by the death of the process."""

    def __init__(self, file: str) -> None:
        """Take the lock of shared-memory file `file`.

        Raises:
            OwnershipError: another live process holds it.
            WrongPermissions: the file is not one of ours.
        """
        self.file = file
        while True:
            fd = _open_own(file)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                raise OwnershipError(
                    f"{file} is held by a running process: one producer owns a ring; "
                    "see `tickring status`, stop that worker first"
                ) from None
            if os.fstat(fd).st_ino == inode_of(file):
                os.fchmod(fd, PRIVATE_MODE)
                self._fd = fd
                return
            os.close(fd)

    def release(self) -> None:
        """Give the lock up; the file stays for the supervisor to remove."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _open_own(file: str) -> int:
    """Open the lock's file, making it if need be; a link or another user's file in its place is refused."""
    try:
        fd = os.open(
            f"{SHM_DIRECTORY}/{file}",
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
            PRIVATE_MODE,
        )
    except OSError as error:
        raise WrongPermissions(
            f"{file} cannot be opened: {error.strerror}; another user runs this instance, or left it: "
            "run as that user, or remove the file"
        ) from error
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
        os.close(fd)
        raise WrongPermissions(
            f"{file} belongs to uid {facts.st_uid} (mode {facts.st_mode:o}), we are uid {os.geteuid()}: "
            "not made by this user; remove it"
        )
    return fd
