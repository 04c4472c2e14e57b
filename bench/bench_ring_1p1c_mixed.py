"""What does a pair of one side in C and one in jitted Python cost, next to the two pure pairs?

    A (C or jitted) ──ring──> B (C or jitted) ──ring──> A      half the round trip, 64 bytes
    A (C or jitted) ──ring ("wait" mode)──> B (C or jitted)    records a second, 64 bytes, in batches

All four combinations run in turn in each pass, on the same two pinned cores, and a ratio is the median over all passes of a
mixed pair's time to the mean of the two pure pairs' of that pass. Inside the timed window: as in bench_ring_1p1c_latency and
_throughput, whose jitted loops these are; pairs.c holds the same loops in C. Both sides call one and the same library.

    python bench/bench_ring_1p1c_mixed.py [--smoke] [--cpus A,B]
"""

import statistics
from functools import partial
from typing import Any

from bench_ring_1p1c_latency import Hop, half_rtt
from bench_ring_1p1c_throughput import BATCH, Side
from measure import Figures, Options, compiled, emit, pair, rings

from layouts import EVENT
from shm import _native
from shm.consumer import Consumer, join
from shm.njit import address_of
from shm.producer import Producer

PASSES = 5
SLOTS = 1024
SIDES = ("c", "jit")
PAIRS = tuple((ours, theirs) for ours in SIDES for theirs in SIDES)
DECLARATIONS = (
    "void pairs_ping(intptr_t, intptr_t, intptr_t, intptr_t, int64_t);"
    "void pairs_pong(intptr_t, intptr_t, intptr_t, int64_t);"
    "int64_t pairs_produce(intptr_t, intptr_t, int64_t, int64_t);"
    "int64_t pairs_consume(intptr_t, intptr_t, int64_t, intptr_t, int64_t, int64_t);"
)


def handle(thing: Any) -> int:
    """The address of a producer or reader."""
    return int(_native.ffi.cast("intptr_t", thing.handle))


class MixedHop(Hop):
    """Two rings between two processes, each side in either language."""

    def __init__(self, made: Any, lib: Any) -> None:
        super().__init__(made, EVENT)
        self.lib = lib

    def ping_c(self, n: int) -> None:
        """A's side."""
        record, out = address_of(self.record), address_of(self.out)
        self.lib.pairs_ping(handle(self.there), handle(self.reads_back), record, out, n)

    def pong_c(self, n: int) -> int:
        """B's side; a lost record fails the bench."""
        self.lib.pairs_pong(handle(self.back), handle(self.reads_there), address_of(self.out), n)
        return self.reads_there.lost


def hop(options: Options, lib: Any, ours: str, theirs: str, n: int) -> float:
    """Half the round trip in ns."""
    with rings() as made:
        between = MixedHop(made, lib)
        ping = between.ping_c if ours == "c" else between.ping
        pong = between.pong_c if theirs == "c" else between.pong
        half = half_rtt(ping, pong, n, options.cpus)
        if between.reads_back.lost:
            raise SystemExit("a record was lost on the way back")
        between.close()
    return half


def produce_c(lib: Any, side: Side, producer: Producer, n: int) -> int:
    """A's work in C."""
    return int(lib.pairs_produce(handle(producer), address_of(side.batch), len(side.batch), n))


def consume_c(lib: Any, side: Side, consumer: Consumer, n: int) -> int:
    """B's work in C."""
    batch, control = address_of(side.batch), consumer.control_region.address
    return int(
        lib.pairs_consume(handle(consumer), control, consumer.entry, batch, len(side.batch), n)
    )


def rate(options: Options, lib: Any, ours: str, theirs: str, n: int) -> float:
    """Records a second from `ours` to `theirs`, nothing lost."""
    side, other = Side(EVENT, BATCH), Side(EVENT, 128)
    with rings() as made:
        producer = made("records", EVENT, SLOTS, "wait")
        consumer = join(producer.name, "bench", EVENT)
        produce = partial(produce_c, lib, side) if ours == "c" else side.produce
        consume = partial(consume_c, lib, other) if theirs == "c" else other.consume
        took = pair(partial(consume, consumer, n), partial(produce, producer, n), options.cpus)
        consumer.close()
    return n / took * 1e9


def ratio(passes: Figures, kind: str, ours: str, theirs: str, sign: int) -> float:
    """A mixed pair's time to the mean of the pure pairs', pass by pass; `sign` -1 where the figures are rates."""
    mixed, c, jit = (
        passes.values[f"{kind}_{a}_to_{b}"] for a, b in ((ours, theirs), ("c", "c"), ("jit", "jit"))
    )
    pairs = [m**sign / ((a**sign + b**sign) / 2) for m, a, b in zip(mixed, c, jit, strict=True)]
    return round(statistics.median(pairs), 3)


def main() -> None:
    """Four hops and four rates a pass, in turn."""
    options = Options(__doc__)
    trips, records = options.pick(50, 10_000), options.pick(64 * 1024, 4 * 1024 * 1024)
    lib, _ = compiled("pairs.c", DECLARATIONS, ("-I", "native", _native.__file__))
    for ours, theirs in PAIRS:  # compiles, before anything is timed
        hop(options, lib, ours, theirs, 50)
        rate(options, lib, ours, theirs, BATCH * 128)
    figures, passes = Figures(), Figures()
    for run in range(options.runs):
        for _ in range(PASSES):
            for ours, theirs in PAIRS:
                name = f"{ours}_to_{theirs}"
                passes.add(f"hop_half_rtt_ns_{name}", hop(options, lib, ours, theirs, trips))
                passes.add(f"rate_{name}", rate(options, lib, ours, theirs, records))
        for name, values in passes.values.items():
            figures.add(name, statistics.median(values[run * PASSES :]))
    facts = figures.summary() | {"round_trips": trips, "records": records}
    for ours, theirs in (("c", "jit"), ("jit", "c")):
        name = f"{ours}_to_{theirs}"
        facts[f"hop_ratio_{name}"] = ratio(passes, "hop_half_rtt_ns", ours, theirs, 1)
        facts[f"time_ratio_{name}"] = ratio(passes, "rate", ours, theirs, -1)
    emit("ring_1p1c_mixed", options, facts)


if __name__ == "__main__":
    main()
