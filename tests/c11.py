"""An exhaustive checker of small C11 programs: every reads-from choice that the standard allows is looked at.

A program is a list of threads; a thread is a list of R, W, F and A. Each location has one writing thread, so its modification
order is that thread's program order. Stored values may depend on what was read before.

**Why it is right** The axioms are RC11's (happens-before irreflexive, coherence, acyclic order of the seq_cst fences) without
its ban on cycles of program order and reads-from, and without release sequences: what it allows is more than any compiler or
machine does, so what holds here holds there. A membarrier that interrupts a thread at some point is a full barrier there: for
each possible point, what stands before it on either side happens before what stands behind it on the other.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Registers = dict[str, int]
Value = int | Callable[[Registers], int]


class R(NamedTuple):
    """A load into a register; order "rlx" or "acq"."""

    loc: str
    order: str
    reg: str


class W(NamedTuple):
    """A store; order "rlx" or "rel"."""

    loc: str
    order: str
    value: Value


class F(NamedTuple):
    """A fence: "rel", "acq", "sc", or "member", a membarrier that reaches every other thread somewhere."""

    order: str


class A(NamedTuple):
    """Only executions in which this is true go on: a branch taken."""

    holds: Callable[[Registers], bool]


Event = R | W | F | A
Program = list[list[Event]]


class Verdict(NamedTuple):
    """How many executions there are, and the registers of one that breaks the promise."""

    executions: int
    broken: Registers | None


def check(program: Program, promise: Callable[[Registers], bool]) -> Verdict:
    """Look at every execution of `program` until one breaks `promise`."""
    executions = 0
    for barrier_points in _barrier_points(program):
        graph = _Graph(program, barrier_points)
        for registers in graph.executions():
            executions += 1
            if not promise(registers):
                return Verdict(executions, registers)
    return Verdict(executions, None)


def _barrier_points(program: Program) -> Iterator[dict[int, int]]:
    """For a program with a membarrier: each place in each other thread where it may strike; at most one membarrier."""
    owners = [t for t, thread in enumerate(program) if F("member") in thread]
    assert len(owners) <= 1, "one membarrier a program"
    if not owners:
        yield {}
        return
    others = [t for t in range(len(program)) if t != owners[0]]
    assert len(others) == 1, "a membarrier between two threads"
    for point in range(len(program[others[0]]) + 1):
        yield {others[0]: point}


class _Graph:
    def __init__(self, program: Program, barrier_points: dict[int, int]) -> None:
        self.events: list[Event] = []
        self.thread: list[int] = []
        self.place: list[int] = []
        for t, thread in enumerate(program):
            for place, event in enumerate(thread):
                self.events.append(event)
                self.thread.append(t)
                self.place.append(place)
        self.n = len(self.events)
        self.writes: dict[str, list[int]] = {}
        for i, event in enumerate(self.events):
            if isinstance(event, W):
                self.writes.setdefault(event.loc, []).append(i)
        for loc, writes in self.writes.items():
            assert len({self.thread[i] for i in writes}) == 1, f"{loc} has more than one writer"
        self.order = {i: k for writes in self.writes.values() for k, i in enumerate(writes)}
        self.fixed = self._program_order() + self._barrier_edges(barrier_points)

    def _program_order(self) -> list[tuple[int, int]]:
        return [
            (i, j)
            for i in range(self.n)
            for j in range(i + 1, self.n)
            if self.thread[i] == self.thread[j]
        ]

    def _barrier_edges(self, points: dict[int, int]) -> list[tuple[int, int]]:
        if not points:
            return []
        (struck, point) = next(iter(points.items()))
        at = self.events.index(F("member"))
        edges = []
        for i in range(self.n):
            if self.thread[i] == struck and self.place[i] < point:
                edges.append((i, at))
            elif self.thread[i] == struck:
                edges.append((at, i))
        return edges

    def executions(self) -> Iterator[Registers]:
        """Every consistent execution, as what its registers hold."""
        yield from self._choose(0, {}, {})

    def _choose(self, i: int, rf: dict[int, int], known: Registers) -> Iterator[Registers]:
        if i == self.n:
            registers = self._settle(rf)
            if registers is not None and self._is_consistent(rf):
                yield registers
            return
        event = self.events[i]
        if isinstance(event, R):
            for source in [-1, *self.writes.get(event.loc, [])]:
                value = self._constant(source)
                now = known if value is None else known | {event.reg: value}
                yield from self._choose(i + 1, rf | {i: source}, now)
        elif isinstance(event, A) and not _may_hold(event, known):
            return
        else:
            yield from self._choose(i + 1, rf, known)

    def _constant(self, source: int) -> int | None:
        if source < 0:
            return 0
        value = self.events[source].value  # type: ignore[union-attr]
        return value if isinstance(value, int) else None

    def _settle(self, rf: dict[int, int]) -> Registers | None:
        """Give every register its value; None where a branch is not taken, or values come out of thin air."""
        registers: Registers = {}
        for _ in range(self.n):
            for i, source in rf.items():
                reg = self.events[i].reg  # type: ignore[union-attr]
                if reg in registers:
                    continue
                value: Any = 0 if source < 0 else self.events[source].value  # type: ignore[union-attr]
                if callable(value):
                    try:
                        value = value(registers)
                    except KeyError:
                        continue
                registers[reg] = value
        if len(registers) < len(rf):
            return None
        branches = (event for event in self.events if isinstance(event, A))
        return registers if all(branch.holds(registers) for branch in branches) else None

    # ------------------------------------------------------------ the axioms

    def _is_consistent(self, rf: dict[int, int]) -> bool:
        hb = [0] * self.n
        for i, j in self.fixed:
            hb[i] |= 1 << j
        for read, write in rf.items():
            if write >= 0:
                for source in self._release_side(write):
                    for target in self._acquire_side(read):
                        hb[source] |= 1 << target
        _close(hb)
        if any(hb[i] >> i & 1 for i in range(self.n)):
            return False
        return self._is_coherent(hb, rf) and self._fences_have_an_order(hb, rf)

    def _release_side(self, write: int) -> list[int]:
        found = [write] if self.events[write].order == "rel" else []  # type: ignore[union-attr]
        return found + [j for j in range(write) if self._is_fence(j, write, ("rel", "sc"))]

    def _acquire_side(self, read: int) -> list[int]:
        found = [read] if self.events[read].order == "acq" else []  # type: ignore[union-attr]
        return found + [
            j for j in range(read + 1, self.n) if self._is_fence(j, read, ("acq", "sc"))
        ]

    def _is_fence(self, j: int, beside: int, orders: tuple[str, ...]) -> bool:
        event = self.events[j]
        return (
            isinstance(event, F) and event.order in orders and self.thread[j] == self.thread[beside]
        )

    def _is_coherent(self, hb: list[int], rf: dict[int, int]) -> bool:
        place = self.order | {-1: -1}
        for read, write in rf.items():
            loc = self.events[read].loc  # type: ignore[union-attr]
            for other in self.writes.get(loc, []):
                if hb[other] >> read & 1 and place[other] > place[write]:
                    return False  # it was overwritten before
                if hb[read] >> other & 1 and place[other] <= place[write]:
                    return False  # it reads from its own future
            for read_2, write_2 in rf.items():
                same = self.events[read_2].loc == loc  # type: ignore[union-attr]
                if same and hb[read] >> read_2 & 1 and place[write_2] < place[write]:
                    return False  # a later read sees an older store
        return True

    def _fences_have_an_order(self, hb: list[int], rf: dict[int, int]) -> bool:
        fences = [i for i, event in enumerate(self.events) if event == F("sc")]
        if len(fences) < 2:
            return True
        eco = self._extended_coherence(rf)
        order = [0] * self.n
        for first in fences:
            for second in fences:
                if first != second and self._precedes(first, second, hb, eco):
                    order[first] |= 1 << second
        _close(order)
        return not any(order[i] >> i & 1 for i in fences)

    def _precedes(self, first: int, second: int, hb: list[int], eco: list[int]) -> bool:
        if hb[first] >> second & 1:
            return True
        return any(
            hb[first] >> i & 1
            and any(eco[i] >> j & 1 and hb[j] >> second & 1 for j in range(self.n))
            for i in range(self.n)
        )

    def _extended_coherence(self, rf: dict[int, int]) -> list[int]:
        eco = [0] * self.n
        for writes in self.writes.values():
            for k, write in enumerate(writes):
                for later in writes[k + 1 :]:
                    eco[write] |= 1 << later
        for read, write in rf.items():
            loc = self.events[read].loc  # type: ignore[union-attr]
            if write >= 0:
                eco[write] |= 1 << read
            for later in self.writes.get(loc, []):
                if write < 0 or self.order[later] > self.order[write]:
                    eco[read] |= 1 << later
        _close(eco)
        return eco


def _may_hold(branch: A, known: Registers) -> bool:
    try:
        return branch.holds(known)
    except KeyError:
        return True


def _close(relation: list[int]) -> None:
    """Make a relation, a bit mask a row, transitive."""
    for k in range(len(relation)):
        bit = 1 << k
        for i in range(len(relation)):
            if relation[i] & bit:
                relation[i] |= relation[k]
