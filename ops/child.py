"""One worker as its supervisor sees it: started or adopted, ready or not, hung, ended, tried again.

**Protocol** WAITING (for those it needs) -> STARTING -> RUNNING; ends as STOPPED (asked for, or done), BACKOFF (tried again
after a jittered, growing pause) or FAILED (`max_restarts` ends within `window_s`, or exit status 2: a restart would not help).
A failed feed is tried again every `feed_retry_s`: a venue's maintenance must not become a permanent outage.

**Why it is right** A heartbeat is judged by how long its value has not changed on the steady clock, never by its age on the
wall clock: setting that clock would kill every worker. A process is a pid with its start time, never a pid alone.

**Failure** A hung worker gets SIGABRT: faulthandler writes the stack of each of its threads into its log; SIGKILL follows.
"""

import os
import random
import signal
import subprocess
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import structlog

from ops import logs, redis_server
from ops.plan import Plan, Ports, WorkerPlan
from shm.clock import monotonic_ns, now_ns
from shm.counters import WorkerFacts, read_counters
from shm.errors import AttachError
from shm.process import is_alive, start_time
from shm.worker import EXIT_CONFIGURATION

FEEDS = ("collector", "venue", "redis")
"""Kinds that are tried again for ever."""
ABORT_GRACE_S = 1.0
PROBE_S = 1.0
_ROOT = str(Path(__file__).resolve().parents[1])


class ChildFacts(msgspec.Struct, kw_only=True):
    """What the supervisor tells of a worker; `status` reads it."""

    state: str = "WAITING"
    kind: str = ""
    pid: int = 0
    start_time: int = 0
    restarts: int = 0
    exit_status: int | None = None
    message: str = ""
    since_ns: int = 0
    cpu: int = -1


class Child:
    """One worker. `step` is called a few times a second, and at once when its process ends."""

    def __init__(self, plan: Plan, worker: WorkerPlan) -> None:
        self.plan = plan
        self.worker = worker
        self.name = worker.name
        self.options = worker.options
        self.facts = ChildFacts(kind=worker.kind, cpu=worker.options.cpu, since_ns=now_ns())
        self.wanted = True
        self.pidfd = -1
        self.failed_at: deque[float] = deque()
        self.retry_at_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._heartbeat = 0
        self._beat_at_s = 0.0
        self._started_at_s = 0.0
        self._kill_at_s = 0.0
        self._aborted = False
        self._log_start = 0
        self._probed_at_s = 0.0
        self.listen_port = 0
        self._log = structlog.get_logger().bind(worker=self.name)

    @property
    def state(self) -> str:
        """One of WAITING, STARTING, RUNNING, DRAINING, STOPPED, BACKOFF, FAILED."""
        return self.facts.state

    @property
    def is_running(self) -> bool:
        """A process of this worker exists."""
        return self.facts.pid > 0

    @property
    def log_file(self) -> Path:
        """Where the worker's stderr goes."""
        return self.plan.log_dir / f"{self.name}.log"

    @property
    def spec_file(self) -> Path:
        """Where the worker's spec is."""
        return self.plan.run_dir / (
            "redis.conf" if self.worker.kind == "redis" else f"{self.name}.json"
        )

    def start(self, ports: Ports) -> None:
        """Write the spec and start the process."""
        write_private(self.spec_file, self.worker.spec(ports))
        log = logs.open_log(self.log_file)
        self._log_start = os.fstat(log).st_size
        environment = child_environment()
        environment.pop("TICKRING_REDIS_URL", None)
        try:
            self._process = subprocess.Popen(
                self.worker.argv(self.spec_file),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
                env=environment,
            )
        finally:
            os.close(log)
        self._follow(self._process.pid, "STARTING")
        self._log.info("started", pid=self.facts.pid)

    def cannot_start(self, why: str) -> None:
        """Count an attempt at which there was not even a process."""
        self.facts.message = why
        self._aborted = True
        self._back_off(None, why)

    def adopt(self, pid: int) -> bool:
        """Go on with a process that an earlier supervisor started; False when it is gone."""
        if start_time(pid) == 0:
            return False
        self._process = None
        self._follow(pid, "STARTING")
        self._log.info("adopted", pid=pid)
        return True

    def stop(self, timeout_s: float) -> None:
        """Ask the process to drain and end; it is killed after `timeout_s`."""
        self.wanted = False
        if not self.is_running:
            self._enter("STOPPED")
        elif self.state != "DRAINING":
            self._signal(signal.SIGTERM)
            self._kill_at_s = _now_s() + timeout_s
            self._enter("DRAINING")

    def reset(self) -> None:
        """Forget earlier failures and want the worker to run."""
        self.wanted = True
        self.failed_at.clear()
        self.retry_at_s = 0.0
        if not self.is_running:
            self._enter("WAITING")

    def restart(self, timeout_s: float) -> None:
        """End the process in good order, then start it again."""
        if self.is_running:
            self.stop(timeout_s)
        self.wanted = True
        self.failed_at.clear()
        self.retry_at_s = 0.0
        if not self.is_running:
            self._enter("WAITING")

    def counters(self) -> WorkerFacts | None:
        """Return the running process's counters; None: it has none yet."""
        try:
            facts = read_counters(self.plan.instance, self.name)
        except AttachError:
            return None
        return (
            facts
            if (facts.pid, facts.start_time) == (self.facts.pid, self.facts.start_time)
            else None
        )

    def earlier_port(self) -> int:
        """Return the port on which an earlier process of this worker listened: its clients know no other; 0: none."""
        try:
            return read_counters(self.plan.instance, self.name).values.get("listen_port", 0)
        except AttachError:
            return 0

    def step(self) -> bool:
        """Look at the process; True when it has just ended."""
        if not self.is_running:
            return False
        if not self._alive():
            self._ended()
            return True
        if self.worker.kind == "redis":
            self._step_server()
        else:
            self._step_worker()
        self._step_end()
        return False

    def _follow(self, pid: int, state: str) -> None:
        self.facts.pid = pid
        self.facts.start_time = start_time(pid)
        self.facts.exit_status = None
        self.pidfd = _pidfd(pid)
        self._heartbeat = 0
        self._started_at_s = self._beat_at_s = _now_s()
        self._kill_at_s = self._probed_at_s = 0.0
        self._aborted = False
        cpu = self.options.cpu
        if cpu >= 0 and self.worker.kind == "redis" and cpu in os.sched_getaffinity(0):
            os.sched_setaffinity(pid, {cpu})
        self._enter(state)

    def _alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return is_alive(self.facts.pid, self.facts.start_time)

    def _step_server(self) -> None:
        if _now_s() - self._probed_at_s < (0.0 if self.state == "STARTING" else PROBE_S):
            return
        self._probed_at_s = _now_s()
        if redis_server.answers(redis_server.socket_path(self.plan.instance)):
            self._beat_at_s = _now_s()
            self._ready()
        elif self.state == "RUNNING":
            self._judge_heartbeat(10 * self.plan.supervisor.heartbeat_timeout_s)

    def _step_worker(self) -> None:
        facts = self.counters()
        if facts is not None and facts.heartbeat_ns != self._heartbeat:
            self._heartbeat = facts.heartbeat_ns
            self._beat_at_s = _now_s()
        if facts is not None and facts.state == "JOINING":
            self._started_at_s = self._beat_at_s  # it lives; what it waits for may be down for long
        if facts is not None and facts.state == "READY":
            self.listen_port = facts.values.get("listen_port", 0)
            self._ready()
        if self.state == "RUNNING" and facts is not None:
            self._judge_heartbeat(self.plan.supervisor.heartbeat_timeout_s)
        limit_s = self.plan.supervisor.start_timeout_s
        if (
            self.state == "STARTING"
            and not self._aborted
            and _now_s() - self._started_at_s > limit_s
        ):
            self._abort(f"not ready within start_timeout_s = {limit_s:g} s")

    def _ready(self) -> None:
        if self.state == "STARTING":
            self._enter("RUNNING")
            self._log.info("ready", after_ms=round(1e3 * (_now_s() - self._started_at_s)))

    def _judge_heartbeat(self, limit_s: float) -> None:
        if not self._aborted and _now_s() - self._beat_at_s > limit_s:
            self._abort(f"no heartbeat for {limit_s:g} s")

    def _abort(self, why: str) -> None:
        self._log.error("hung; aborted, its stack is in its log", why=why, log=str(self.log_file))
        self.facts.message = why
        self._signal(signal.SIGABRT)
        self._aborted = True
        self._kill_at_s = _now_s() + ABORT_GRACE_S

    def _step_end(self) -> None:
        """Kill what does not end in time; a drain is aborted first, so that its stack is in the log."""
        if not self._kill_at_s or _now_s() < self._kill_at_s:
            return
        if self._aborted:
            self._signal(signal.SIGKILL)
            self._kill_at_s = _now_s() + ABORT_GRACE_S
        else:
            self._abort("did not end within drain_timeout_s")

    def outlast(self, pause_s: float) -> None:
        """Grant the worker the time that the supervisor itself was stopped."""
        self._beat_at_s += pause_s
        self._started_at_s += pause_s

    def _signal(self, number: int) -> None:
        if is_alive(self.facts.pid, self.facts.start_time):
            os.kill(self.facts.pid, number)

    def _ended(self) -> None:
        status = self._process.returncode if self._process is not None else None
        drained = self.state == "DRAINING"
        killed_by_us = self._aborted
        self.facts.pid, self.facts.start_time, self._process = 0, 0, None
        self.facts.exit_status = status
        if drained and not killed_by_us:
            self.facts.message = ""
        if not self.wanted:
            self._log.info("stopped", exit_status=status)
            self._enter("STOPPED")
        elif drained:
            self._enter("WAITING")
            self.facts.restarts += 1
        else:
            self._failed(status)

    def _failed(self, status: int | None) -> None:
        words = logs.last_words(self.log_file, self._log_start)
        if not self._aborted:
            self.facts.message = _exit_text(status) + (f": {words}" if words else "")
        restart = self.options.restart
        if restart == "never" or (restart == "on-failure" and status == 0):
            self._log.warning("ended; its restart option keeps it so", exit=_exit_text(status))
            self._enter("STOPPED" if status == 0 else "FAILED")
            self.wanted = False
        elif status == EXIT_CONFIGURATION:
            self._log.error("failed; its configuration is at fault", said=words)
            self._enter("FAILED")
            self.wanted = False
        else:
            self._back_off(status, words)

    def _back_off(self, status: int | None, words: str) -> None:
        now = _now_s()
        self.failed_at.append(now)
        while self.failed_at and now - self.failed_at[0] > self.options.window_s:
            self.failed_at.popleft()
        self.facts.restarts += 1
        n = len(self.failed_at)
        if n >= max(1, self.options.max_restarts):
            self._log.error("failed too often", ends=n, window_s=self.options.window_s, said=words)
            self._enter("FAILED")
            self.wanted = self.worker.kind in FEEDS
            self.retry_at_s = now + self.plan.supervisor.feed_retry_s
            return
        limit_s = min(self.options.backoff_max_s, self.options.backoff_s * 2 ** (n - 1))
        pause_s = limit_s * random.uniform(0.5, 1.0)
        self.retry_at_s = now + pause_s
        self._log.warning(
            "ended; tried again", exit=_exit_text(status), said=words, after_ms=round(1e3 * pause_s)
        )
        self._enter("BACKOFF")

    def _enter(self, state: str) -> None:
        self.facts.state = state
        self.facts.since_ns = now_ns()


def child_environment() -> dict[str, str]:
    """Return the environment of a Python process of ours: it finds these very packages, and tells its stacks when aborted."""
    path = os.pathsep.join([_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONFAULTHANDLER": "1", "PYTHONPATH": path}


def write_private(path: Path, content: bytes) -> None:
    """Replace a file of mode 0600 whole."""
    replacement = path.with_name(path.name + ".new")
    fd = os.open(replacement, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    replacement.replace(path)


def _now_s() -> float:
    return monotonic_ns() / 1e9


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _exit_text(status: int | None) -> str:
    if status is None:
        return "ended (its exit status went to an earlier supervisor)"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}"


def status_of(facts: ChildFacts) -> dict[str, Any]:
    """Return the facts as plain data."""
    data: dict[str, Any] = msgspec.to_builtins(facts)
    return data
