"""Fan-out puts each trade and feature row into its Redis stream once, in order, whatever is killed, down or answered
twice.

**Protocol** Per ring ("lane"): (1) on every connect read the ring's progress key and seek to the record after it;
(2) poll a batch; (3) one MULTI/EXEC: read the progress, XADD every entry with the explicit id `<epoch>-<seq>`, write
the progress; (4) count. While there is nothing to send, a PING twice a second finds a server that died. The ring is
the only buffer: while Redis is away nothing is read, and what is overwritten meanwhile becomes one gap entry with
the exact range.

**Why it is right** An entry that a lost reply left in doubt is either covered by the progress key, then the seek
passes over it, or not in the stream at all. A refused id ("equal or smaller") is a delivery only at or below the
progress that the same transaction read; above it, it is an error, counted in `entries_refused` and logged. The
cursor in the ring trails the last acknowledgement by 3 s, because a server that syncs its log each second may forget
that much when it is killed.

**Failure** Killed anywhere: nothing. Redis gone, read-only, full, loading, asking for a password: it tries again for
ever, 50 ms to 2 s apart. An instrument that no table names: its records are counted in `unknown_instruments`, and
the log says so.

**See** `consumers.entries` for the streams' fields, `consumers.progress` for the key, `consumers.redis_link` for
retries.
"""

import time
from collections import deque
from typing import Any

import structlog

from consumers.bar_entries import BarEntries
from consumers.entries import NO_ENTRIES, Entries, EventEntries, FeatureEntries
from consumers.instruments import InstrumentTable
from consumers.loop import LOST, Input, InputSet, Stoppable, input_counters, spin_us_of
from consumers.progress import Progress, progress_key, read, write
from consumers.redis_link import REASONS, Backoff, LinkError, RedisLink
from layouts import BAR, EVENT, FEATURES, describe
from shm.clock import monotonic_ns
from shm.counters import Counters
from shm.errors import ConfigurationError
from shm.worker import StopFlag, WorkerSpec, run_worker

_IDLE_S = 0.4
"""Longest rest without records: the heartbeat is due twice a second."""
_CURSOR_TRAILS_NS = 3_000_000_000
_REST_NS = 2_000_000_000
"""A run of records without entries moves the progress key at most this often."""
_FIRST_PAUSE_S = 0.05
_LOOK_NS = 500_000_000
_LOG_NS = 1_000_000_000

log = structlog.get_logger()


class FanoutSpec(WorkerSpec):
    """What a fan-out worker is given."""

    inputs: list[str]
    """Events and features rings, as `<worker>.<ring>`."""
    redis_url: str
    bar_series: tuple[str, ...] = ()
    """Names of the series of a bars ring: a lapped range is told in their streams."""
    maxlen: int = 1_000_000
    """Entries that a stream keeps, about."""
    batch_records: int = 1024
    """Most records of one transaction."""
    reply_timeout_s: float = 5.0
    backoff_cap_s: float = 2.0
    drain_timeout_s: float = 10.0


Encoder = EventEntries | FeatureEntries | BarEntries


class Lane:
    """One ring on its way to Redis."""

    def __init__(self, source: Input, key: str, encoder: Encoder) -> None:
        self.source = source
        self.key = key
        self.encoder = encoder
        self.progress = Progress()
        self.scanned = 0
        """Last seq that was looked at; what lies between it and the progress had nothing to send."""
        self.incarnation = source.incarnation
        self._moved_ns = 0
        self._acknowledged: deque[tuple[int, int]] = deque()

    def rewind(self, stored: Progress | None) -> None:
        """Go on after what Redis says has been delivered of this very ring."""
        self.incarnation = self.source.incarnation
        facts = self.source.consumer.facts()
        if stored is None or stored.uuid != facts.uuid:
            stored = Progress.fresh(facts.uuid, facts.first_seq)
        self.progress = stored
        self.scanned = stored.seq
        self.source.resume(stored.seq + 1, stored.lost)
        self.encoder.scales.restore(stored.versions)
        self._acknowledged.clear()

    def next_entries(self) -> Entries | None:
        """Read on; None where there is nothing new."""
        source = self.source
        n = source.poll()
        if n == 0:
            return None
        if n == LOST:
            self.scanned = source.lost_to
            epoch = self._at_least(source.epoch_of(source.lost_to))
            log.error(
                "records were overwritten before they were sent",
                ring=source.name,
                first_seq=source.lost_from,
                last_seq=source.lost_to,
            )
            return self.encoder.lapped(source.lost_from, source.lost_to, epoch)
        self.scanned = source.first_seq + n - 1
        return self.encoder.encode(
            source.records[:n], source.first_seq, self._at_least(source.epoch)
        )

    def after(self, entries: Entries) -> Progress:
        """Return the progress once `entries` are there."""
        lost = self.source.consumer.lapped
        return self.progress._replace(
            epoch=self._at_least(self.source.epoch_of(self.scanned)),
            seq=self.scanned,
            entries=self.progress.entries + entries.records,
            gaps=self.progress.gaps + entries.gaps,
            lost=lost,
            versions=self.encoder.scales.versions(),
        )

    def acknowledged(self, progress: Progress) -> None:
        """Redis has it; the cursor follows 3 s later."""
        self.progress = progress
        self._moved_ns = monotonic_ns()
        self._acknowledged.append((self._moved_ns + _CURSOR_TRAILS_NS, progress.seq))

    def is_behind(self, rest_ns: int = 0) -> bool:
        """True when records without entries were passed over and the progress key has rested for `rest_ns`."""
        return self.scanned > self.progress.seq and monotonic_ns() - self._moved_ns >= rest_ns

    def move_cursor(self, at_once: bool = False) -> None:
        """Commit what was acknowledged 3 s ago, or at the end of a drain all of it."""
        seq, now = -1, monotonic_ns()
        while self._acknowledged and (at_once or self._acknowledged[0][0] <= now):
            seq = self._acknowledged.popleft()[1]
        if seq >= 0:
            self.source.commit(seq + 1)

    def _at_least(self, epoch: int) -> int:
        """Return an epoch that no id goes back behind, where the ring's header has forgotten the right one."""
        return max(epoch, self.progress.epoch)


class Fanout:
    """The worker: all lanes over one connection."""

    def __init__(self, spec: FanoutSpec, counters: Counters, stop: Stoppable) -> None:
        self._spec = spec
        self._counters = counters
        self._stop = stop
        self._table = InstrumentTable(spec.instance)
        self._inputs = InputSet(
            spec.instance,
            spec.inputs,
            spec.worker,
            counters,
            spec.batch_records,
            spin_us_of(spec.cpu),
        )
        self._lanes: list[Lane] = []
        name = f"tickring-{spec.instance}-{spec.worker}"
        self._link = RedisLink(spec.redis_url, name, spec.reply_timeout_s, counters.heartbeat)
        self._backoff = Backoff(_FIRST_PAUSE_S, spec.backoff_cap_s)
        self._logged: dict[str, int] = {}
        self._was_connected = False
        self._looked_ns = 0

    def run(self) -> int:
        """Work until a drain has ended; returns the exit status."""
        if self._inputs.join(self._stop):
            self._follow_rings()
            self._counters.set_state("READY")
            while not self._stop.is_set:
                self._rest_unless(self._turn())
            self._drain()
        return self._end()

    def _drain(self) -> None:
        """Send what is there, for at most the drain's time-out."""
        self._counters.set_state("DRAINING")
        until = monotonic_ns() + int(self._spec.drain_timeout_s * 1e9)
        while monotonic_ns() < until:
            drained = self._inputs.drained()
            if drained and self._is_settled():
                return
            self._rest_unless(self._turn(0 if drained else _REST_NS))

    def _is_settled(self) -> bool:
        """True when Redis, which still answers, has all that was read."""
        if not self._link.is_open or any(lane.is_behind() for lane in self._lanes):
            return False
        try:
            self._look_at_link(after_ns=0)
        except LinkError as error:
            self._link_failed(error)
        return self._link.is_open

    def _rest_unless(self, busy: bool) -> None:
        if self._inputs.beat():
            self._follow_rings()
        if not busy and self._link.is_open:
            self._inputs.wait(_IDLE_S)
        elif not busy:
            time.sleep(_IDLE_S / 16)

    def _turn(self, rest_ns: int = _REST_NS) -> bool:
        """Send one batch of each lane; False when there was nothing to do."""
        if not self._link.is_open and not self._connect():
            return False
        busy = False
        try:
            for lane in self._lanes:
                busy |= self._send_next(lane, rest_ns)
                lane.move_cursor()
            if not busy:
                self._look_at_link()
        except LinkError as error:
            self._link_failed(error)
        self._show()
        return busy

    def _look_at_link(self, after_ns: int = _LOOK_NS) -> None:
        """While nothing is sent, find out that the server has gone: it may come back knowing less."""
        now = monotonic_ns()
        if now - self._looked_ns >= after_ns:
            self._looked_ns = now
            self._link.call("PING")

    def _connect(self) -> bool:
        if not self._backoff.due:
            return False
        try:
            self._link.open()
            for lane in self._lanes:
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

    def _follow_rings(self) -> None:
        """Begin on each ring that was joined, and anew on each that was made anew, since this was last called."""
        known = [lane.source for lane in self._lanes]
        fresh = [self._open_lane(source) for source in self._inputs if source not in known]
        self._lanes += fresh
        try:
            for lane in self._lanes:
                is_new = lane in fresh or lane.incarnation != lane.source.incarnation
                if is_new and self._link.is_open:
                    self._rewind(lane)
        except LinkError as error:
            self._link_failed(error)

    def _open_lane(self, source: Input) -> Lane:
        encoder: Encoder
        layout = describe(source.consumer.dtype)
        if layout == describe(EVENT):
            encoder = EventEntries(source.name.partition(".")[0], self._table, self._spec.maxlen)
        elif layout == describe(FEATURES):
            encoder = FeatureEntries(self._table, self._spec.maxlen)
        elif layout == describe(BAR):
            encoder = BarEntries(self._table, self._spec.maxlen, self._spec.bar_series)
        else:
            raise ConfigurationError(
                f"fan-out input {source.name} carries neither events nor features nor bars, and has no stream; "
                "name rings of these in `inputs`"
            )
        return Lane(source, progress_key(self._spec.instance, source.name), encoder)

    def _send_next(self, lane: Lane, rest_ns: int) -> bool:
        entries = lane.next_entries()
        if entries is None:
            if lane.is_behind(rest_ns):
                self._deliver(lane, NO_ENTRIES)
            return False
        if entries.unknown:
            self._counters.add("unknown_instruments", entries.unknown)
            self._say("records of unknown instruments", ring=lane.key, records=entries.unknown)
        if entries.commands or lane.is_behind(_REST_NS):
            self._deliver(lane, entries)
        return True

    def _deliver(self, lane: Lane, entries: Entries) -> None:
        """Send one transaction and settle its replies; the progress moves with it or not at all."""
        after = lane.after(entries)
        replies = self._link.transact([read(lane.key), *entries.commands, write(lane.key, after)])
        refused = self._settle(lane, replies[1:-1], entries, Progress.parse(replies[0]))
        lane.acknowledged(after._replace(entries=after.entries - refused))

    def _settle(
        self, lane: Lane, replies: list[Any], entries: Entries, before: Progress | None
    ) -> int:
        """Judge the replies of one transaction's entries; returns how many records are not in their streams."""
        refused = 0
        covered = before is not None and before.uuid == lane.progress.uuid
        covered_to = (before.epoch, before.seq) if before is not None and covered else (0, 0)
        for command, reply in zip(entries.commands, replies, strict=True):
            if not isinstance(reply, Exception):
                continue
            epoch, _, seq = str(command[5]).partition("-")
            if "equal or smaller" in str(reply) and (int(epoch), int(seq)) <= covered_to:
                self._counters.add("entries_skipped")
                continue
            refused += command[6] != "gap_from"
            self._counters.add("entries_refused")
            self._say("Redis refused an entry", stream=command[1], id=command[5], error=str(reply))
        return refused

    def _link_failed(self, error: LinkError) -> None:
        self._link.close()
        for lane in self._lanes:
            lane.rewind(lane.progress)  # a ring with unsent records is not left for its successor
        pause_s = self._backoff.failed()
        self._counters.set("redis_connected", 0)
        self._counters.add(f"redis_errors.{error.reason}")
        self._say("Redis cannot be used now", error=str(error), again_in_s=round(pause_s, 3))

    def _end(self) -> int:
        left = 0
        for lane in self._lanes:
            lane.move_cursor(at_once=True)
            left += lane.source.consumer.facts().head - 1 - lane.progress.seq
        self._counters.set("drain_left", left)
        if left:
            log.warning("ended with records that are not in Redis", records=left)
        self._show()
        self._link.close()
        self._inputs.detach()
        self._inputs.close()
        self._table.close()
        self._counters.set_state("STOPPED")
        return 0

    def _show(self) -> None:
        """Make the counters say what the progress keys say."""
        for lane in self._lanes:
            self._counters.set(f"in.{lane.source.name}.entries", lane.progress.entries)
        self._counters.set("entries_acked", sum(lane.progress.entries for lane in self._lanes))
        self._counters.set("gap_entries", sum(lane.progress.gaps for lane in self._lanes))

    def _say(self, event: str, **facts: Any) -> None:
        """Log at most once a second per event: never per record."""
        now = monotonic_ns()
        if now - self._logged.get(event, -_LOG_NS) >= _LOG_NS:
            self._logged[event] = now
            log.warning(event, **facts)


def counter_names(inputs: list[str]) -> list[str]:
    """Return the counters that a fan-out of these rings keeps."""
    own = ("acked", "skipped", "refused")
    return [
        *input_counters(inputs),
        *(f"in.{ring}.entries" for ring in inputs),
        *(f"entries_{what}" for what in own),
        *("gap_entries", "unknown_instruments", "drain_left", "redis_connected"),
        *("redis_reconnects", *(f"redis_errors.{reason}" for reason in REASONS)),
    ]


def main(spec: FanoutSpec) -> int:
    """Run the worker."""
    if spec.maxlen < 1 or spec.batch_records < 1:
        raise ConfigurationError(
            f"fan-out: maxlen {spec.maxlen}, batch_records {spec.batch_records}; 1 or more expected"
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
