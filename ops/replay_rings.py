"""A replay can publish into named rings, so that a notebook or a consumer attaches to it as to a live instance.

The rings are there for the time of the replay and are removed at its end; they overwrite, as live ones do.
**Failure** An instance of that name that runs keeps its rings: the replay is refused before anything is played.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from ops.replay_player import CONSUMER, PrivateRing
from shm.consumer import join
from shm.errors import ConfigurationError
from shm.producer import open_ring
from shm.reclaim import reclaim_ring
from shm.region import ring_name
from shm.registry import files_of


@contextmanager
def named_rings(
    instance: str, worker: str
) -> Iterator[Callable[[str, np.dtype, int], PrivateRing]]:
    """Yield what makes rings of an instance; removes them afterwards.

    Raises:
        ConfigurationError: something of that name is in /dev/shm.
    """
    if files_of(instance):
        raise ConfigurationError(
            f"--into {instance}: an instance of that name has regions here; choose another name, or end it first"
        )
    made: list[PrivateRing] = []
    with tempfile.TemporaryDirectory() as state_dir:

        def make(label: str, dtype: np.dtype, slots: int) -> PrivateRing:
            name = ring_name(instance, worker, label)
            producer = open_ring(name, dtype, slots, state_dir)
            made.append(PrivateRing(producer, join(name, CONSUMER, dtype), np.empty(4096, dtype)))
            return made[-1]

        try:
            yield make
        finally:
            for ring in made:
                ring.producer.stop()
                ring.consumer.close()
                ring.producer.close()
                reclaim_ring(ring.producer.name)
