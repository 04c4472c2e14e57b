"""An operator captures with the TOML and with `record`, traces a record back, and the closed books include every frame."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from wslogs import Feed, clean

import shm
from layouts import Kind
from ops.wslog_index import files_in, read_index
from shm.counters import read_counters
from shm.registry import files_of

TOPOLOGY = """
instance = "{name}"
[supervisor]
drain_timeout_s = 10.0
[venue]
source = "synthetic"
frames_per_s = 300.0
[capture]
free_bytes_min = 0
[collectors.kraken]
capture = true
event_slots = 65536
[collectors.kraken_v1]
event_slots = 65536
[bars]
enabled = false
[features]
enabled = false
[fanout]
enabled = false
[recorder]
enabled = false
"""
WAIT_S = 30


class Operator:
    """Runs verbs of one instance."""

    def __init__(self, instance) -> None:
        self.name = instance.name
        self.state = instance.state_dir / instance.name
        self.file = instance.state_dir / "topology.toml"
        self.file.write_text(TOPOLOGY.format(name=self.name))

    def call(self, *words: str, status: int | None = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ops", *words],
            capture_output=True,
            text=True,
            timeout=100,
            env=os.environ | {"TICKRING_INSTANCE": self.name},
            check=False,
        )
        assert status in (None, done.returncode), done.stderr + done.stdout
        return done.stdout

    def up(self) -> None:
        self.call("up", "-c", str(self.file))
        self.call("ready", "--timeout", str(WAIT_S))

    def until(self, worker: str, holds) -> dict[str, int]:
        end = time.monotonic() + WAIT_S
        while not holds(values := read_counters(self.name, worker).values):
            assert time.monotonic() < end, values
            time.sleep(0.02)
        return values

    def checks(self) -> dict[str, dict]:
        audit = json.loads(self.call("audit", "--json"))
        assert audit["unaccounted"] == 0, audit
        return {check["name"]: check for check in audit["checks"]}


@pytest.fixture
def operator(instance) -> Iterator[Operator]:
    made = Operator(instance)
    yield made
    made.call("down", status=None)
    assert files_of(made.name) == []


def left_by_an_earlier_run(instance, folder: Path) -> Path:
    """Make a finished file of a collector that does not run any more."""
    feed = Feed(instance, folder=str(folder))
    feed.folder = folder
    feed.start()
    feed.take(b"a frame of yesterday")
    feed.end()
    clean(instance.name)
    return feed.files()[0]


def test_capture_record_trace_and_the_books(operator: Operator, instance) -> None:
    """One collector by the TOML, killed on the way; another by `record` for a while; a record is traced, the books close,
    and what an earlier run left is compressed by the supervisor's helper; what this one ends is, before `down` returns.
    """
    left = left_by_an_earlier_run(instance, operator.state / "wslog")
    operator.up()
    operator.until("kraken", lambda v: v["capture_frames"] > 200)
    os.kill(read_counters(operator.name, "kraken").pid, signal.SIGKILL)
    operator.until("kraken", lambda v: v["capture_frames"] > 400 and v["books_live"])
    assert "captured frames of kraken_v1" not in operator.checks()
    rows = json.loads(operator.call("record", "kraken_v1", "--for", "0.5", "--json"))
    assert rows[0]["frames"] > 0 and rows[0]["lost"] == 0 and not rows[0]["is_on"]
    assert not list((operator.state / "run").glob("*.capture"))
    assert {"captured frames of kraken", "captured frames of kraken_v1"} <= set(operator.checks())
    operator.call("record", "nobody", status=2)
    status = json.loads(operator.call("status", "--json", status=None))
    capture = {w["worker"]: w["capture"] for w in status["workers"]}
    assert (capture["kraken"], capture["kraken_v1"], capture["venue"]) == ("on", "", "")
    with shm.attach("kraken.events", operator.name) as reader:
        records, info = reader.last(200)
    # A level of quantity 0 may be one that was cut off: it is in no frame.
    is_set = (records["kind"] == Kind.LEVEL) & (records["word_1"] > 0)
    level = int(is_set.nonzero()[0][-20])
    seq = info.first_seq + level
    found: dict = {}
    end = time.monotonic() + WAIT_S
    while not found.get("is_its_frame"):  # the frame gets to the file within a tick or two
        assert time.monotonic() < end
        said = operator.call("trace", "kraken.events", str(seq), "--json", status=None)
        found = json.loads(said) if said else {}
    frame = json.loads(found["text"])
    assert frame["channel"] == "book"
    prices = [
        row["price"] for part in frame["data"] for side in ("bids", "asks") for row in part[side]
    ]
    digits = str(records["word_0"][level])
    assert any(f"{price}".replace(".", "").rstrip("0") in digits for price in prices)
    assert not left.exists() and left.with_name(left.name + ".zst").exists()
    operator.call("down")
    for name in ("kraken", "kraken_v1"):
        folder = operator.state / "wslog" / name
        kept = {path.name for path in files_in(folder)}
        assert kept == set(read_index(folder)) and all(each.endswith(".zst") for each in kept)
    checks = operator.checks()
    for name in ("kraken", "kraken_v1"):
        check = checks[f"captured frames of {name}"]
        assert check["expected"] == check["found"] > 0 and not check["note"]
    report = json.loads(
        operator.call(
            *("replay", *map(str, files_in(operator.state / "wslog" / "kraken")), "--json")
        )
    )
    assert report["unaccounted"] == 0 and report["checksums"]["bad"] == 0
    assert report["frames"] == checks["captured frames of kraken"]["found"]
