"""A recording goes through the decoder that took it live, call for call, into private rings.

**Why it is right** A decoder does what frames and the times handed in say. A .wslog holds every call that the collector
made: the process' start, links opened and closed, the timer, the books that consumers asked for; each is made again in
its place. A recording without them (JSON lines) holds frames and REST answers only, and its decoder takes any symbol.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import structlog

from collectors.captures import Frame
from collectors.decoder import Decoder, Subscription
from collectors.instruments import LAST_ID, InstrumentTable
from collectors.staleness import Found, take_step
from collectors.subscribing import change
from collectors.wslog import Started
from layouts import EVENT, INSTRUMENT, RESTART, GapReason, Kind
from ops.replay_recording import Recording, decoder_of
from shm.consumer import Consumer, join_private
from shm.outlet import MAX_LEVELS, Outlet, Reject
from shm.producer import Producer, open_private

CONSUMER = "replay"
LEAST_SLOTS = 65_536
INSTRUMENT_SLOTS = 8_192
_LEVEL_BYTES = 8
"""No level or trade is written in fewer bytes of JSON."""
_FRAME_RECORDS = 64
"""Records of a frame beside its levels and trades: GAP, STATE, SNAPSHOT_BEGIN, ..., with room to spare."""


log = structlog.get_logger()


class PrivateRing(NamedTuple):
    """A ring without a name, its one consumer in this process."""

    producer: Producer
    consumer: Consumer
    buffer: np.ndarray

    def drain(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield all that is there in batches, each with the seq of its first record, and give the room back."""
        while (n := self.consumer.poll_into(self.buffer)) != 0:
            if n < 0:
                raise AssertionError("a wait ring lost records")
            yield self.buffer[:n], self.consumer.next_seq - n
        self.consumer.commit()


Place = Callable[[str, str, np.dtype, int], PrivateRing]
"""Makes a ring: collector, which of its rings, layout, slots."""


class Player:
    """One collector's decoder over private rings.

    Args:
        recording: whose frames come; one of JSON lines takes any symbol.
        largest_frame_bytes: the longest of them: half the ring takes all that one frame becomes.
        place: makes the rings: private ones, or those of `replay_rings`.
    """

    def __init__(
        self, recording: Recording, largest_frame_bytes: int, place: Place | None = None
    ) -> None:
        self.recording = recording
        most = records_of(largest_frame_bytes)
        self.half = max(LEAST_SLOTS, 1 << (2 * most - 1).bit_length()) // 2
        make = place or _open
        self.events = make(recording.worker, "events", EVENT, 2 * self.half)
        self.instruments = make(recording.worker, "instruments", INSTRUMENT, INSTRUMENT_SLOTS)
        self.outlets: list[Outlet] = []
        self.elapsed_ns = 0
        self.received = 0
        self.abandoned = 0
        self._begin()

    def play(self, frames: Sequence[Frame]) -> None:
        """Make the calls of frames that fit half a ring, measuring the time."""
        decode = self.decoder.decode
        begin_ns = time.perf_counter_ns()
        for frame in frames:
            if frame.kind != "recv":
                self._call(frame)
                decode = self.decoder.decode
                continue
            self.received += 1
            try:
                decode(frame.data, frame.ts)
            except Exception:
                # As live, where the link is opened anew: that follows in the recording.
                log.exception("frame abandoned", entry=frame.line)
                self.abandoned += 1
                self.outlet.abandon()
                self.outlet.gap(GapReason.REFUSED_FRAME, 1, frame.ts)
        self.elapsed_ns += time.perf_counter_ns() - begin_ns
        for asked in (self.decoder.outbox, self.decoder.notices, self.decoder.rest_wanted):
            asked.clear()

    def counts(self) -> dict[str, int]:
        """Return what the decoder counted, over all processes of the recording."""
        counts = [outlet.counts() for outlet in self.outlets]
        return {name: sum(each[name] for each in counts) for name in counts[0]}

    def _call(self, frame: Frame) -> None:
        """Make a call other than that of a frame."""
        decoder, ts = self.decoder, frame.ts
        if frame.kind == "rest":
            decoder.rest_response(frame.url, frame.data, ts)
        elif frame.kind == "timer":
            decoder.on_timer(ts)
        elif frame.kind == "open":
            decoder.on_open(ts)
        elif frame.kind == "close" and frame.data != b"0":
            decoder.on_close(ts)
        elif frame.kind == "republish":
            line = decoder.instruments.get(frame.data.decode())
            if line is not None:
                decoder.republish(line.instrument.instrument_id, ts)
        elif frame.kind == "silence":
            take_step(decoder, msgspec.json.decode(frame.data, type=Found), ts)
        elif frame.kind == "subscribe":
            change(decoder, msgspec.json.decode(frame.data, type=list[Subscription]), ts)
        elif frame.kind == "too_large":
            self.received += 1
            self.outlet.gap(GapReason.REFUSED_FRAME, 1, ts)
            self.outlet.count(Reject.TOO_LARGE)
        elif frame.kind == "start":
            self._restart(msgspec.json.decode(frame.data, type=Started), ts, frame.file_index)

    def _restart(self, started: Started, ts: int, file_index: int) -> None:
        """A process begins: its decoder knows what its own file says, and tells where an earlier one was."""
        self._begin(file_index)
        if not started.previous_epoch:
            return
        record = np.zeros(1, EVENT)
        record["kind"], record["ts_event"], record["ts_recv"] = Kind.RESTART, ts, ts
        record.view(RESTART)["frames_abandoned"] = started.frames_abandoned
        self.events.producer.publish_batch(record)
        self.outlet.gap(GapReason.COLLECTOR_RESTART, started.frames_abandoned, ts)

    def _begin(self, file_index: int | None = None) -> None:
        """Make a decoder that knows what a file of the recording (None: the first) says of its collector."""
        kind, about = decoder_of(self.recording.venue), self.recording.about(file_index)
        self.outlet = Outlet(self.events.producer)
        self.outlets.append(self.outlet)
        producer = self.instruments.producer
        if about is None:
            first = self.recording.first_id
            table = InstrumentTable("replay", kind.venue, first, LAST_ID - first + 1, producer)
            self.decoder: Decoder = kind(self.outlet, table, accept_any=True)
            return
        first, ids = about.first_instrument_id, about.instrument_ids
        table = InstrumentTable("replay", kind.venue, first, ids, producer, known=about.instruments)
        self.decoder = kind(
            self.outlet,
            table,
            about.subscriptions,
            max_frame_bytes=about.max_frame_bytes,
            steps=about.steps,
        )
        self.decoder.url, self.decoder.rest_url = about.url, about.rest_url


def records_of(frame_bytes: int) -> int:
    """Return how many records a frame can become at most: each level may cut another one off."""
    return 2 * min(frame_bytes // _LEVEL_BYTES, MAX_LEVELS) + _FRAME_RECORDS


def _open(worker: str, ring: str, dtype: np.dtype, slots: int) -> PrivateRing:
    label = f"{worker}.{ring}"
    producer, data_fd, control_fd = open_private(label, dtype, slots, [CONSUMER])
    consumer = join_private(label, data_fd, control_fd, CONSUMER, dtype)
    return PrivateRing(producer, consumer, np.empty(4096, dtype))
