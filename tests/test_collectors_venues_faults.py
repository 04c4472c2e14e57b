"""Lost, repeated and exchanged frames of every venue are found, each once, and nothing else is taken for one."""

import pytest
from venue_kit import (
    NUMBERED,
    REST_VENUES,
    VENUES,
    books_are_equal,
    chooser,
    corpus,
    feed,
    is_ordered,
    pipeline_of,
    renumber,
    snapshot_of,
    update_of,
)

from shm.outlet import Reject

SEED = 20261120
INJECTIONS = 100
MANY_INJECTIONS = 1000
DRAIN_EVERY = 8
ANY = "any book of the connection"
TOLD = {Reject.DUPLICATE, Reject.LATE}


class Twins:
    """A healthy decoder and one that is fed the same with faults, over one pass of a recording."""

    def __init__(self, venue: str, kinds: list[str], choose) -> None:
        self.venue, self.kinds, self.choose = venue, kinds, choose
        self.healthy, self.hurt = pipeline_of(venue), pipeline_of(venue)
        self.number = 0
        self.found = 0
        self.gaps = 0
        self.held: dict = {}

    def send(self, message) -> int:
        """Feed the hurt decoder; Coinbase's connection numbers are its own."""
        if self.venue == "coinbase_advanced":
            message = renumber(message, self.number)
            self.number += 1
        return feed(self.hurt, message)

    def take(self, message) -> None:
        symbol = update_of(self.venue, message)
        assert feed(self.healthy, message) == 0
        # One sequence for the whole connection: a fault shows with its very next frame.
        key = ANY if self.venue == "coinbase_advanced" and self.held else symbol
        if key in self.held:
            self.second(key, message, *self.held.pop(key))
        elif symbol is None or not self.is_live(symbol):
            assert self.send(message) == 0
            self.drop_replaced()
        elif self.choose.randrange(3):
            assert self.send(message) == 0
        else:
            self.first(symbol, message)

    def first(self, symbol: str, message) -> None:
        """Begin a fault with this frame."""
        kind = self.choose.choice(self.kinds)
        if kind == "duplicate":
            assert self.send(message) == 0
            self.number -= 1
            assert self.send(message) in TOLD
            assert self.hurt.decoder.instruments[symbol].live.is_valid
            self.found += 1
            return
        self.number += 1
        self.held[ANY if self.venue == "coinbase_advanced" else symbol] = kind, message

    def second(self, key: str, message, kind: str, before) -> None:
        """The next frame of the same book: the fault must show now."""
        if kind == "swap" and not is_ordered(self.venue, before, message):
            assert self.send(before) == self.send(message) == 0
            return
        self.send(message)
        if kind == "swap":
            late = self.late(before)
            assert late in TOLD or late == Reject.NO_SNAPSHOT or self.venue in REST_VENUES
        lines = self.hurt.decoder.instruments
        suspects = [lines[key]] if key != ANY else [x for x in lines.values() if x.live.version]
        assert suspects
        assert not any(line.live.is_valid for line in suspects), kind
        self.gaps += len(suspects)
        self.found += 1
        self.heal()

    def late(self, message) -> int:
        """Feed a frame after the one that should have followed it."""
        if self.venue == "coinbase_advanced":
            message = renumber(message, self.number - 2)
        return feed(self.hurt, message)

    def drop_replaced(self) -> None:
        """A snapshot that came before a fault could show has made it good."""
        for symbol in list(self.held):
            line = self.healthy.decoder.instruments.get(symbol)
            if line is not None and line.live.handle.frame_no == 0:
                del self.held[symbol]

    def heal(self) -> None:
        """Answer the requests for snapshots, from the healthy books, as the venue would."""
        decoder = self.hurt.decoder
        decoder.on_timer(self.hurt.ts + 40_000_000_000)
        assert decoder.rest_wanted if self.venue in REST_VENUES else decoder.outbox
        decoder.outbox.clear()
        decoder.rest_wanted.clear()
        for symbol, line in decoder.instruments.items():
            twin = self.healthy.decoder.instruments[symbol]
            if line.has_book and not line.live.is_valid and twin.live.is_valid:
                assert self.send(snapshot_of(self.venue, twin)) == 0
                assert line.live.is_valid
                assert books_are_equal(line, twin)
                self.held.pop(symbol, None)

    def is_live(self, symbol: str) -> bool:
        lines = [p.decoder.instruments.get(symbol) for p in (self.healthy, self.hurt)]
        return all(line is not None and line.live.is_valid for line in lines) and (
            self.venue not in REST_VENUES or all(line.is_straddled for line in lines)
        )

    def gap_records(self) -> int:
        counts = self.hurt.counts
        return counts.get("gaps.sequence", 0) + counts.get("gaps.refused_frame", 0)

    def close(self) -> None:
        assert self.healthy.counts.get("gaps.sequence", 0) == 0
        assert self.hurt.accounted() == self.hurt.fed
        self.healthy.close()
        self.hurt.close()


def inject(captures, venue: str, injections: int) -> None:
    """Inject faults until there were enough of them, each pass of the recording with fresh decoders."""
    choose = chooser(SEED)
    kinds = ["duplicate", "swap"] + ["gap"] * (venue in NUMBERED)
    found = 0
    while found < injections:
        twins = Twins(venue, kinds, choose)
        for place, message in enumerate(corpus(captures, venue)):
            twins.take(message)
            if found + twins.found >= injections:
                break
            if place % DRAIN_EVERY == 0:
                twins.hurt.drain()
                twins.healthy.drain()
        assert twins.found > 0
        assert twins.gap_records() == twins.gaps
        found += twins.found
        twins.close()


@pytest.mark.parametrize("venue", VENUES)
def test_faults_are_found_and_nothing_else(captures, venue) -> None:
    """100 gaps, duplicates and swaps: each makes its book SUSPECT or is refused, each is healed by one snapshot."""
    inject(captures, venue, INJECTIONS)


@pytest.mark.soak
@pytest.mark.parametrize("venue", VENUES)
def test_a_thousand_faults_are_found_and_nothing_else(captures, venue) -> None:
    """The same with 1,000 a venue."""
    inject(captures, venue, MANY_INJECTIONS)
