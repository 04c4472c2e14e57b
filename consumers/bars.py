"""The bars worker: the trades of its input rings become closed bars in `<worker>.bars`, all series in one pass.

**Failure** See consumers.stateful: killed anywhere, its bars are those of a worker that was never killed.
**Cost** bench_bars_kernel.
**See** layouts.bar says what a bar is, which records close it and what is late.
"""

import numpy as np

from consumers.bar_engine import WORKER_COUNTERS, BarEngine, Named
from consumers.bar_series import BarsConfig
from consumers.features import table_scales
from consumers.instruments import InstrumentTable
from consumers.runner import StatefulSpec, run_stateful
from layouts import EVENT, Kind, Mark
from shm.counters import Counters
from shm.worker import run_worker

RING = "bars"


class BarsSpec(StatefulSpec, kw_only=True, forbid_unknown_fields=True):
    """What the bars worker is told."""

    bars: BarsConfig


def table_names(table: InstrumentTable) -> Named:
    """Return the lookup of `venue:symbol` that a BarEngine needs."""

    def named(instrument_id: int) -> str:
        found = table.latest(instrument_id)
        return f"{found.venue}:{found.symbol}" if found else ""

    return named


def warm_up() -> None:
    """Compile, or load from the cache, all that `BarEngine.apply` runs."""
    records = np.zeros(3, EVENT)
    records["kind"] = (Kind.TRADE, Kind.TRADE, Kind.HEARTBEAT)
    records["instrument_id"] = (1, 1, 0)
    records["ts_event"] = (1, 10**9, 0)
    records["word_1"], records["marks"] = 1, Mark.BUY
    BarEngine(BarsConfig(), lambda _id, _version: (0, 0), lambda _id: "").process(records)


def main(spec: BarsSpec) -> int:
    """Run the worker; return its exit status."""
    table = InstrumentTable(spec.instance)

    def make(_counters: Counters) -> BarEngine:
        warm_up()
        return BarEngine(spec.bars, table_scales(table), table_names(table))

    try:
        return run_stateful(spec, make, RING, WORKER_COUNTERS)
    finally:
        table.close()


if __name__ == "__main__":
    run_worker(BarsSpec, main)
