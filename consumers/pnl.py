"""The pnl worker: each FILL of `orders.orders`, and each move of a held instrument's mark, becomes a row of positions and
P&L in `<worker>.positions`.

**Failure** See consumers.stateful and consumers.merged: killed anywhere, its rows are those of a worker that was never
killed and met its inputs in that order.
**Cost** bench_pnl_kernel.
"""

from typing import Literal

from consumers.instruments import InstrumentTable
from consumers.merged import check_inputs
from consumers.pnl_engine import IsWatched, PnlEngine, PnlOptions, PriceScale
from consumers.pnl_state import COUNTERS, ORDERS
from consumers.runner import StatefulSpec, run_stateful
from layouts import CostMethod, MarkKind
from shm.counters import Counters
from shm.worker import run_worker

RING = "positions"


class PnlSpec(StatefulSpec, kw_only=True, forbid_unknown_fields=True):
    """What the pnl worker is told; the first of its inputs is the ring of orders and fills, the others are events."""

    method: Literal["average", "fifo"] = "average"
    mark: Literal["mid", "last"] = "mid"
    lots: int = 256
    row_pause_s: float = 0.1
    """Least record time (ts_event) between two rows of a position that its mark causes."""
    day_start_s: int = 0
    """When a day begins, after midnight UTC."""
    watch: tuple[str, ...] = ()
    """Instruments, "venue:symbol", whose marks are told although nothing of them is held."""


def options_of(spec: PnlSpec) -> PnlOptions:
    """Return how a worker of this spec accounts."""
    return PnlOptions(
        method=CostMethod[spec.method.upper()],
        mark=MarkKind[spec.mark.upper()],
        lots=spec.lots,
        pause_ns=round(spec.row_pause_s * 1e9),
        day_start_ns=spec.day_start_s * 10**9,
    )


def table_price_scale(table: InstrumentTable) -> PriceScale:
    """Return the lookup that a PnlEngine needs, over the tables of all collectors of an instance."""

    def price_scale(instrument_id: int, version: int) -> int | None:
        found = table.version(instrument_id, version) if version else table.latest(instrument_id)
        return found.price_scale if found else None

    return price_scale


def table_watch(table: InstrumentTable, watch: tuple[str, ...]) -> IsWatched:
    """Return what tells whether the instrument of an id is one of these."""

    def is_watched(instrument_id: int) -> bool:
        found = table.latest(instrument_id)
        return found is not None and f"{found.venue}:{found.symbol}" in watch

    return is_watched


def main(spec: PnlSpec) -> int:
    """Run the worker; return its exit status."""
    check_inputs(spec.worker, spec.inputs)
    table = InstrumentTable(spec.instance)

    def make(_counters: Counters) -> PnlEngine:
        return PnlEngine(table_price_scale(table), options_of(spec), table_watch(table, spec.watch))

    try:
        # Without fills there is nothing to account for; marks may come when they come.
        needed = spec.inputs[: ORDERS + 1]
        return run_stateful(spec, make, RING, (*COUNTERS, "positions"), needed=needed)
    finally:
        table.close()


if __name__ == "__main__":
    run_worker(PnlSpec, main)
