"""A venue server and a collector as processes of one instance: started from specs, watched by counters, ended by the test."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from shm.counters import WorkerFacts, read_counters
from shm.errors import AttachError
from shm.outlet import Reject
from shm.region import unlink
from shm.registry import files_of

SYMBOLS = ["BTC/USD", "ETH/USD"]
MARKET = {
    "seed": 7,
    "frames_per_s": 500.0,
    "instruments": [
        {"symbol": "BTC/USD", "price": "63005.0"},
        {"symbol": "ETH/USD", "price": "1877.30"},
    ],
}
FIRST_ID = 100
WAIT_S = 15.0


class Bench:
    """A venue and a collector of one instance, each a process; ended and cleaned by the fixture."""

    def __init__(self, instance) -> None:
        self.instance = instance.name
        self.state_dir = instance.state_dir
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self, worker: str, module: str, **spec: object) -> subprocess.Popen:
        path = self.state_dir / f"{worker}.json"
        common = {"instance": self.instance, "worker": worker, "state_dir": str(self.state_dir)}
        path.write_text(json.dumps(common | spec))
        command = [sys.executable, "-m", module, str(path)]
        self.processes[worker] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        return self.processes[worker]

    def start_venue(self, **spec: object) -> int:
        spec = {"synthetic": MARKET} | spec
        self.start("venue", "collectors.venue_server", **spec)
        return self.until("venue", lambda facts: facts.state == "READY").values["listen_port"]

    def start_collector(self, port: int, **spec: object) -> subprocess.Popen:
        wanted = [
            {"channel": "book", "symbols": SYMBOLS, "depth": 10},
            {"channel": "trade", "symbols": SYMBOLS},
        ]
        spec = {
            "venue": "kraken_v2",
            "url": f"ws://127.0.0.1:{port}/kraken_v2",
            "subscriptions": wanted,
            "first_instrument_id": FIRST_ID,
        } | spec
        return self.start("kraken", "collectors.worker", **spec)

    def until(self, worker: str, holds: Callable[[WorkerFacts], bool]) -> WorkerFacts:
        end = time.monotonic() + WAIT_S
        facts = None
        while time.monotonic() < end:
            try:
                facts = read_counters(self.instance, worker)
            except AttachError:
                facts = None
            if facts is not None and holds(facts):
                return facts
            time.sleep(0.02)
        errors = {name: process.poll() for name, process in self.processes.items()}
        raise AssertionError(f"{worker} did not get there: {facts}, processes {errors}")

    def end(self, worker: str) -> int:
        process = self.processes.pop(worker)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
        if process.returncode:
            print(said)
        return process.returncode

    def close(self) -> None:
        for worker in list(self.processes):
            process = self.processes.pop(worker)
            process.kill()
            process.communicate()
        for file in files_of(self.instance):
            unlink(file)


def unaccounted(facts: WorkerFacts) -> int:
    values = facts.values
    ended = sum(values[f"rejected.{reason.name.lower()}"] for reason in Reject)
    return values["frames_in"] - ended - values["frames_decoded"] - values["frames_abandoned"]
