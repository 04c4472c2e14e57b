"""How long is one hop from a producer to a consumer on another core, next to one cache line's journey?

    A ──ring──> B ──ring──> A          half the round trip; jitted loops on both sides, each polling the slot's stamp
    A ──line──> B ──line──> A          the physical limit, in C: a word in a line of its own each way ("line"); also
                                       one word that both write ("word"), and 26 lines by memcpy ("message")

Inside the timed window: all round trips of a pass (after a fifth as many to warm up), publish and poll of 64- or 1,664-byte
records, every record read and its seq checked by the rings. Line and hops are measured in turn in each pass, on the same two
pinned cores; a ratio is the median over all passes of two figures of one pass, because the cores of a virtual machine change
places between passes. The p99 is taken over single round trips and contains one clock reading each.

    python bench/bench_ring_1p1c_latency.py [--smoke] [--cpus A,B]
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from measure import Figures, Options, emit, pair, reference, rings, shared

from layouts import BOOK, EVENT
from shm._native import ffi
from shm.njit import address_of, jit, tr_monotonic_ns, tr_poll_batch, tr_publish
from shm.producer import Producer
from shm.reader import Reader, open_reader

PASSES = 15
"""A run's figure is the median of so many short passes: a core that is taken away for a while spoils one of them."""


@jit
def ping_kernel(producer: int, reader: int, record: int, out: int, n: int) -> int:
    """Send and wait for the answer, n times."""
    for _ in range(n):
        tr_publish(producer, record)
        while tr_poll_batch(reader, out, 1) == 0:
            pass
    return 0


@jit
def pong_kernel(producer: int, reader: int, out: int, n: int) -> int:
    """Wait and answer, n times."""
    for _ in range(n):
        while tr_poll_batch(reader, out, 1) == 0:
            pass
        tr_publish(producer, out)
    return 0


@jit
def timed_ping_kernel(producer: int, reader: int, record: int, out: int, trips: Any) -> int:
    """Send and wait, and take each round trip's time in ns."""
    before = tr_monotonic_ns()
    for i in range(len(trips)):
        tr_publish(producer, record)
        while tr_poll_batch(reader, out, 1) == 0:
            pass
        now = tr_monotonic_ns()
        trips[i] = now - before
        before = now
    return 0


def handle(thing: Producer | Reader) -> int:
    """The address of a producer or reader for jitted code."""
    return int(ffi.cast("intptr_t", thing.handle))


class Hop:
    """Two rings between two processes."""

    def __init__(self, made: Any, dtype: np.dtype) -> None:
        there, back = made("there", dtype, 256), made("back", dtype, 256)
        self.there, self.back = there, back
        self.reads_there, self.reads_back = (open_reader(p.name, dtype) for p in (there, back))
        self.record, self.out = np.zeros(1, dtype), np.zeros(1, dtype)

    def ping(self, n: int) -> None:
        """A's side."""
        record, out = address_of(self.record), address_of(self.out)
        ping_kernel(handle(self.there), handle(self.reads_back), record, out, n)

    def pong(self, n: int) -> int:
        """B's side; a lost record fails the bench."""
        pong_kernel(handle(self.back), handle(self.reads_there), address_of(self.out), n)
        return self.reads_there.lost

    def timed(self, trips: np.ndarray) -> None:
        """A's side with a clock."""
        record, out = address_of(self.record), address_of(self.out)
        timed_ping_kernel(handle(self.there), handle(self.reads_back), record, out, trips)

    def close(self) -> None:
        """Unmap the readers."""
        self.reads_there.close()
        self.reads_back.close()


def half_rtt(
    ping: Callable[[int], Any], pong: Callable[[int], Any], n: int, cpus: tuple[int, int]
) -> float:
    """Half the mean round trip in ns of n, after n / 5 that are not timed."""
    before = (partial(ping, n // 5), partial(pong, n // 5))
    return pair(partial(ping, n), partial(pong, n), cpus, before) / n / 2


def measure_hop(options: Options, dtype: np.dtype, n: int) -> tuple[float, np.ndarray]:
    """Half the mean round trip in ns, and the single round trips of a second pass."""
    trips = np.zeros(n, np.int64)
    half = 0.0
    for is_timed in (False, True):  # each pass forks anew, so each has rings of its own
        with rings() as made:
            hop = Hop(made, dtype)
            if is_timed:
                pair(partial(hop.timed, trips), partial(hop.pong, n), options.cpus)
            else:
                half = half_rtt(hop.ping, hop.pong, n, options.cpus)
            if hop.reads_back.lost:
                raise SystemExit("a record was lost on the way back")
            hop.close()
    return half, trips[n // 10 :] / 2


def warm_up() -> None:
    """Compile before anything is timed."""
    with rings() as made:
        hop = Hop(made, EVENT)
        for _ in range(2):
            hop.back.publish(hop.record)
            hop.there.publish(hop.record)
        hop.ping(1)
        hop.pong(1)
        hop.timed(np.zeros(1, np.int64))
        hop.close()


def main() -> None:
    """Line, 64 bytes, 1,664 bytes, in turn."""
    options = Options(__doc__)
    n = options.pick(50, 4_000)
    lib, reference_ffi = reference()
    warm_up()
    figures, passes = Figures(), Figures()
    for run in range(options.runs):
        for _ in range(PASSES):
            for name in ("line", "word", "message"):
                ping, pong = getattr(lib, f"{name}_ping"), getattr(lib, f"{name}_pong")
                memory = shared(reference_ffi, 4096)
                half = half_rtt(partial(ping, memory), partial(pong, memory), n, options.cpus)
                passes.add(f"{name}_half_rtt_ns", half)
            for size, dtype in ((64, EVENT), (1664, BOOK)):
                half, trips = measure_hop(options, dtype, n)
                passes.add(f"hop_{size}_half_rtt_ns", half)
                for name, at in (("p50", 50), ("p99", 99), ("p999", 99.9), ("max", 100)):
                    passes.add(f"hop_{size}_half_rtt_{name}_ns", float(np.percentile(trips, at)))
        for name in passes.values:
            figures.add(name, statistics.median(passes.values[name][run * PASSES :]))
    facts = figures.summary() | {
        "round_trips": n,
        "ratio_64_to_line": passes.ratio("hop_64_half_rtt_ns", "line_half_rtt_ns"),
        "ratio_64_to_word": passes.ratio("hop_64_half_rtt_ns", "word_half_rtt_ns"),
        "ratio_1664_to_line": passes.ratio("hop_1664_half_rtt_ns", "line_half_rtt_ns"),
        "ratio_1664_to_message": passes.ratio("hop_1664_half_rtt_ns", "message_half_rtt_ns"),
    }
    emit("ring_1p1c_latency", options, facts)


if __name__ == "__main__":
    main()
