"""The whole pipeline for a while: started, waited for, measured, drained, audited, and gone without a trace.

Exit status 0 promises that nothing is unaccounted for, no region is left in /dev/shm and no process runs; also after Ctrl-C.
"""

import subprocess
import sys
import time
from typing import Any

import msgspec

from ops import show
from ops.audit import Audit, closed_books, show_result
from ops.child import child_environment
from ops.end import bring_down
from ops.inputs import capture_files
from ops.latency import Hop, Sampler
from ops.launch import launch
from ops.options import Topology
from ops.plan import make_plan
from ops.status import NOT_RUNNING, read_status
from ops.supervisor import find_running
from shm.clock import monotonic_ns, now_ns
from shm.errors import TickringError
from shm.kernel_cache import is_warm
from shm.registry import files_of
from shm.worker import StopFlag

SAMPLE_S = 0.1
TELL_S = 5.0
SPARE_S = 30.0
_WARM_UP = "from consumers import bars, features; features.warm_up(); bars.warm_up()"


class RunReport(msgspec.Struct, kw_only=True):
    """What `tickring run --json` prints."""

    instance: str
    source: str
    ready: bool
    seconds: float
    to_ready_s: float | None = None
    to_first_record_s: float | None = None
    flow: dict[str, dict[str, int]] = {}
    latency: list[Hop] = []
    clock_steps: int = 0
    unaccounted: int
    regions_left: list[str] = []
    processes_left: list[int] = []
    audit: Audit


class NotReady(TickringError):
    """The pipeline did not come up."""


def run(topology: Topology, seconds: float, as_json: bool) -> int:
    """Run the job and return the exit status."""
    stop = StopFlag()
    source = "recordings" if capture_files(topology) else "a synthetic market"
    show.complain(f"starting instance {topology.instance}; the venue server plays {source}")
    _compile(topology, stop)
    began_ns, began_wall_ns = monotonic_ns(), now_ns()
    launch(topology)
    sampler = Sampler(topology.instance, topology.expand(["*.events"]))
    ready_s: float | None = None
    reasons: list[str] = []
    try:
        reasons = _wait(topology, sampler, stop)
        if not reasons and not stop.is_set:
            ready_s = (monotonic_ns() - began_ns) / 1e9
            show.complain(f"ready after {ready_s:.1f} s; running for {seconds:g} s")
            sampler.begin()
            _sample(sampler, stop, seconds)
        elif reasons:
            show.complain("not ready: " + "; ".join(reasons))
    finally:
        show.complain("draining, closing the books")
        bring_down(topology.instance)
        sampler.close()
    audit = closed_books(topology.state_path)
    report = RunReport(
        instance=topology.instance,
        source=source,
        ready=ready_s is not None,
        seconds=seconds,
        to_ready_s=ready_s,
        flow=flow_of(audit),
        latency=sampler.hops(),
        clock_steps=sampler.clock_steps,
        unaccounted=audit.unaccounted,
        regions_left=files_of(topology.instance),
        processes_left=[pid for _, pid in find_running(make_plan(topology))],
        audit=audit,
    )
    if sampler.first_record_ns:
        report.to_first_record_s = (sampler.first_record_ns - began_wall_ns) / 1e9
    if as_json:
        show.as_json(report)
    else:
        _print(report)
    is_clean = not (report.regions_left or report.processes_left or report.unaccounted)
    return 0 if is_clean and (report.ready or stop.is_set) else 1


def _compile(topology: Topology, stop: StopFlag) -> None:
    """Compile the kernels before anything flows, so that the first run measures the pipeline and not the compiler."""
    if not (topology.features.enabled or topology.bars.enabled) or is_warm():
        return
    show.complain("compiling the numba kernels, this once; half a minute or so")
    process = subprocess.Popen([sys.executable, "-P", "-c", _WARM_UP], env=child_environment())
    while process.poll() is None and not stop.is_set:
        time.sleep(0.05)
    process.terminate()
    if process.wait() and not stop.is_set:
        raise NotReady("the numba kernels cannot be compiled; the compiler's words are above")


def flow_of(audit: Audit) -> dict[str, dict[str, int]]:
    """Return of each worker's last counters those that tell what went through it."""
    wanted = (
        *(
            "frames_in",
            "records_published",
            "trades",
            "checksums_ok",
            "checksums_bad",
            "reconnects",
        ),
        *("rows_published", "entries_acked", "gap_entries", "rows_stored", "files_published"),
    )
    return {
        worker: {name: values[name] for name in wanted if name in values}
        for worker, values in audit.counters.items()
    }


def _wait(topology: Topology, sampler: Sampler, stop: StopFlag) -> list[str]:
    """Wait until all is ready; return why not, or nothing."""
    limit_s = topology.supervisor.start_timeout_s + SPARE_S
    until_ns = monotonic_ns() + int(limit_s * 1e9)
    tell_ns = monotonic_ns() + int(TELL_S * 1e9)
    while not stop.is_set:
        sampler.sample()
        status = read_status(topology.instance, with_cpu=False)
        failed = [row for row in status.workers if row.state == "FAILED"]
        if status.is_ready:
            return []
        if failed or status.state == NOT_RUNNING or monotonic_ns() > until_ns:
            return status.reasons
        if monotonic_ns() > tell_ns:
            show.complain("waiting: " + "; ".join(status.reasons))
            tell_ns += int(TELL_S * 1e9)
        time.sleep(0.02)
    return []


def _sample(sampler: Sampler, stop: StopFlag, seconds: float) -> None:
    until_ns = monotonic_ns() + int(seconds * 1e9)
    while not stop.is_set and monotonic_ns() < until_ns:
        sampler.sample()
        time.sleep(SAMPLE_S)
    sampler.sample()


def _print(report: RunReport) -> None:
    show.say(f"instance {report.instance} on {report.source}")
    if report.to_first_record_s is not None:
        show.say(f"start to first record {report.to_first_record_s:.2f} s")
    show.say()
    show.table(
        ["worker", "what flowed"],
        [(worker, _words(values)) for worker, values in report.flow.items() if values],
    )
    show.say()
    show.table(
        ["hop", "n", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us", "flagged"],
        [(h.hop, h.n, *_microseconds(h), h.flagged) for h in report.latency],
    )
    if report.clock_steps:
        show.say(
            f"the wall clock was set {report.clock_steps} times meanwhile: do not trust the latencies"
        )
    show.say()
    show_result(report.audit)
    left = [*report.regions_left, *(f"pid {pid}" for pid in report.processes_left)]
    show.say("left behind: " + (", ".join(left) if left else "nothing"))


def _words(values: dict[str, int]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in values.items())


def _microseconds(hop: Hop) -> list[Any]:
    values = (hop.p50_ns, hop.p90_ns, hop.p99_ns, hop.p999_ns, hop.max_ns)
    return [None if value is None else value / 1e3 for value in values]
