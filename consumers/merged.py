"""Inputs are merged again in the order in which they were merged before the worker died, as its own rows tell it.

**Protocol** A row of an output with the column `applied_seq` tells how far each input had been applied when it was
made, its cause included. After a restart the rows behind the checkpoint are read in order: for each of them every
other input is applied up to there, then the cause. What comes after the last row is merged as it arrives.

**Why it is right** Between two rows only records were applied that caused none. They must not depend on each other
across inputs: of the inputs of a computation at most one may bring records that change what the others' rows say
without a row of their own (the events, beside orders and controls that each cause one). Then the rows tell all of the
order that matters.

**Failure** A ring that was made anew since holds less than the rows tell: it is applied as far as it goes.
"""

from collections.abc import Callable

import numpy as np

from layouts import Kind
from layouts.position import APPLIED_INPUTS
from shm.errors import ConfigurationError

COLUMN = "applied_seq"
_NONE, _RESTART = -1, -2


def check_inputs(worker: str, inputs: list[str]) -> None:
    """Refuse more inputs than a row can tell. Raises ConfigurationError."""
    if len(inputs) > APPLIED_INPUTS:
        raise ConfigurationError(
            f"{worker} has {len(inputs)} inputs ({', '.join(inputs)}); its rows can tell the order of at most "
            f"{APPLIED_INPUTS}: name fewer in {worker}.inputs"
        )


class RecordedMerge:
    """The rows behind a checkpoint, reduced to the order of their causes."""

    def __init__(self) -> None:
        self._applied: list[np.ndarray] = []
        self._causes: list[np.ndarray] = []
        self._restarts: list[np.void] = []

    def note(self, rows: np.ndarray, source_of: dict[int, int]) -> None:
        """Take rows of the output, in their order; `source_of` gives the input by epoch."""
        restarts = rows["kind"] == Kind.RESTART
        caused = rows[restarts | (rows["source_seq"] > 0)]
        causes = np.array(
            [source_of.get(int(epoch), _NONE) for epoch in caused["source_epoch"]], int
        )
        causes[caused["kind"] == Kind.RESTART] = _RESTART
        self._applied.append(caused[COLUMN][causes != _NONE])
        self._causes.append(causes[causes != _NONE])
        self._restarts += list(rows[restarts])

    def follow(
        self,
        inputs: int,
        advance: Callable[[int, int], None],
        restarted: Callable[[np.void], None] = lambda _row: None,
    ) -> None:
        """Call `advance(input, seq)`, which applies an input up to and with `seq`, in the order that the rows tell, and
        `restarted(row)` where an earlier process of the worker began.
        """
        restarts = iter(self._restarts)
        for applied, causes in zip(self._applied, self._causes, strict=True):
            for seqs, cause in zip(applied.tolist(), causes.tolist(), strict=True):
                if cause == _RESTART:
                    restarted(next(restarts))
                    continue
                for each in range(inputs):
                    if each != cause:
                        advance(each, seqs[each])
                advance(cause, seqs[cause])
