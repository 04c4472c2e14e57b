"""The memory orders of native/ring.h are enough, and each of them is needed: every single weakening is caught.

Each program below is a part of the protocol with its steps as `native/` numbers them. As designed, every C11 execution keeps
the promise; with any one step weakened, some execution breaks it. The table of weakenings names the steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from c11 import A, F, Program, R, Registers, W, check

Promise = Callable[[Registers], bool]


class Case(NamedTuple):
    """One part of the protocol: what builds its program from a set of weakenings, and the weakenings there are."""

    build: Callable[[frozenset[str]], tuple[Program, Promise]]
    weakenings: tuple[str, ...]


def write_record(n: int, slots: int, weak: frozenset[str], tag: int = 0, fence_free: bool = False):
    """P1 to P5 of seq n; the payload is two words of value n + tag, of which `b` lies beyond the record's first line."""
    slot, value = n % slots, n + tag
    word = "rel" if fence_free and "P3 relaxed" not in weak else "rlx"
    odd_order = "rel" if fence_free and "P1 relaxed" not in weak else "rlx"
    if "P1 as release, no P2" in weak:
        odd_order = "rel"
    steps = []
    if "no P1" not in weak:
        steps.append(W(f"stamp{slot}", odd_order, 2 * n + 1))
    if not fence_free and not weak & {"no P2", "P1 as release, no P2"}:
        steps.append(F("rel"))
    steps += [W(f"a{slot}", word, value), W(f"b{slot}", word, value)]
    steps.append(W(f"stamp{slot}", "rlx" if "P4 relaxed" in weak else "rel", 2 * n + 2))
    steps.append(W("head", "rlx" if "P5 relaxed" in weak else "rel", n + 1))
    return steps


def with_p6(writer: list, slots: int, word: str, weak: frozenset[str], fence_free: bool) -> list:
    """Put P6 behind each P5: the next slot's word is stored over itself."""
    steps: list = []
    for step in writer:
        steps.append(step)
        if isinstance(step, W) and step.loc == "head":
            loc = f"{word}{step.value % slots}"
            stored = [0, *(s.value for s in steps if isinstance(s, W) and s.loc == loc)]
            value = step.value if "P6 stores what is to come" in weak else stored[-1]
            steps.append(W(loc, "rel" if fence_free else "rlx", value))
    return steps


def read_record(n: int, slots: int, weak: frozenset[str], mark: str = "", fence_free: bool = False):
    """R1 to R5 of seq n, where R1 found it complete; registers s, a, b, t with `mark` behind."""
    slot = n % slots
    word = "acq" if fence_free and "R3 relaxed" not in weak else "rlx"
    steps = [
        R(f"stamp{slot}", "rlx" if "R1 relaxed" in weak else "acq", f"s{mark}"),
        A(lambda g: g[f"s{mark}"] == 2 * n + 2),
        R(f"a{slot}", word, f"a{mark}"),
        R(f"b{slot}", word, f"b{mark}"),
    ]
    if not fence_free and "no R4" not in weak:
        steps.append(F("acq"))
    if "no R5" not in weak:
        steps += [R(f"stamp{slot}", "rlx", f"t{mark}"), A(lambda g: g[f"t{mark}"] == g[f"s{mark}"])]
    return steps


def publish_and_read(weak: frozenset[str], fence_free: bool = False) -> tuple[Program, Promise]:
    """A reader accepts the middle one of three records that go through one slot: both words are its own."""
    writer = [s for n in (1, 2, 3) for s in write_record(n, 1, weak, fence_free=fence_free)]
    writer = with_p6(writer, 1, "b", weak, fence_free)
    return [writer, read_record(2, 1, weak, fence_free=fence_free)], lambda g: g["a"] == g["b"] == 2


def publish_and_read_fence_free(weak: frozenset[str]) -> tuple[Program, Promise]:
    """The same in the build that ThreadSanitizer sees."""
    return publish_and_read(weak, fence_free=True)


def wait_mode(weak: frozenset[str]) -> tuple[Program, Promise]:
    """Two slots, three records, a producer that asks the cursor: no record is lapped, none is stale."""
    slots = 2
    producer: list = []
    consumer: list = []
    for n in (1, 2, 3):
        if n > slots:
            order = "rlx" if "P0 cursor load relaxed" in weak else "acq"
            room = slots + 1 if "P0 off by one" in weak else slots
            producer += [
                R("cursor", order, "c"),
                A(lambda g, n=n, room=room: n < max(g["c"], 1) + room),
            ]
        producer += write_record(n, slots, weak)
    for n in (1, 2, 3):
        slot = n % slots
        consumer += [
            R(f"stamp{slot}", "rlx" if "R1 relaxed" in weak else "acq", f"s{n}"),
            A(lambda g, n=n: g[f"s{n}"] >= 2 * n + 2),
            R(f"a{slot}", "rlx", f"a{n}"),
            R(f"b{slot}", "rlx", f"b{n}"),
            W("cursor", "rlx" if "cursor store relaxed" in weak else "rel", n + 1),
        ]
    return [producer, consumer], lambda g: all(
        g[f"s{n}"] == 2 * n + 2 and g[f"a{n}"] == g[f"b{n}"] == n for n in (1, 2, 3)
    )


def registration(weak: frozenset[str]) -> tuple[Program, Promise]:
    """One slot; a consumer joins at the head while the producer publishes two more: it is never lapped.

    The producer publishes seq 2 when a rescan finds no ACTIVE consumer or a cursor beyond 1, and seq 3 likewise.
    """
    producer: list = [W("head", "rel", 2)]  # seq 1 is out
    joiner: list = [R("head", "acq", "h1"), W("cursor", "rel", lambda g: max(g["h1"], 1))]
    for n in (2, 3):
        if "no fence in the rescan" not in weak:
            producer.append(F("sc"))
        producer += [
            R("state", "acq", f"active{n}"),
            R("cursor", "acq", f"c{n}"),
            A(lambda g, n=n: not g[f"active{n}"] or n < g[f"c{n}"] + 1),
            W("head", "rel", n + 1),
        ]
    joiner.append(W("state", "rel", 1))
    if "no fence after J2" not in weak:
        joiner.append(F("sc"))
    joiner.append(R("head", "acq", "h2"))
    if "no J3" not in weak:
        joiner.append(W("cursor", "rel", lambda g: max(g["h2"], 1)))
    start = (lambda g: max(g["h1"], 1)) if "no J3" in weak else (lambda g: max(g["h2"], 1))

    # Seq n may overwrite seq n - 1: it was allowed without a cursor beyond it only if the consumer starts at n or later.
    def promise(g: Registers) -> bool:
        return all((g[f"active{n}"] and g[f"c{n}"] >= n) or start(g) >= n for n in (2, 3))

    return [producer, joiner], promise


def sleep_and_wake(weak: frozenset[str]) -> tuple[Program, Promise]:
    """A consumer goes to sleep while the last record is published: it sees the record, or the producer sees it sleep."""
    publish = write_record(1, 1, frozenset())
    bell = R("sleepers", "rlx", "bell")
    producer = [bell, *publish] if "B1 moved before P4" in weak else [*publish, bell]
    arm = W("sleepers", "rel", 1)
    consumer: list = [arm]
    if "no W2" not in weak:
        consumer.append(F("acq") if "W2 a mere fence" in weak else F("member"))
    consumer.append(R("stamp0", "acq", "seen"))
    if "W3 before W2" in weak:
        consumer = [arm, R("stamp0", "acq", "seen"), F("member")]
    if "W1 after W3" in weak:
        consumer = [F("member"), R("stamp0", "acq", "seen"), arm]
    return [producer, consumer], lambda g: g["bell"] == 1 or g["seen"] == 4


def read_many(weak: frozenset[str], fence_free: bool = False) -> tuple[Program, Promise]:
    """Three slots, six records; a range is copied, fenced, and cut by the head: what is kept is whole, stamp and all.

    Seq 2 and 3 are copied when head was at least 4. What is kept obeys seq > head - 3.
    """
    slots = 3
    writer = [s for n in range(1, 7) for s in write_record(n, slots, weak, fence_free=fence_free)]
    writer = with_p6(writer, slots, "a", weak, fence_free)
    word = "acq" if fence_free and "R3 relaxed" not in weak else "rlx"
    reader: list = [
        R("head", "rlx" if "first head relaxed" in weak else "acq", "h0"),
        A(lambda g: g["h0"] == 4),
    ]
    for n in (2, 3):
        reader += [R(f"stamp{n % slots}", word, f"s{n}"), R(f"a{n % slots}", word, f"a{n}")]
    if not fence_free and "no fence" not in weak:
        reader.append(F("acq"))
    reader.append(R("head", "rlx", "h1"))

    def promise(g: Registers) -> bool:
        spare = 1 if "kept one too many" in weak else 0
        oldest = max(2, g["h1"] - (slots - 1) - spare)
        for n in range(oldest, 4):
            patched = n == oldest and "no stamp written" not in weak
            if g[f"a{n}"] != n or (not patched and g[f"s{n}"] != 2 * n + 2):
                return False
        return True

    return [writer, reader], promise


def read_many_fence_free(weak: frozenset[str]) -> tuple[Program, Promise]:
    """The same in the build that ThreadSanitizer sees."""
    return read_many(weak, fence_free=True)


def restart_after(steps_done: int, weak: frozenset[str]):
    """A producer dies in seq 2 after so many steps; its successor goes on (the lock orders the two)."""
    first = write_record(1, 2, weak)
    dying = write_record(2, 2, weak)
    is_complete = steps_done >= len(dying) - 1
    next_seq = 3 if is_complete and "head believed" not in weak else 2
    if steps_done == len(dying):
        next_seq = 3
    thread = first + dying[:steps_done]
    if "no head store" not in weak:
        thread.append(W("head", "rel", next_seq))
    for n in (next_seq, next_seq + 1, next_seq + 2):
        thread += write_record(n, 2, weak, tag=10)
    return thread, 2 if is_complete else 12


STEPS = len(write_record(2, 2, frozenset()))


def restart_read(weak: frozenset[str]) -> tuple[Program, Promise]:
    """A reader of the record in which the producer died gets the one that was completed, whole."""
    steps_done = STEPS - 1 if "head believed" in weak else 3
    thread, value = restart_after(steps_done, weak)
    return [thread, read_record(2, 2, weak)], lambda g: g["a"] == g["b"] == value


def restart_range(weak: frozenset[str]) -> tuple[Program, Promise]:
    """A range read over a restart never keeps what the successor is writing over.

    The predecessor died between P4 and P5 of seq 2: head says 2. Seq 1 shares its slot with seq 3.
    """
    thread, _ = restart_after(STEPS - 1, weak)
    reader = [
        R("head", "acq", "h0"),
        A(lambda g: g["h0"] >= 2),
        R("a1", "rlx", "a1"),
        F("acq"),
        R("head", "rlx", "h1"),
    ]
    return [thread, reader], lambda g: g["h1"] - 1 > 1 or g["a1"] == 1


CASES = {
    "publish and read": Case(
        publish_and_read,
        (
            "no P1",
            "no P2",
            "P1 as release, no P2",
            "P4 relaxed",
            "R1 relaxed",
            "no R4",
            "no R5",
            "P6 stores what is to come",
        ),
    ),
    "publish and read, fence-free": Case(
        publish_and_read_fence_free,
        (
            "no P1",
            "P3 relaxed",
            "P4 relaxed",
            "R1 relaxed",
            "R3 relaxed",
            "no R5",
            "P6 stores what is to come",
        ),
    ),
    "wait mode": Case(
        wait_mode,
        (
            "P0 cursor load relaxed",
            "P0 off by one",
            "P4 relaxed",
            "R1 relaxed",
            "cursor store relaxed",
        ),
    ),
    "registration": Case(registration, ("no fence in the rescan", "no fence after J2", "no J3")),
    "sleep and wake": Case(
        sleep_and_wake,
        ("no W2", "W2 a mere fence", "W3 before W2", "W1 after W3", "B1 moved before P4"),
    ),
    "read_many": Case(
        read_many,
        (
            "no P2",
            "P5 relaxed",
            "first head relaxed",
            "no fence",
            "kept one too many",
            "no stamp written",
            "P6 stores what is to come",
        ),
    ),
    "read_many, fence-free": Case(
        read_many_fence_free,
        ("P1 relaxed", "P3 relaxed", "R3 relaxed", "P5 relaxed", "first head relaxed"),
    ),
    "restart, one record": Case(restart_read, ("head believed",)),
    "restart, a range": Case(restart_range, ("no head store",)),
}


@pytest.mark.parametrize("name", CASES)
def test_as_designed_every_execution_keeps_the_promise(name: str) -> None:
    """And there is one: a promise about no execution would be empty."""
    program, promise = CASES[name].build(frozenset())
    verdict = check(program, promise)
    assert verdict.broken is None
    assert verdict.executions > 0


@pytest.mark.parametrize(
    ("name", "weakening"),
    [(name, weak) for name, case in CASES.items() for weak in case.weakenings],
)
def test_every_single_weakening_breaks_it(name: str, weakening: str) -> None:
    """One step weakened: some execution that C11 allows breaks the promise."""
    program, promise = CASES[name].build(frozenset({weakening}))
    assert check(program, promise).broken is not None


@pytest.mark.parametrize("steps_done", range(STEPS + 1))
def test_a_restart_after_each_step_hands_on_whole_records(steps_done: int) -> None:
    """Wherever the producer died in seq 2, a reader of seq 2 gets the completed one, whole."""
    thread, value = restart_after(steps_done, frozenset())
    verdict = check([thread, read_record(2, 2, frozenset())], lambda g: g["a"] == g["b"] == value)
    assert verdict.broken is None
    assert verdict.executions > 0


# ---------------------------------------------------------------- the checker itself

STORE_BUFFERING = [
    [W("x", "rlx", 1), R("y", "rlx", "ry")],
    [W("y", "rlx", 1), R("x", "rlx", "rx")],
]
MESSAGE = [
    [W("data", "rlx", 1), W("flag", "rel", 1)],
    [R("flag", "acq", "flag"), R("data", "rlx", "data")],
]


def reachable(program: Program, outcome: Registers) -> bool:
    """Whether C11 allows that outcome."""
    return check(program, lambda g: any(g[k] != v for k, v in outcome.items())).broken is not None


def fenced(program: Program, order: str) -> Program:
    return [[thread[0], F(order), *thread[1:]] for thread in program]


@pytest.mark.parametrize(
    ("program", "outcome", "is_allowed", "why"),
    [
        (STORE_BUFFERING, {"rx": 0, "ry": 0}, True, "nothing orders a store before a later load"),
        (fenced(STORE_BUFFERING, "sc"), {"rx": 0, "ry": 0}, False, "two seq_cst fences do"),
        (fenced(STORE_BUFFERING, "rel"), {"rx": 0, "ry": 0}, True, "a release fence does not"),
        (MESSAGE, {"flag": 1, "data": 0}, False, "release and acquire hand the data over"),
        (MESSAGE, {"flag": 0, "data": 1}, True, "an early look may still see the data"),
        (
            [[W("data", "rlx", 1), W("flag", "rlx", 1)], MESSAGE[1]],
            {"flag": 1, "data": 0},
            True,
            "a relaxed store hands over nothing",
        ),
        (
            [[W("data", "rlx", 1), F("rel"), W("flag", "rlx", 1)], MESSAGE[1]],
            {"flag": 1, "data": 0},
            False,
            "a fence before it does",
        ),
        (
            [[W("x", "rlx", 1), W("x", "rlx", 2)], [R("x", "rlx", "first"), R("x", "rlx", "then")]],
            {"first": 2, "then": 1},
            False,
            "one location is never seen backwards",
        ),
        (
            [[R("x", "rlx", "rx"), W("y", "rlx", 1)], [R("y", "rlx", "ry"), W("x", "rlx", 1)]],
            {"rx": 1, "ry": 1},
            True,
            "relaxed loads may be delayed behind stores (RC11 would forbid it; we are wider)",
        ),
    ],
)
def test_the_checker_knows_the_classic_programs(program, outcome, is_allowed, why) -> None:
    """Store buffering, message passing, coherence, load buffering: allowed or forbidden as the standard has it."""
    assert reachable(program, outcome) == is_allowed, why
