"""Latency is a query over what is in the records: every hop stamped itself, and a passive reader only collects.

    socket -> ring      publish_delta_ns of a frame's last record: socket callback to visible in the events ring
    ring -> features    the row's publish_delta_ns less that of the record which caused it: visible to visible
    end to end          the row's publish_delta_ns: socket callback to visible in the features ring

Only what came in after `begin` counts: a row that waited for a worker to start tells nothing of the hop.

**Why it is right** All deltas are differences of one host's wall clock, which may be set. A delta of 0 (the clock went back) or
2**32 - 1 ns (saturated) is counted as `flagged` and left out, and steps of the clock during the measurement are told.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from layouts import EVENT, FEATURES, Kind, Mark
from shm.clock import monotonic_ns, now_ns
from shm.errors import AttachError
from shm.reader import Reader, open_reader
from shm.registry import parse_ring

SATURATED_NS = 2**32 - 1
STEP_NS = 1_000_000
FEATURES_RING = "features.features"
_DATA = [int(kind) for kind in (Kind.TRADE, Kind.QUOTE, Kind.LEVEL, Kind.SNAPSHOT_END)]


class Hop(msgspec.Struct, kw_only=True):
    """One hop's latencies in ns; None where nothing was measured."""

    hop: str
    n: int
    p50_ns: int | None = None
    p90_ns: int | None = None
    p99_ns: int | None = None
    p999_ns: int | None = None
    max_ns: int | None = None
    flagged: int = 0


class _Rows(NamedTuple):
    """Sampled feature rows."""

    source_epoch: np.ndarray
    source_seq: np.ndarray
    delta: np.ndarray


class Sampler:
    """Follows the rings of an instance; call `sample` a few times a second."""

    def __init__(self, instance: str, events: list[str]) -> None:
        self._instance = instance
        self._events = events
        self._readers: dict[str, Reader] = {}
        self._deltas: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._frames: list[np.ndarray] = []
        self._rows: list[_Rows] = []
        self.first_record_ns = 0
        """Wall clock at which the first data record became visible; 0: none has."""
        self.missed = 0
        """Records that were overwritten before they were sampled."""
        self.clock_steps = 0
        self._since_ns = 2**63 - 1
        self._offset_ns = now_ns() - monotonic_ns()

    def begin(self) -> None:
        """Count from now on."""
        self.sample()
        self._since_ns = now_ns()

    def sample(self) -> None:
        """Take in what has come since."""
        offset_ns = now_ns() - monotonic_ns()
        if abs(offset_ns - self._offset_ns) > STEP_NS:
            self.clock_steps += 1
        self._offset_ns = offset_ns
        for ring in self._events:
            self._sample_events(ring)
        while (found := self._poll(FEATURES_RING, FEATURES)) is not None:
            rows = found[0][found[0]["kind"] == int(Kind.FEATURES)]
            rows = rows[rows["ts_recv"] >= self._since_ns]
            self._rows.append(
                _Rows(
                    rows["source_epoch"].copy(),
                    rows["source_seq"].copy(),
                    rows["publish_delta_ns"].astype(np.int64),
                )
            )

    def hops(self) -> list[Hop]:
        """Return the latencies of all that was sampled."""
        frames = np.concatenate([np.empty(0, np.int64), *self._frames])
        rows = [
            np.concatenate([np.empty(0, np.int64), *column])
            for column in zip(*self._rows, strict=True)
        ]
        if not rows:
            rows = [np.empty(0, np.int64)] * 3
        whole = _Rows(*rows)
        return [
            _hop("socket -> ring", frames),
            self._between(whole),
            _hop("end to end", whole.delta),
        ]

    def close(self) -> None:
        """Unmap the rings."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _sample_events(self, ring: str) -> None:
        while (found := self._poll(ring, EVENT)) is not None:
            records, first_seq, epoch = found
            delta = records["publish_delta_ns"].astype(np.int64)
            data = np.isin(records["kind"], _DATA)
            if not self.first_record_ns and data.any():
                first = int(np.flatnonzero(data)[0])
                self.first_record_ns = int(records["ts_recv"][first]) + int(delta[first])
            ends = data & (records["marks"] & int(Mark.LAST_IN_FRAME) > 0)
            self._frames.append(delta[ends & (records["ts_recv"] >= self._since_ns)])
            causes = np.isin(records["kind"], [int(Kind.TRADE), int(Kind.QUOTE)])
            seqs = np.arange(first_seq, first_seq + len(records), dtype=np.int64)
            self._deltas.setdefault(epoch, []).append((seqs[causes], delta[causes]))

    def _poll(self, ring: str, dtype: np.dtype) -> tuple[np.ndarray, int, int] | None:
        reader = self._readers.get(ring)
        if reader is None:
            try:
                reader = open_reader(parse_ring(ring, self._instance), dtype)
            except AttachError:
                return None
            reader.seek_oldest()
            reader.handle.rejoin = 2
            self._readers[ring] = reader
        records, info = reader.poll()
        self.missed += info.lost
        return (records, info.first_seq, info.epoch) if len(records) else None

    def _between(self, rows: _Rows) -> Hop:
        """Subtract from each row's delta that of the record which caused it, where both were sampled."""
        parts = []
        for epoch, sampled in self._deltas.items():
            seqs = np.concatenate([s for s, _ in sampled])
            deltas = np.concatenate([d for _, d in sampled])
            mine = rows.source_epoch == epoch
            at = np.searchsorted(seqs, rows.source_seq[mine])
            at[at == len(seqs)] = 0
            known = seqs[at] == rows.source_seq[mine] if len(seqs) else np.zeros(0, bool)
            if not known.any():
                continue
            late, early = rows.delta[mine][known], deltas[at[known]]
            sound = (late > 0) & (late < SATURATED_NS) & (early < SATURATED_NS)
            parts.append(np.where(sound, late - early, 0))
        return _hop("ring -> features", np.concatenate([np.empty(0, np.int64), *parts]))


def _hop(name: str, deltas: np.ndarray) -> Hop:
    sound = deltas[(deltas > 0) & (deltas < SATURATED_NS)]
    hop = Hop(hop=name, n=len(sound), flagged=len(deltas) - len(sound))
    if len(sound):
        p50, p90, p99, p999 = np.percentile(sound, [50, 90, 99, 99.9], method="higher").tolist()
        hop.p50_ns, hop.p90_ns, hop.p99_ns, hop.p999_ns = int(p50), int(p90), int(p99), int(p999)
        hop.max_ns = int(sound.max())
    return hop
