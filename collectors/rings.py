"""The rings of one collector come and go together: events, books with their newest, instruments, all of one epoch."""

import numpy as np

from collectors.collector_spec import CollectorSpec
from layouts import BOOK, EVENT, INSTRUMENT
from shm.epochs import take_epoch
from shm.producer import Producer, open_latest, open_ring
from shm.region import ring_name


class Rings:
    """The producers of one collector, all of one epoch."""

    def __init__(self, spec: CollectorSpec) -> None:
        epoch = take_epoch(spec.state_dir)

        def ring(name: str, dtype: np.dtype, slots: int) -> Producer:
            return open_ring(
                ring_name(spec.instance, spec.worker, name),
                dtype,
                slots,
                spec.state_dir,
                epoch=epoch,
                reader_group=spec.reader_group,
                consumer_group=spec.consumer_group,
            )

        self.events = ring("events", EVENT, spec.event_slots)
        self.books = ring("books", BOOK, spec.book_slots)
        self.instruments = ring("instruments", INSTRUMENT, spec.instrument_slots)
        self.latest = open_latest(
            self.books.name, BOOK, spec.instrument_ids, epoch, spec.reader_group
        )
        self._all = (self.events, self.books, self.instruments, self.latest)

    def heartbeat(self) -> None:
        """Show in every header that the producer lives."""
        for producer in self._all:
            producer.heartbeat()

    def stop(self) -> None:
        """Say that nothing more comes, and unmap."""
        for producer in self._all:
            producer.stop()
            producer.close()
