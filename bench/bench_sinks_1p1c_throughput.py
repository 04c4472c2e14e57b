"""How many records a second do the fan-out and the recorder carry out of a ring, beside what their libraries can do at most?

    ring, filled before ──> fan-out: encode, MULTI, 1,024 XADD, progress, EXEC ──> redis-server (Unix socket, AOF everysec)
    a list of dicts     ──> redis-py: pipeline(transaction=True) of 1,024 xadd  ──> the same server
    ring, filled before ──> recorder: journal, fdatasync, Parquet, manifest     ──> files
    a list of arrays    ──> write and fdatasync of the same bytes               ──> one file

Inside the timed window: from the first poll to the last acknowledgement (fan-out), to the last manifest line (recorder).
Outside: filling the ring, starting the server. Afterwards every stream must hold each seq once, and `verify_store` must
find every record once, else the bench fails. `outage_catch_up_s`: how long the backlog of a 30 s outage at 20,000
trades/s takes at the measured rate while 20,000/s go on.

    python bench/bench_sinks_1p1c_throughput.py [--smoke]
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import redis

from consumers.fanout import Fanout, FanoutSpec
from consumers.fanout import counter_names as fanout_counters
from consumers.recorder import Recorder, RecorderSpec
from consumers.recorder import counter_names as recorder_counters
from consumers.store_audit import verify_store
from layouts import COLUMNS, EVENT, FEATURES, INSTRUMENT, InstrumentState, Kind, make_marks
from ops.options import Topology
from ops.redis_server import answers, find_server
from shm import clock
from shm import region as regions
from shm.counters import Counters
from shm.producer import Producer, open_ring
from shm.region import ring_name
from shm.registry import files_of

SCALES = {"smoke": (1, 4_000), "real": (7, 120_000)}
"""Runs, records of a run."""
INSTANCE = f"bench{os.getpid()}"
BATCH = 1024
TRADES, ROWS = "trades:kraken:BTC/USD", "features:kraken:BTC/USD"
OUTAGE_S, OUTAGE_RATE = 30, 20_000


def trades(n: int) -> np.ndarray:
    """Return n trades."""
    made = np.zeros(n, EVENT)
    numbers = np.arange(1, n + 1)
    made["kind"], made["instrument_id"] = Kind.TRADE, 1
    made["marks"] = make_marks(InstrumentState.LIVE, side=1, last_in_frame=True)
    made["ts_event"] = 1_700_000_000_000_000_000 + numbers * 1000
    made["word_0"], made["word_1"], made["word_2"] = 6_543_210 + numbers % 97, numbers * 31, numbers
    return made


def rows(n: int) -> np.ndarray:
    """Return n feature rows with every column ready."""
    made = np.zeros(n, FEATURES)
    made["kind"], made["instrument_id"], made["row_no"] = Kind.FEATURES, 1, np.arange(n)
    values = np.random.default_rng(1).normal(size=(n, len(COLUMNS)))
    for i, column in enumerate(COLUMNS):
        made[column.name] = values[:, i]
    made["ready"] = (1 << len(COLUMNS)) - 1
    return made


class Place:
    """A folder, a server, an instrument: what all runs share."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-sinks-"))
        self.socket = self.folder / "redis.sock"
        command = [find_server(Topology()), "--port", "0", "--unixsocket", str(self.socket)]
        command += ["--dir", str(self.folder), "--save", "", "--appendonly", "yes"]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not answers(str(self.socket)):
            time.sleep(0.01)
        self.client: Any = redis.Redis(unix_socket_path=str(self.socket))

    def ring(self, records: np.ndarray) -> Producer:
        """Make a ring that holds these records, and the table of the one instrument."""
        self.remove()
        row = np.zeros(1, INSTRUMENT)
        row["instrument_id"], row["version"], row["kind"] = 1, 1, Kind.INSTRUMENT
        row["price_scale"], row["qty_scale"] = 2, 8
        row["venue"], row["symbol"], row["worker"] = b"kraken", b"BTC/USD", b"feed"
        table = open_ring(ring_name(INSTANCE, "feed", "instruments"), INSTRUMENT, 16, self.folder)
        table.publish_batch(row)
        table.close()
        slots = 1 << len(records).bit_length()
        name = ring_name(INSTANCE, "feed", "out")
        producer = open_ring(name, records.dtype, slots, self.folder)
        producer.publish_batch(records)
        producer.stop()
        return producer

    def remove(self) -> None:
        """Unlink the regions of the last run."""
        for file in files_of(INSTANCE):
            regions.unlink(file)

    def close(self) -> None:
        """End the server and remove everything."""
        self.client.close()
        self.server.kill()
        self.server.wait()
        self.remove()
        shutil.rmtree(self.folder)


def fail(what: str) -> None:
    """End without figures."""
    sys.exit(f"{what}; the figures mean nothing")


def check_stream(place: Place, stream: str, n: int) -> None:
    """Every seq once, in order."""
    seqs = [int(fields[b"seq"]) for _, fields in place.client.xrange(stream)]
    if seqs != list(range(1, n + 1)):
        fail(f"{stream} holds {len(seqs)} entries, {n} different ones expected")
    place.client.flushall()


def time_fanout(place: Place, records: np.ndarray, stream: str) -> float:
    """Return entries a second."""
    producer = place.ring(records)
    spec = FanoutSpec(
        instance=INSTANCE,
        worker="fanout",
        state_dir=str(place.folder),
        inputs=["feed.out"],
        redis_url=f"unix://{place.socket}",
        batch_records=BATCH,
        maxlen=10 * len(records),
    )
    counters = Counters.create(INSTANCE, "fanout", fanout_counters(spec.inputs))
    fanout = Fanout(spec, counters, SimpleNamespace(is_set=True))
    fanout._inputs.join()
    fanout._lanes = [fanout._open_lane(source) for source in fanout._inputs]
    began = clock.monotonic_ns()
    fanout._drain()
    elapsed_ns = clock.monotonic_ns() - began
    fanout._end()
    counters.close()
    producer.close()
    check_stream(place, stream, len(records))
    return len(records) / (elapsed_ns / 1e9)


def time_pipeline(place: Place, n: int) -> float:
    """Return entries a second of redis-py's own pipeline, its dicts made before."""
    entries: list[dict[Any, Any]] = [
        {
            "timestamp": 1_700_000_000_000_000 + i,
            "price": f"{65432 + i % 97}.10",
            "volume": f"0.{i:08d}",
            "side": "buy",
            "trade_id": i,
            "seq": i,
        }
        for i in range(1, n + 1)
    ]
    began = clock.monotonic_ns()
    for first in range(0, n, BATCH):
        pipeline = place.client.pipeline(transaction=True)
        for i, entry in enumerate(entries[first : first + BATCH], first + 1):
            pipeline.xadd(TRADES, entry, id=f"1-{i}", maxlen=10 * n)
        pipeline.execute()
    elapsed_ns = clock.monotonic_ns() - began
    check_stream(place, TRADES, n)
    return n / (elapsed_ns / 1e9)


def time_recorder(place: Place, records: np.ndarray) -> float:
    """Return records a second, from the ring to the manifest."""
    producer = place.ring(records)
    data_dir = place.folder / "data"
    spec = RecorderSpec(
        instance=INSTANCE,
        worker="recorder",
        state_dir=str(place.folder),
        inputs=["feed.out"],
        data_dir=str(data_dir),
    )
    counters = Counters.create(INSTANCE, "recorder", recorder_counters(spec.inputs))
    recorder = Recorder(spec, counters, SimpleNamespace(is_set=True))
    recorder._inputs.join()
    recorder._begin()
    began = clock.monotonic_ns()
    recorder._drain()
    elapsed_ns = clock.monotonic_ns() - began
    recorder._end()
    counters.close()
    producer.close()
    report = verify_store(data_dir, deep=True)
    if not report.ok or (report.rows, report.lost) != (len(records), 0):
        fail(f"the store holds {report.rows} rows of {len(records)}")
    shutil.rmtree(data_dir)
    return len(records) / (elapsed_ns / 1e9)


def time_file(place: Place, records: np.ndarray) -> float:
    """Return records a second that plain writes and syncs carry into a file, a sync every 65,536 records."""
    path = place.folder / "plain"
    began = clock.monotonic_ns()
    with path.open("wb", buffering=0) as file:
        for first in range(0, len(records), 65_536):
            for at in range(first, min(first + 65_536, len(records)), 4096):
                file.write(records[at : at + 4096].view(np.uint8).data)
            os.fdatasync(file.fileno())
    elapsed_ns = clock.monotonic_ns() - began
    path.unlink()
    return len(records) / (elapsed_ns / 1e9)


def main() -> None:
    """Run all rows in turn; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--smoke", action="store_true")
    scale = "smoke" if parser.parse_args().smoke else "real"
    runs, n = SCALES[scale]
    events, features = trades(n), rows(n // 4)
    place = Place()
    measures: dict[str, Callable[[], float]] = {
        "redis_py_pipeline": lambda: time_pipeline(place, n),
        "fanout_trades": lambda: time_fanout(place, events, TRADES),
        "fanout_features": lambda: time_fanout(place, features, ROWS),
        "plain_file": lambda: time_file(place, events),
        "recorder_events": lambda: time_recorder(place, events),
    }
    rates: dict[str, list[float]] = {name: [] for name in measures}
    try:
        for _ in range(runs):
            for name, measure in measures.items():
                rates[name].append(measure())
    finally:
        place.close()
    median = {name: statistics.median(each) for name, each in rates.items()}
    spare = median["fanout_trades"] - OUTAGE_RATE
    told = {
        "bench": "sinks_1p1c_throughput",
        "scale": scale,
        "records_per_s": {name: round(rate) for name, rate in median.items()},
        "range": {name: [round(min(each)), round(max(each))] for name, each in rates.items()},
        "fanout_to_redis_py": round(median["fanout_trades"] / median["redis_py_pipeline"], 2),
        "recorder_to_plain_file": round(median["recorder_events"] / median["plain_file"], 3),
        "outage_catch_up_s": round(OUTAGE_S * OUTAGE_RATE / spare, 1) if spare > 0 else None,
        "conditions": {
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
            "pinned": False,
            "kernel": platform.release(),
            "python": platform.python_version(),
            "redis_py": redis.__version__,
            "runs": runs,
            "records": n,
        },
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
