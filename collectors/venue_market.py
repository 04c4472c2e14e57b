"""One market of the venue: who listens to what, and a tape that runs as fast as they can take it.

**Protocol** The tape starts when each of its streams has a listener, or `grace_s` after the first
subscription; after a hold it goes on when the streams heard before are heard again, likewise. A
frame is sent only when no listener's socket is stuck, so nothing queues up beyond the transport's
own bound; a listener stuck for `STUCK_S` is cut off, as venues do. At a finite speed a frame is
never early; after a stop the tape catches up. Without any listener the tape holds, or goes on
unheard as a real market does, by choice.

**Invariants** (1) A listener gets every frame of its stream from its opening on, verbatim and in
order. (2) The tape's state and the frames sent change together: no await lies between `step` and
the last `send` of a moment. (3) Heartbeats come every second whatever else flows.
"""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol

from collectors.venue_dialect import (
    ALREADY_SUBSCRIBED,
    DEPTH_REFUSED,
    PAIR_REFUSED,
    Dialect,
    Stream,
)
from collectors.venue_faults import Faults
from collectors.venue_tape import Tape

Speed = float | Literal["max"]

# Frames between two turns of the event loop, so that requests and signals are seen.
TURN_FRAMES = 64
# How long a listener may leave its socket full before it is cut off.
STUCK_S = 10.0
HEARTBEAT_S = 1.0


class Timing(Protocol):
    """The clock of a market; tests bring their own."""

    def now_ns(self) -> int:
        """Monotonic time."""
        ...

    async def sleep(self, duration_s: float) -> None:
        """Wait; 0 lets everything else have a turn."""
        ...


class Listener(Protocol):
    """One connection, as the market sees it."""

    streams: set[Stream]
    is_stuck: bool

    def send(self, data: bytes) -> None:
        """Hand one text frame to the socket."""
        ...

    async def unstuck(self, timeout_s: float) -> bool:
        """Wait until the socket takes more; False when it did not in time."""
        ...

    def cut(self, *, is_abrupt: bool) -> None:
        """Close the connection, with a close frame or without."""
        ...


class Tally:
    """What a market counts; the server copies it into shared memory a few times a second."""

    def __init__(self) -> None:
        self.frames_played = 0
        self.frames_unheard = 0
        self.frames_sent = 0
        self.heartbeats_sent = 0
        self.listeners_cut = 0
        self.subscribe_errors = 0
        self.tape_done = 0


class Market:
    """One protocol's tape and its listeners."""

    def __init__(
        self,
        dialect: Dialect,
        tape: Tape,
        timing: Timing,
        *,
        speed: Speed = 1.0,
        grace_s: float = 1.0,
        holds_unheard: bool = True,
        faults: Faults | None = None,
    ) -> None:
        self.dialect = dialect
        self.tape = tape
        self.tally = Tally()
        self._timing = timing
        self._speed = speed
        self._grace_s = grace_s
        self._holds_unheard = holds_unheard
        self.faults = faults or Faults(dialect.name, ())
        self._listeners: dict[Stream, dict[Listener, None]] = {}
        self._audience: dict[Listener, None] = {}
        self._symbols = {stream.symbol for stream in tape.streams}
        self._depths = {
            stream.symbol: stream.depth for stream in tape.streams if stream.channel == "book"
        }
        # What the tape waits for: at first each of its streams, after a hold those heard before.
        self._wanted: set[Stream] = set(tape.streams)
        self._known: set[Stream] = set()
        self._heard = asyncio.Event()
        self._complete = asyncio.Event()
        self._silent = False

    # ------------------------------------------------------------ listeners

    def subscribe(self, listener: Listener, stream: Stream) -> str:
        """Begin to send this stream; the refusal in the venue's words, or ""."""
        if stream.channel != "instrument":
            if stream.symbol not in self._symbols:
                return f"{PAIR_REFUSED} {stream.symbol}"
            # A recording plays at the depth it was made at: at another one its checksums and
            # its cut-off levels would be wrong.
            if stream.channel == "book" and not self._has_depth(stream):
                return DEPTH_REFUSED
        if self._subscription(listener, stream.channel, stream.symbol, 0) is not None:
            return ALREADY_SUBSCRIBED
        listener.streams.add(stream)
        self._listeners.setdefault(stream, {})[listener] = None
        self._audience[listener] = None
        if stream.channel != "instrument":
            self._known.add(stream)
        self._note_changes()
        return ""

    def unsubscribe(
        self, listener: Listener, channel: str, symbol: str, depth: int
    ) -> Stream | None:
        """Stop sending; None when there is no such subscription."""
        stream = self._subscription(listener, channel, symbol, depth)
        if stream is None:
            return None
        listener.streams.discard(stream)
        self._listeners[stream].pop(listener, None)
        if not listener.streams:
            self._audience.pop(listener, None)
        self._note_changes()
        return stream

    def forget(self, listener: Listener) -> None:
        """Drop a connection that is gone."""
        for stream in listener.streams:
            self._listeners[stream].pop(listener, None)
        listener.streams.clear()
        self._audience.pop(listener, None)
        self._note_changes()

    def opening(self, stream: Stream, *, wants_trades: bool) -> list[bytes]:
        """Make the frames that a new listener needs before the next one of the tape."""
        if stream.channel == "instrument":
            recorded = self.tape.instruments
            return [recorded or self.dialect.instruments(self.tape.listings)]
        return self.tape.opening(stream, wants_trades=wants_trades)

    def _has_depth(self, stream: Stream) -> bool:
        return stream in self.tape.streams or stream.symbol not in self._depths

    def _subscription(
        self, listener: Listener, channel: str, symbol: str, depth: int
    ) -> Stream | None:
        for stream in listener.streams:
            if (stream.channel, stream.symbol) == (channel, symbol) and depth in (0, stream.depth):
                return stream
        return None

    def _note_changes(self) -> None:
        """Tell the tape whether anybody listens, and whether all that it waits for are heard."""
        for event, is_true in (
            (self._heard, any(self._listeners.get(stream) for stream in self._known)),
            (self._complete, all(self._listeners.get(stream) for stream in self._wanted)),
        ):
            if is_true:
                event.set()
            else:
                event.clear()

    # ------------------------------------------------------------ the tape

    async def play(self) -> None:
        """Run the tape from its start to its end (for ever, when it has none)."""
        await self._gathered()
        self.tape.begin()
        begin_ns = self._timing.now_ns()
        turn = 0
        while (offset_ns := self.tape.next_offset_ns()) is not None:
            if self._holds_unheard and not self._heard.is_set():
                held_ns = self._timing.now_ns()
                await self._gathered()
                begin_ns += self._timing.now_ns() - held_ns
            if self._speed != "max":
                early_ns = begin_ns + round(offset_ns / self._speed) - self._timing.now_ns()
                if early_ns > 0:
                    turn = 0
                    await self._timing.sleep(early_ns / 1e9)
                    continue
            turn += 1
            if turn > TURN_FRAMES:
                turn = 0
                await self._timing.sleep(0)
                continue
            if not await self._room() or await self._interrupted():
                continue
            for step in self.tape.step():
                self.tally.frames_played += 1
                for data in self.faults.frames(self.tally.frames_played, step):
                    self._send(step.stream, data)
        self.tally.tape_done = 1

    async def beat(self) -> None:
        """Send heartbeats for ever, also after the tape's end."""
        text = self.dialect.heartbeat()
        while True:
            await self._timing.sleep(HEARTBEAT_S)
            if self._silent:
                continue
            for listener in self._audience:
                if not listener.is_stuck:
                    listener.send(text)
                    self.tally.heartbeats_sent += 1

    async def _gathered(self) -> None:
        """Wait for the first listener, and then for the others, but no longer than the grace."""
        await self._heard.wait()
        if not self._complete.is_set():
            complete = asyncio.ensure_future(self._complete.wait())
            grace = asyncio.ensure_future(self._timing.sleep(self._grace_s))
            try:
                await asyncio.wait((complete, grace), return_when=asyncio.FIRST_COMPLETED)
            finally:
                complete.cancel()
                grace.cancel()
        self._wanted = self._known

    async def _room(self) -> bool:
        """Wait for every stuck listener; False when the wait gave others a turn."""
        stuck = [listener for listener in self._audience if listener.is_stuck]
        for listener in stuck:
            if not await listener.unstuck(STUCK_S):
                self.tally.listeners_cut += 1
                self.forget(listener)
                listener.cut(is_abrupt=True)
        return not stuck

    def _send(self, stream: Stream, data: bytes) -> None:
        listeners = self._listeners.get(stream)
        if not listeners:
            self.tally.frames_unheard += 1
            return
        for listener in listeners:
            listener.send(data)

    async def _interrupted(self) -> bool:
        """Cut the connections or fall silent if a fault says so; True when time has passed."""
        fault = self.faults.session_fault(self.tally.frames_played + 1)
        if fault is None:
            return False
        if fault.kind == "disconnect":
            for listener in list(self._audience):
                self.forget(listener)
                listener.cut(is_abrupt=True)
        self._silent = fault.kind == "silence"
        await self._timing.sleep(fault.silence_s)
        self._silent = False
        return True


class ClientDesk:
    """A market, as one connection may use it."""

    def __init__(self, market: Market, listener: Listener) -> None:
        self._market = market
        self._listener = listener

    def subscribe(self, stream: Stream) -> str:
        """Begin to listen; the refusal in the venue's words, or ""."""
        return self._market.subscribe(self._listener, stream)

    def unsubscribe(self, channel: str, symbol: str, depth: int) -> Stream | None:
        """Stop listening; None when there is no such subscription."""
        return self._market.unsubscribe(self._listener, channel, symbol, depth)

    def opening(self, stream: Stream, *, wants_trades: bool) -> list[bytes]:
        """Make the frames that come before the next one of the tape."""
        return self._market.opening(stream, wants_trades=wants_trades)

    def channel_id(self, stream: Stream) -> int:
        """Tell the number that frames of this stream carry."""
        return self._market.tape.channel_id(stream)
