"""One process per instance starts the workers, watches them, starts them again, ends them in order and removes what they leave.

**Protocol** Lock of the instance; adopt what runs already; run description; start what waits for nobody, all at once, the rest
as those it needs are ready. SIGTERM drains by kind (`plan.DRAIN_ORDER`): each kind ends before the next is asked to, so that
every reader reads to the end. After the last reader the books are closed (`tickring audit`); then Redis, the venue server,
the regions (RETIRED first) and the run description go.

**Failure** Killed: the workers run on, unwatched; the next `up` finds them by their command lines and adopts them, and a
worker's own lock refuses a double. Stopped (SIGSTOP, a suspended host): on waking it grants the workers the time it slept.

**Threads and processes** One thread, one selector: an ended worker, a signal or a request wakes it at once. It alone unlinks.
**Cost** Idle it looks at each worker twice a second (bench_ring_wait); an end wakes it at once.
"""

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import structlog

from collectors import order_requests as orders
from collectors.wslog_salvage import salvage
from ops import control, logs, redis_server, subscriptions
from ops.child import Child, ChildFacts, child_environment, write_private
from ops.plan import DRAIN_ORDER, Plan
from ops.trading import VERBS, ControlRing, open_control, order
from ops.wslog_keeping import Keeping
from shm.clock import monotonic_ns
from shm.errors import OwnershipError
from shm.lock import OwnerLock
from shm.process import own_identity
from shm.reclaim import reclaim_instance
from shm.region import PREFIX, SHM_DIRECTORY, check_part
from shm.registry import Instance, run_file, write_instance

BUSY_S = 0.02
IDLE_S = 0.5
PAUSE_S = 1.0
ROTATE_S = 5.0
GIVE_WAY_S = 2.0
AUDIT_TIMEOUT_S = 120.0
STATES_FILE = "workers.json"


class AlreadyRuns(OwnershipError):
    """The instance has a supervisor."""


class Supervisor:
    """Runs a plan until it is told to end."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.children = {worker.name: Child(plan, worker) for worker in plan.workers}
        self._log = structlog.get_logger().bind(instance=plan.instance)
        self._selector = selectors.DefaultSelector()
        self._watched: dict[str, int] = {}
        self._told: dict[str, ChildFacts] = {}
        self._ports: dict[str, int] = {}
        self._draining = False
        self._stage = 0
        self._audit: subprocess.Popen[bytes] | None = None
        self._audit_until_s = 0.0
        self._rotated_at_s = 0.0
        self._opened_at_s = _now_s()
        self._lock: OwnerLock | None = None
        self._trading: ControlRing | None = None
        self._keeping = Keeping(plan)

    def open(self) -> None:
        """Become the instance's one supervisor and make it known.

        Raises:
            AlreadyRuns: another one lives; nothing is disturbed.
        """
        check_part("instance", self.plan.instance)
        for directory in (self.plan.state_path, self.plan.run_dir, self.plan.log_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._lock = OwnerLock(lock_file(self.plan.instance))
            self._state_lock = self._lock_state()
        except (OwnershipError, BlockingIOError):
            if self._lock is not None:
                self._lock.release()
            raise AlreadyRuns(
                f"instance {self.plan.instance!r} is up already, or another one uses its state directory "
                f"{self.plan.state_path}; see `tickring status`, end it with `tickring down`, or give this one "
                "another name (--instance)"
            ) from None
        self._trading = open_control(self.plan.config)
        self._server = control.listen(self.plan.instance)
        self._selector.register(self._server, selectors.EVENT_READ, "control")
        self._wake_on_signals()
        for name, child in self.children.items():
            self._ports |= {name: port} if (port := child.earlier_port()) else {}
        for name, pid in find_running(self.plan):
            if name in self.children and not self.children[name].is_running:
                self.children[name].adopt(pid)
            else:
                self._log.warning("ended: not in the configuration", worker=name, pid=pid)
                os.kill(pid, signal.SIGTERM)
        pid, started = own_identity()
        write_instance(
            Instance(
                instance=self.plan.instance,
                pid=pid,
                start_time=started,
                state_dir=str(self.plan.state_path),
                config=self.plan.config,
            )
        )
        self._tell()

    def drain(self) -> None:
        """End all workers in order; `run` returns when everything is removed."""
        if not self._draining:
            self._log.info("draining")
            self._draining = True
            if self._trading is not None:
                self._trading.stop()

    def run(self) -> None:
        """Work until drained."""
        last_s = _now_s()
        while True:
            pause_s = _now_s() - last_s
            if pause_s > PAUSE_S:
                self._log.warning("the supervisor itself was stopped", for_s=round(pause_s, 1))
                for child in self.children.values():
                    child.outlast(pause_s)
            if self._draining and self._step_drain():
                break
            self._step()
            last_s = _now_s()
            self._wait(BUSY_S if self._is_busy() else IDLE_S)
        self._close()

    def request(
        self, verb: str, names: list[str], details: dict[str, Any] | None = None
    ) -> control.Answer:
        """Do what a client asks: verbs up, down, restart and ping, for named workers or "all"; those of `ops.trading`."""
        if verb in VERBS:
            return order(None if self._draining else self._trading, verb, details or {})
        if verb == "ping":
            return control.Answer(names=list(self.children))
        if verb not in ("up", "down", "restart"):
            return control.Answer(
                ok=False, error=f"verb {verb!r}: up, down, restart or ping expected"
            )
        chosen = list(self.children) if names in ([], ["all"]) else names
        if unknown := [name for name in chosen if name not in self.children]:
            there = ", ".join(self.children)
            return control.Answer(
                ok=False, error=f"no worker {', '.join(unknown)}; there are {there}"
            )
        if self._draining:
            return control.Answer(
                ok=False, error="the instance is going down; `tickring up` afterwards"
            )
        for name in chosen:
            child = self.children[name]
            if verb == "down":
                child.stop(self.plan.supervisor.drain_timeout_s)
            elif verb == "restart":
                child.restart(self.plan.supervisor.drain_timeout_s)
            elif child.state in ("FAILED", "STOPPED", "BACKOFF"):
                child.reset()
        self._log.info("asked", verb=verb, workers=chosen)
        self._tell()
        return control.Answer(names=chosen)

    def _step(self) -> None:
        if self._trading is not None and not self._draining:
            self._trading.beat()
        for child in self.children.values():
            if child.step():
                self._unwatch(child)
                self._group_ended(child)
            if child.listen_port:
                self._ports[child.name] = child.listen_port
        if not self._draining:
            self._start_what_may()
        self._watch()
        self._rotate()
        self._keeping.step()
        self._tell()

    def _start_what_may(self) -> None:
        for child in self.children.values():
            due = child.state == "WAITING" or (
                child.state in ("BACKOFF", "FAILED") and _now_s() >= child.retry_at_s
            )
            if child.wanted and due and not child.is_running and self._may_start(child):
                try:
                    child.start(self._ports)
                except (OSError, ValueError) as error:
                    child.cannot_start(str(error))

    def _may_start(self, child: Child) -> bool:
        """Those it needs have been ready once; a collector also needs the venue server's port."""
        if self._gives_way(child):
            return False
        needed = [self.children[name] for name in child.worker.needs if name in self.children]
        if child.facts.restarts or child.state in ("BACKOFF", "FAILED"):
            return all(n.name in self._ports for n in needed if n.worker.kind == "venue")
        return all(n.state == "RUNNING" for n in needed)

    def _gives_way(self, child: Child) -> bool:
        """At the start, loading compiled kernels and Arrow must not take the cores from the feeds: the market is running."""
        if child.worker.kind not in ("features", "sink") or child.facts.restarts:
            return False
        feeds = (c for c in self.children.values() if c.worker.kind in ("venue", "collector"))
        starting = any(c.state in ("WAITING", "STARTING") for c in feeds)
        return starting and _now_s() - self._opened_at_s < GIVE_WAY_S

    def _group_ended(self, ended: Child) -> None:
        """A member of a group takes the others with it: they end, and start again together or not at all."""
        group = ended.options.group
        if not group or self._draining or ended.state == "WAITING":
            return
        for other in self.children.values():
            if other is ended or other.options.group != group:
                continue
            if ended.state == "FAILED" or not ended.wanted:
                other.stop(self.plan.supervisor.drain_timeout_s)
            elif other.state in ("RUNNING", "STARTING"):
                other.restart(self.plan.supervisor.drain_timeout_s)

    def _step_drain(self) -> bool:
        """Ask the next kind to end when the one before has; True when nothing runs any more."""
        while self._stage < len(DRAIN_ORDER):
            kind = DRAIN_ORDER[self._stage]
            members = [c for c in self.children.values() if c.worker.kind == kind]
            for child in members:
                child.stop(self.plan.supervisor.drain_timeout_s)
            if any(child.is_running for child in members):
                return False
            if kind == "sink" and not self._books_closed():
                return False
            self._stage += 1
        return True

    def _books_closed(self) -> bool:
        """Run the audit once all readers have read to the end; True when it is done."""
        if not self.plan.supervisor.audit_on_down:
            return True
        if self._audit is None:
            with (self.plan.log_dir / "audit.log").open("ab") as log:
                self._audit = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-m", "ops", "audit", "--closing", "--json"),
                        *("--instance", self.plan.instance),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    env=child_environment(),
                )
            self._audit_until_s = _now_s() + AUDIT_TIMEOUT_S
            return False
        if self._audit.poll() is None and _now_s() < self._audit_until_s:
            return False
        if self._audit.returncode is None:
            self._audit.kill()
            self._audit.wait()
        if self._audit.returncode != 0:
            self._log.error("the closing audit failed", exit_status=self._audit.returncode)
        return True

    def _close(self) -> None:
        self._tell()
        for child in self.children.values():
            if child.worker.kind == "collector":
                salvage(self.plan.instance, child.name)
        self._keeping.finish()
        kept = reclaim_instance(self.plan.instance)
        if kept:
            self._log.error("regions are kept by a live process", files=kept)
        self._server.close()
        control.socket_path(self.plan.instance).unlink(missing_ok=True)
        Path(redis_server.socket_path(self.plan.instance)).unlink(missing_ok=True)
        orders.socket_path(self.plan.instance).unlink(missing_ok=True)
        run_file(self.plan.instance).unlink(missing_ok=True)
        (Path(SHM_DIRECTORY) / lock_file(self.plan.instance)).unlink(missing_ok=True)
        self._log.info("down")
        assert self._lock is not None
        self._lock.release()
        os.close(self._state_lock)

    def _lock_state(self) -> int:
        """Lock the state directory too: two instances must not write one store, nor one instance after a lost lock file."""
        fd = os.open(
            self.plan.state_path / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise
        return fd

    def _watch(self) -> None:
        """Have the selector wake us when a worker's process ends."""
        for child in self.children.values():
            if child.pidfd >= 0 and self._watched.get(child.name) != child.pidfd:
                self._selector.register(child.pidfd, selectors.EVENT_READ, child.name)
                self._watched[child.name] = child.pidfd

    def _unwatch(self, child: Child) -> None:
        if child.pidfd >= 0:
            if self._watched.pop(child.name, None) is not None:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = -1

    def _wait(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            if key.data == "control":
                if received := control.receive(self._server):
                    client, request = received
                    if request.verb in subscriptions.VERBS:
                        answer = subscriptions.answer(self.children, self._ports, request)
                    else:
                        answer = self.request(request.verb, request.names, request.details)
                    control.reply(client, answer)
            elif key.data == "signal":
                os.read(self._signals, 4096)
            else:
                self._selector.unregister(key.fileobj)  # `step` sees that it has ended

    def _wake_on_signals(self) -> None:
        self._signals, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.drain())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._selector.register(self._signals, selectors.EVENT_READ, "signal")

    def _is_busy(self) -> bool:
        """Something is about to change, so look often."""
        moving = ("WAITING", "STARTING", "DRAINING", "BACKOFF")
        return self._draining or any(
            c.state in moving and (c.wanted or c.is_running) for c in self.children.values()
        )

    def _rotate(self) -> None:
        if _now_s() - self._rotated_at_s < ROTATE_S:
            return
        self._rotated_at_s = _now_s()
        options = self.plan.supervisor
        for path in self.plan.log_dir.glob("*.log"):
            logs.rotate(path, options.log_bytes, options.log_files)

    def _tell(self) -> None:
        """Write the workers' states where `status` reads them, when one of them has changed."""
        facts = {
            name: msgspec.structs.replace(child.facts) for name, child in self.children.items()
        }
        if facts != self._told:
            write_private(self.plan.run_dir / STATES_FILE, msgspec.json.encode(facts))
            self._told = facts


def lock_file(instance: str) -> str:
    """Return the shared-memory object whose lock makes a process the instance's supervisor."""
    return f"{PREFIX}.{instance}.supervisor.lock"


def find_running(plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield name and pid of each process that runs one of this instance's workers, by its command line."""
    server = redis_server.socket_path(plan.instance)
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any(server in word for word in words) and "redis-server" in words[0]:
            yield "redis", process.pid
            continue
        for word in words:
            path = Path(word)
            if path.parent == plan.run_dir and path.suffix in (".json", ".conf"):
                yield path.stem, process.pid
                break


def _now_s() -> float:
    return monotonic_ns() / 1e9
