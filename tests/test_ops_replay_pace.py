"""A replay in time plays each frame at its instant, says how late it was, and can be attached to meanwhile."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from wslogs import Feed, clean

import shm
from collectors.captures import Frame
from collectors.synthetic import SyntheticSpec, synthetic_frames
from layouts import Kind
from ops import replay_pace
from ops.cli import run_verb
from ops.replay import play
from ops.replay_pace import PAUSE_LIMIT_NS, Pace, speed_of
from shm import clock
from shm.errors import AttachError, ConfigurationError
from shm.registry import files_of


class Steady:
    """A clock that only sleeping moves, and a little more than asked."""

    def __init__(self, monkeypatch, late_ns: int) -> None:
        self.now_ns = 10**9
        self.late_ns = late_ns
        monkeypatch.setattr(replay_pace.time, "sleep", self.sleep)

    def sleep(self, duration_s: float) -> None:
        self.now_ns += round(duration_s * 1e9) + self.late_ns

    def __call__(self) -> int:
        return self.now_ns


def frames(*times: int) -> list[Frame]:
    return [Frame(ts, "recv", "", b"", 0, i) for i, ts in enumerate(times)]


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_frames_are_played_at_their_instants(monkeypatch, speed: float) -> None:
    """Of the first frame and the speed alone: lateness does not add up, a clock that went back costs nothing."""
    steady = Steady(monkeypatch, late_ns=40_000)
    times = [5_000, 5_000, 2_005_000, 1_005_000, 900_005_000, 900_005_001]
    pace, played = Pace(speed), []
    with clock.replaced(steady=steady):
        begin = steady.now_ns
        for _ in pace.frames(frames(*times)):
            played.append(steady.now_ns - begin)
    due = [round((max(times[: i + 1]) - times[0]) / speed) for i in range(len(times))]
    assert all(0 <= at - wanted <= 40_000 for at, wanted in zip(played, due, strict=True)), played
    found = pace.lateness()
    assert (found.frames, found.over_1_ms, found.pauses_shortened) == (6, 0, 0)
    assert 0 < found.us_max <= 40.0


def test_late_frames_are_counted_and_long_pauses_shortened(monkeypatch) -> None:
    """At exactly 1 ms none, beyond it each; a pause of the limit is kept, a longer one is cut to it."""
    steady = Steady(monkeypatch, late_ns=0)
    pause = PAUSE_LIMIT_NS
    times = [0, pause, 2 * pause + 1, 2 * pause + 2]
    pace, played = Pace(1.0), []
    with clock.replaced(steady=steady):
        begin = steady.now_ns
        for frame in pace.frames(frames(*times)):
            played.append(steady.now_ns - begin)
            if frame.line == 1:
                steady.now_ns += pause + 1_000_000  # somebody held us up
            if frame.line == 2:
                steady.now_ns += 2
    assert played[:2] == [0, pause]
    found = pace.lateness()
    assert found.pauses_shortened == 1
    assert (found.over_1_ms, found.us_max) == (1, 1000.0)


def test_a_speed_is_a_factor_or_max() -> None:
    assert (speed_of("max"), speed_of("1"), speed_of("2.5")) == (None, 1.0, 2.5)
    for wrong in ("0", "-1", "fast", "inf", "nan", ""):
        with pytest.raises(ConfigurationError, match="factor of recorded time"):
            speed_of(wrong)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A second of a synthetic market."""
    import msgspec

    path = tmp_path / "market.jsonl"
    spec = SyntheticSpec(seed=3, depth=10, start_ns=10**18, frames=200, frames_per_s=200.0)
    with path.open("wb") as file:
        for offset_ns, data in synthetic_frames(spec, "kraken_v2"):
            line = {"ts": 10**18 + offset_ns, "kind": "recv", "url": "", "data": data.decode()}
            file.write(msgspec.json.encode(line) + b"\n")
    return path


def test_a_replay_in_time_gives_what_a_fast_one_does(recording: Path) -> None:
    """The same report, and how late it was beside it."""
    fast, _ = play([recording], "kraken_v2")
    paced, _ = play([recording], "kraken_v2", speed=20.0)
    assert paced.lateness is not None and paced.lateness.frames == fast.frames >= 200
    for name in ("records", "checksums", "rejected", "books", "gaps", "unaccounted"):
        assert getattr(paced, name) == getattr(fast, name)
    assert run_verb(["replay", str(recording), "--venue", "kraken_v2", "--speed", "never"]) == 2


def test_others_attach_to_a_replay(instance, recording: Path) -> None:
    """Its rings are those of an instance while it plays, and gone afterwards; a name that is taken is refused."""
    command = [sys.executable, "-m", "ops", "replay", str(recording), "--venue", "kraken_v2"]
    command += ["--speed", "0.5", "--into", instance.name, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    end, kinds = time.monotonic() + 30, set()
    while Kind.LEVEL not in kinds:
        assert time.monotonic() < end and process.poll() is None
        try:
            with shm.attach("kraken_v2.events", instance.name) as reader:
                kinds = set(reader.last(50)[0]["kind"].tolist())
        except AttachError:
            time.sleep(0.01)
    with pytest.raises(ConfigurationError, match="another name"):
        play([recording], "kraken_v2", into=instance.name)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert files_of(instance.name) == []


def test_the_venue_server_plays_captured_files(instance) -> None:
    """A .wslog is among the recordings that it can be given: through the socket, at any speed."""
    from collectors.venue_library import list_streams

    spec = SyntheticSpec(seed=3, depth=10, start_ns=10**18, frames=100)
    feed = Feed(instance).start()
    for _, data in synthetic_frames(spec, "kraken_v2"):
        feed.take(data)
    feed.end()
    found = list_streams(feed.files())
    clean(instance.name)
    assert sum(found["kraken_v2"].values()) >= 100
    assert {stream.channel for stream in found["kraken_v2"]} == {"book", "trade"}
