"""How long a channel may be silent before that is news, learned from its own arrivals.

**Why it is right** For arrivals at random (Poisson) a gap exceeds t with probability exp(-t / mean): the quantile 1 - p is
mean x ln(1/p). Market data comes in bursts, and a mean over many small gaps and a few long ones promises far too little. So
the mean is taken as a passer-by sees it: what is left of a gap at a random moment, E[g^2] / 2E[g] (the mean residual life
of renewal theory; Feller, vol. II, XI.4). For random arrivals it is the plain mean; in bursts the long gaps rule it, and
how many frames a burst has does not matter. Gaps heavier than exponential are met by the longest one of late, MARGIN times.

**Invariants** (1) Between FLOOR_S and CEILING_S, and CEILING_S until LEARNED gaps were seen. (2) A false alarm teaches: the gap
that caused it raises the limit. (3) Seconds are the caller's, of the steady clock.

**Cost** Three floats a channel, a few multiplications an arrival that a look has found.
"""

import math

FALSE_ALARMS = 1e-6
"""Of gaps between random arrivals."""
FLOOR_S = 5.0
CEILING_S = 600.0
LEARNED = 32
MARGIN = 4.0
_KEPT = 1.0 - 1.0 / 256.0
"""Weight of what was known after one more gap: about 256 gaps are remembered."""
_QUANTILE = math.log(1.0 / FALSE_ALARMS)


class Arrivals:
    """The gaps of one channel."""

    __slots__ = ("_gaps_s", "_longest_s", "_seen", "_squares")

    def __init__(self) -> None:
        self._seen = 0
        self._gaps_s = 0.0
        self._squares = 0.0
        self._longest_s = 0.0

    def note(self, gap_s: float) -> None:
        """Something came, so long after what came before."""
        self._seen += 1
        self._gaps_s = self._gaps_s * _KEPT + gap_s
        self._squares = self._squares * _KEPT + gap_s * gap_s
        self._longest_s = max(self._longest_s * _KEPT, gap_s)

    @property
    def residual_s(self) -> float:
        """What is left of a gap at a random moment, on average; 0 before the first."""
        return self._squares / (2.0 * self._gaps_s) if self._gaps_s > 0.0 else 0.0

    @property
    def limit_s(self) -> float:
        """The silence that is news."""
        if self._seen < LEARNED:
            return CEILING_S
        wanted = max(_QUANTILE * self.residual_s, MARGIN * self._longest_s)
        return min(CEILING_S, max(FLOOR_S, wanted))
