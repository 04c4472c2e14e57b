"""The state of an instance is read from shared memory and two small files: it is told also when everything has crashed.

**Why it is right** A process' state is the supervisor's word, corrected by what can be seen: a pid that no longer lives is
ENDED, whatever was last written about it. Ages are wall-clock differences and flagged by a minus sign when a clock went back.
"""

import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

from ops.child import ChildFacts
from ops.link import LinkFacts, link_facts
from ops.supervisor import STATES_FILE
from ops.wslog_index import captures_of
from ops.wslog_keeper import read_report
from shm.clock import monotonic_ns, now_ns
from shm.counters import WorkerFacts, read_counters
from shm.errors import AttachError
from shm.process import is_alive
from shm.reader import open_reader
from shm.registry import Instance, parse_ring, read_instance

WELL, DEGRADED, NOT_RUNNING = "well", "degraded", "not running"
EXIT_STATUS = {WELL: 0, DEGRADED: 1, NOT_RUNNING: 3}
CPU_SAMPLE_S = 0.1
HEARTBEAT_LIMIT_S = 2.0


class WorkerRow(msgspec.Struct, kw_only=True):
    """One process. None: does not apply, or is not known."""

    worker: str
    kind: str
    state: str
    pid: int = 0
    core: int = -1
    cpu_percent: float | None = None
    restarts: int = 0
    heartbeat_age_s: float | None = None
    lag_records: int | None = None
    gaps: int | None = None
    lost_records: int | None = None
    last_data_age_s: float | None = None
    books: str = ""
    connected: bool | None = None
    link: LinkFacts | None = None
    capture: str = ""
    """"on", "failed" (frames are not kept), or "" where none was asked for."""
    waits_for: list[str] = []
    """Input rings that are not there; once they are, they are joined."""
    compiles_after_ready: int = 0
    """Kernels that were compiled while records waited."""
    message: str = ""


class Status(msgspec.Struct, kw_only=True):
    """One instance; `reasons` says why it is not well."""

    instance: str
    state: str
    reasons: list[str] = []
    supervisor_pid: int = 0
    supervisor_alive: bool = False
    state_dir: str = ""
    workers: list[WorkerRow] = []

    @property
    def is_ready(self) -> bool:
        """Every process runs and is warm, every link is up, every book LIVE."""
        return self.state == WELL


def read_status(instance: str, with_cpu: bool = True) -> Status:
    """Return what there is to tell of an instance."""
    try:
        found = read_instance(instance)
    except AttachError as error:
        return Status(instance=instance, state=NOT_RUNNING, reasons=[str(error)])
    children = read_children(found)
    rows = [_row(instance, name, facts) for name, facts in children.items()]
    if with_cpu:
        _measure_cpu(rows)
    status = Status(
        instance=instance,
        state=WELL,
        supervisor_pid=found.pid,
        supervisor_alive=found.alive,
        state_dir=found.state_dir,
        workers=rows,
    )
    if not found.alive:
        status.reasons.append(
            f"the supervisor (pid {found.pid}) is gone; `tickring up` adopts what runs, `tickring down` ends it"
        )
    for row in rows:
        status.reasons += _reasons(row)
    status.reasons += _keeping(found)
    if status.reasons:
        status.state = DEGRADED
    if not found.alive and not any(row.pid for row in rows):
        status.state = NOT_RUNNING
    return status


def read_children(found: Instance) -> dict[str, ChildFacts]:
    """Return what the supervisor last said of each worker."""
    path = Path(found.state_dir) / "run" / STATES_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, ChildFacts])
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return {}


def wait_ready(instance: str, timeout_s: float) -> Status:
    """Return as soon as the instance is ready or can no longer become it, else after `timeout_s`."""
    until_ns = monotonic_ns() + int(timeout_s * 1e9)
    while True:
        status = read_status(instance, with_cpu=False)
        hopeless = [row for row in status.workers if row.state == "FAILED"]
        if status.is_ready or hopeless or monotonic_ns() >= until_ns:
            return status
        time.sleep(0.02)


def _row(instance: str, name: str, child: ChildFacts) -> WorkerRow:
    alive = is_alive(child.pid, child.start_time)
    state = child.state if alive or not child.pid else "ENDED"
    row = WorkerRow(
        worker=name,
        kind=child.kind,
        state=state,
        pid=child.pid if alive else 0,
        core=child.cpu,
        restarts=child.restarts,
        message=child.message,
    )
    try:
        facts = read_counters(instance, name)
    except AttachError:
        return row
    _add_counters(instance, row, facts)
    return row


def _add_counters(instance: str, row: WorkerRow, facts: WorkerFacts) -> None:
    values = facts.values
    if facts.pid == row.pid:
        row.heartbeat_age_s = (now_ns() - facts.heartbeat_ns) / 1e9
    if row.kind == "collector":
        row.gaps = sum(value for name, value in values.items() if name.startswith("gaps."))
        row.books = f"{values.get('books_live', 0)}/{values.get('books_total', 0)}"
        row.connected = bool(values.get("connected", 0))
        row.link = link_facts(values)
        if values.get("capture_on", 0) or values.get("capture_failed", 0):
            row.capture = "failed" if values.get("capture_failed", 0) else "on"
    if last := values.get("last_data_ns", 0):
        row.last_data_age_s = (now_ns() - last) / 1e9
    inputs = {
        name[3:-4]: seq
        for name, seq in values.items()
        if name.startswith("in.") and name.endswith(".seq")
    }
    here = {name[3:-5]: n for name, n in values.items() if name.endswith(".here")}
    if facts.state in ("READY", "JOINING"):
        row.waits_for = [ring for ring, is_here in here.items() if not is_here]
    row.compiles_after_ready = values.get("compiles_after_ready", 0)
    if inputs:
        row.lag_records = sum(_behind(instance, ring, seq) for ring, seq in inputs.items())
        row.lost_records = sum(values.get(f"in.{ring}.lost", 0) for ring in inputs)


def _behind(instance: str, ring: str, seq: int) -> int:
    """Return how many records of `ring` come after `seq`; 0 where the ring is not there."""
    try:
        with open_reader(parse_ring(ring, instance)) as reader:
            facts = reader.facts()
    except AttachError:
        return 0
    return max(0, facts.head - 1 - max(seq, facts.first_seq - 1))


def _reasons(row: WorkerRow) -> list[str]:
    found = []
    if row.state != "RUNNING":
        said = f": {row.message}" if row.message else ""
        found.append(f"{row.worker} is {row.state}{said}")
    elif row.heartbeat_age_s is not None and row.heartbeat_age_s > HEARTBEAT_LIMIT_S:
        found.append(f"{row.worker} has not beaten for {row.heartbeat_age_s:.1f} s")
    if row.state in ("RUNNING", "STARTING") and row.waits_for:
        found.append(f"{row.worker} waits for {', '.join(row.waits_for)}: not there yet")
    if row.state == "RUNNING" and row.compiles_after_ready:
        found.append(
            f"{row.worker} compiled {row.compiles_after_ready} kernels after it was ready: each stalls it for seconds; "
            f"`tickring logs {row.worker}` names the first"
        )
    if row.state == "RUNNING" and row.kind == "collector":
        live, _, total = row.books.partition("/")
        if row.capture == "failed":
            found.append(f"{row.worker}: its frames are not kept; see `tickring logs {row.worker}`")
        if not row.connected:
            found.append(f"{row.worker} is not connected to its venue")
        elif live != total or total in ("", "0"):
            found.append(f"{row.worker}: {row.books} books are LIVE")
    return found


def _keeping(found: Instance) -> list[str]:
    """Return what the last run over finished captures could not do."""
    report = read_report(captures_of(found))
    return [f"captured files: {failure}" for failure in report.failures[:3]] if report else []


def _measure_cpu(rows: list[WorkerRow]) -> None:
    """Fill in each process' share of a core over a tenth of a second."""
    processes = []
    for row in rows:
        try:
            if row.pid:
                process = psutil.Process(row.pid)
                process.cpu_percent()
                processes.append((row, process))
        except psutil.Error:
            continue
    if processes:
        time.sleep(CPU_SAMPLE_S)
    for row, process in processes:
        try:
            row.cpu_percent = round(process.cpu_percent(), 1)
        except psutil.Error:
            continue


def as_json(value: Any) -> str:
    """Return any of our structs as one JSON line."""
    return msgspec.json.encode(value).decode()
