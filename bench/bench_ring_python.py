"""What does plain Python pay to publish and to poll one 64-byte record, and what do its other channels ask for the same?

    A: publish, poll, publish, poll ...        records a second, both ends in one process, one record at a time
    A ──ring──> B ──ring──> A                  half the round trip between two processes, each polling
    A: last(1_000_000)                         bytes a second of a validated copy

Inside the timed window: for the ring, filling a word of `producer.slot`, `publish_slot` and `poll_into`; for a rival, sending
64 prepared bytes and receiving them. The count of what was received is checked. Ours and every rival run in turn.

    python bench/bench_ring_python.py [--smoke] [--cpus A,B]
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import Figures, Options, emit, pair, rings
from rivals import RIVALS, Channel

from layouts import EVENT
from shm.clock import monotonic_ns
from shm.producer import Producer
from shm.reader import Reader, open_reader

RIVAL_LIMIT_NS = 2_000_000_000
ROUND = 50


def own_rate(producer: Producer, reader: Reader, n: int) -> float:
    """Records a second, published and polled one by one in one process."""
    batch = np.empty(64, EVENT)
    words = producer.slot.view(np.int64)
    publish, poll = producer.publish_slot, reader.poll_into
    received = 0
    began = monotonic_ns()
    for i in range(n):
        words[4] = i
        publish()
        received += poll(batch)
    took = monotonic_ns() - began
    if received != n or batch["word_0"][0] != n - 1:
        raise SystemExit(f"{received} of {n} records received")
    return n / took * 1e9


def rival_rate(channel: Channel, n: int) -> float:
    """The same through a rival, for RIVAL_LIMIT_NS at most: a slow one has fewer messages, not a longer run."""
    send, receive = channel.send, channel.receive
    received = 0
    began = monotonic_ns()
    took = 1
    while received < n and took < RIVAL_LIMIT_NS:
        for _ in range(min(ROUND, n - received)):
            send()
            while receive() is None:
                pass
            received += 1
        took = monotonic_ns() - began
    return received / took * 1e9


def own_hop(options: Options, n: int) -> float:
    """Half the round trip in ns over two rings."""
    with rings() as made:
        there, back = made("there", EVENT, 256), made("back", EVENT, 256)
        at_b, at_a = open_reader(there.name, EVENT), open_reader(back.name, EVENT)

        def ping() -> None:
            batch = np.empty(1, EVENT)
            publish, poll = there.publish_slot, at_a.poll_into
            for _ in range(n):
                publish()
                while not poll(batch):
                    pass

        def pong() -> int:
            batch = np.empty(1, EVENT)
            publish, poll = back.publish_slot, at_b.poll_into
            for _ in range(n):
                while not poll(batch):
                    pass
                publish()
            return at_b.lost

        took = pair(ping, pong, options.cpus)
        lost = at_a.lost
        at_a.close()
        at_b.close()
    if lost:
        raise SystemExit(f"{lost} records were lost on the way back")
    return took / n / 2


def iceoryx2_hop(options: Options, n: int) -> float:
    """Half the round trip in ns through the rival; each process makes its own ports."""
    import ctypes

    import iceoryx2 as iox2

    name = f"tickring-bench/{os.getpid()}-{monotonic_ns()}"

    def ports(out: str, into: str) -> tuple[Callable[[], None], Callable[[], Any], Any]:
        iox2.set_log_level(iox2.LogLevel.Error)
        node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
        made = []
        for way in (out, into):
            builder = node.service_builder(iox2.ServiceName.new(f"{name}/{way}"))
            made.append(builder.publish_subscribe(ctypes.c_uint64).open_or_create())
        publisher = made[0].publisher_builder().create()
        subscriber = made[1].subscriber_builder().create()
        payload = ctypes.c_uint64(1)

        def send() -> None:
            publisher.loan_uninit().write_payload(payload).send()

        return send, subscriber.receive, (node, made, publisher, subscriber)

    def ping() -> None:
        send, receive, keep = ports("there", "back")
        while receive() is None:  # the other side is there once it has answered
            send()
        while receive() is not None:
            pass
        began = monotonic_ns()
        for _ in range(n):
            send()
            while receive() is None:
                pass
        taken.append(monotonic_ns() - began)
        del keep

    def pong() -> int:
        send, receive, keep = ports("back", "there")
        quiet = monotonic_ns()
        while monotonic_ns() - quiet < 300_000_000:
            if receive() is not None:
                send()
                quiet = monotonic_ns()
        del keep
        return 0

    taken: list[int] = []
    pair(ping, pong, options.cpus)
    return taken[0] / n / 2


def copy_rate(n: int) -> float:
    """Bytes a second that `last(n)` copies and validates."""
    with rings() as made:
        producer = made("records", EVENT, 1 << n.bit_length())
        batch = np.zeros(4096, EVENT)
        for _ in range(-(-(n + 2) // 4096)):
            producer.publish_batch(batch)
        with open_reader(producer.name, EVENT) as reader:
            reader.last(n)
            began = monotonic_ns()
            records, info = reader.last(n)
            took = monotonic_ns() - began
            if len(records) != n or info.lost:
                raise SystemExit(f"{len(records)} of {n} records kept")
    return n * EVENT.itemsize / took * 1e9


def main() -> None:
    """Ours and each rival in turn."""
    options = Options(__doc__)
    n = options.pick(500, 50_000)
    channels = {}
    for name, make in RIVALS.items():
        try:
            channels[name] = make()
        except ImportError:
            continue
    figures = Figures()
    os.sched_setaffinity(0, {options.cpus[0]})
    for _ in range(options.runs):
        with rings() as made:
            producer = made("records", EVENT, 4096)
            with open_reader(producer.name, EVENT) as reader:
                figures.add("python_publish_poll_rate", own_rate(producer, reader, 4 * n))
        for name, channel in channels.items():
            is_slow = name != "iceoryx2_python"
            figures.add(f"{name}_rate", rival_rate(channel, n // 10 if is_slow else n))
        figures.add("last_million_bytes_per_s", copy_rate(options.pick(10_000, 1_000_000)))
    for channel in channels.values():
        channel.close()
    os.sched_setaffinity(0, set(options.cpus))
    hops = options.pick(20, 20_000)
    for _ in range(options.runs):
        figures.add("python_hop_half_rtt_ns", own_hop(options, hops))
        if "iceoryx2_python" in channels:
            figures.add("iceoryx2_python_half_rtt_ns", iceoryx2_hop(options, hops))
    facts: dict[str, Any] = {f"{name}_rate": None for name in RIVALS}
    facts |= {"iceoryx2_python_half_rtt_ns": None} | figures.summary() | {"messages": n}
    if "iceoryx2_python" in channels:
        facts["rate_ratio_to_iceoryx2"] = figures.ratio(
            "python_publish_poll_rate", "iceoryx2_python_rate"
        )
        facts["hop_ratio_to_iceoryx2"] = figures.ratio(
            "python_hop_half_rtt_ns", "iceoryx2_python_half_rtt_ns"
        )
    emit("ring_python", options, facts)


if __name__ == "__main__":
    main()
