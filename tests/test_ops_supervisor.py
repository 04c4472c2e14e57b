"""The supervisor starts, watches, restarts and drains real processes, and leaves nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from conftest import Instance

from ops import control
from ops.child import ChildFacts
from ops.options import SupervisorOptions, WorkerOptions
from ops.plan import Plan, WorkerPlan
from ops.supervisor import STATES_FILE
from shm.counters import read_counters
from shm.registry import files_of, read_instance

TINY = Path(__file__).with_name("ops_worker.py")
SUPERVISE = """
import msgspec, sys
from test_ops_supervisor import plan_of
from ops.supervisor import AlreadyRuns, Supervisor
from shm.worker import configure_logs
configure_logs()
supervisor = Supervisor(plan_of(*msgspec.json.decode(sys.argv[1])))
try:
    supervisor.open()
except AlreadyRuns as error:
    sys.exit(f"already: {error}")
print("open", flush=True)
supervisor.run()
"""


def plan_of(instance: str, state: str, workers: dict[str, dict], supervisor: dict) -> Plan:
    """Make a plan of tiny workers: {name: {kind, behaviour, needs, ...options}}."""
    plans = []
    for name, given in workers.items():
        options = dict(given)
        kind = options.pop("kind", "sink")
        behaviour = options.pop("behaviour", "work")
        needs = tuple(options.pop("needs", ()))

        def spec(ports, name=name, behaviour=behaviour):
            facts = {"instance": instance, "worker": name, "state_dir": state}
            return msgspec.json.encode(facts | {"behaviour": behaviour, "port": ports.get(name, 0)})

        plans.append(
            WorkerPlan(
                name,
                kind,
                msgspec.convert(options, WorkerOptions),
                spec,
                lambda path: [sys.executable, str(TINY), str(path)],
                needs,
            )
        )
    options = msgspec.convert({"audit_on_down": False} | supervisor, SupervisorOptions)
    return Plan(instance, Path(state), options, tuple(plans), {})


class Running:
    """A supervisor in a process of its own."""

    def __init__(self, instance: Instance, workers: dict[str, dict], supervisor: dict) -> None:
        self.instance = instance.name
        self.state = instance.state_dir / instance.name
        self.arguments = [instance.name, str(self.state), workers, supervisor]
        self.process = self.spawn()

    def spawn(self) -> subprocess.Popen:
        """Start a supervisor, or another one."""
        path = os.pathsep.join([str(TINY.parent), str(TINY.parent.parent)])
        self.log = self.state.parent / "supervisor.err"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISE, msgspec.json.encode(self.arguments).decode()],
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": path},
            )
        assert self.process.stdout
        with self.process.stdout as pipe:
            assert pipe.readline() == b"open\n", self.log.read_text()
        return self.process

    def facts(self) -> dict[str, ChildFacts]:
        """Read what the supervisor tells."""
        path = self.state / "run" / STATES_FILE
        return msgspec.json.decode(path.read_bytes(), type=dict[str, ChildFacts])

    def wait(self, check: Callable[[dict[str, ChildFacts]], bool], timeout_s: float = 20) -> dict:
        """Wait until the told facts fulfil `check`."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            with contextlib.suppress(FileNotFoundError):
                if check(facts := self.facts()):
                    return facts
            time.sleep(0.01)
        raise AssertionError(f"{self.facts()}\n{self.log.read_text()}")

    def wait_states(self, **states: str) -> dict[str, ChildFacts]:
        """Wait until these workers are in these states."""
        return self.wait(lambda facts: all(facts[n].state == s for n, s in states.items()))

    def end(self) -> None:
        """Drain and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(30) == 0, self.log.read_text()


@pytest.fixture
def start(instance: Instance) -> Iterator[Callable[..., Running]]:
    """Start a supervisor over tiny workers; it is drained at the test's end."""
    running: list[Running] = []

    def begin(workers: dict[str, dict], **supervisor) -> Running:
        running.append(Running(instance, workers, supervisor))
        return running[-1]

    yield begin
    for one in running:
        one.end()


def is_running(facts: ChildFacts) -> bool:
    """The supervisor says that it runs."""
    return facts.state == "RUNNING"


def test_workers_start_run_and_leave_nothing(start) -> None:
    """After the drain there is no process, no region, no run description."""
    one = start({"a": {}, "b": {"kind": "collector"}})
    one.wait_states(a="RUNNING", b="RUNNING")
    assert read_instance(one.instance).alive
    one.end()
    assert files_of(one.instance) == []
    assert {f.state for f in one.facts().values()} == {"STOPPED"}


def test_a_worker_starts_when_those_it_needs_are_ready(start) -> None:
    """Not before, and then at once."""
    one = start({"late": {"needs": ["slow"]}, "slow": {"behaviour": "slow"}})
    facts = one.wait_states(slow="STARTING")
    assert facts["late"].state == "WAITING"
    facts = one.wait_states(slow="RUNNING", late="RUNNING")
    assert facts["late"].since_ns > facts["slow"].since_ns


def test_the_drain_ends_producers_before_their_readers(start) -> None:
    """Collectors, then features, then sinks, then the venue: each kind is gone before the next is asked."""
    kinds = {"v": "venue", "s": "sink", "f": "features", "c": "collector"}
    one = start({name: {"kind": kind} for name, kind in kinds.items()})
    one.wait_states(v="RUNNING", s="RUNNING", f="RUNNING", c="RUNNING")
    one.end()
    ended = sorted((facts.since_ns, name) for name, facts in one.facts().items())
    assert [name for _, name in ended] == ["c", "f", "s", "v"]


def test_a_killed_worker_is_started_again_and_counted(start) -> None:
    """Its counters go on where they were."""
    one = start({"a": {}})
    pid = one.wait_states(a="RUNNING")["a"].pid
    os.kill(pid, signal.SIGKILL)
    facts = one.wait(lambda f: f["a"].state == "RUNNING" and f["a"].pid not in (0, pid))
    assert facts["a"].restarts == 1
    assert facts["a"].message == "ended by SIGKILL"
    assert read_counters(one.instance, "a").values["starts"] == 2


def test_a_listening_worker_comes_back_on_its_port(start) -> None:
    """Its clients know no other."""
    one = start({"v": {"kind": "venue"}})
    pid = one.wait_states(v="RUNNING")["v"].pid
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    one.wait(lambda f: f["v"].state == "RUNNING" and f["v"].pid not in (0, pid))
    spec = msgspec.json.decode((one.state / "run" / "v.json").read_bytes())
    assert spec["port"] == 4711


def test_a_worker_whose_configuration_is_at_fault_is_not_tried_again(start) -> None:
    """FAILED with its own words; the others run on."""
    one = start({"bad": {"behaviour": "refuse", "kind": "collector"}, "good": {}})
    facts = one.wait_states(bad="FAILED", good="RUNNING")
    assert facts["bad"].exit_status == 2
    assert "the moon is not configured" in facts["bad"].message
    time.sleep(0.3)
    assert one.facts()["bad"].restarts == 0


def test_a_crash_loop_ends_in_failed_and_a_feed_goes_on(start) -> None:
    """After max_restarts ends in the window; a feed at one try per feed_retry_s, a sink not at all."""
    options = {"behaviour": "crash", "max_restarts": 3, "backoff_s": 0.01}
    one = start({"feed": options | {"kind": "collector"}, "sink": options}, feed_retry_s=0.6)
    facts = one.wait_states(feed="FAILED", sink="FAILED")
    assert facts["sink"].restarts == 3
    assert "exit status 7" in facts["sink"].message
    one.wait(lambda f: f["feed"].restarts >= 4)
    assert one.facts()["sink"].restarts == 3


@pytest.mark.parametrize(("restart", "state"), [("on-failure", "STOPPED"), ("always", "BACKOFF")])
def test_a_worker_that_is_done_is_restarted_only_if_always(start, restart: str, state: str) -> None:
    """Exit status 0 is no failure."""
    one = start({"a": {"behaviour": "end", "restart": restart, "backoff_s": 5.0}})
    facts = one.wait_states(a=state)
    assert facts["a"].exit_status == 0


def test_a_hung_worker_is_aborted_with_its_stack(start) -> None:
    """No heartbeat, so SIGABRT; the stack is in its log, and it is started again."""
    one = start({"a": {"behaviour": "hang", "backoff_s": 0.01}}, heartbeat_timeout_s=0.3)
    one.wait(lambda f: f["a"].restarts >= 1)
    log = (one.state / "logs" / "a.log").read_text()
    assert "Fatal Python error: Aborted" in log
    assert "ops_worker.py" in log
    assert "no heartbeat" in one.facts()["a"].message


def test_a_worker_that_waits_for_an_input_is_not_hung(start) -> None:
    """JOINING may take longer than start_timeout_s, as long as it beats; without a beat it is aborted like any other."""
    workers = {"joins": {"behaviour": "join"}, "stuck": {"behaviour": "stuck", "backoff_s": 5.0}}
    one = start(workers, start_timeout_s=2.0)
    facts = one.wait_states(joins="RUNNING", stuck="BACKOFF")
    assert facts["joins"].restarts == 0
    assert "not ready within start_timeout_s" in facts["stuck"].message


def test_a_stopped_worker_is_killed(start) -> None:
    """SIGSTOP: it cannot even abort."""
    one = start({"a": {}}, heartbeat_timeout_s=0.3)
    pid = one.wait_states(a="RUNNING")["a"].pid
    os.kill(pid, signal.SIGSTOP)
    one.wait(lambda f: f["a"].state == "RUNNING" and f["a"].pid not in (0, pid))


def test_a_supervisor_that_was_stopped_kills_nobody(start) -> None:
    """Its own pause is granted to the workers."""
    one = start({"a": {"behaviour": "hang"}}, heartbeat_timeout_s=5.0)
    pid = one.wait_states(a="RUNNING")["a"].pid
    one.process.send_signal(signal.SIGSTOP)
    time.sleep(5.2)
    one.process.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    assert one.facts()["a"].pid == pid
    assert one.facts()["a"].restarts == 0


def test_a_worker_that_ignores_sigterm_does_not_stop_the_drain(start) -> None:
    """It is aborted after drain_timeout_s, then killed."""
    one = start({"a": {"behaviour": "deaf"}}, drain_timeout_s=0.3)
    one.wait_states(a="RUNNING")
    one.end()
    assert files_of(one.instance) == []


def test_a_second_supervisor_is_refused_and_disturbs_nothing(start) -> None:
    """The lock decides, not a pid file."""
    one = start({"a": {}})
    pid = one.wait_states(a="RUNNING")["a"].pid
    second = subprocess.run(
        [sys.executable, "-c", SUPERVISE, msgspec.json.encode(one.arguments).decode()],
        capture_output=True,
        text=True,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(TINY.parent), str(TINY.parent.parent)])},
        check=False,
    )
    assert second.returncode == 1
    assert "is up already" in second.stderr
    assert one.facts()["a"].pid == pid
    assert read_instance(one.instance).pid == one.process.pid


def test_a_killed_supervisor_is_replaced_and_adopts(start) -> None:
    """The workers run on, each once; one that died meanwhile is started; the drain ends them all."""
    one = start({"a": {}, "b": {}, "v": {"kind": "venue"}})
    before = one.wait_states(a="RUNNING", b="RUNNING", v="RUNNING")
    one.process.kill()
    one.process.wait()
    os.kill(before["b"].pid, signal.SIGKILL)
    os.kill(before["v"].pid, signal.SIGKILL)
    (one.state / "run" / STATES_FILE).unlink()
    one.spawn()
    after = one.wait_states(a="RUNNING", b="RUNNING", v="RUNNING")
    assert after["a"].pid == before["a"].pid
    assert after["b"].pid != before["b"].pid
    assert read_counters(one.instance, "a").values["starts"] == 1
    spec = msgspec.json.decode((one.state / "run" / "v.json").read_bytes())
    assert spec["port"] == 4711
    os.kill(after["a"].pid, signal.SIGKILL)
    one.wait(lambda f: f["a"].state == "RUNNING" and f["a"].restarts == 1)


def test_verbs_end_and_start_single_workers(start) -> None:
    """down, up and restart of a name; unknown names are refused; asking twice changes nothing."""
    one = start({"a": {}, "b": {}})
    before = one.wait_states(a="RUNNING", b="RUNNING")
    assert control.ask(one.instance, "down", ["a"]).ok
    one.wait_states(a="STOPPED", b="RUNNING")
    assert control.ask(one.instance, "down", ["a"]).ok
    assert control.ask(one.instance, "up", ["a"]).ok
    facts = one.wait_states(a="RUNNING", b="RUNNING")
    assert facts["a"].pid != before["a"].pid
    assert facts["b"].pid == before["b"].pid
    assert control.ask(one.instance, "up", ["all"]).ok
    assert control.ask(one.instance, "restart", ["b"]).ok
    one.wait(lambda f: f["b"].state == "RUNNING" and f["b"].pid not in (0, before["b"].pid))
    refused = control.ask(one.instance, "up", ["c"])
    assert not refused.ok
    assert "no worker c; there are a, b" in refused.error


def test_a_group_restarts_together(start) -> None:
    """One member's death takes the others with it, and all come back."""
    member = {"restart": "group", "group": "risk"}
    one = start({"a": member, "b": member, "c": {}})
    before = one.wait_states(a="RUNNING", b="RUNNING", c="RUNNING")
    os.kill(before["a"].pid, signal.SIGKILL)
    after = one.wait(
        lambda f: all(is_running(f[n]) and f[n].pid != before[n].pid for n in ("a", "b"))
    )
    assert after["c"].pid == before["c"].pid


def test_a_client_that_says_nothing_holds_nobody_up(start) -> None:
    """The supervisor goes on after a second."""
    import socket

    one = start({"a": {}})
    one.wait_states(a="RUNNING")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.connect(str(control.socket_path(one.instance)))
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(control.ask(one.instance, "ping", []))
        )
        asking.start()
        asking.join(10)
        assert answers[0].ok


def test_the_control_socket_is_for_its_user_alone(start) -> None:
    """0600, whatever the umask."""
    one = start({"a": {}})
    assert control.socket_path(one.instance).stat().st_mode & 0o777 == 0o600
