"""The risk worker: each record of `orders.orders` and of `control.control` becomes one decision in `<worker>.decisions`.

**Failure** See consumers.stateful and consumers.merged: killed anywhere, what it had decided is decided again from the same
merge of its inputs, and told once. After every restart it is HALTED until an operator resumes it, unless `halt_on_restart` is
false: what was on its way to a venue meanwhile is for people to look at.
**Cost** bench_risk_kernel.
"""

import numpy as np

from consumers.instruments import InstrumentTable
from consumers.merged import check_inputs
from consumers.risk_engine import RiskEngine
from consumers.risk_scales import Named, Names
from consumers.risk_state import COUNTERS
from consumers.runner import StatefulSpec, run_stateful
from layouts import CONTROL, EVENT, ORDER, Kind, OrderType
from shm.counters import Counters
from shm.errors import ConfigurationError
from shm.njit import address_of
from shm.worker import run_worker

RING = "decisions"
ROLES = ("orders", "control")
"""What the first two inputs are; all others are events."""


class RiskSpec(StatefulSpec, kw_only=True, forbid_unknown_fields=True):
    """What the risk worker is told; its limits come as CONTROL records."""

    accounts: list[int]
    currency: str
    """In which sums over several instruments are limited."""
    halt_on_restart: bool = True


def table_names(table: InstrumentTable) -> Names:
    """Return the lookup that a RiskEngine needs, over the tables of all collectors of an instance."""

    def names(instrument_id: int, version: int) -> Named | None:
        found = table.version(instrument_id, version) if version else table.latest(instrument_id)
        if found is None:
            return None
        return Named(found.venue, found.symbol, found.price_scale, found.qty_scale)

    return names


def roles_of(inputs: list[str]) -> list[str]:
    """Return the role of each input of a spec."""
    return [*ROLES, *("events" for _ in inputs[len(ROLES) :])]


def warm_up() -> None:
    """Compile, or load from the cache, all that `RiskEngine.apply` runs."""
    engine = RiskEngine(lambda _id, _version: Named("", "", 0, 0), [1], "", [*ROLES, "events"])
    events, orders, controls = np.zeros(1, EVENT), np.zeros(1, ORDER), np.zeros(1, CONTROL)
    events["kind"], events["instrument_id"] = Kind.QUOTE, 1
    controls["kind"] = Kind.CONTROL
    orders["kind"], orders["instrument_id"], orders["account"] = Kind.ORDER, 1, 1
    orders["order_type"], orders["qty"], orders["multiplier"] = OrderType.MARKET, 1, 1
    orders["marks"], orders["ts_recv"] = 4, 10**18
    for source, records in ((2, events), (1, controls), (0, orders)):
        engine.apply(address_of(records), 1, source, 1)


def main(spec: RiskSpec) -> int:
    """Run the worker; return its exit status."""
    check_inputs(spec.worker, spec.inputs)
    if len(spec.inputs) <= len(ROLES):
        raise ConfigurationError(
            f"{spec.worker}.inputs {spec.inputs}: the rings of orders, controls and at least one of events expected"
        )
    table = InstrumentTable(spec.instance)

    def make(_counters: Counters) -> RiskEngine:
        warm_up()
        roles = roles_of(spec.inputs)
        return RiskEngine(
            table_names(table), spec.accounts, spec.currency, roles, spec.halt_on_restart
        )

    names = (*COUNTERS, "trading_state", "orders_open")
    try:
        # No order may be judged before its limits and halts can be read; one without a mark is refused.
        return run_stateful(spec, make, RING, names, needed=spec.inputs[: len(ROLES)])
    finally:
        table.close()


if __name__ == "__main__":
    run_worker(RiskSpec, main)
