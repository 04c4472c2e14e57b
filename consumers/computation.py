"""What a worker with state asks of its computation: rows that are a function of the records, and a state that is bytes.

**See** `consumers.stateful` drives one; `consumers.feature_engine.FeatureEngine` is one, `consumers.own` makes one of a kernel.
"""

from typing import Protocol, runtime_checkable

import numpy as np


class Computation(Protocol):
    """What turns records into rows."""

    identity: str
    """Changes when the bytes of the state change their meaning."""
    output: np.dtype
    rows: np.ndarray
    """Where `apply` puts rows; where it has no room for all that one batch causes, `unfinished` tells."""
    batch_records: int

    @property
    def unfinished(self) -> bool:
        """`rows` had no more room: they are to be taken, and `apply` called again with the same records."""
        ...

    @property
    def counters(self) -> dict[str, int]:
        """Values to export under the worker's counters; the same names at any time."""
        ...

    def apply(self, records: int, n: int, source: int, epoch: int) -> int:
        """Apply `n` records at an address; return how many rows `rows` begins with, ordered by source_seq and index."""
        ...

    def forget(self, source: int) -> None:
        """Records of this input were lost, or it was made anew."""
        ...

    def wanting(self, source: int) -> list[int]:
        """Return the ids of instruments of this input whose snapshot is needed and does not come by itself."""
        ...

    def idle(self) -> None:
        """Called a few times a second."""
        ...

    def to_bytes(self) -> bytes:
        """Return the state."""
        ...

    def load(self, image: bytes) -> None:
        """Take a state back. Raises ValueError where it is none."""
        ...


@runtime_checkable
class Restartable(Protocol):
    """A computation to whose rows a restart of its worker matters."""

    def restarted(self, record: np.ndarray) -> None:
        """Take note of this restart, and put into its RESTART record (an array of one) what `follow_restart` needs."""
        ...

    def follow_restart(self, row: np.void) -> None:
        """Take note of an earlier restart, replayed from its RESTART record."""
        ...
