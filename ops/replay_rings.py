"""A replay can publish into named rings, so that a notebook or a consumer attaches to it as to a live instance.

The rings are there for the time of the replay and are removed at its end; they overwrite, as live ones do.
**Failure** An instance of that name that runs keeps its rings: the replay is refused before anything is played.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ops.replay_player import CONSUMER, Place, PrivateRing
from shm.consumer import join
from shm.errors import ConfigurationError
from shm.producer import open_ring
from shm.reclaim import reclaim_ring
from shm.region import ring_name
from shm.registry import files_of


@contextmanager
def named_rings(instance: str) -> Iterator[Place]:
    """Yield what makes rings of an instance, named as its collectors name them live; removes them afterwards.

    Raises:
        ConfigurationError: something of that name is in /dev/shm.
    """
    if files_of(instance):
        raise ConfigurationError(
            f"--into {instance}: an instance of that name has regions here; choose another name, or end it first"
        )
    made: list[PrivateRing] = []
    with tempfile.TemporaryDirectory() as state_dir:

        def make(worker: str, ring: str, dtype: np.dtype, slots: int) -> PrivateRing:
            name = ring_name(instance, worker, ring)
            producer = open_ring(name, dtype, slots, state_dir)
            made.append(PrivateRing(producer, join(name, CONSUMER, dtype), np.empty(4096, dtype)))
            return made[-1]

        try:
            yield make
        finally:
            for each in made:
                each.producer.stop()
                each.consumer.close()
                each.producer.close()
                reclaim_ring(each.producer.name)
