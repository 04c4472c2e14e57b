"""How far a ring has been delivered is kept in Redis itself, written in the same transaction as the entries it speaks
of.

**Layout** hash `tickring:progress:<instance>:<ring>`:
    uuid      the ring's own identity: a new run has a new ring, whose seqs begin again
    epoch     epoch of the last record covered
    seq       last seq covered; what follows it has not been delivered
    entries   entries of records added so far for this ring
    gaps      gap entries added so far
    lost      records that were overwritten before they were sent, all told in gap entries
    versions  JSON {instrument id: version in force after seq}

**Why it is right** MULTI/EXEC is one unit in memory and in the server's log, so that after any crash of either side
streams and progress agree. After a reconnect the sender goes back to seq + 1, whatever it believed before.
"""

from typing import Any, NamedTuple, Self

import msgspec

from consumers.redis_link import Command

_FIELDS = ("uuid", "epoch", "seq", "entries", "gaps", "lost", "versions")


class Progress(NamedTuple):
    """One ring's progress; see the module for the fields."""

    uuid: str = ""
    epoch: int = 0
    seq: int = 0
    entries: int = 0
    gaps: int = 0
    lost: int = 0
    versions: dict[int, int] = {}  # noqa: RUF012 - never changed, only replaced

    @classmethod
    def fresh(cls, uuid: str, first_seq: int) -> Self:
        """Return the progress of a ring of which nothing has been delivered."""
        return cls(uuid=uuid, seq=first_seq - 1)

    @classmethod
    def parse(cls, reply: Any) -> Self | None:
        """Read the reply of `read`; None where there is no progress, or none that can be understood."""
        try:
            uuid, versions = reply[0].decode(), reply[-1]
            epoch, seq, entries, gaps, lost = (int(word) for word in reply[1:-1])
            kept = msgspec.json.decode(versions, type=dict[int, int])
            return cls(uuid, epoch, seq, entries, gaps, lost, kept)
        except (AttributeError, TypeError, ValueError, msgspec.DecodeError):
            return None


def progress_key(instance: str, ring: str) -> str:
    """Return the key of a ring's progress."""
    return f"tickring:progress:{instance}:{ring}"


def read(key: str) -> Command:
    """Return the command whose reply `Progress.parse` understands."""
    return ("HMGET", key, *_FIELDS)


def write(key: str, progress: Progress) -> Command:
    """Return the command that stores a progress."""
    numbers = zip(_FIELDS[1:-1], progress[1:-1], strict=True)
    pairs = [word for pair in numbers for word in pair]
    versions = msgspec.json.encode(progress.versions)
    return ("HSET", key, "uuid", progress.uuid, *pairs, "versions", versions)
