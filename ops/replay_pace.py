"""A replay in time: each frame as long after the first as it was live, divided by the speed, and it says how late it was.

**Why it is right** Every frame waits for its own instant on the steady clock, so errors do not add up. What takes longer than
a frame may be late, reading and decompressing the next piece of a file, is done in pauses of the recording that have the room
(ROOM_NS), for up to AHEAD_FRAMES frames. A pause longer than PAUSE_LIMIT_NS (a collector that was down, another day) is
shortened to that, and told.
**Failure** A frame whose instant passes while the one before it is decoded is late by that; so is one where the host gives the
core to others. All of it is in `Lateness`.
**Cost** The core is slept on up to SPIN_NS before each instant and spun on from there: a quiet hour costs nothing, 1,000 frames
a second a fifth of a core; bench_wslog_replay_timing.
"""

import gc
from collections import deque
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from collectors.captures import SESSION_GAP_NS, Frame
from shm import clock
from shm.errors import ConfigurationError

PAUSE_LIMIT_NS = SESSION_GAP_NS
LATE_NS = 1_000_000
SPIN_NS = 200_000
"""Sleeps end up to so much too late; the few that are later by more are the host's (`host` in bench_wslog_replay_timing)."""
ROOM_NS = 5_000_000
"""In a pause as long as this a piece of a file is read."""
AHEAD_FRAMES = 4096
_KEPT = 1 << 20


class Lateness(msgspec.Struct, kw_only=True):
    """By how much frames missed their instant, in us; `over_1_ms`: how many by more than that."""

    frames: int
    us_p50: float
    us_p99: float
    us_max: float
    over_1_ms: int
    pauses_shortened: int


class Pace:
    """Hands frames on at their time.

    Args:
        speed: factor of recorded time.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.pauses_shortened = 0
        self._late = np.zeros(_KEPT, np.int64)
        self._frames = 0
        self._over = 0
        self._latest = 0

    def frames(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield each frame when it is due."""
        source, ahead = iter(frames), deque[Frame]()
        gc.collect()
        gc.freeze()  # what is there already is not looked through again in the middle of a market
        due_ns, before = float(clock.monotonic_ns()), None
        while (frame := ahead.popleft() if ahead else next(source, None)) is not None:
            if before is not None:
                pause = max(0, frame.ts - before)
                if pause > PAUSE_LIMIT_NS:
                    pause = PAUSE_LIMIT_NS
                    self.pauses_shortened += 1
                due_ns += pause / self.speed
            before = frame.ts if before is None else max(before, frame.ts)
            due = round(due_ns)
            while len(ahead) < AHEAD_FRAMES and due - clock.monotonic_ns() > ROOM_NS:
                if (following := next(source, None)) is None:
                    break
                ahead.append(following)
            while (late_ns := clock.wait_until(due, SPIN_NS)) < 0:
                pass  # a signal came, and was handled
            self._note(late_ns)
            yield frame

    def lateness(self) -> Lateness:
        """Return what came of it."""
        late = self._late[: min(self._frames, _KEPT)] / 1e3
        p50, p99 = np.percentile(late, (50, 99)) if len(late) else (0.0, 0.0)
        return Lateness(
            frames=self._frames,
            us_p50=round(float(p50), 1),
            us_p99=round(float(p99), 1),
            us_max=round(self._latest / 1e3, 1),
            over_1_ms=self._over,
            pauses_shortened=self.pauses_shortened,
        )

    def _note(self, late_ns: int) -> None:
        self._late[self._frames % _KEPT] = late_ns
        self._frames += 1
        self._over += late_ns > LATE_NS
        self._latest = max(self._latest, late_ns)


def speed_of(text: str) -> float | None:
    """Return the speed that `--speed` names; None: "max".

    Raises:
        ConfigurationError: it is neither "max" nor a number above 0.
    """
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ConfigurationError(
            f'--speed {text}: a factor of recorded time above 0, or "max" expected'
        )
    return speed
