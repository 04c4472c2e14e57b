"""A ring has to hold what comes in while a reader is away: slots >= rate x (what it repeats + its restart + its outage).

**Why it is right** After a restart a reader goes on at its cursor, so what came since the cursor was stored, while it was
restarted, and while what it writes to was away must still be in the ring; else the difference is lost, counted to the record.
Rates are those of the configuration (`records_per_s`, `rows_per_s`), or what a running ring has carried on average if more.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from layouts.own import OWN_RING
from ops.options import FanoutOptions, RecorderOptions, Topology
from ops.options_base import WorkerOptions
from shm.clock import now_ns
from shm.errors import AttachError
from shm.reader import open_reader
from shm.registry import ring_names

FANOUT_TRAILS_S = 3.0
"""The fan-out's cursor is so far behind Redis' acknowledgement: consumers.fanout."""
SYNC_S = 0.5
"""The recorder's cursor follows its journal so often: consumers.recorder."""
RESTART_S = 1.0
KERNELS_RESTART_S = 3.0
"""A worker is ready again after so long; one with compiled kernels loads those first."""


class Need(NamedTuple):
    """One reader of one ring."""

    ring: str
    reader: str
    slots: int
    per_s: float
    holds_s: float
    """What the ring holds at that rate."""
    needs_s: float
    """What the reader may be away for."""
    slots_needed: int

    @property
    def is_enough(self) -> bool:
        """The slots hold what is needed."""
        return self.slots >= self.slots_needed

    @property
    def advice(self) -> str:
        """What is missing, and what to set."""
        return (
            f"{self.ring} holds {self.holds_s:.1f} s at {self.per_s:,.0f} records/s and {self.reader} may be away for "
            f"{self.needs_s:.1f} s: give it {self.slots_needed} slots, or lower outage_s or checkpoint_s of {self.reader}"
        )


def needs(topology: Topology, measured_per_s: Mapping[str, float] | None = None) -> list[Need]:
    """Return what each reader needs of each ring that it reads and that carries a market's rate.

    Args:
        topology: the configuration.
        measured_per_s: what rings have carried, by public name.
    """
    found = []
    for ring, (slots, expected_per_s) in _carriers(topology).items():
        per_s = max(expected_per_s, (measured_per_s or {}).get(ring, 0.0))
        for name, options in topology.workers().items():
            if ring in topology.expand(getattr(options, "inputs", ())):
                away_s = _away_s(options)
                needed = 1 << max(1, math.ceil(per_s * away_s) - 1).bit_length()
                found.append(Need(ring, name, slots, per_s, slots / per_s, away_s, needed))
    return found


def measured(instance: str) -> dict[str, float]:
    """Return what each ring of an instance has carried since it was made, in records a second; empty when it does not run."""
    found = {}
    for name in ring_names(instance):
        try:
            with open_reader(name) as reader:
                facts = reader.facts()
        except AttachError:
            continue
        age_s = (now_ns() - facts.created_ns) / 1e9
        if age_s >= RESTART_S:
            found[str(name)] = (facts.head - facts.first_seq) / age_s
    return found


def _carriers(topology: Topology) -> dict[str, tuple[int, float]]:
    """Return slots and expected rate of each ring that can be lapped: tables and newest books cannot."""
    found = {
        f"{name}.events": (c.event_slots, c.records_per_s)
        for name, c in topology.running_collectors.items()
    }
    if topology.features.enabled:
        found["features.features"] = (topology.features.slots, topology.features.rows_per_s)
    if topology.bars.enabled:
        found["bars.bars"] = (topology.bars.slots, topology.bars.rows_per_s)
    for name, own in topology.consumers.items():
        if own.enabled:
            found[f"{name}.{OWN_RING}"] = (own.slots, own.rows_per_s)
    return found


def _away_s(options: WorkerOptions) -> float:
    if isinstance(options, FanoutOptions):
        return FANOUT_TRAILS_S + RESTART_S + options.outage_s
    if isinstance(options, RecorderOptions):
        return SYNC_S + RESTART_S + options.outage_s
    return float(getattr(options, "checkpoint_s", 0.0)) + KERNELS_RESTART_S
