"""What a live collector captured replays to the records that it published, through lost links, faults and kills."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from collector_processes import FIRST_ID, Bench
from wslogs import data_of, entries_of, equal, parse, read, replayed

import shm
from collectors.wslog_salvage import stage_file
from layouts import EVENT, Entry, Kind
from ops.replay import play
from shm.consumer import join
from shm.counters import read_counters
from shm.errors import ConfigurationError
from shm.region import SHM_DIRECTORY, ring_name

FAULTS = [
    {"path": "kraken_v2", "kind": "malformed", "frame": 200},
    {"path": "kraken_v2", "kind": "disconnect", "frame": 300},
    {"path": "kraken_v2", "kind": "excess_digits", "frame": 500},
    {"path": "kraken_v2", "kind": "wrong_checksum", "frame": 600},
    {"path": "kraken_v2", "kind": "oversize", "frame": 700, "oversize_bytes": 50_000_000},
]


class Captured:
    """A venue and a collector that captures."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.folder = bench.state_dir / "wslog"

    def start(self, port: int) -> None:
        capture = {"folder": str(self.folder), "is_on": True, "free_bytes_min": 0}
        self.bench.start_collector(port, capture=capture)

    def kill(self) -> None:
        process = self.bench.processes.pop("kraken")
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def until_frames(self, n: int) -> None:
        seen = read_counters(self.bench.instance, "kraken").values["frames_in"]
        self.bench.until(
            "kraken", lambda f: f.values["books_live"] == 2 and f.values["frames_in"] > seen + n
        )

    def files(self) -> list[Path]:
        return sorted((self.folder / "kraken").iterdir())

    def values(self) -> dict[str, int]:
        return read_counters(self.bench.instance, "kraken").values

    def account(self) -> None:
        """Frames in = kept + lost + not asked for, and what is kept is in the files."""
        v = self.values()
        assert v["frames_in"] == v["capture_frames"] + v["capture_lost"] + v["capture_unasked"]
        found = list(entries_of(self.files(), Entry.FRAME, Entry.TOO_LARGE))
        assert len(found) == v["capture_frames"]


@pytest.fixture
def live(instance) -> Iterator[Captured]:
    bench = Bench(instance)
    yield Captured(bench)
    bench.close()


def test_a_replay_is_the_live_run(live: Captured) -> None:
    """Links lost, frames refused, a consumer's snapshot, a kill and a restart: equal in every column, ts_recv and ids too."""
    bench = live.bench
    port = bench.start_venue(faults=FAULTS)
    live.start(port)
    bench.until("kraken", lambda f: f.values["rejected.too_large"] > 0)
    live.until_frames(50)
    consumer = join(ring_name(bench.instance, "kraken", "events"), "asker", EVENT, start=-1)
    consumer.request_snapshot(FIRST_ID)
    beats = live.values()["beats"]
    bench.until("kraken", lambda f: f.values["beats"] > beats + 1)  # requests are looked for before
    live.kill()
    live.start(port)
    live.until_frames(300)
    assert bench.end("kraken") == 0
    consumer.close()
    with shm.attach("kraken.events", bench.instance) as reader:
        records, info = reader.last(65_536)
    assert info.first_seq == 1
    equal(data_of(records), data_of(replayed(live.files())))
    live.account()
    # Every record is named by the one entry that it came from, or by none: the heartbeats.
    covered = np.zeros(len(records), int)
    for entry in entries_of(live.files()):
        covered[entry.first_seq - 1 : entry.first_seq - 1 + entry.records] += 1
    assert (covered == (records["kind"] != Kind.HEARTBEAT)).all()
    report, [recording] = play(live.files())
    assert (report.unaccounted, recording.truncated) == (0, [])
    assert report.frames == live.values()["capture_frames"]
    kinds = {e.entry for e in entries_of(live.files())}
    assert set(Entry) - kinds <= {Entry.REST, Entry.SILENCE, Entry.SUBSCRIBE}
    with pytest.raises(ConfigurationError, match="krakken"):
        play(live.files(), "krakken")


def kill_and_check(live: Captured, kills: int, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    port = live.bench.start_venue()
    live.start(port)
    live.bench.until("kraken", lambda f: f.state == "READY" and f.values["frames_in"] > 0)
    for _ in range(kills):
        time.sleep(rng.uniform(0.0, 0.4))
        live.kill()
        live.start(port)
        live.until_frames(20)
    assert live.bench.end("kraken") == 0
    live.account()
    values = live.values()
    assert values["capture_lost"] <= kills  # the frame in hand, before it was staged
    for path in live.files():
        log, _, _ = read(path)
        assert (log.scan.damaged_bytes, log.cut_bytes) == (0, 0)
        assert parse(path)[-1].entry == Entry.END
        assert sum(last - first + 1 for first, last in log.scan.missing) <= 1
    assert not (Path(SHM_DIRECTORY) / stage_file(live.bench.instance, "kraken")).exists()


def test_kills_lose_no_captured_frame(live: Captured) -> None:
    """SIGKILL at a random time, the successor finishes the file: nothing but a frame in hand is missing."""
    kill_and_check(live, 4, seed=random.randrange(1 << 30))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_kills_lose_no_captured_frame(live: Captured, seed: int) -> None:
    """Ten a seed."""
    kill_and_check(live, 10, seed)
