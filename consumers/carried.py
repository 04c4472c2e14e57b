"""What a worker holds is kept with each checkpoint as OPENING records too, for the next run, after every ring is gone.

**Protocol** Beside the checkpoint, in two files written in turn: the records, and how far the worker's first input (orders) was
applied. `ops.opening` adds what the journal of orders has behind that, and begins the next run with the sum.

**Why it is right** A checkpoint belongs to rings; these records belong to nothing but their layout. One that is old or torn
is no loss: the journal begins with the OPENINGs of its run, so that the sum can be made from there as well.
"""

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from consumers.checkpoint import Checkpoint, CheckpointStore, Position
from layouts import ORDER, abi_hash

_IDENTITY = f"openings {abi_hash(ORDER).hex()}"
_SUFFIX = "openings"


@runtime_checkable
class Carrying(Protocol):
    """A computation whose first input is the ring of orders, and whose state the next run begins with."""

    def openings(self) -> np.ndarray:
        """Return OPENING records (layouts.order.Opening) of all that is held."""
        ...


class Carried(NamedTuple):
    """What a worker held, and the first record of orders that is not in it."""

    uuid: str
    next_seq: int
    records: np.ndarray


class CarriedStore:
    """The two files of one worker."""

    def __init__(self, state_dir: str | Path, worker: str) -> None:
        self._store = CheckpointStore(state_dir, f"{worker}.{_SUFFIX}")
        self._saved = 0

    def load(self) -> Carried | None:
        """Return the newest whole one, None where there is none of this layout; once, and before `save`."""
        found = self._store.load()
        if found is None or found.checkpoint.computation != _IDENTITY:
            return None
        position = found.checkpoint.positions[0]
        records = np.frombuffer(found.image, ORDER).copy()
        return Carried(position.uuid, position.next_seq, records)

    def save(self, orders: Position, carrying: Carrying, is_last: bool) -> None:
        """Keep what is held, where orders were applied since; at the end of a run always, and on the disk."""
        if orders.next_seq == self._saved and not is_last:
            return
        self._saved = orders.next_seq
        checkpoint = Checkpoint(
            computation=_IDENTITY, output_uuid="", output_next_seq=0, positions=(orders,)
        )
        self._store.save(checkpoint, carrying.openings().tobytes(), is_durable=is_last)
