"""One connection to Redis that never repeats a command by itself: what is not known to be done is its caller's to
settle.

**Why it is right** redis-py repeats a command whose reply was lost, and so doubles an `XADD *` silently; here
retries are off and a connection that has failed once is thrown away. The server may still hold unread bytes of the
previous connection and carry them out later, behind the back of its successor: `open` therefore kills every older
connection of the same name (CLIENT KILL) before its caller reads how far the last one came.

**Failure** Each error ends in `LinkError`, with a reason that is counted by name and fits into a log: refused,
timeout, lost, loading, noauth, oom, misconf, readonly, other. `Backoff` says when to try again: doubling, jittered,
capped, for ever.

**Cost** A transaction of 500 XADD of 6 fields: about 6 ms in all, of which 1 ms is packing; bench_fanout.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import redis
from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.retry import Retry

from shm.clock import monotonic_ns
from shm.errors import ConfigurationError

Command = tuple[str | bytes | float, ...]

REASONS = (
    "refused",
    "timeout",
    "lost",
    "loading",
    "noauth",
    "oom",
    "misconf",
    "readonly",
    "other",
)
_WAIT_S = 1.0
"""No single wait is longer, so that a heartbeat (due twice a second or so) is not long overdue."""
_PACK: Callable[[Command], bytes] = cast("Any", pack_command)  # its own types say: one word only


class LinkError(Exception):
    """The connection is gone, or the server has refused to work; `reason` is one of REASONS."""

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {text}")


class RedisLink:
    """A connection under a name, one request at a time.

    Args:
        url: `unix://path` or `redis://...`; its password is never told.
        name: one word that marks this worker's connections at the server.
        reply_timeout_s: a reply that takes longer counts as lost.
        beat: called while a reply is awaited, a few times a second.
    """

    def __init__(
        self, url: str, name: str, reply_timeout_s: float, beat: Callable[[], None]
    ) -> None:
        try:
            pool = redis.ConnectionPool.from_url(url)
        except ValueError as error:
            raise ConfigurationError(
                f"the Redis URL is refused ({error}); unix://<path> or redis://host:port/0 expected"
            ) from error
        self._pool = pool
        self._name = name
        self._reply_timeout_s = reply_timeout_s
        self._beat = beat
        self._connection: Any = None

    @property
    def is_open(self) -> bool:
        """True between a successful `open` and the first failure."""
        return self._connection is not None

    def open(self) -> None:
        """Connect, and end every older connection of this name.

        Raises:
            LinkError: it did not work; try again after a while.
        """
        self.close()
        self._connection = self._pool.connection_class(
            **{
                **self._pool.connection_kwargs,
                "retry": Retry(NoBackoff(), 0),
                "retry_on_error": [],
                "health_check_interval": 0,
                "socket_timeout": min(_WAIT_S, self._reply_timeout_s),
                "socket_connect_timeout": min(_WAIT_S, self._reply_timeout_s),
                "protocol": 2,
            }
        )
        try:
            self._connection.connect()
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from error
        own_id = self.call("CLIENT", "ID")
        for line in self.call("CLIENT", "LIST", "TYPE", "normal").decode().splitlines():
            facts = dict(word.partition("=")[::2] for word in line.split(" "))
            if facts.get("name") == self._name and int(facts["id"]) != own_id:
                self.call("CLIENT", "KILL", "ID", facts["id"])
        self.call("CLIENT", "SETNAME", self._name)

    def close(self) -> None:
        """Drop the connection; no reply of it is ever looked at again."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def call(self, *command: str | bytes | float) -> Any:
        """Send one command and return its reply."""
        return self._exchange([command])[0]

    def transact(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one MULTI/EXEC and return their replies; a reply may be an exception of its own.

        Raises:
            LinkError: nothing was done, or it is not known whether it was.
        """
        replies = self._exchange([("MULTI",), *commands, ("EXEC",)])
        if not isinstance(replies[-1], list) or len(replies[-1]) != len(commands):
            raise self._failed(redis.ConnectionError(f"EXEC answered {replies[-1]!r}"))
        return replies[-1]

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        connection = self._connection
        if connection is None:
            raise LinkError("lost", "not connected")
        try:
            packed = b"".join(map(_PACK, commands))
            connection.send_packed_command([packed], check_health=False)
            until_ns = monotonic_ns() + int(self._reply_timeout_s * 1e9)
            return [self._read(connection, until_ns) for _ in commands]
        except (redis.RedisError, OSError) as error:
            raise self._failed(error) from error

    def _read(self, connection: Any, until_ns: int) -> Any:
        """Read one reply, beating while it is awaited."""
        while True:
            try:
                return connection.read_response(disconnect_on_error=False)
            except redis.TimeoutError:
                self._beat()
                if monotonic_ns() > until_ns:
                    raise

    def _failed(self, error: Exception) -> LinkError:
        self.close()
        return LinkError(reason_of(error), str(error))


def reason_of(error: Exception) -> str:
    """Return which of REASONS an error stands for."""
    text = str(error)
    if isinstance(error, redis.BusyLoadingError) or text.startswith("LOADING"):
        return "loading"
    if isinstance(error, redis.AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text:
        return "noauth"
    if isinstance(error, redis.OutOfMemoryError) or "OOM" in text or "maxmemory" in text:
        return "oom"
    if "MISCONF" in text:
        return "misconf"
    if isinstance(error, redis.ReadOnlyError) or "READONLY" in text or "read only" in text:
        return "readonly"
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError) or "connecting" in text:
        return "refused"
    if isinstance(error, redis.ConnectionError | OSError):
        return "lost"
    return "other"


class Backoff:
    """When to try again: after a random part of a span that doubles from `first_s` to `cap_s` and never ends."""

    def __init__(self, first_s: float, cap_s: float) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._span_s = first_s
        self._until_ns = 0

    def failed(self) -> float:
        """Note a failure; returns the pause in seconds."""
        pause_s = self._span_s * random.uniform(0.5, 1.0)
        self._span_s = min(self._cap_s, 2 * self._span_s)
        self._until_ns = monotonic_ns() + int(pause_s * 1e9)
        return pause_s

    def worked(self) -> None:
        """Note a success: the next pause is the first one again."""
        self._span_s = self._first_s
        self._until_ns = 0

    @property
    def due(self) -> bool:
        """True when the pause is over."""
        return monotonic_ns() >= self._until_ns
