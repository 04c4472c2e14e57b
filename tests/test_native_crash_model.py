"""Every interleaving of a small ring with crashes of both sides at every step: nothing torn, lost uncounted, or stuck.

Two slots, four records of two words, one producer and one registered consumer, each of which may die at any step and is
restarted; what is shared survives, what is private does not. Steps are named as in native/ring.h, control.c and wait.h; each is
one interleaved action. Orders of memory are the litmus tests' matter. Each mutant leaves out or swaps one thing and is caught.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

SLOTS = 2
LAST = 4
OPEN, P0, P1, P3A, P3B, P4, P5, BELL, DONE = (
    "OPEN",
    "P0",
    "P1",
    "P3A",
    "P3B",
    "P4",
    "P5",
    "BELL",
    "DONE",
)
R1, R3A, R3B, R5, SINK, C1, C2, W1, W3, ASLEEP = (
    "R1", "R3A", "R3B", "R5", "SINK", "C1", "C2", "W1", "W3", "ASLEEP",
)  # fmt: skip


class State(NamedTuple):
    """What is shared, what each process holds privately, and what only the observer knows."""

    stamps: tuple[int, ...] = (0,) * SLOTS
    a: tuple[int, ...] = (0,) * SLOTS
    b: tuple[int, ...] = (0,) * SLOTS
    head: int = 1
    cursor: int = 1
    ledger: tuple[tuple[int, int], tuple[int, int]] = ((1, 0), (1, 0))
    sleepers: int = 0
    # the producer's own
    p: str = OPEN
    n: int = 1
    life: int = 0
    # the consumer's own
    c: str = R1
    next: int = 1
    copy_a: int = 0
    copy_b: int = 0
    lapped: int = 0
    # the observer's: the life that completed each seq; seqs sunk; lost in this life's line, and in the committed one
    complete: tuple[int, ...] = (0,) * (LAST + 2)
    sunk: int = 0
    lost: int = 0
    lost_committed: int = 0
    crashed_p: int = 0
    crashed_c: int = 0
    bell_died: int = 0


class BrokenError(AssertionError):
    """The promise that a state breaks."""


def put(words: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*words[:at], value, *words[at + 1 :])


def count(bits: int) -> int:
    return bits.bit_count()


def span(first: int, end: int) -> int:
    """The bits of seqs first .. end - 1."""
    return (1 << end) - (1 << first)


class Model:
    """The protocol in one mode, as designed or with one mutation."""

    def __init__(self, mode: str, mutant: str = "", crashes: tuple[int, int] = (1, 1)) -> None:
        self.mode = mode
        self.mutant = mutant
        self.crashes = crashes

    # ------------------------------------------------------------ the producer

    def producer(self, s: State) -> State | None:
        n, slot = s.n, s.n % SLOTS
        value = n * 8 + s.life
        if s.p == OPEN:
            return self._open(s)
        if s.p == P0:
            if n > LAST:
                return s._replace(p=DONE)
            spare = 1 if self.mutant == "room off by one" else 0
            if self.mode == "wait" and n >= s.cursor + SLOTS + spare:
                return None
            if self.mutant == "bell before the stamp" and s.sleepers:
                s = s._replace(sleepers=0)
            return s._replace(p=P3A if self.mutant == "no odd mark" else P1)
        if s.p == P1:
            return s._replace(stamps=put(s.stamps, slot, 2 * n + 1), p=P3A)
        if s.p == P3A:
            return s._replace(a=put(s.a, slot, value), p=P3B)
        if s.p == P3B:
            first = P5 if self.mutant == "head before the stamp" else P4
            return s._replace(b=put(s.b, slot, value), p=first)
        if s.p == P4:
            return self._complete(s)
        if s.p == P5:
            after = P4 if self.mutant == "head before the stamp" else BELL
            return s._replace(head=n + 1, p=after)
        if s.p == BELL:
            if self.mutant == "bell before the stamp":
                return s._replace(p=P0, n=n + 1)
            return s._replace(sleepers=0, p=P0, n=n + 1)
        return None

    def _open(self, s: State) -> State:
        n = s.head
        if self.mutant != "head believed":
            while s.stamps[n % SLOTS] == 2 * n + 2:
                n += 1
        if self.mutant == "half-written slot skipped" and s.stamps[n % SLOTS] == 2 * n + 1:
            n += 1
        return s._replace(head=n, n=n, life=s.life + 1, p=P0)

    def _complete(self, s: State) -> State:
        if s.complete[s.n]:
            raise BrokenError(f"seq {s.n} was complete and is published again")
        stamps = put(s.stamps, s.n % SLOTS, 2 * s.n + 2)
        after = BELL if self.mutant == "head before the stamp" else P5
        return s._replace(stamps=stamps, complete=put(s.complete, s.n, s.life), p=after)

    # ------------------------------------------------------------ the consumer

    def consumer(self, s: State) -> Iterator[State]:
        slot = s.next % SLOTS
        if s.c == R1:
            yield self._look(s, s.stamps[slot])
        elif s.c == R3A:
            yield s._replace(copy_a=s.a[slot], c=R3B)
        elif s.c == R3B:
            yield s._replace(copy_b=s.b[slot], c=R5)
        elif s.c == R5:
            held = s.stamps[slot] == 2 * s.next + 2 or self.mutant == "no re-check"
            yield self._accept(s) if held else self._lap(s)
        elif s.c == SINK:
            yield self._sink(s)
            if self.mutant != "cursor before the work":
                yield self._sink(s)._replace(c=C1)
        elif s.c == C1:
            yield self._enter(s)
        elif s.c == C2:
            yield self._move_cursor(s)
        elif s.c == W1:
            ready = self.mutant == "no look before sleep"
            yield s._replace(sleepers=1, c=ASLEEP if ready else W3)
        elif s.c == W3:
            there = s.stamps[slot] >= 2 * s.next + 2
            yield s._replace(sleepers=0, c=R1) if there else s._replace(c=ASLEEP)
        elif s.c == ASLEEP and (not s.sleepers or s.bell_died):
            yield s._replace(c=R1, sleepers=0, bell_died=0)

    def _look(self, s: State, stamp: int) -> State:
        wanted = 2 * s.next + 2
        if stamp == wanted:
            return s._replace(c=R3A)
        if stamp > wanted:
            return self._lap(s)
        if s.cursor < s.next and self.mutant != "cursor before the work":
            return s._replace(c=C1)
        return s._replace(c=W1)

    def _lap(self, s: State) -> State:
        if self.mode == "wait":
            raise BrokenError(f"seq {s.next} was overwritten in a wait ring")
        go_on = max(s.head - SLOTS // 2, s.next + 1)
        counted = go_on - s.next
        if self.mutant == "loss counted to the head":
            counted = s.head - s.next
        lost = s.lost | span(s.next, go_on)
        return s._replace(next=go_on, lapped=s.lapped + counted, lost=lost, c=C1)

    def _accept(self, s: State) -> State:
        value = s.next * 8 + s.complete[s.next]
        if not s.complete[s.next] or not s.copy_a == s.copy_b == value:
            raise BrokenError(
                f"seq {s.next}: {s.copy_a} and {s.copy_b} accepted, {value} published"
            )
        first = C1 if self.mutant == "cursor before the work" else SINK
        return s._replace(c=first, next=s.next + (first == C1))

    def _sink(self, s: State) -> State:
        if self.mutant == "cursor before the work":
            return s._replace(sunk=s.sunk | 1 << s.next - 1, copy_a=0, copy_b=0, c=R1)
        return s._replace(sunk=s.sunk | 1 << s.next, next=s.next + 1, copy_a=0, copy_b=0, c=R1)

    def _enter(self, s: State) -> State:
        if self.mutant == "cursor before the ledger" and s.c == C1:
            return self._store_cursor(s)._replace(c=C2)
        return self._store_ledger(s)._replace(c=C2)

    def _move_cursor(self, s: State) -> State:
        if self.mutant == "cursor before the ledger":
            return self._store_ledger(s)._replace(c=R1)
        after = SINK if self.mutant == "cursor before the work" and s.copy_a else R1
        return self._store_cursor(s)._replace(c=after)

    def _store_ledger(self, s: State) -> State:
        at = 1 if s.ledger[0][0] == s.cursor else 0
        if self.mutant == "one ledger only":
            at = 0
        entries = list(s.ledger)
        entries[at] = (s.next, s.lapped)
        return s._replace(ledger=(entries[0], entries[1]))

    def _store_cursor(self, s: State) -> State:
        missing = span(1, s.next) & ~s.sunk & ~s.lost
        if missing and self.mutant != "cursor before the work":
            raise BrokenError(f"the cursor passes {bin(missing)}, neither sunk nor lost")
        return s._replace(cursor=s.next, lost_committed=s.lost)

    # ------------------------------------------------------------ crashes, and the end

    def crashes_of(self, s: State) -> Iterator[State]:
        if s.crashed_p < self.crashes[0] and s.p not in (DONE, OPEN):
            yield s._replace(p=OPEN, crashed_p=s.crashed_p + 1, bell_died=1)
        if s.crashed_c < self.crashes[1]:
            lapped = next((lap for cursor, lap in s.ledger if cursor == s.cursor), 0)
            if lapped != count(s.lost_committed):
                raise BrokenError(
                    f"ledger {s.ledger} for cursor {s.cursor}: lost {bin(s.lost_committed)}"
                )
            missing = span(1, s.cursor) & ~s.sunk & ~s.lost_committed
            if missing:
                raise BrokenError(f"restart at {s.cursor} leaves {bin(missing)} out")
            yield s._replace(
                c=R1, next=s.cursor, copy_a=0, copy_b=0, lapped=lapped, lost=s.lost_committed,
                crashed_c=s.crashed_c + 1,
            )  # fmt: skip

    def at_rest(self, s: State) -> None:
        """Check a state in which nobody can move on."""
        if s.p != DONE or s.next != LAST + 1:
            raise BrokenError(f"stuck: producer {s.p} at {s.n}, consumer {s.c} at {s.next}")
        if s.sunk | s.lost != span(1, LAST + 1) or s.lapped != count(s.lost):
            raise BrokenError(f"sunk {bin(s.sunk)}, lost {bin(s.lost)}, counted {s.lapped}")
        if self.mode == "wait" and s.sunk != span(1, LAST + 1):
            raise BrokenError(f"a wait ring lost {bin(s.lost)}")


def explore(model: Model) -> int:
    """Visit every reachable state; the number of them, or BrokenError."""
    seen = {State()}
    waiting = [State()]
    while waiting:
        s = waiting.pop()
        moved = model.producer(s)
        after = [*model.consumer(s)]
        if moved is not None:
            after.append(moved)
        if not after:
            model.at_rest(s)
        after += model.crashes_of(s)
        for t in after:
            if t not in seen:
                seen.add(t)
                waiting.append(t)
    return len(seen)


@pytest.mark.parametrize("mode", ["overwrite", "wait"])
@pytest.mark.parametrize("crashes", [(0, 0), (2, 0), (0, 2), (1, 1)])
def test_no_interleaving_with_crashes_breaks_a_promise(mode: str, crashes: tuple[int, int]) -> None:
    """Whole records, an exact ledger, a cursor that never passes what was not done, and nobody asleep for ever."""
    assert explore(Model(mode, crashes=crashes)) > 100


MUTANTS = {
    "head believed": ("overwrite", "published again"),
    "half-written slot skipped": ("overwrite", "stuck"),
    "head before the stamp": ("overwrite", "stuck"),
    "no odd mark": ("overwrite", "accepted"),
    "no re-check": ("overwrite", "accepted"),
    "room off by one": ("wait", "overwritten in a wait ring"),
    "cursor before the work": ("wait", "leaves .* out"),
    "cursor before the ledger": ("overwrite", "ledger"),
    "one ledger only": ("overwrite", "ledger"),
    "loss counted to the head": ("overwrite", "counted|ledger"),
    "bell before the stamp": ("overwrite", "stuck"),
    "no look before sleep": ("overwrite", "stuck"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant: str) -> None:
    """One thing left out or swapped, and some interleaving breaks the promise that it stands for."""
    mode, what = MUTANTS[mutant]
    with pytest.raises(BrokenError, match=what):
        explore(Model(mode, mutant))
