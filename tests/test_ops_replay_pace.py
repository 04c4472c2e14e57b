"""A replay in time plays each frame at its instant, says how late it was, and can be attached to meanwhile."""

import signal
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
        self.waits: list[int] = []
        monkeypatch.setattr(clock, "wait_until", self.wait_until)

    def wait_until(self, due_ns: int, spin_ns: int) -> int:
        assert 0 < spin_ns < 1_000_000
        if due_ns > self.now_ns:
            self.waits.append(due_ns - self.now_ns)
            self.now_ns = due_ns + self.late_ns
        return self.now_ns - due_ns

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


@pytest.mark.parametrize(("pause_ns", "is_read_ahead"), [(5_000_000, False), (5_000_001, True)])
def test_a_file_is_read_where_the_recording_leaves_the_room(
    monkeypatch, pause_ns: int, is_read_ahead: bool
) -> None:
    """A piece that takes 2 ms to read makes no frame late behind a long pause, and the next one behind a short one."""
    steady = Steady(monkeypatch, late_ns=0)
    times = [0, pause_ns, *(pause_ns + i * 1000 for i in range(1, 5))]

    def read():
        for frame in frames(*times):
            steady.now_ns += 2_000_000 * (frame.line == 3)
            yield frame

    pace = Pace(1.0)
    with clock.replaced(steady=steady):
        played = [frame.line for frame in pace.frames(read())]
    assert played == [0, 1, 2, 3, 4, 5]
    assert (pace.lateness().over_1_ms == 0) == is_read_ahead
    assert pace.lateness().frames == 6


def test_no_more_is_read_ahead_than_is_told(monkeypatch) -> None:
    """However long the pause, and a pause longer than the limit is still told once."""
    monkeypatch.setattr(replay_pace, "AHEAD_FRAMES", 3)
    steady, taken = Steady(monkeypatch, late_ns=0), []
    times = [0, *(PAUSE_LIMIT_NS * 2 + i for i in range(10))]

    def read():
        for frame in frames(*times):
            taken.append(frame.line)
            yield frame

    pace = Pace(1.0)
    with clock.replaced(steady=steady):
        ahead = [len(taken) - 1 - frame.line for frame in pace.frames(read())]
    assert max(ahead) == 3
    assert len(ahead) == 11
    assert pace.lateness().pauses_shortened == 1


def test_a_wait_ends_at_its_instant_and_never_before() -> None:
    """Slept up to the spin, spun from there: asleep it takes next to nothing of a core; what has passed is late at once."""
    for wait_ns, spin_ns in ((0, 200_000), (100_000, 200_000), (3_000_000, 200_000), (3_000, 0)):
        due = clock.monotonic_ns() + wait_ns
        late = clock.wait_until(due, spin_ns)
        assert late >= 0 and clock.monotonic_ns() >= due + late
    assert clock.wait_until(clock.monotonic_ns() - 5_000, 200_000) >= 5_000
    before = time.process_time_ns()
    clock.wait_until(clock.monotonic_ns() + 300_000_000, 200_000)
    assert time.process_time_ns() - before < 100_000_000


def test_a_signal_has_its_turn_and_no_frame_comes_early() -> None:
    """A wait that a signal ends says that it is early, and Pace waits on."""
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert clock.wait_until(clock.monotonic_ns() + 500_000_000, 200_000) < 0
        assert seen == [signal.SIGALRM]
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        begin, pace = clock.monotonic_ns(), Pace(1.0)
        assert len(list(pace.frames(frames(0, 200_000_000)))) == 2
        assert clock.monotonic_ns() - begin >= 200_000_000
        assert len(seen) == 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
