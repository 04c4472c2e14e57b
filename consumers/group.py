"""A member of a Redis consumer group: entries of dead members are taken over, each effect happens once, poison is set
aside.

    group = Group(client, "trades:kraken:BTC/USD", "billing", member="billing-1")
    group.create()
    group.run(lambda entry: [("HINCRBYFLOAT", "volume", "BTC/USD", entry.fields["volume"])])

**Protocol** (1) XAUTOCLAIM at least every half `min_idle_s`: what another member (or this one in an earlier life)
has left unacknowledged for `min_idle_s` is taken over, so within 2 x min_idle_s of a death. (2) An entry that was
delivered more than `deliveries` times goes to `dead:<group>:<stream>`. (3) XREADGROUP for new ones. (4) The handler
returns the Redis commands that are the effect; they and the XACK are one script, which does nothing unless the entry
is still pending for this member.

**Why it is right** Delivery is at least once. Of several members that hold the same entry only its present owner
passes the script's check, and the acknowledgement in the same script ends the ownership: an effect in Redis happens
once, whatever is killed between any two commands or answered twice. An effect elsewhere is once when `entry.id` is
stored in the same transaction as the effect, and refused where it is stored already ("last id done"): `run`
acknowledges after the handler returns.

**Failure** A handler that raises: the entry stays pending and comes again after `min_idle_s`, `deliveries` times in
all. Entries that were trimmed while pending: counted in `trimmed`; Redis 6.2 hands them over as nil and leaves them
pending, Redis 7.0 removes them and names them. Commands of one effect that fail on their arguments leave those
before them done: return one command, or commands that cannot fail. In a Cluster, effects must be in the stream's
slot.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import redis
import structlog

from shm.clock import monotonic_ns

Command = Sequence[str | bytes | int | float]

_SCRIPT = """
local mine = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if #mine == 0 or mine[1][2] ~= ARGV[2] then return 0 end
local at = 4
while at <= #ARGV do
    local words = {}
    for i = 1, tonumber(ARGV[at]) do words[i] = ARGV[at + i] end
    redis.call(unpack(words))
    at = at + 1 + #words
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
_PAUSE_S = 0.2

log = structlog.get_logger()


class Entry(NamedTuple):
    """One entry of a stream; `deliveries` says how often it has been handed out, this time included."""

    id: str
    fields: dict[str, str]
    deliveries: int


class Counts(NamedTuple):
    """What a member has seen since it was made."""

    done: int = 0
    taken_over: int = 0
    dead: int = 0
    """Entries that went to the dead-letter stream."""
    trimmed: int = 0
    """Entries that were removed from the stream before anybody had acknowledged them."""
    failed: int = 0
    """Calls of the handler that raised."""
    lost_races: int = 0
    """Entries that another member had taken over before this one was done: no effect here."""


class Group:
    """One member of a group on one stream.

    Args:
        client: redis-py's, replies as bytes or text.
        stream: the stream's key.
        group: the group's name.
        member: this member's name, one living process a name.
        min_idle_s: how long an entry may be pending before another member takes it over; longer than the
            handler takes for a whole batch.
        deliveries: how often an entry is tried.
        batch: most entries of one read.
    """

    def __init__(
        self,
        client: Any,
        stream: str,
        group: str,
        member: str,
        min_idle_s: float = 30.0,
        deliveries: int = 5,
        batch: int = 64,
    ) -> None:
        if min_idle_s <= 0 or deliveries < 1 or batch < 1:
            raise ValueError(
                f"min_idle_s {min_idle_s}, deliveries {deliveries}, batch {batch}: above 0, from 1 on, from 1 on"
            )
        self.stream, self.group, self.member = stream, group, member
        self.dead_stream = f"dead:{group}:{stream}"
        self.counts = Counts()
        self._client = client
        self._min_idle_ms = max(1, int(min_idle_s * 1000))
        self._deliveries, self._batch = deliveries, batch
        self._script = client.register_script(_SCRIPT)
        self._claimed_ns = 0
        self._claim_from = "0-0"

    def create(self, start: str = "0") -> None:
        """Make the group if it is not there; `start` is the id behind which it begins ("$": only new entries)."""
        try:
            self._client.xgroup_create(self.stream, self.group, start, mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def run(
        self,
        handle: Callable[[Entry], Sequence[Command] | None],
        keep_on: Callable[[], bool] = lambda: True,
        block_s: float = 1.0,
    ) -> None:
        """Hand entries to `handle` and settle them until `keep_on` says no; a lost connection is waited out."""
        while keep_on():
            try:
                for entry in self.read(block_s):
                    self._work(entry, handle)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                log.warning("Redis cannot be reached now", group=self.group, error=str(error))
                time.sleep(_PAUSE_S)

    def read(self, block_s: float = 1.0) -> list[Entry]:
        """Return the next entries: taken over ones when it is time, else new ones; waits up to `block_s` for these."""
        if monotonic_ns() - self._claimed_ns >= self._min_idle_ms * 500_000:
            taken = self.take_over()
            if self._claim_from == "0-0":
                self._claimed_ns = monotonic_ns()
            if taken:
                return taken
        block_ms = max(1, min(int(block_s * 1000), self._min_idle_ms // 2))
        reply = self._client.xreadgroup(
            self.group, self.member, {self.stream: ">"}, count=self._batch, block=block_ms
        )
        found = reply.values() if isinstance(reply, dict) else [rows for _, rows in reply or []]
        rows = [row for each in found for row in _flat(each)]
        return [Entry(_text(entry_id), _fields(fields), 1) for entry_id, fields in rows]

    def take_over(self) -> list[Entry]:
        """Claim what others have left, set poison and trimmed entries aside, return the rest."""
        reply = self._client.xautoclaim(
            self.stream, self.group, self.member, self._min_idle_ms, self._claim_from, self._batch
        )
        self._claim_from = _text(reply[0])
        rows = [(_text(i), _fields(f)) for i, f in reply[1] if i is not None and f is not None]
        trimmed = len(reply[2]) if len(reply) > 2 else 0  # Redis 7.0: removed and named
        if len(rows) < len(reply[1]):  # Redis 6.2: nil, and still pending
            trimmed += self._acknowledge_trimmed()
        self._count(trimmed=trimmed, taken_over=len(rows))
        entries = []
        for entry_id, fields in rows:
            pending = self._client.xpending_range(self.stream, self.group, entry_id, entry_id, 1)
            n = int(pending[0]["times_delivered"]) if pending else 1
            if n > self._deliveries:
                self._bury(Entry(entry_id, fields, n - 1))
            else:
                entries.append(Entry(entry_id, fields, n))
        return entries

    def done(self, entry: Entry, effect: Sequence[Command] = ()) -> bool:
        """Carry out `effect` and acknowledge, at once or not at all; False: the entry is no longer this member's."""
        words: list[Any] = [self.group, self.member, entry.id]
        for command in effect:
            words += [len(command), *command]
        settled = bool(self._script(keys=[self.stream], args=words))
        self._count(done=settled, lost_races=not settled)
        return settled

    def _work(self, entry: Entry, handle: Callable[[Entry], Sequence[Command] | None]) -> None:
        try:
            effect = handle(entry)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the entry comes again
            self._count(failed=1)
            log.warning(
                "a handler failed", id=entry.id, deliveries=entry.deliveries, error=repr(error)
            )
            return
        self.done(entry, effect or ())

    def _bury(self, entry: Entry) -> None:
        fields = [word for pair in entry.fields.items() for word in pair]
        told = ("source_id", entry.id, "deliveries", entry.deliveries)
        words = ("XADD", self.dead_stream, "*", *fields, *told)
        mine = [self.group, self.member, entry.id, len(words), *words]
        self._count(dead=bool(self._script(keys=[self.stream], args=mine)))

    def _acknowledge_trimmed(self) -> int:
        """Find the entries that are pending for this member and no longer in the stream; returns how many they were."""
        gone, after = 0, "-"
        while page := self._client.xpending_range(
            self.stream, self.group, after, "+", self._batch, self.member
        ):
            ids = [_text(row["message_id"]) for row in page]
            missing = [i for i in ids if not self._client.xrange(self.stream, i, i)]
            if missing:
                gone += int(self._client.xack(self.stream, self.group, *missing))
            after = f"({ids[-1]}"
        return gone

    def _count(self, **more: int) -> None:
        now = self.counts._asdict()
        self.counts = Counts(**{name: n + int(more.get(name, 0)) for name, n in now.items()})


def _text(word: str | bytes) -> str:
    return word.decode() if isinstance(word, bytes) else word


def _fields(fields: dict[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in fields.items()}


def _flat(rows: Any) -> list[tuple[Any, Any]]:
    """Return (id, fields) pairs of a reply whose RESP3 form has one list more around them."""
    return rows[0] if rows and isinstance(rows[0], list) and not _is_row(rows[0]) else rows


def _is_row(row: Any) -> bool:
    return len(row) == 2 and isinstance(row[0], str | bytes)
