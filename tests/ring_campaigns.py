"""Kill, stop and crowd real processes on one ring, and count what went wrong: run by test_shm_campaigns.

python tests/ring_campaigns.py kills | stop_consumer | stop_producer | readers TIMES [DEFECT]

Prints one JSON object of counts. The processes are forked from this program; DEFECT names one that is seeded into them (the
table at the end), so that a test can ask whether it shows. What is waited for and does not come within 30 s is "stuck".
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from campaign import (
    BOARD,
    CHILDREN,
    FILES,
    INSTANCE,
    NAME,
    RANDOM,
    STATE_DIR,
    StuckError,
    cleared,
    end,
    start,
    stop,
    until,
)
from ring_kit import filled, mismatches, outcome

from layouts import BOOK, EVENT
from shm import reclaim
from shm import region as regions
from shm._native import ffi, lib
from shm.consumer import Consumer, join
from shm.producer import Producer, open_ring
from shm.reader import Reader, open_reader
from shm.reclaim import reclaim_instance, reclaim_ring

SLOTS = 256
READERS = 50
DEFECT = sys.argv[3] if len(sys.argv) > 3 else ""


def open_here(mode: str = "overwrite", dtype: np.dtype = EVENT) -> Producer:
    """Become the ring's producer."""
    required = ("sink",) if mode == "wait" else ()
    return open_ring(NAME, dtype, SLOTS, STATE_DIR, mode=mode, required=required)


# ---------------------------------------------------------------- kill -9 of either side

SUNK, LEFT_OUT, BAD, LOST, COMMITTED, AGAIN = range(6)


def produce_lossless() -> None:
    """Publish what there is room for, each record's words known from its seq."""
    if DEFECT == "a successor goes one back":
        Producer.begin = begin_one_back  # type: ignore[method-assign]
    producer = open_here("wait")
    while True:
        n = min(producer.room(), RANDOM.randrange(1, 64))
        if n > 0:
            producer.publish_batch(filled(producer.next_seq, n))
        else:
            time.sleep(0.00005)


_begin = Producer.begin


def begin_one_back(producer: Producer, epoch: int) -> None:
    """Publish again what the predecessor completed last."""
    producer.handle.next = max(1, producer.next_seq - 1)
    _begin(producer, epoch)


def sink() -> None:
    """Do each record's effect once: `SUNK` is the last seq that is done, kept with the effect."""
    consumer = join(NAME, "sink", EVENT)
    if DEFECT == "the cursor is forgotten":
        consumer.seek(1)
    while True:
        records, info = consumer.poll(64)
        if DEFECT == "the cursor comes first":
            consumer.commit()
            time.sleep(0.0005)
        BOARD[LOST] += info.lost
        BOARD[BAD] += mismatches(records, info.first_seq)
        if len(records):
            BOARD[AGAIN] += info.first_seq < BOARD[COMMITTED]
            BOARD[LEFT_OUT] += max(0, info.first_seq - int(BOARD[SUNK]) - 1)
            BOARD[SUNK] = max(info.last_seq, int(BOARD[SUNK]))
        consumer.commit()
        BOARD[COMMITTED] = consumer.cursor
        if not len(records):
            time.sleep(0.00005)


def kills(times: int) -> dict[str, int]:
    """Either side of a "wait" ring is killed at random and begun anew."""
    open_here("wait").close()
    reader = open_reader(NAME, EVENT)
    bodies = {"producer": produce_lossless, "consumer": sink}
    running = {name: start(body) for name, body in bodies.items()}
    resumed_wrong = 0
    for k in range(times):
        name = ("producer", "consumer")[k % 2]
        goal = int(BOARD[SUNK]) + RANDOM.randrange(1, 500)
        until(lambda goal=goal: BOARD[SUNK] >= goal, f"record {goal}")
        end(running[name])
        if name == "producer":
            taken, next_seq = reader.header.epochs_taken, first_free(reader)
        running[name] = start(bodies[name])
        if name == "producer":
            until(lambda taken=taken: reader.header.epochs_taken > taken, "a successor")
            resumed_wrong += reader.facts().epochs[-1][1] != next_seq
    end(running["producer"])
    published = first_free(reader) - 1
    until(lambda: BOARD[SUNK] >= published, "the last record")
    end(running["consumer"])
    return {
        "kills": times,
        "published": published,
        "sunk": int(BOARD[SUNK]),
        "left_out": int(BOARD[LEFT_OUT]),
        "bad": int(BOARD[BAD]),
        "lost": int(BOARD[LOST]),
        "again": int(BOARD[AGAIN]),
        "resumed_wrong": resumed_wrong,
    }


def first_free(reader: Reader) -> int:
    """The seq that comes next by the slots, which are the truth."""
    seq = int(lib.tr_head(reader.handle))
    target = ffi.new("char []", reader.dtype.itemsize)
    while lib.tr_read(reader.handle, seq, target) == lib.TR_OK:
        seq += 1
    return seq


# ---------------------------------------------------------------- SIGSTOP of a consumer

NEXT, READ, F_LOST, GAPS, F_BAD, WORDS = range(6)
HOLD, HELD, P_NEXT, STANDS, FOLLOWERS = 100, 101, 102, 103, 3


def follower(i: int) -> np.ndarray:
    """The board's words of follower i."""
    return BOARD[8 * i : 8 * i + WORDS]


def follow(i: int) -> None:
    """Read and check everything; count each loss that is told."""
    mine = follower(i)
    consumer = join(NAME, f"c{i}", EVENT)
    while True:
        expected = consumer.next_seq
        records, info = poll(consumer)
        mine[GAPS] += info.lost > 0
        mine[F_LOST] += info.lost
        mine[F_BAD] += mismatches(records, info.first_seq) + (
            info.first_seq != expected + info.lost
        )
        mine[READ] += len(records)
        mine[NEXT] = consumer.next_seq
        consumer.commit()
        if not len(records):
            time.sleep(0.00005)


_told = [0]


def poll(consumer: Consumer) -> Any:
    """Read on, perhaps with a defect."""
    records, info = consumer.poll(64)
    if DEFECT == "one record less is told" and info.lost:
        return records, info._replace(lost=info.lost - 1)
    if DEFECT == "a loss is told twice":
        _told.append(info.lost)
        return records, info._replace(lost=info.lost or _told[-2])
    if DEFECT == "a loss is not told":
        return records, info._replace(lost=0)
    return records, info


def produce_paced() -> None:
    """Publish while the followers that run keep up: what they lose would be the ring's fault."""
    producer = open_here()
    while True:
        BOARD[P_NEXT] = producer.next_seq
        slowest = min(int(follower(i)[NEXT]) for i in range(int(BOARD[STANDS]), FOLLOWERS))
        BOARD[HELD] = BOARD[HOLD]
        if BOARD[HELD] or producer.next_seq > slowest + SLOTS // 2:
            time.sleep(0.00005)
        else:
            producer.publish_batch(filled(producer.next_seq, 16))


def stop_consumer(times: int) -> dict[str, int]:
    """One of three followers is stopped until it is lapped, then goes on."""
    open_here().close()
    pids = [start(follow, i) for i in range(FOLLOWERS)]
    until(lambda: all(follower(i)[NEXT] for i in range(FOLLOWERS)), "three followers")
    start(produce_paced)
    told_wrong = 0
    stopped = follower(0)
    for _ in range(times):
        goal = int(stopped[NEXT]) + RANDOM.randrange(1, 500)
        until(lambda goal=goal: stopped[NEXT] >= goal, "progress")
        stop(pids[0])
        BOARD[STANDS] = 1
        before = int(stopped[GAPS])
        goal = int(stopped[NEXT]) + 64 + 2 * SLOTS
        until(lambda goal=goal: BOARD[P_NEXT] >= goal, "a lap without the stopped one")
        BOARD[HOLD] = 1
        until(lambda: BOARD[HELD] == 1, "a producer that holds on")
        newest = int(BOARD[P_NEXT])
        os.kill(pids[0], signal.SIGCONT)
        until(lambda newest=newest: stopped[NEXT] >= newest, "the stopped one's return")
        told_wrong += int(stopped[GAPS]) != before + 1
        told_wrong += int(stopped[READ] + stopped[F_LOST]) != newest - 1
        BOARD[STANDS] = BOARD[HOLD] = 0
        until(lambda: BOARD[HELD] == 0, "a producer that goes on")
    others = [follower(i) for i in range(1, FOLLOWERS)]
    return {
        "stops": times,
        "gaps": int(stopped[GAPS]),
        "told_wrong": told_wrong,
        "lost": int(stopped[F_LOST]),
        "others_lost": sum(int(words[F_LOST]) for words in others),
        "bad": sum(int(follower(i)[F_BAD]) for i in range(FOLLOWERS)),
    }


# ---------------------------------------------------------------- SIGSTOP of the producer


def produce_books() -> None:
    """Publish large records without pause."""
    producer = open_here(dtype=BOOK)
    while True:
        producer.publish_batch(filled(producer.next_seq, 64, BOOK))


def stop_producer(times: int) -> dict[str, int]:
    """While it stands the ring is read around it, and nobody may take it away or its place; then it goes on."""
    open_here(dtype=BOOK).close()
    if DEFECT == "a cleaner asks no lock":
        reclaim.OwnerLock = lambda _file: contextlib.nullcontext()  # type: ignore[assignment, misc]
    reader = open_reader(NAME, BOOK)
    pid = start(produce_books)
    counts = dict.fromkeys(("bad", "moved", "unaccounted", "taken", "stops"), 0)
    read = 0
    for _ in range(times):
        goal = int(lib.tr_head(reader.handle)) + RANDOM.randrange(1, 2000)
        until(lambda goal=goal: lib.tr_head(reader.handle) >= goal, "progress")
        stop(pid)
        head = int(lib.tr_head(reader.handle))
        before = identity()
        counts["taken"] += outcome(lambda: reclaim_ring(NAME)).kind != "OwnershipError"
        counts["taken"] += outcome(lambda: open_here(dtype=BOOK)).kind != "OwnershipError"
        counts["taken"] += NAME.file("data") not in reclaim_instance(INSTANCE)
        counts["taken"] += identity() != before
        if counts["taken"]:
            break
        records, info = reader.last(SLOTS)
        counts["bad"] += mismatches(records, info.first_seq) + (len(records) < SLOTS - 1)
        while len(polled := reader.poll(64)[0]):
            read += len(polled)
            counts["bad"] += mismatches(polled, reader.next_seq - len(polled))
        counts["unaccounted"] += read + reader.lost != reader.next_seq - 1
        counts["moved"] += int(lib.tr_head(reader.handle)) != head
        counts["stops"] += 1
        os.kill(pid, signal.SIGCONT)
    return counts


def identity() -> list[int]:
    """The inodes of the ring's files."""
    return [regions.inode_of(NAME.file(suffix)) for suffix in FILES]


# ---------------------------------------------------------------- a crowd of passive readers

ATTACHED, WRITABLE, KEPT_OPEN, CROWD_BAD = 0, 256, 257, 258


def lurk(i: int) -> None:
    """Attach three times, read, look at what the kernel says of us; then leave, vanish, or stay until killed."""
    before = set(os.listdir("/proc/self/fd"))
    for turn in range(3):
        reader = attach_as_told()
        records, info = reader.last(16)
        BOARD[CROWD_BAD] += mismatches(records, info.first_seq)
        reader.seek_oldest()
        reader.poll(16)
        lines = Path("/proc/self/maps").read_text().splitlines()
        rights = {line.split()[1] for line in lines if NAME.file("") in line}
        BOARD[WRITABLE] += rights != {"r--s"}
        if turn < 2 or i % 3 == 0:
            reader.close()
            BOARD[KEPT_OPEN] += set(os.listdir("/proc/self/fd")) != before
        BOARD[ATTACHED + i] += 1
    while i % 3 == 2:
        reader.poll(16)


def attach_as_told() -> Reader:
    """Attach, perhaps with a defect."""
    reader = open_reader(NAME, EVENT)
    if DEFECT == "a reader leaves its mark":
        reader.close()
        region = regions.attach(NAME.file("data"), writable=True)
        reader = Reader(NAME, region, EVENT)
        reader.header.back_pressure_ns += 1
    if DEFECT == "a descriptor stays open":
        os.open("/dev/shm/" + NAME.file("data"), os.O_RDONLY)
    return reader


def readers(times: int) -> dict[str, int]:
    """Fifty at a time come and go on a ring whose producer stands; its files do not change by a byte."""
    open_here().close()
    pid = start(produce_and_stand)
    os.waitpid(pid, os.WUNTRACED)
    before = contents()
    counts = dict.fromkeys(("attached", "killed", "changed"), 0)
    for _ in range(times):
        BOARD[ATTACHED : ATTACHED + READERS] = 0
        crowd = [start(lurk, i) for i in range(READERS)]
        until(lambda: (BOARD[ATTACHED : ATTACHED + READERS] == 3).all(), "fifty readers")
        for i, reader in enumerate(crowd):
            if i % 3 == 2:
                end(reader)
            else:
                os.waitpid(reader, 0)
                CHILDREN.discard(reader)
            counts["killed"] += i % 3 == 2
        counts["attached"] += int(BOARD[ATTACHED : ATTACHED + READERS].sum())
        counts["changed"] += contents() != before
    counts |= {"writable": int(BOARD[WRITABLE]), "bad": int(BOARD[CROWD_BAD])}
    return counts | {"kept_open": int(BOARD[KEPT_OPEN]), "readers": READERS * times}


def produce_and_stand() -> None:
    """Publish more than a ring holds, then stop in front of everybody."""
    producer = open_here()
    producer.publish_batch(filled(1, 3 * SLOTS))
    os.kill(os.getpid(), signal.SIGSTOP)


def contents() -> list[bytes]:
    """Every byte of the ring's files."""
    return [Path("/dev/shm", NAME.file(suffix)).read_bytes() for suffix in FILES]


CAMPAIGNS = {f.__name__: f for f in (kills, stop_consumer, stop_producer, readers)}


def main() -> None:
    """Run one campaign."""
    counts = {"stuck": 0}
    with cleared():
        try:
            counts |= CAMPAIGNS[sys.argv[1]](int(sys.argv[2]))
        except StuckError as error:
            print(f"stuck: {error}", file=sys.stderr)
            counts["stuck"] = 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
