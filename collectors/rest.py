"""REST answers arrive beside the frames: as fast as the venue allows, tried again with full jitter, bounded in time and size.

**Protocol** `want` a URL; one request each is under way. Its body goes to `take`, which says whether it could be read. A
request ends in exactly one of OUTCOMES; what may pass (429, 5xx, no connection, a body that cannot be read) is tried
again up to TRIES times, then given up: whoever still needs the answer asks anew, as a decoder's timer does for ever.
(A GET whose connection ends before a byte has come is repeated once by aiohttp itself, within the one request.)

**Invariants** (1) Requests leave at the venue's rate at most; `Retry-After` stops all of them. (2) https:// with
verification, http:// to this host only; no redirect is followed. (3) A body beyond `max_bytes` is dropped unread.

**Failure** A server that hangs costs one task and REQUEST_TIMEOUT_S, never a frame: everything waits in the event loop.
**Cost** aiohttp (8 MB) and stamina are imported by the first request, in a thread. aiohttp rather than httpx: it is kept up by
releases every month, parses in C, and picows brings most of what it needs.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import structlog

from collectors.allowance import Allowance, Rate
from shm import clock

TRIES = 6
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
REQUEST_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
CONNECTIONS = 4
LONGEST_BAN_S = 3600.0
"""A longer Retry-After is taken for a mistake."""
_PIECE_BYTES = 1 << 16
_TOO_MANY = (418, 429)
_AGAIN = frozenset({"rate_limited", "server_error", "unreachable", "unreadable"})

OUTCOMES = (
    "answered",
    "rate_limited",
    "server_error",
    "refused",
    "unreachable",
    "unreadable",
    "too_large",
    "cancelled",
)
COUNTERS = ("rest.requests", *(f"rest.{outcome}" for outcome in OUTCOMES), "rest.given_up")

Take = Callable[[str, bytes, int], bool]
"""(url, body, ts_recv) -> whether the body could be read."""

log = structlog.get_logger()


class RestFailed(Exception):
    """A request that brought nothing: which of OUTCOMES, and for how long the venue wants to be left alone."""

    def __init__(self, outcome: str, said: str, ban_s: float = 0.0) -> None:
        super().__init__(f"{outcome}: {said}")
        self.outcome = outcome
        self.ban_s = ban_s


class RestClient:
    """Requests of one collector to its venue.

    Args:
        take: gets each body.
        count: (name of COUNTERS, amount).
        rate: how many requests the venue allows.
        max_bytes: longest body.
        rng: source of the jitter; a seeded one in tests.
    """

    def __init__(
        self,
        take: Take,
        count: Callable[[str, int], None],
        rate: Rate,
        max_bytes: int,
        rng: random.Random | None = None,
    ) -> None:
        self._take = take
        self._count = count
        self._allowance = Allowance(rate)
        self._max_bytes = max_bytes
        self._rng = rng or random.Random()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._free_at_ns = 0
        self._http: Any = None

    def want(self, url: str) -> None:
        """Fetch `url`, unless that is under way; needs a running event loop."""
        if url not in self._tasks:
            task = asyncio.create_task(self._fetch(url))
            self._tasks[url] = task
            self._running.add(task)
            task.add_done_callback(lambda _: self._done(url, task))

    @property
    def under_way(self) -> int:
        """How many URLs are being fetched or wait for their turn."""
        return len(self._tasks)

    def drop(self) -> None:
        """End whatever is under way: its answers would be of no use."""
        for task in self._running:
            task.cancel()
        self._tasks.clear()

    async def close(self) -> None:
        """Drop everything and close the connections."""
        self.drop()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _done(self, url: str, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._tasks.get(url) is task:
            del self._tasks[url]

    async def _fetch(self, url: str) -> None:
        stamina = await asyncio.to_thread(_load)
        tries = 0

        def pause(error: Exception) -> bool | float:
            """Tell stamina how long to wait before the next try; False: there is none."""
            if not isinstance(error, RestFailed) or error.outcome not in _AGAIN:
                return False
            return pause_s(tries, error.ban_s, self._rng)

        try:
            async for attempt in stamina.retry_context(on=pause, attempts=TRIES, timeout=None):
                with attempt:
                    tries += 1
                    await self._request(url)
        except RestFailed as error:
            self._count("rest.given_up", 1)
            log.warning("no answer from the venue", url=url, tries=tries, error=str(error))
        except Exception:
            # Whoever takes the body has failed: told with its trace, and asked for anew like any answer that is missing.
            log.exception("an answer of the venue was lost", url=url)

    async def _request(self, url: str) -> None:
        """Wait for this request's turn, send it, and count how it ends."""
        await asyncio.sleep(self._allowance.take())
        await asyncio.sleep(max(0.0, (self._free_at_ns - clock.monotonic_ns()) / 1e9))
        self._count("rest.requests", 1)
        outcome = "cancelled"
        try:
            self._hand_on(url, await self._body(url))
            outcome = "answered"
        except RestFailed as error:
            outcome = error.outcome
            until_ns = clock.monotonic_ns() + int(error.ban_s * 1e9)
            self._free_at_ns = max(self._free_at_ns, until_ns)
            raise
        finally:
            self._count(f"rest.{outcome}", 1)

    def _hand_on(self, url: str, body: bytes) -> None:
        if not self._take(url, body, clock.now_ns()):
            raise RestFailed("unreadable", f"{len(body)} bytes that are not what {url} gives")

    async def _body(self, url: str) -> bytes:
        import aiohttp

        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
            connector = aiohttp.TCPConnector(limit=CONNECTIONS)
            self._http = aiohttp.ClientSession(timeout=timeout, connector=connector)
        try:
            async with self._http.get(url, allow_redirects=False) as response:
                _check(response.status, response.headers.get("Retry-After", ""))
                body = bytearray()
                async for piece in response.content.iter_chunked(_PIECE_BYTES):
                    body += piece
                    if len(body) > self._max_bytes:
                        raise RestFailed(
                            "too_large", f"a body of more than {self._max_bytes} bytes"
                        )
                return bytes(body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RestFailed("unreachable", f"{type(error).__name__} {error}".strip()) from None


def pause_s(tries: int, ban_s: float, rng: random.Random) -> float:
    """Return the pause after so many failed tries: full jitter under a doubling cap, after what the venue asked for."""
    cap = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries, 20))
    return ban_s + rng.uniform(0.0, cap)


def _check(status: int, retry_after: str) -> None:
    if 200 <= status < 300:
        return
    ban_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    ban_s = ban_s if ban_s <= LONGEST_BAN_S else 0.0
    if status in _TOO_MANY:
        raise RestFailed("rate_limited", f"status {status}", ban_s or 1.0)
    if status >= 500:
        raise RestFailed("server_error", f"status {status}", ban_s)
    raise RestFailed("refused", f"status {status}")


def _load() -> Any:
    """Import what requests need, off the event loop; returns stamina, told to log with structlog and nothing else."""
    import aiohttp  # noqa: F401 - so that its first use does not stop the frames
    import stamina
    from stamina.instrumentation import StructlogOnRetryHook, set_on_retry_hooks

    set_on_retry_hooks([StructlogOnRetryHook])
    return stamina
