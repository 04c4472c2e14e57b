"""The features worker: every TRADE, and every change of a top, of its input rings becomes one row of 39 columns in
`<worker>.features`.

**Failure** See consumers.stateful: killed anywhere, its rows are those of a worker that was never killed.
**Cost** bench_features_kernel, bench_features_latency.
"""

import numpy as np

from consumers.feature_engine import FeatureEngine, Scales
from consumers.feature_state import COUNTERS
from consumers.instruments import InstrumentTable
from consumers.runner import StatefulSpec, run_stateful
from layouts import EVENT, Kind
from shm.counters import Counters
from shm.worker import run_worker

RING = "features"


class FeaturesSpec(StatefulSpec, kw_only=True, forbid_unknown_fields=True):
    """What the features worker is told."""


def table_scales(table: InstrumentTable) -> Scales:
    """Return the lookup that a FeatureEngine needs, over the tables of all collectors of an instance."""

    def scales(instrument_id: int, version: int) -> tuple[int, int] | None:
        found = table.version(instrument_id, version) if version else table.latest(instrument_id)
        return (found.price_scale, found.qty_scale) if found else None

    return scales


def warm_up() -> None:
    """Compile, or load from the cache, all that `FeatureEngine.apply` runs."""
    records = np.zeros(3, EVENT)
    records["kind"] = (Kind.SNAPSHOT_BEGIN, Kind.LEVEL, Kind.TRADE)
    records["instrument_id"] = 1
    FeatureEngine(lambda _instrument_id, _version: (0, 0)).process(records)


def main(spec: FeaturesSpec) -> int:
    """Run the worker; return its exit status."""
    table = InstrumentTable(spec.instance)

    def make(_counters: Counters) -> FeatureEngine:
        warm_up()
        return FeatureEngine(table_scales(table))

    try:
        return run_stateful(spec, make, RING, COUNTERS)
    finally:
        table.close()


if __name__ == "__main__":
    run_worker(FeaturesSpec, main)
