"""Fan-out puts each trade and feature row into its Redis stream once, in order, whatever is killed, down or answered twice.

**Protocol** Per ring ("lane"): (1) on every connect read the ring's progress key and seek to the record after it; (2) poll a
batch; (3) one MULTI/EXEC: read the progress, XADD every entry with the explicit id `<epoch>-<seq>`, write the progress;
(4) count. The ring is the only buffer: while Redis is away nothing is read, and what is overwritten meanwhile becomes one
gap entry with the exact range.

**Why it is right** An entry that a lost reply left in doubt is either covered by the progress key, then the seek passes over it, or
not in the stream at all. A refused id ("equal or smaller") is a delivery only at or below the progress that the same
transaction read; above it, it is an error, counted in `entries_refused` and logged. The cursor in the ring trails the last
acknowledgement by 3 s, because a server that syncs its log each second may forget that much when it is killed.

**Failure** Killed anywhere: nothing. Redis gone, read-only, full, loading, asking for a password: it tries again for ever, 50 ms
to 2 s apart. An instrument that no table names: its records are counted in `unknown_instruments`, and the log says so.

**See** `consumers.entries` for the streams' fields, `consumers.progress` for the key, `consumers.redis_link` for retries.
"""

import time
from collections import deque
from typing import Any

import structlog

from consumers.entries import Entries, EventEntries, FeatureEntries
from consumers.inputs import Batch, Input, Inputs, same_layout
from consumers.instruments import InstrumentTable
from consumers.progress import Progress, progress_key, read, write
from consumers.redis_link import REASONS, Backoff, LinkError, RedisLink
from layouts import EVENT, FEATURES
from shm.clock import monotonic_ns
from shm.counters import Counters
from shm.errors import ConfigurationError
from shm.worker import StopFlag, WorkerSpec, run_worker

_IDLE_S = 0.1
_CURSOR_TRAILS_NS = 3_000_000_000
_REST_NS = 500_000_000
"""A run of records without entries moves the progress key at most this often."""
_FIRST_PAUSE_S = 0.05
_LOG_NS = 1_000_000_000

log = structlog.get_logger()


class FanoutSpec(WorkerSpec):
    """What a fan-out worker is given."""

    inputs: list[str]
    """Events and features rings, as `<worker>.<ring>`."""
    redis_url: str
    maxlen: int = 1_000_000
    """Entries that a stream keeps, about."""
    batch_records: int = 1024
    """Most records of one transaction."""
    reply_timeout_s: float = 5.0
    backoff_cap_s: float = 2.0
    drain_timeout_s: float = 10.0


class Lane:
    """One ring on its way to Redis."""

    def __init__(self, source: Input, key: str, encoder: EventEntries | FeatureEntries) -> None:
        self.source = source
        self.key = key
        self.encoder = encoder
        self.progress = Progress()
        self.scanned = 0
        """Last seq that was looked at; what lies between it and the progress had nothing to send."""
        self.scanned_ns = 0
        self._acknowledged: deque[tuple[int, int]] = deque()

    def rewind(self, stored: Progress | None) -> None:
        """Go on after what Redis says has been delivered of this very ring."""
        fresh = Progress.fresh(self.source.uuid, self.source.first_seq)
        known = stored is not None and stored.uuid == self.source.uuid
        self.progress = stored if stored is not None and known else fresh
        self.scanned = self.progress.seq
        self.source.joined.seek(self.progress.seq + 1)
        self.encoder.scales.restore(self.progress.versions)
        self._acknowledged.clear()

    def advanced(self, entries: Entries, seq: int, lost: int = 0) -> Progress:
        """Return the progress after `entries` up to `seq`."""
        return self.progress._replace(
            epoch=self.source.epoch_of(seq),
            seq=seq,
            entries=self.progress.entries + entries.records,
            gaps=self.progress.gaps + entries.gaps,
            lost=self.progress.lost + lost,
            versions=self.encoder.scales.versions(),
        )

    def acknowledged(self, progress: Progress) -> None:
        """Redis has it; the cursor follows 3 s later."""
        self.progress = progress
        self.scanned = max(self.scanned, progress.seq)
        self._acknowledged.append((monotonic_ns() + _CURSOR_TRAILS_NS, progress.seq))

    def move_cursor(self, at_once: bool = False) -> None:
        """Commit what was acknowledged 3 s ago, or at the end of a drain all of it."""
        seq, now = -1, monotonic_ns()
        while self._acknowledged and (at_once or self._acknowledged[0][0] <= now):
            seq = self._acknowledged.popleft()[1]
        if seq >= 0:
            self.source.joined.commit(seq + 1)


class Fanout:
    """The worker: all lanes over one connection."""

    def __init__(self, spec: FanoutSpec, counters: Counters, stop: StopFlag) -> None:
        self._spec = spec
        self._counters = counters
        self._stop = stop
        self._table = InstrumentTable(spec.instance)
        self._lanes: dict[str, Lane] = {}
        self._inputs = Inputs(
            spec.inputs, spec.instance, spec.worker, spec.batch_records, self._joined
        )
        name = f"tickring-{spec.instance}-{spec.worker}"
        self._link = RedisLink(spec.redis_url, name, spec.reply_timeout_s, counters.heartbeat)
        self._backoff = Backoff(_FIRST_PAUSE_S, spec.backoff_cap_s)
        self._logged: dict[str, int] = {}
        self._was_connected = False

    def run(self) -> int:
        """Work until a drain has ended; returns the exit status."""
        draining_until = 0
        while True:
            self._counters.heartbeat()
            self._inputs.refresh()
            if self._inputs.all_joined and not draining_until:
                self._counters.set_state("READY")
            if self._stop.is_set and not draining_until:
                draining_until = monotonic_ns() + int(self._spec.drain_timeout_s * 1e9)
                self._counters.set_state("DRAINING")
                self._inputs.begin_drain()
            busy = self._turn()
            if draining_until and (self._done() or monotonic_ns() > draining_until):
                break
            if not busy and self._link.is_open:
                self._inputs.wait(_IDLE_S)
            elif not busy:
                time.sleep(_IDLE_S / 4)
        return self._end()

    def _turn(self) -> bool:
        """Send one batch of each lane; False when there was nothing to do."""
        if not self._link.is_open and not self._connect():
            return False
        busy = False
        try:
            for lane in self._lanes.values():
                busy |= self._send_next(lane)
                lane.move_cursor()
        except LinkError as error:
            self._link_failed(error)
        self._show()
        return busy

    def _connect(self) -> bool:
        if not self._backoff.due:
            return False
        try:
            self._link.open()
            for lane in self._lanes.values():
                self._rewind(lane)
        except LinkError as error:
            self._link_failed(error)
            return False
        self._backoff.worked()
        if self._was_connected:
            self._counters.add("redis_reconnects")
        self._was_connected = True
        self._counters.set("redis_connected", 1)
        return True

    def _rewind(self, lane: Lane) -> None:
        lane.rewind(Progress.parse(self._link.call(*read(lane.key))))

    def _joined(self, source: Input) -> None:
        """Open the lane of a ring that has just been joined, or joined anew."""
        encoder: EventEntries | FeatureEntries
        dtype = source.joined.dtype
        if same_layout(dtype, EVENT):
            encoder = EventEntries(source.ring.partition(".")[0], self._table, self._spec.maxlen)
        elif same_layout(dtype, FEATURES):
            encoder = FeatureEntries(self._table, self._spec.maxlen)
        else:
            raise ConfigurationError(
                f"fan-out input {source.ring} carries records of {dtype.itemsize} bytes that have no stream; "
                "name events and features rings in `inputs`"
            )
        lane = Lane(source, progress_key(self._spec.instance, source.ring), encoder)
        lane.rewind(None)
        self._lanes[source.ring] = lane
        if self._link.is_open:
            try:
                self._rewind(lane)
            except LinkError as error:
                self._link_failed(error)

    def _send_next(self, lane: Lane) -> bool:
        if lane.source.consumer is None:
            return False
        found = lane.source.poll()
        if found is None:
            if lane.scanned > lane.progress.seq and monotonic_ns() - lane.scanned_ns > _REST_NS:
                self._deliver(lane, Entries([], 0, 0, 0), lane.scanned)
            return False
        if isinstance(found, Batch):
            last_seq = found.end_seq - 1
            entries = lane.encoder.encode(found.records, found.first_seq, lane.source.epoch_of)
            lost = 0
        else:
            last_seq = found.last_seq
            epoch = lane.source.epoch_of(last_seq)
            entries = lane.encoder.lapped(found.first_seq, last_seq, epoch)
            lost = last_seq - found.first_seq + 1
            log.error("records were lost before they were sent", ring=lane.source.ring, lost=found)
        if entries.unknown:
            self._counters.add("unknown_instruments", entries.unknown)
            self._say("unknown instrument", ring=lane.source.ring, records=entries.unknown)
        if lane.scanned == lane.progress.seq:
            lane.scanned_ns = monotonic_ns()
        lane.scanned = last_seq
        rested = monotonic_ns() - lane.scanned_ns > _REST_NS
        if entries.commands or lost or rested:
            self._deliver(lane, entries, last_seq, lost)
        return True

    def _deliver(self, lane: Lane, entries: Entries, last_seq: int, lost: int = 0) -> None:
        """Send one transaction and settle its replies; the progress moves with it or not at all."""
        after = lane.advanced(entries, last_seq, lost)
        commands = [read(lane.key), *entries.commands, write(lane.key, after)]
        replies = self._link.transact(commands)
        before = Progress.parse(replies[0])
        self._settle(lane, replies[1:-1], entries, before)
        lane.acknowledged(after)

    def _settle(
        self, lane: Lane, replies: list[Any], entries: Entries, before: Progress | None
    ) -> None:
        covered = before is not None and before.uuid == lane.source.uuid
        covered_to = (before.epoch, before.seq) if before is not None and covered else (0, 0)
        for command, reply in zip(entries.commands, replies, strict=True):
            if not isinstance(reply, Exception):
                continue
            epoch, _, seq = str(command[5]).partition("-")
            if "equal or smaller" in str(reply) and (int(epoch), int(seq)) <= covered_to:
                self._counters.add("entries_skipped")
                continue
            self._counters.add("entries_refused")
            self._say("Redis refused an entry", stream=command[1], id=command[5], error=str(reply))

    def _link_failed(self, error: LinkError) -> None:
        self._link.close()
        pause_s = self._backoff.failed()
        self._counters.set("redis_connected", 0)
        self._counters.add(f"redis_errors.{error.reason}")
        self._say("Redis cannot be used now", error=str(error), again_in_s=round(pause_s, 3))

    def _done(self) -> bool:
        settled = all(
            lane.progress.seq >= lane.scanned and (lane.source.consumer is None or lane.source.drained())
            for lane in self._lanes.values()
        )  # fmt: skip
        if not settled and self._link.is_open and self._inputs.drained():
            try:
                for lane in self._lanes.values():
                    if lane.scanned > lane.progress.seq:
                        self._deliver(lane, Entries([], 0, 0, 0), lane.scanned)
            except LinkError as error:
                self._link_failed(error)
        return settled and self._link.is_open

    def _end(self) -> int:
        left = 0
        for lane in self._lanes.values():
            if lane.source.consumer is None:
                continue
            lane.move_cursor(at_once=True)
            left += lane.source.facts().head - 1 - lane.progress.seq
        self._counters.set("drain_left", left)
        if left:
            log.warning("the drain has ended with records unsent", records=left)
        self._show()
        self._link.close()
        self._inputs.close(detach=True)
        self._table.close()
        self._counters.set_state("STOPPED")
        return 0

    def _show(self) -> None:
        """Make the counters say what the progress keys say."""
        lanes = self._lanes.values()
        for lane in lanes:
            ring = lane.source.ring
            self._counters.set(f"in.{ring}.seq", max(lane.scanned, lane.progress.seq))
            self._counters.set(f"in.{ring}.lost", lane.progress.lost)
            self._counters.set(f"in.{ring}.entries", lane.progress.entries)
        self._counters.set("entries_acked", sum(lane.progress.entries for lane in lanes))
        self._counters.set("gap_entries", sum(lane.progress.gaps for lane in lanes))

    def _say(self, event: str, **facts: Any) -> None:
        """Log at most once a second per event: never per record."""
        now = monotonic_ns()
        if now - self._logged.get(event, -_LOG_NS) >= _LOG_NS:
            self._logged[event] = now
            log.warning(event, **facts)


def counter_names(inputs: list[str]) -> list[str]:
    """Return the counters that a fan-out of these rings keeps."""
    per_ring = [f"in.{ring}.{what}" for ring in inputs for what in ("seq", "lost", "entries")]
    own = ("acked", "skipped", "refused")
    return [
        *per_ring,
        *(f"entries_{what}" for what in own),
        *("gap_entries", "unknown_instruments", "drain_left", "redis_connected"),
        *("redis_reconnects", *(f"redis_errors.{reason}" for reason in REASONS)),
    ]


def main(spec: FanoutSpec) -> int:
    """Run the worker."""
    if spec.maxlen < 1 or spec.batch_records < 1 or not spec.inputs:
        raise ConfigurationError(
            f"fan-out: maxlen {spec.maxlen}, batch_records {spec.batch_records}, inputs {spec.inputs}; "
            "the first two from 1 on and at least one input expected"
        )
    stop = StopFlag()
    counters = Counters.create(
        spec.instance, spec.worker, counter_names(spec.inputs), spec.reader_group
    )
    try:
        return Fanout(spec, counters, stop).run()
    finally:
        counters.close()


if __name__ == "__main__":
    run_worker(FanoutSpec, main)
