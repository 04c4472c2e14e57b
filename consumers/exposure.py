"""The exposure worker: at the end of each slot of record time, what is at stake in each currency and in all of them, in
`<worker>.exposures`.

**Failure** See consumers.stateful: killed anywhere, its rows are those of a worker that was never killed.
"""

from typing import Annotated

from msgspec import Meta

from consumers.exposure_engine import COUNTERS, ExposureEngine, ExposureOptions
from consumers.instruments import InstrumentTable
from consumers.runner import StatefulSpec, run_stateful
from shm.counters import Counters
from shm.worker import run_worker

RING = "exposures"


class ExposureSpec(StatefulSpec, kw_only=True, forbid_unknown_fields=True):
    """What the exposure worker is told; its one input is a ring of POSITION records."""

    slot_s: float = 1.0
    interval_s: float = 60.0
    window: int = 500
    least_samples: int = 30
    confidence: Annotated[float, Meta(ge=0.5, lt=1.0)] = 0.99
    base_currency: str = ""
    rates: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it


def options_of(spec: ExposureSpec) -> ExposureOptions:
    """Return what a worker of this spec tells, and how often."""
    return ExposureOptions(
        slot_ns=round(spec.slot_s * 1e9),
        interval_ns=round(spec.interval_s * 1e9),
        window=spec.window,
        least_samples=spec.least_samples,
        confidence=spec.confidence,
        base_currency=spec.base_currency,
        rates=spec.rates,
    )


def main(spec: ExposureSpec) -> int:
    """Run the worker; return its exit status."""
    table = InstrumentTable(spec.instance)

    def name_of(instrument_id: int) -> str:
        found = table.latest(instrument_id)
        return f"{found.venue}:{found.symbol}" if found else ""

    def make(_counters: Counters) -> ExposureEngine:
        return ExposureEngine(options_of(spec), name_of)

    try:
        return run_stateful(spec, make, RING, COUNTERS)
    finally:
        table.close()


if __name__ == "__main__":
    run_worker(ExposureSpec, main)
