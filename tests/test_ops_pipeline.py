"""The whole pipeline in real processes: killed, restarted, adopted, drained; the books close and nothing stays."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Instance

from layouts import EVENT, Kind
from ops import replay
from ops.status import read_children
from shm.counters import read_counters
from shm.producer import open_ring
from shm.region import ring_name
from shm.registry import files_of, read_instance

ROOT = Path(__file__).resolve().parent.parent
READY_S = 150
"""The first start compiles the numba code; later ones take it from the cache."""

TOPOLOGY = """
instance = "{name}"
[venue]
source = "synthetic"
frames_per_s = 400.0
[collectors.kraken]
event_slots = 32768
book_slots = 256
instrument_slots = 1024
instrument_ids = 100
[collectors.kraken_v1]
event_slots = 32768
book_slots = 256
instrument_slots = 1024
instrument_ids = 100
[features]
slots = 16384
"""


class Pipeline:
    """An instance that is driven by the command line, as an operator would."""

    def __init__(self, instance: Instance, text: str = TOPOLOGY) -> None:
        self.name = instance.name
        self.state = instance.state_dir / instance.name
        self.file = instance.state_dir / "topology.toml"
        self.file.write_text(text.format(name=instance.name))
        self.environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def call(self, *words: str, timeout_s: float = READY_S + 30) -> subprocess.CompletedProcess:
        """Run one verb on this instance."""
        return subprocess.run(
            [sys.executable, "-m", "ops", *words],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self.environment | {"TICKRING_INSTANCE": self.name},
            check=False,
        )

    def read(self, *words: str) -> Any:
        """Run one verb and return its JSON."""
        done = self.call(*words, "--json")
        assert done.stdout, done.stderr + self.logs()
        return json.loads(done.stdout)

    def up(self) -> None:
        """Start, and wait until it is ready."""
        done = self.call("up", "-c", str(self.file))
        assert done.returncode == 0, done.stderr
        self.ready()

    def ready(self) -> None:
        """Wait until all is well."""
        done = self.call("ready", "--timeout", str(READY_S))
        assert done.returncode == 0, done.stderr + self.logs()

    def workers(self) -> dict[str, dict]:
        """Return the rows of status by worker."""
        return {row["worker"]: row for row in self.read("status")["workers"]}

    def pids(self) -> dict[str, int]:
        """Return each worker's pid as the supervisor tells it, 0 where none runs."""
        return {name: facts.pid for name, facts in read_children(read_instance(self.name)).items()}

    def counters(self, worker: str) -> dict[str, int]:
        """Read a worker's counters."""
        return read_counters(self.name, worker).values

    def down(self) -> dict:
        """End it, and return the closed books."""
        done = self.call("down")
        assert done.returncode == 0, done.stderr
        assert files_of(self.name) == []
        return self.read("audit")

    def logs(self) -> str:
        """Return the ends of all logs, for a failure's message."""
        paths = sorted((self.state / "logs").glob("*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text()[-1500:]}" for path in paths)


@pytest.fixture
def pipeline(instance: Instance) -> Iterator[Callable[..., Pipeline]]:
    """Make pipelines; what a failed test leaves of them is taken down."""
    made: list[Pipeline] = []

    def make(text: str = TOPOLOGY) -> Pipeline:
        made.append(Pipeline(instance, text))
        return made[-1]

    yield make
    for one in made:
        one.call("down")


def wait_for(check: Callable[[], bool], timeout_s: float = 30) -> None:
    """Wait until `check` holds."""
    until = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < until
        time.sleep(0.05)


def assert_closed(books: dict) -> None:
    """Assert that every ledger and every independent count closes, and that there was something to count."""
    assert books["unaccounted"] == 0, json.dumps(books, indent=1)
    assert books["closing"]
    assert {row["worker"] for row in books["frames"]} == {"kraken", "kraken_v1"}
    assert all(row["in_flight"] == 0 and row["lost"] == 0 for row in books["records"])
    names = {check["name"]: check for check in books["checks"]}
    for ring in ("kraken.events", "kraken_v1.events"):
        assert names[f"features of {ring}"]["found"] > 0
        assert names[f"redis trades of {ring}"]["found"] > 0
        assert names[f"stored of {ring}"]["found"] > 0
    assert names["files (ranges and SHA-256)"]["found"] > 0


@pytest.mark.stress
def test_a_life_with_every_worker_killed_ends_with_closed_books(pipeline) -> None:
    """Up; a second up; each worker killed in turn; one ended and started; the supervisor killed; down, and again."""
    one = pipeline()
    assert one.call("status").returncode == 3
    one.up()
    before = one.workers()
    assert list(before) == [
        *("redis", "venue", "kraken", "kraken_v1", "features", "bars", "fanout", "recorder")
    ]
    second = one.call("up", "-c", str(one.file))
    assert second.returncode == 4
    assert "is up already" in second.stderr
    assert one.pids() == {name: row["pid"] for name, row in before.items()}

    for name, pid in one.pids().items():
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda name=name, pid=pid: one.pids()[name] not in (0, pid))
    one.ready()
    for name, row in one.workers().items():
        assert row["restarts"] == 1
        assert row["pid"] != before[name]["pid"]

    assert one.call("down", "fanout").returncode == 0
    wait_for(lambda: one.pids()["fanout"] == 0)
    degraded = one.call("status")
    assert degraded.returncode == 1
    assert "fanout is STOPPED" in degraded.stderr
    assert one.call("up", "fanout").returncode == 0
    one.ready()

    running = one.pids()
    os.kill(read_instance(one.name).pid, signal.SIGKILL)
    wait_for(lambda: not read_instance(one.name).alive)
    one.up()
    assert one.pids() == running

    live = one.read("audit")
    assert live["unaccounted"] == 0, json.dumps(live, indent=1)
    assert not live["closing"]
    tail = one.call("ring", "tail", "kraken.events", "-n", "5", "--json").stdout.splitlines()
    assert len(tail) == 5
    assert_closed(one.down())
    assert one.call("down").returncode == 0
    assert one.call("status").returncode == 3


BROKEN = (
    TOPOLOGY
    + """
[collectors.broken]
venue = "coinbase_advanced"
url = "ws://127.0.0.1:9/"
key_file = "{name}.absent"
first_instrument_id = 4000
subscriptions = [{{ channel = "book", symbols = ["BTC-USD"] }}]
[collectors.after]
venue = "kraken_v2"
url = "ws://127.0.0.1:9/"
depends_on = ["broken"]
event_slots = 32768
book_slots = 256
instrument_slots = 1024
instrument_ids = 100
first_instrument_id = 5000
subscriptions = [{{ channel = "book", symbols = ["XRP/USD"] }}]
"""
)


def test_a_collector_that_never_starts_holds_up_nobody(pipeline) -> None:
    """The readers work on what is there, say what they wait for, and take it up when it comes; one is killed meanwhile."""
    one = pipeline(BROKEN)
    done = one.call("up", "-c", str(one.file))
    assert done.returncode == 0, done.stderr
    readers = ("features", "bars", "fanout", "recorder")

    def works() -> bool:
        rows = one.workers()
        running = all(rows[name]["state"] == "RUNNING" for name in readers)
        waiting = [rows[name]["waits_for"] for name in readers]
        late = ["after.events"]
        wanted = [late, late, late, [*late, "after.instruments"]]
        return running and rows["broken"]["state"] == "FAILED" and waiting == wanted

    wait_for(works, READY_S)
    reasons = one.read("status")["reasons"]
    assert "features waits for after.events: not there yet" in reasons
    wait_for(lambda: one.counters("fanout")["in.features.features.entries"] > 100)
    os.kill(one.pids()["features"], signal.SIGKILL)
    late = ring_name(one.name, "after", "events")
    producer = open_ring(late, EVENT, 32768, one.state)
    rows = np.zeros(100, EVENT)
    rows["kind"] = Kind.HEARTBEAT
    producer.publish_batch(rows)
    for name in readers:
        wait_for(lambda name=name: one.counters(name)["in.after.events.seq"] == 100)
    producer.stop()
    producer.close()
    books = one.down()
    assert books["unaccounted"] == 0, json.dumps(books, indent=1)
    names = {check["name"]: check for check in books["checks"]}
    assert names["features of kraken.events"]["found"] > 100
    assert names["stored of after.events"]["found"] == 100


@pytest.mark.soak
def test_down_without_a_supervisor_drains_what_runs(pipeline) -> None:
    """In order, with the books closed, as the supervisor would have done."""
    one = pipeline()
    one.up()
    pids = one.pids()
    os.kill(read_instance(one.name).pid, signal.SIGKILL)
    assert_closed(one.down())
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.stress
def test_an_interrupted_job_tells_what_flowed_and_leaves_nothing(pipeline) -> None:
    """Ctrl-C: drained, latencies of each hop from the records, unaccounted 0."""
    report = interrupt(pipeline(), "ready after", 2.0)
    hops = {hop["hop"]: hop for hop in report["latency"]}
    assert list(hops) == ["socket -> ring", "ring -> features", "end to end"]
    for hop in hops.values():
        assert hop["n"] > 0
        assert 0 < hop["p50_ns"] <= hop["p99_ns"] <= hop["max_ns"]
    assert report["flow"]["kraken"]["checksums_bad"] == 0
    assert report["flow"]["kraken"]["checksums_ok"] > 0
    assert_closed(report["audit"])


@pytest.mark.soak
def test_a_job_may_be_interrupted_while_it_starts(pipeline) -> None:
    """Before anything has flowed."""
    interrupt(pipeline(), "starting instance", 0.5)


@pytest.mark.soak
def test_a_job_ends_by_itself(pipeline) -> None:
    """After the time that it was given."""
    one = pipeline()
    done = one.call("run", "-c", str(one.file), "--for", "2", "--json")
    assert done.returncode == 0, done.stderr + one.logs()
    assert_closed(json.loads(done.stdout)["audit"])


def interrupt(one: Pipeline, words: str, after_s: float) -> dict:
    """Press Ctrl-C some time after the job has said `words`; return its report."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "run", "-c", str(one.file), "--for", "300", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=one.environment,
    )
    assert process.stderr and process.stdout
    with process.stderr, process.stdout:
        for line in process.stderr:
            if words in line:
                break
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        rest, text = process.stderr.read(), process.stdout.read()
    assert process.wait(60) == 0, rest + one.logs()
    report: dict = json.loads(text)
    assert report["unaccounted"] == 0
    assert report["regions_left"] == report["processes_left"] == files_of(one.name) == []
    return report


RECORDINGS = """
instance = "{name}"
[venue]
source = "captures"
speed = 10.0
"""
OWN = ("stamp", "seq", "epoch", "source_epoch", "source_seq", "ts_recv", "publish_delta_ns")
"""What two runs may differ in: where and when a record was published."""


@pytest.mark.stress
def test_features_of_a_run_with_killed_workers_equal_those_of_a_replay(
    pipeline, captures: Path, tmp_path: Path, monkeypatch
) -> None:
    """Over the socket, readers killed in mid-run: the same data rows in the same order, in every other column."""
    monkeypatch.setenv("TICKRING_CAPTURES", str(captures))
    one = pipeline(RECORDINGS)
    one.up()
    for name in ("features", "recorder", "fanout"):
        os.kill(one.pids()[name], signal.SIGKILL)
    one.ready()
    wait_for(lambda: one.counters("venue")["tape_done"] == 1, 60)
    time.sleep(0.5)
    books = one.down()
    assert books["unaccounted"] == 0, json.dumps(books, indent=1)
    recorded = (
        ("kraken_v1", "kraken_v1", ("kraken_v1_book_10pairs", "kraken_v1_trade_10pairs")),
        ("kraken_v2", "kraken", ("kraken_v2_btcusd_resubscribes",)),
        ("kraken_v2", "kraken", ("kraken_v2_ethusd",)),
    )
    for venue, worker, names in recorded:
        file = tmp_path / "replayed.parquet"
        replay.play([captures / f"{name}.jsonl.gz" for name in names], venue, file)
        assert_same_rows(live_rows(one.state / "data", worker), file)
    for worker, updates in (("kraken_v1", 4269), ("kraken", 301 + 1129)):
        assert books["counters"][worker]["checksums_ok"] == updates
        assert books["counters"][worker]["checksums_bad"] == 0


def live_rows(data_dir: Path, worker: str) -> Any:
    """Return the rows that the features worker published of one collector's instruments, with their symbols, in order."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    def read(ring: str) -> Any:
        paths = sorted((data_dir / ring).glob("*.parquet"))
        return pa.concat_tables([pq.read_table(path) for path in paths])

    instruments = read(f"{worker}.instruments")
    ids, symbols = (instruments.column(name).to_pylist() for name in ("instrument_id", "symbol"))
    names = dict(zip(ids, symbols, strict=True))
    rows = read("features.features").sort_by("seq")
    rows = rows.filter(pc.equal(rows["kind"], int(Kind.FEATURES)))
    rows = rows.filter(pc.is_in(rows["instrument_id"], pa.array(names, rows["instrument_id"].type)))
    return rows.append_column(
        "symbol", pa.array([names[each] for each in rows["instrument_id"].to_pylist()])
    )


def assert_same_rows(live: Any, file: Path) -> None:
    """Compare all columns but those that say where and when, NaN being equal to NaN."""
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    replayed = pq.read_table(file)
    live = live.filter(pc.is_in(live["symbol"], pc.unique(replayed["symbol"])))
    assert live.num_rows == replayed.num_rows > 100
    for name in replayed.column_names:
        if name in (*OWN, "instrument_id"):
            continue
        ours, theirs = live[name].to_numpy(), replayed[name].to_numpy()
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
