"""Venues that number nothing prove their books by a checksum: every fault that changes the levels under it is found by it."""

import json
import random
import re
from typing import NamedTuple

import pytest
from test_collectors_venues_faults import INJECTIONS, MANY_INJECTIONS, SEED, Twins
from venue_kit import books_are_equal, chooser, corpus, feed, pipeline_of, snapshot_of, update_of

from layouts import Kind
from shm.book import ASK, BID
from shm.outlet import Reject

DRAIN_EVERY = 8
KINDS = ["gap", "duplicate", "swap"]
CORRUPTIONS = 10_000
WOUNDS_A_FRAME = 24
RESTORED = 50
"""Levels a side of the book under each wounded frame."""
DIGITS = b"0123456789"
LEVEL = {
    "kraken_v1": re.compile(rb'"([\d.]+)", ?"([\d.]+)", ?"[\d.]+"'),
    "kraken_v2": re.compile(rb'"price":([\d.]+),"qty":([\d.]+)'),
    "okx": re.compile(rb'\["([\d.]+)", ?"([\d.]+)", ?"'),
}
COVERED = {"kraken_v1": 10, "kraken_v2": 10, "okx": 25}
"""Levels a side under the checksum."""


class Checked(Twins):
    """The twins of a venue that has nothing but its checksum.

    It covers ten levels a side of a book that is deeper, so a fault shows with the first frame after which the ten best are not
    those of the healthy decoder: that frame must be refused, each one before it must be taken, and a fault that never shows is
    none. The same frame twice in a row changes nothing; a duplicate comes late here, after the frame that followed it.
    """

    def __init__(self, venue: str, choose) -> None:
        super().__init__(venue, KINDS, choose)
        self.pending: dict[str, str] = {}
        """Symbols whose hurt book is another one, unseen as yet, by the kind of fault."""
        self.kinds_found = dict.fromkeys(KINDS, 0)

    def take(self, message) -> None:
        symbol = update_of(self.venue, message)
        if symbol is None:
            assert feed(self.healthy, message) == self.send(message) == 0
            self.drop_replaced()
            return
        before = self.best(self.healthy, symbol)
        assert feed(self.healthy, message) == 0
        if symbol in self.held:
            self.after(symbol, message, *self.held.pop(symbol))
        elif symbol in self.pending:
            self.judge(symbol, self.pending[symbol], self.send(message))
        elif before == self.best(self.healthy, symbol) or self.choose.randrange(3):
            assert self.send(message) == 0
        else:
            self.begin(symbol, message)

    def begin(self, symbol: str, message) -> None:
        """Begin a fault with a frame that changes the ten best."""
        kind = self.choose.choice(KINDS)
        if kind == "gap":
            self.pending[symbol] = kind
            return
        if kind == "duplicate":
            assert self.send(message) == self.send(message) == 0
            assert books_are_equal(*self.lines(symbol))
        self.held[symbol] = kind, message

    def after(self, symbol: str, message, kind: str, held) -> None:
        """The frame that follows, and then the one that was held back or comes again."""
        status = self.send(message)
        if kind == "duplicate":
            assert status == 0
        if status:
            assert self.send(held) == Reject.NO_SNAPSHOT
            self.show(symbol, kind, status)
            return
        assert self.best(self.hurt, symbol) == self.best(self.healthy, symbol)
        if status := self.send(held):
            self.show(symbol, kind, status)
        elif not books_are_equal(*self.lines(symbol)):
            self.pending[symbol] = kind

    def judge(self, symbol: str, kind: str, status: int) -> None:
        """A frame of a book that is another one: taken only where the ten best are right."""
        if status:
            self.show(symbol, kind, status)
            return
        assert self.best(self.hurt, symbol) == self.best(self.healthy, symbol), kind
        if books_are_equal(*self.lines(symbol)):
            del self.pending[symbol]

    def show(self, symbol: str, kind: str, status: int) -> None:
        """A fault was found."""
        assert status in (Reject.CHECKSUM, Reject.CROSSED)
        assert not self.hurt.decoder.instruments[symbol].live.is_valid
        self.found += 1
        self.kinds_found[kind] += 1
        self.gaps += 1
        self.heal()
        self.pending.pop(symbol, None)

    def drop_replaced(self) -> None:
        super().drop_replaced()
        for symbol in list(self.pending):
            if self.healthy.decoder.instruments[symbol].live.handle.frame_no == 0:
                del self.pending[symbol]

    def lines(self, symbol: str):
        return [p.decoder.instruments[symbol] for p in (self.healthy, self.hurt)]

    def best(self, pipeline, symbol: str):
        """What the checksum covers."""
        line = pipeline.decoder.instruments[symbol]
        return [line.live.depth(side, COVERED[self.venue]) for side in (BID, ASK)]

    def gap_records(self) -> int:
        counts = self.hurt.counts
        return counts.get("gaps.checksum", 0) + counts.get("gaps.refused_frame", 0)


def inject(captures, venue: str, injections: int) -> dict[str, int]:
    """Inject faults until there were enough of them; returns how many of each kind were found."""
    choose = chooser(SEED)
    total = dict.fromkeys(KINDS, 0)
    while sum(total.values()) < injections:
        twins = Checked(venue, choose)
        found = sum(total.values())
        for place, message in enumerate(corpus(captures, venue)):
            twins.take(message)
            if found + twins.found >= injections:
                break
            if place % DRAIN_EVERY == 0:
                twins.hurt.drain()
                twins.healthy.drain()
        assert twins.found > 0
        assert twins.gap_records() == twins.gaps
        assert twins.healthy.counts.get("gaps.checksum", 0) == 0
        for kind, n in twins.kinds_found.items():
            total[kind] += n
        twins.close()
    assert all(n > injections // 10 for n in total.values()), total
    return total


@pytest.mark.parametrize("venue", ["kraken_v1", "kraken_v2"])
def test_faults_are_found_and_nothing_else(captures, venue) -> None:
    """100 gaps, late duplicates and swaps: each makes its book SUSPECT with the first frame that can show it, and no other."""
    assert sum(inject(captures, venue, INJECTIONS).values()) == INJECTIONS


@pytest.mark.soak
@pytest.mark.parametrize("venue", ["kraken_v1", "kraken_v2"])
def test_a_thousand_faults_are_found_and_nothing_else(captures, venue) -> None:
    """The same with 1,000 a venue."""
    assert sum(inject(captures, venue, MANY_INJECTIONS).values()) == MANY_INJECTIONS


@pytest.mark.parametrize("venue", COVERED)
def test_ten_thousand_corruptions_of_the_best_levels_are_all_found(captures, venue) -> None:
    """A changed digit of a price or quantity under the checksum never passes, and publishes no LEVEL."""
    choose = random.Random(SEED)
    pipeline, done = pipeline_of(venue), 0
    while done < CORRUPTIONS:
        for message in corpus(captures, venue):
            symbol = update_of(venue, message)
            line = pipeline.decoder.instruments.get(symbol) if symbol else None
            if line is None or not line.live.is_valid:
                assert feed(pipeline, message) == 0
                continue
            before, held = snapshot_of(venue, line, levels=RESTORED), best_of(venue, line)
            assert feed(pipeline, message) == 0
            levels = changed_levels(venue, message[2], held, best_of(venue, line), line.live.scales)
            if levels:
                after = snapshot_of(venue, line)
                done += corrupt(pipeline, message, levels, before, choose)
                assert feed(pipeline, after) == 0
            pipeline.decoder.outbox.clear()
            pipeline.drain()
    assert pipeline.counts["rejected.checksum"] == pipeline.counts["gaps.checksum"] == done
    pipeline.close()


class Place(NamedTuple):
    """Where a frame holds the digits of a level."""

    start: int
    end: int


def corrupt(pipeline, message, levels: list[Place], before, choose: random.Random) -> int:
    """Feed wounded copies of one frame, each over the book before it; returns how many the checksum found.

    The others are refused before it is computed: a number that begins with 0 is no JSON, a price may cross the book.
    """
    found = 0
    for _ in range(WOUNDS_A_FRAME):
        level = choose.choice(levels)
        wounded = bytearray(message[2])
        at = choose.choice([i for i in range(level.start, level.end) if wounded[i] in DIGITS])
        wounded[at] = choose.choice([digit for digit in DIGITS if digit != wounded[at]])
        assert feed(pipeline, before) == 0
        pipeline.drain()
        status = feed(pipeline, (message[0], message[1], bytes(wounded)))
        assert status in (Reject.CHECKSUM, Reject.CROSSED, Reject.MALFORMED_JSON), bytes(wounded)
        assert not (pipeline.drain()["kind"] == Kind.LEVEL).any()
        found += status == Reject.CHECKSUM
    return found


def best_of(venue: str, line) -> set[tuple[int, int]]:
    """Return the levels under the checksum."""
    return {level for side in (BID, ASK) for level in line.live.depth(side, COVERED[venue])}


def changed_levels(
    venue: str, frame: bytes, before: set, after: set, scales: tuple[int, int]
) -> list[Place]:
    """Return where a frame holds levels that are under the checksum by it; one that a frame names twice decides nothing."""
    new = after - before
    matches = list(LEVEL[venue].finditer(frame))
    prices = [match[1] for match in matches]
    return [
        place
        for match in matches
        if prices.count(match[1]) == 1
        and (at_scale(match[1], scales[0]), at_scale(match[2], scales[1])) in new
        for place in (Place(*match.span(1)), Place(*match.span(2)))
    ]


def at_scale(text: bytes, scale: int) -> int:
    """Return a decimal as an integer of that scale."""
    whole, _, decimals = text.partition(b".")
    return int(whole + decimals.ljust(scale, b"0"))


def test_the_best_levels_of_the_frames_are_recognised(captures) -> None:
    """Each venue's pattern finds the levels that its frames hold as JSON."""
    for venue in COVERED:
        updates = [m for m in corpus(captures, venue) if update_of(venue, m)]
        for message in updates[:50]:
            text = json.dumps(json.loads(message[2], parse_float=str, parse_int=str))
            for match in LEVEL[venue].finditer(message[2]):
                assert match[1].decode() in text
            assert len(LEVEL[venue].findall(message[2])) > 0
