"""How many records a second go through one ring to one consumer on another core, next to a plain C queue's?

    A ──ring ("wait" mode)──> B        64 and 1,664 bytes; jitted loops; A publishes batches, B polls batches
    A ──queue──> B                     the reference: a cached-index C queue of 64-byte slots (reference.c)
    A ──ring ("wait")──> B, C, D       four processes, a correctness run: count, order, every word, checksum
    A ──ring ("overwrite")──> (B)      the producer alone, and with a passive reader that looks 1,000 times a second

Inside the timed window: filling every record with its seq, publishing, and the consumer's copy of each; the consumer checks
count and order of all of them, else the run fails. Queue and ring run in turn on the same two cores.

    python bench/bench_ring_1p1c_throughput.py [--smoke] [--cpus A,B]
"""

import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measure import Figures, Options, emit, pair, reference, rings, shared
from numba import types
from rivals import end_with_parent

from layouts import BOOK, EVENT
from shm._native import ffi
from shm.consumer import Consumer, join, wait_any
from shm.cursors import consumers_of
from shm.njit import address_of, jit, tr_poll_batch, tr_publish_batch
from shm.producer import Producer
from shm.reader import open_reader

BATCH = 32
PASSES = 7
"""So many pairs a run of the producer alone and observed: its own rate moves more than a reader can move it."""
CONSUMERS = 3
MIX = 0x61C88646
CHECKSUM_MASK = (1 << 62) - 1
_commit: Any = types.ExternalFunction("tr_entry_commit", types.void(types.intp, *[types.int64] * 5))


@jit
def produce_kernel(producer: int, batch: int, seqs: Any, n: int) -> int:
    """Publish n records, a multiple of the batch, each with its seq in one field."""
    for first in range(0, n, len(seqs)):
        for i in range(len(seqs)):
            seqs[i] = first + i
        if tr_publish_batch(producer, batch, len(seqs)) < 0:
            return 1
    return 0


@jit
def consume_kernel(reader: int, control: int, entry: int, batch: int, seqs: Any, n: int) -> int:
    """Take n records in order; returns how many were not the next one."""
    wrong = 0
    done = 0
    while done < n:
        k = tr_poll_batch(reader, batch, len(seqs))
        if k < 0:
            return n
        for i in range(k):
            wrong += seqs[i] != done + i
        done += k
        if k > 0:
            _commit(control, entry, done + 1, 0, 0, 0)
    return wrong


def handle(thing: Any) -> int:
    """The address of a producer or reader for jitted code."""
    return int(ffi.cast("intptr_t", thing.handle))


class Side:
    """A batch of records in private memory."""

    def __init__(self, dtype: np.dtype, n: int = BATCH) -> None:
        self.batch = np.zeros(n, dtype)
        self.seqs = self.batch["ts_event"]

    def produce(self, producer: Producer, n: int) -> int:
        """A's work."""
        return int(produce_kernel(handle(producer), address_of(self.batch), self.seqs, n))

    def consume(self, consumer: Consumer, n: int) -> int:
        """B's work."""
        control = consumer.control_region.address
        batch = address_of(self.batch)
        return int(consume_kernel(handle(consumer), control, consumer.entry, batch, self.seqs, n))


def lossless(options: Options, dtype: np.dtype, slots: int, n: int) -> float:
    """Records a second to one registered consumer, nothing lost."""
    side, other = Side(dtype), Side(dtype, 128)
    with rings() as made:
        producer = made("records", dtype, slots, "wait")
        consumer = join(producer.name, "bench", dtype)
        took = pair(
            partial(other.consume, consumer, n), partial(side.produce, producer, n), options.cpus
        )
        consumer.close()
    return n / took * 1e9


def three_consumers(n: int) -> dict[str, int]:
    """One producer, three consumers, four processes on two cores: a correctness run, nothing is timed.

    Each consumer checks count, order and every word of n records, and adds all words up to the checksum of what was sent.
    """
    with rings() as made:
        producer = made("records", EVENT, 1024, "wait")
        sums = np.memmap(Path(made.state_dir) / "sums", np.int64, "w+", shape=CONSUMERS)
        children = [fork_checker(producer, i, n, sums) for i in range(CONSUMERS)]
        while len(consumers_of(producer.name, producer.facts().uuid, 0)) < CONSUMERS:
            time.sleep(0.001)
        sent = 0
        for first in range(0, n, BATCH):
            batch = numbered(first, BATCH)
            sent = (sent + words_of(batch)) & CHECKSUM_MASK
            producer.publish_batch(batch)
        wrong = sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        wrong += int((sums != sent).sum())
        del sums
    return {"three_consumers_wrong": wrong, "three_consumers_records": n}


def fork_checker(producer: Producer, index: int, n: int, sums: np.ndarray) -> int:
    """Start a consumer process; its exit status is 0 when every word of every record was right. It ends with this one."""
    child = os.fork()
    if child:
        return child
    end_with_parent()
    status = 1
    try:
        consumer = join(producer.name, f"c{index}", EVENT)
        done = checksum = 0
        while done < n:
            wait_any([consumer], 1.0)
            records, info = consumer.poll(1024)
            wanted = numbered(done, len(records))
            wanted["stamp"] = records["stamp"]
            wanted["publish_delta_ns"] = records["publish_delta_ns"]
            if info.lost or info.first_seq != done + 1 or (records != wanted).any():
                break
            checksum = (checksum + words_of(records)) & CHECKSUM_MASK
            done += len(records)
            consumer.commit()
        sums[index] = checksum
        status = int(done != n)
    finally:
        os._exit(status)


def numbered(first: int, n: int) -> np.ndarray:
    """Make n records whose words are known from their number."""
    records = np.zeros(n, EVENT)
    numbers = np.arange(first, first + n)
    records["ts_event"] = numbers
    for i in range(4):
        records[f"word_{i}"] = numbers * MIX + i
    return records


def words_of(records: np.ndarray) -> int:
    """Add the words up that the producer does not fill in itself."""
    return int(sum(int(records[f"word_{i}"].sum()) for i in range(4))) & CHECKSUM_MASK


def producing(options: Options, n: int, with_reader: bool) -> float:
    """Records a second of a producer that never waits, perhaps under a passive reader's eyes."""
    side = Side(EVENT)
    with rings() as made:
        producer = made("records", EVENT, 4096)
        reader = open_reader(producer.name, EVENT)

        def look() -> int:
            until = time.monotonic() + 0.8 * n / 60e6
            while with_reader and time.monotonic() < until:
                reader.last(100)
                time.sleep(0.001)
            return 0

        took = pair(partial(side.produce, producer, n), look, options.cpus)
        reader.close()
    return n / took * 1e9


def main() -> None:
    """Queue, ring, large records, and the passive reader, in turn."""
    options = Options(__doc__)
    n = options.pick(64 * 1024, 8 * 1024 * 1024)
    lib, reference_ffi = reference()
    lossless(options, EVENT, 1024, 1024)
    producing(options, 1024, with_reader=True)
    figures, passes = Figures(), Figures()
    for _ in range(options.runs):
        queue = shared(reference_ffi, lib.queue_bytes())
        took = pair(
            partial(lib.queue_push, queue, n), partial(lib.queue_pop, queue, n), options.cpus
        )
        figures.add("reference_rate_64", n / took * 1e9)
        figures.add("rate_64", lossless(options, EVENT, 1024, n))
        figures.add("rate_1664", lossless(options, BOOK, 64, n // 16))
        for _ in range(PASSES):
            passes.add("producer_rate_64", producing(options, n, with_reader=False))
            passes.add("producer_rate_64_observed", producing(options, n, with_reader=True))
        for name, values in passes.values.items():
            figures.add(name, statistics.median(values[-PASSES:]))
    checked = three_consumers(min(n, 256 * 1024))
    if checked["three_consumers_wrong"]:
        raise SystemExit("1 producer, 3 consumers: records were missing, out of order or wrong")
    facts = (
        figures.summary()
        | checked
        | {
            "records": n,
            "ratio_64_to_reference": figures.ratio("rate_64", "reference_rate_64"),
            "passive_reader_rate_ratio": figures.ratio(
                "producer_rate_64_observed", "producer_rate_64"
            ),
        }
    )
    emit("ring_1p1c_throughput", options, facts)


if __name__ == "__main__":
    main()
