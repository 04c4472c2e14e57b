"""A session keeps one WebSocket connection to a venue alive for ever, and says loudly when it is not.

**Protocol** connect -> `on_open` (its texts are sent) -> frames -> closed for a reason -> back off -> connect.
The handler is five calls (`Handler`), the session five (`run`, `send`, `reconnect`, `renew`, `stop`): nothing else of the
WebSocket library is seen outside this file.

**Invariants** (1) It never gives up: the back-off is jittered and capped, the number of tries is not.
(2) At most one try a second, sustained; an outage of up to 5 s is left within 2 s of its end; a link whose end is announced is
closed at once, and later and later where its successors are announced to end, too. (3) `ws://`
goes to this host only; anywhere else TLS with verification. (4) A message longer than the limit closes the
connection with 1009 and is told, never cut.

**Failure** A link that carries no text for `silence_s` is dead: closed and opened anew. Half-way the venue is probed with a
text that it answers, so that neither a black hole nor a venue that pongs and is mute goes unnoticed, and a quiet link lives.
**Cost** A frame costs the library's parsing, one clock reading and one copy of its payload to bytes.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog
from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    ws_connect,
)

from collectors.addresses import check_url
from collectors.allowance import Allowance, Rate
from collectors.link_rules import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, LinkRules
from layouts import GapReason
from shm import clock

CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
GOODBYE_S = 0.5
"""How long the venue has to answer the close of a link that is opened anew."""
BACKOFF_FIRST_S = 0.25
BACKOFF_SHORT_S = 2.0
"""Cap of the back-off while the outage is young."""
BACKOFF_LONG_S = 30.0
YOUNG_OUTAGE_S = 10.0
TRY_RATE = Rate(per_s=1.0, burst=2.0)
CALM_S = 60.0
"""A venue that has announced no end for so long has had its upgrade."""

log = structlog.get_logger()


class Handler(Protocol):
    """What a session tells its owner."""

    def on_open(self, ts_recv: int) -> Iterable[bytes]:
        """The link is up: return the texts to send (subscriptions)."""

    def on_frame(self, frame: bytes, ts_recv: int) -> Iterable[bytes]:
        """A whole message has come; return the texts to send in answer (usually none)."""

    def probe(self) -> Iterable[bytes]:
        """Return texts that the venue answers with a text; none where a WebSocket ping has to do."""

    def on_too_large(self, n_bytes: int, ts_recv: int) -> None:
        """A message of at least n_bytes was refused; the link will be closed."""

    def on_close(self, reason: GapReason, ts_recv: int) -> None:
        """The link is gone: whatever the venue said since is lost."""


class Backoff:
    """Full jitter under a cap that stays short while the outage is young, and never more than one try a second for long.

    A link that comes up and is lost at once resets the jitter but not the allowance: two tries at once, then one for
    each second that has passed.

    Args:
        rng: source of the jitter; a seeded one in tests.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._tries = 0
        self._down_since_ns = 0
        self._allowance = Allowance(TRY_RATE)
        self._renewals = 0
        self._renewed_ns = 0

    def succeeded(self) -> None:
        """The link is up and has carried a frame: the next outage starts from the beginning."""
        self._tries = 0

    def next_delay_s(self) -> float:
        """Return how long to wait before the next try, in seconds."""
        now = clock.monotonic_ns()
        if self._tries == 0:
            self._down_since_ns = now
        young = (now - self._down_since_ns) / 1e9 < YOUNG_OUTAGE_S
        cap = BACKOFF_SHORT_S if young else BACKOFF_LONG_S
        delay = self._rng.uniform(0.0, min(cap, BACKOFF_FIRST_S * 2.0 ** min(self._tries, 20)))
        self._tries += 1
        return max(delay, self._allowance.take())

    def renewal_delay_s(self) -> float:
        """Return how long to keep a link whose end is announced, in seconds: 0 at first, then 1, 3, 7 .. 30 where each new link
        is told the same, which would be without data were it left at once.
        """
        now = clock.monotonic_ns()
        if now - self._renewed_ns > CALM_S * 1e9:
            self._renewals = 0
        delay = min(BACKOFF_LONG_S, 2.0 ** min(self._renewals, 20) - 1.0)
        self._renewals += 1
        self._renewed_ns = now
        return delay


class Session:
    """One connection; `run` it as a task.

    Args:
        url: `wss://…`, or `ws://` to this host.
        handler: told of everything.
        max_message_bytes: longest message accepted, fragments added up.
        silence_s: a link without a text for so long, or without even a pong where there is no probe, is dead; 0: never.
        backoff: for tests.
    """

    def __init__(
        self,
        url: str,
        handler: Handler,
        max_message_bytes: int,
        silence_s: float = 5.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.url = check_url(url)
        self.handler = handler
        self.max_message_bytes = max_message_bytes
        self.silence_s = silence_s
        self.backoff = backoff or Backoff()
        self.connected = False
        self.connections = 0
        """Links that were up, the present one included."""
        self.tries = 0
        self._transport: WSTransport | None = None
        self._listener: _Listener | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep the link up until `stop` is called."""
        while not self._stopping.is_set():
            self.tries += 1
            with contextlib.suppress(OSError, WSError, asyncio.TimeoutError):
                await self._one_connection()
            if self._stopping.is_set():
                return
            delay_s = self.backoff.next_delay_s()
            log.info(
                "link down, next try", url=self.url, delay_s=round(delay_s, 3), tries=self.tries
            )
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    def send(self, text: bytes) -> None:
        """Send one text message; dropped when the link is down (`on_open` will ask anew)."""
        if self._transport is not None and self.connected:
            self._transport.send(WSMsgType.TEXT, text)

    @property
    def fd(self) -> int:
        """The link's socket, -1 while there is none."""
        if self._transport is None:
            return -1
        socket = self._transport.underlying_transport.get_extra_info("socket")
        return int(socket.fileno()) if socket is not None else -1

    def reconnect(self, reason: GapReason) -> None:
        """Close the link, for that reason, and open it anew."""
        if self._transport is not None and self._listener is not None:
            self._listener.reason = reason
            self._transport.disconnect()

    def renew(self) -> None:
        """Close a link whose end the venue has announced in good order, and open it anew; once a link, however often asked."""
        if self._transport is None or self._listener is None or self._listener.is_ending:
            return
        self._listener.is_ending = True
        delay_s = self.backoff.renewal_delay_s()
        log.info("the venue announces the end of this link", url=self.url, kept_s=delay_s)
        asyncio.get_running_loop().call_later(delay_s, self._part, self._transport, self._listener)

    def _part(self, transport: WSTransport, listener: "_Listener") -> None:
        """Say 1000 and wait a little for the answer, after which the listener closes."""
        listener.reason = GapReason.ANNOUNCED
        transport.send_close(WSCloseCode.OK)
        asyncio.get_running_loop().call_later(GOODBYE_S, transport.disconnect, False)

    async def stop(self) -> None:
        """Close the link with 1000 and end `run`."""
        self._stopping.set()
        transport = self._transport
        if transport is None:
            return
        transport.send_close(WSCloseCode.OK)
        with contextlib.suppress(asyncio.TimeoutError, WSError, OSError):
            await asyncio.wait_for(transport.wait_disconnected(), CLOSE_TIMEOUT_S)
        transport.disconnect()

    async def _one_connection(self) -> None:
        context = ssl.create_default_context() if self.url.startswith("wss:") else None
        self._listener = listener = _Listener(self)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            transport, _ = await ws_connect(
                lambda: listener,
                self.url,
                ssl_context=context,
                disconnect_on_exception=True,
                enable_auto_pong=False,
                max_frame_size=self.max_message_bytes,
            )
        watchdog = asyncio.create_task(self._watch(transport, listener))
        try:
            await transport.wait_disconnected()
        except WSProtocolError as error:
            if error.args and error.args[0] == WSCloseCode.MESSAGE_TOO_BIG:
                listener.refuse(self.max_message_bytes + 1)
            log.warning("the venue broke the protocol", url=self.url, error=str(error))
        except Exception:
            # The library hands on what our own callback raised: told with its trace, and the link is opened anew.
            log.exception("link closed by an error", url=self.url)
        finally:
            watchdog.cancel()
            listener.closed()

    async def _watch(self, transport: WSTransport, listener: "_Listener") -> None:
        """Close a link that has gone silent; half of `silence_s` is the probe, the other half its answer's time."""
        if self.silence_s <= 0:
            return
        probed_ns = 0
        while True:
            await asyncio.sleep(self.silence_s / 20)
            heard_ns = max(listener.text_ns, listener.pong_ns)
            silent_s = (clock.monotonic_ns() - heard_ns) / 1e9
            if silent_s > self.silence_s * 0.9:
                log.warning("silent link", url=self.url, silent_s=round(silent_s, 2))
                self.reconnect(GapReason.SILENCE)
                return
            if silent_s > self.silence_s / 2 and probed_ns != heard_ns:
                probed_ns = heard_ns
                texts = list(self.handler.probe())
                listener.takes_pongs = not texts
                transport.send_ping()
                for text in texts:
                    self.send(text)


class _Listener(WSListener):
    """Puts fragments together and hands whole messages on."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.reason = GapReason.DISCONNECT
        self.is_ending = False
        """The venue has announced its end, and that was taken up."""
        self.text_ns = clock.monotonic_ns()
        """When the last text came, by the steady clock."""
        self.pong_ns = 0
        self.takes_pongs = False
        self._fragments: list[bytes] = []
        self._fragment_bytes = 0
        self._up = False
        self._refused = False
        self._rules = LinkRules()
        self._now_ns: Callable[[], int] = clock.now_ns
        self._steady_ns: Callable[[], int] = clock.monotonic_ns

    def on_ws_connected(self, transport: WSTransport) -> None:
        session = self.session
        session._transport = transport
        session.connected = True
        session.connections += 1
        self._up = True
        log.info("link up", url=session.url, connections=session.connections)
        for text in session.handler.on_open(clock.now_ns()):
            transport.send(WSMsgType.TEXT, text)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        ts_recv = self._now_ns()
        kind = frame.msg_type
        if not self._rules.admits(frame, kind):
            return
        self.text_ns, before_ns = self._steady_ns(), self.text_ns
        if kind == TEXT and frame.fin and not self._fragments:
            # The library refuses what it has not read whole; a frame that came in one read gets here.
            if frame.payload_size > self.session.max_message_bytes:
                self.refuse(frame.payload_size)
                self._close_too_large(transport)
                return
            self._hand_on(transport, self._rules.whole(frame.get_payload_as_bytes()), ts_recv)
        elif kind in (TEXT, BINARY, CONTINUATION):
            self._add_fragment(transport, frame, ts_recv)
        elif kind == CLOSE:
            log.info(
                "venue closed the link",
                code=str(frame.get_close_code()),
                text=str(frame.get_close_message()),
            )
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        else:
            self.text_ns, heard_ns = before_ns, self.text_ns
            if kind == PING:
                # The library would answer before the frame is looked at.
                transport.send_pong(frame.get_payload_as_bytes())
            elif self.takes_pongs and kind == PONG:
                self.pong_ns = heard_ns

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        del transport
        self.closed()

    def closed(self) -> None:
        """Tell the owner once that the link is gone."""
        if not self._up:
            return
        self._up = False
        self.session.connected = False
        self.session._transport = None
        self.session.handler.on_close(self.reason, clock.now_ns())

    def _add_fragment(self, transport: WSTransport, frame: WSFrame, ts_recv: int) -> None:
        self._fragments.append(frame.get_payload_as_bytes())
        self._fragment_bytes += frame.payload_size
        if self._fragment_bytes > self.session.max_message_bytes:
            self.refuse(self._fragment_bytes)
            self._close_too_large(transport)
        elif frame.fin:
            message = b"".join(self._fragments)
            self._fragments.clear()
            self._fragment_bytes = 0
            self._hand_on(transport, self._rules.whole(message), ts_recv)

    def _hand_on(self, transport: WSTransport, message: bytes, ts_recv: int) -> None:
        self.session.backoff.succeeded()
        for text in self.session.handler.on_frame(message, ts_recv):
            transport.send(WSMsgType.TEXT, text)

    def _close_too_large(self, transport: WSTransport) -> None:
        self._rules.is_over = True
        transport.send_close(WSCloseCode.MESSAGE_TOO_BIG)
        transport.disconnect()

    def refuse(self, n_bytes: int) -> None:
        """Tell once that a message of at least `n_bytes` was refused."""
        if self._refused:
            return
        self._refused = True
        log.error(
            "message too large, closing with 1009",
            n_bytes=n_bytes,
            limit=self.session.max_message_bytes,
            remedy="raise max_frame_bytes of this collector if the venue's snapshots are that large",
        )
        self.session.handler.on_too_large(n_bytes, clock.now_ns())
