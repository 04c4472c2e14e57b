"""An allowance lets a few things happen at once and then so many a second, however they are asked for.

**Why it is right** Each `take` owes one; what is owed beyond the burst is waited for, and each caller is told a pause of its
own, so that callers who ask together leave one after the other. Time is the steady clock's.
"""

from typing import NamedTuple

from shm import clock


class Rate(NamedTuple):
    """`burst` at once, then `per_s` a second."""

    per_s: float
    burst: float


class Allowance:
    """What is left of a rate."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._left = rate.burst
        self._refilled_ns = clock.monotonic_ns()

    def take(self) -> float:
        """Use one up; returns how long to wait before, in seconds."""
        now = clock.monotonic_ns()
        earned = (now - self._refilled_ns) / 1e9 * self.rate.per_s
        self._left = min(self.rate.burst, self._left + earned) - 1.0
        self._refilled_ns = now
        return max(0.0, -self._left / self.rate.per_s)
