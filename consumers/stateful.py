"""A computation fed from rings into a ring: killed at any step, its output ring holds each row once and none is missing.

**Protocol** A turn: wait; poll one batch of one input; apply it; publish its rows. Now and then, between turns:
write the state with the position in each input (C1), then commit the inputs' cursors (C2). At the start: load the
newest checkpoint that fits, go back to its positions, and look through the own output for rows that were published
after it; what is replayed is applied again, and of its rows those up to the last one found are suppressed, each
`(source seq, index)` of an input in order.

**Why it is right** The computation is a function of its records, so a replay makes the rows again that are in the
output already; they name the record that caused them, and each input's rows are published in order, so one
position an input tells which. Where a row depends on more than one input, its column `applied_seq` tells how far each
was, and the replay merges them so (consumers.merged). A checkpoint is written at the latest after half an output ring,
so the rows to look through are still there. Killed before C1: the older checkpoint, a longer replay. Between C1 and
C2: the checkpoint's position wins over the cursor.

**Failure** An input whose ring is not there yet is joined when it comes; checkpoints say so, and a restart reads it from its
oldest record, as the worker did. Without a checkpoint that fits, everything the inputs still hold is applied from the oldest
record on. Records lost to overwriting are told to the computation, and the snapshots that it then lacks are asked of the
collector.
"""

import numpy as np
import structlog

from consumers.carried import CarriedStore, Carrying
from consumers.checkpoint import Checkpoint, CheckpointStore, Position
from consumers.computation import Computation, Restartable
from consumers.loop import LOST, Input, InputSet
from consumers.merged import COLUMN, RecordedMerge
from layouts import Kind
from shm._native import ffi, lib
from shm.clock import monotonic_ns
from shm.counters import Counters
from shm.njit import address_of
from shm.producer import Producer
from shm.reader import open_reader

WAIT_S = 0.4
"""Longest rest without records: the heartbeat is due twice a second."""
COUNTERS = (
    "rows_published",
    "groups_suppressed",
    "compiles_after_ready",
    "checkpoints",
    "restored",
)
_EVERY_INDEX = 1 << 32
_NOT_JOINED = -1


class _Told:
    """The last row of one input that is in the output already: what is replayed up to it is suppressed."""

    def __init__(self, seq: int = 0, index: int = -1) -> None:
        self.seq, self.index = seq, index

    def note(self, seq: int, index: int) -> None:
        self.seq, self.index = max((self.seq, self.index), (seq, index))

    def repeated(self, rows: np.ndarray) -> int:
        """Return how many of `rows` are in the output."""
        seqs, indexes = rows["source_seq"], rows["source_index"]
        return int(
            np.count_nonzero((seqs < self.seq) | ((seqs == self.seq) & (indexes <= self.index)))
        )


class StatefulWorker:
    """One computation with its inputs, output and checkpoints."""

    def __init__(
        self,
        computation: Computation,
        inputs: InputSet,
        output: Producer,
        store: CheckpointStore,
        counters: Counters,
        checkpoint_s: float,
    ) -> None:
        self._computation, self._inputs, self._output = computation, inputs, output
        self._store, self._counters = store, counters
        carries = isinstance(computation, Carrying)
        self._carried = CarriedStore(store.state_dir, store.worker) if carries else None
        if self._carried is not None:
            self._carried.load()
        self._checkpoint_ns = int(checkpoint_s * 1e9)
        self._checkpoint_at = monotonic_ns() + self._checkpoint_ns
        self._told = [_Told() for _ in inputs.rings]
        self._replaying = [False for _ in inputs.rings]
        self._incarnations = [_NOT_JOINED for _ in inputs.rings]
        self._rows = ffi.cast("char *", address_of(computation.rows))
        self._row_bytes = computation.output.itemsize
        self._addresses = [0 for _ in inputs.rings]
        self._half_output = output.facts().slots // 2
        self._eighths = [0 for _ in inputs.rings]
        self._saved_rows = output.next_seq
        self._saved_seqs = [0 for _ in inputs.rings]
        self._follow_rings()
        merges = COLUMN in (computation.output.names or ())
        self._merge = RecordedMerge() if merges else None
        self._following = False

    def restore(self) -> bool:
        """Go back to the newest checkpoint that fits, or to the oldest records; True: a checkpoint was found."""
        log = structlog.get_logger()
        found = self._store.load()
        joined = {source.name: source.uuid for source in self._inputs}
        rings = [(name, joined.get(name, "")) for name in self._inputs.rings]
        restored = False
        scan_from = 0
        if found is not None:
            checkpoint, image = found
            output_uuid = self._output.facts().uuid
            reason = checkpoint.misfit(self._computation.identity, output_uuid, rings)
            if not reason:
                try:
                    self._computation.load(image)
                except ValueError as error:
                    reason = str(error)
            if reason:
                log.warning("checkpoint refused; rebuilding from what the rings hold", why=reason)
            else:
                restored = True
                for source in self._inputs:
                    self._resume(source, checkpoint.positions[source.index])
                scan_from = checkpoint.output_next_seq
        if not restored:
            for source in self._inputs:
                _from_oldest(source)
        self._look_through_output(scan_from)
        self._replaying = [told.seq > 0 for told in self._told]
        self._note_saved()
        return restored

    def publish_restart(self) -> None:
        """Open this epoch of the output with a RESTART record, if there was an earlier one, behind what that one told."""
        if not self._output.is_restart:
            return
        self._follow_merge()
        record = np.zeros(1, self._computation.output)
        record["kind"] = Kind.RESTART
        words = record.view(np.int64)
        words[4], words[5] = self._output.epoch, self._output.previous_epoch
        for name in self._computation.output.names or ():
            if record.dtype[name].kind == "f":
                record[name] = np.nan
        if isinstance(self._computation, Restartable):
            self._computation.restarted(record)
        self._output.publish_batch(record)

    def turn(self, timeout_s: float = WAIT_S) -> int:
        """Wait for records, apply a batch of each input and publish its rows; return how many records were applied."""
        self._follow_merge()
        if not self._inputs.wait(timeout_s):
            self._beat()
            return 0
        applied = 0
        for source in self._inputs:
            n = source.poll()
            if n > 0:
                applied += n
                self._apply(source.index, source, n)
            elif n == LOST:
                self._lost(source.index, source)
        self._beat()
        return applied

    def save(self, is_last: bool = False) -> None:
        """Write a checkpoint (C1), then commit the cursors (C2); never before a recorded merge was followed to its end,
        which the rows behind the checkpoint would no longer tell.
        """
        self._follow_merge()
        if self._following:
            return
        absent = (Position(ring=r, uuid="", next_seq=0, lapped=0) for r in self._inputs.rings)
        positions = dict(enumerate(absent))
        positions |= {source.index: self._position(source) for source in self._inputs}
        checkpoint = Checkpoint(
            computation=self._computation.identity,
            output_uuid=self._output.facts().uuid,
            output_next_seq=self._output.next_seq,
            positions=tuple(positions.values()),
        )
        self._store.save(checkpoint, self._computation.to_bytes())
        if self._carried is not None and isinstance(self._computation, Carrying):
            self._carried.save(positions[0], self._computation, is_last)
        for source in self._inputs:
            source.commit()
        self._counters.add("checkpoints")
        self._saved_rows = self._output.next_seq
        self._note_saved()
        self._checkpoint_at = monotonic_ns() + self._checkpoint_ns

    def drained(self) -> bool:
        """Every input was read to where it stood when this was first asked."""
        is_drained = self._inputs.drained()
        self._follow_rings()  # the first call may have joined some
        return is_drained

    def _position(self, source: Input) -> Position:
        told = self._told[source.index]
        return Position(
            ring=source.name,
            uuid=source.uuid,
            next_seq=source.next_seq,
            lapped=source.consumer.lapped,
            told_seq=max(told.seq, source.next_seq - 1),
            told_index=told.index if told.seq >= source.next_seq else _EVERY_INDEX,
        )

    def _note_saved(self) -> None:
        for source in self._inputs:
            self._saved_seqs[source.index] = source.next_seq

    def _follow_merge(self) -> None:
        """After a restart, once: apply what the output's rows name as their causes, in their order."""
        if self._merge is not None:
            merge, self._merge = self._merge, None
            self._following = True
            merge.follow(len(self._inputs.rings), self._advance, self._follow_restart)
            self._following = False

    def _follow_restart(self, row: np.void) -> None:
        if isinstance(self._computation, Restartable):
            self._computation.follow_restart(row)

    def _advance(self, i: int, seq: int) -> None:
        """Apply an input up to and with `seq`, or as far as its ring goes; seq 0: of one that was not joined yet."""
        if seq < 1 or self._incarnations[i] == _NOT_JOINED:
            return
        source = self._inputs[i]
        while source.next_seq <= seq:
            n = source.poll(seq + 1 - source.next_seq)
            if n > 0:
                self._apply(i, source, n)
            elif n == LOST:
                self._lost(i, source)
            else:
                return

    def _apply(self, i: int, source: Input, n: int) -> None:
        made = self._computation.apply(self._addresses[i], n, i, source.epoch)
        self._take_rows(i, made)
        while self._computation.unfinished:
            made = self._computation.apply(self._addresses[i], n, i, source.epoch)
            self._take_rows(i, made)
        if self._replaying[i]:
            self._replaying[i] = source.next_seq <= self._told[i].seq
        if (
            self._output.next_seq - self._saved_rows >= self._half_output
            or source.next_seq - self._saved_seqs[i] >= self._eighths[i]
        ):
            self.save()

    def _take_rows(self, i: int, made: int) -> None:
        """Publish the rows of one `apply`, but for those that are in the output already."""
        first = 0
        if self._replaying[i]:
            first = self._told[i].repeated(self._computation.rows[:made])
            self._counters.add("groups_suppressed", first)
        if made > first:
            self._publish(first, made)

    def _publish(self, first: int, end: int) -> None:
        """Publish rows first .. end - 1 of the batch; one foreign call, no array made."""
        rows = self._rows + first * self._row_bytes if first else self._rows
        if lib.tr_publish_batch(self._output.handle, rows, end - first) <= 0:
            self._output.publish_batch(self._computation.rows[first:end])  # says what is wrong

    def _lost(self, i: int, source: Input) -> None:
        structlog.get_logger().warning(
            "records were overwritten before they were read",
            ring=source.name,
            lost_from=source.lost_from,
            lost_to=source.lost_to,
        )
        self._computation.forget(i)
        self._ask_snapshots(i, source)

    def _ask_snapshots(self, i: int, source: Input) -> None:
        for instrument_id in self._computation.wanting(i):
            source.consumer.request_snapshot(instrument_id)

    def _beat(self) -> None:
        if not self._inputs.beat():
            return
        self._output.heartbeat()
        self._computation.idle()
        self._follow_rings()
        for source in self._inputs:
            self._ask_snapshots(source.index, source)
        for name, value in self._computation.counters.items():
            self._counters.set(name, value)
        facts = self._output.facts()
        self._counters.set("rows_published", facts.head - facts.first_seq)
        if monotonic_ns() >= self._checkpoint_at:
            self.save()

    def _follow_rings(self) -> None:
        """Begin with each input that was joined or made anew since this was last called."""
        for source in self._inputs:
            i, before = source.index, self._incarnations[source.index]
            if source.incarnation == before:
                continue
            self._incarnations[i] = source.incarnation
            self._addresses[i] = address_of(source.records)
            self._eighths[i] = source.consumer.facts().slots // 8
            self._told[i], self._replaying[i] = _Told(), False
            self._saved_seqs[i] = source.next_seq
            if before != _NOT_JOINED:
                self._computation.forget(i)

    def _resume(self, source: Input, position: Position) -> None:
        if not position.uuid:
            _from_oldest(source)
            return
        source.resume(position.next_seq, position.lapped)
        self._told[source.index].note(position.told_seq, position.told_index)

    def _look_through_output(self, scan_from: int) -> None:
        """Note the last row of each input among those that the output holds from `scan_from` on."""
        source_of = {
            epoch: source.index
            for source in self._inputs
            for epoch, _ in source.consumer.facts().epochs
        }
        with open_reader(self._output.name, self._computation.output) as reader:
            reader.seek_oldest()
            if scan_from > reader.next_seq:
                reader.seek(scan_from)
            rows, _ = reader.poll()
            while len(rows):
                self._note_rows(rows, source_of)
                if self._merge is not None:
                    self._merge.note(rows, source_of)
                rows, _ = reader.poll()

    def _note_rows(self, rows: np.ndarray, source_of: dict[int, int]) -> None:
        caused = rows[(rows["kind"] != Kind.RESTART) & (rows["source_seq"] > 0)]
        for epoch in np.unique(caused["source_epoch"]):
            i = source_of.get(int(epoch))
            if i is not None:
                last = caused[caused["source_epoch"] == epoch][-1]
                self._told[i].note(int(last["source_seq"]), int(last["source_index"]))


def _from_oldest(source: Input) -> None:
    source.resume(int(lib.tr_oldest(source.consumer.handle)), source.consumer.lapped)
