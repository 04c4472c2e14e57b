"""Wounded frames of every venue are counted and never raise; what is published makes sense, and books heal."""

from collections import Counter

import pytest
from decoding import books_from
from test_collectors_mutations import is_sound, mutate
from venue_kit import REST_VENUES, VENUES, chooser, corpus, feed, pipeline_of, renumber, snapshot_of

from shm.book import ASK, BID
from shm.outlet import Reject

SEED = 20261120
MUTATIONS = 3_000
PARTS = 10
PART_MUTATIONS = 100_000
CHECK_EVERY = 100
HEAL_EVERY = 24
LARGE_BYTES = 3_000


class Wounds:
    """A healthy decoder and one that also gets wounded copies of the frames."""

    def __init__(self, venue: str, choose) -> None:
        self.venue, self.choose = venue, choose
        self.healthy, self.hurt = pipeline_of(venue), pipeline_of(venue, 1 << 17)
        self.seen: Counter = Counter()
        self.done = 0

    def take(self, message, small: list[bytes]) -> None:
        """Feed a frame to the healthy decoder, its wounded copies and then itself to the other."""
        kind, url, data = message
        feed(self.healthy, message)
        for _ in range(self.choose.randrange(6) if len(data) < LARGE_BYTES else 1):
            data = self.placed(message)[2]
            self.send((kind, url, mutate(data, self.choose, self.choose.choice(small))))
            self.done += 1
            if self.done % CHECK_EVERY == 0:
                is_sound(self.hurt, self.seen)
        self.send(self.placed(message))
        if self.choose.randrange(HEAL_EVERY) == 0:
            self.heal()
        self.healthy.drain()

    def send(self, message) -> None:
        status = feed(self.hurt, message)
        if message[0] == "recv":
            self.seen[status] += 1

    def placed(self, message):
        """A frame of Coinbase's connection bears the number that is expected: else few would be looked at."""
        if self.venue != "coinbase_advanced":
            return message
        return renumber(message, max(self.hurt.decoder._expected, 0))

    def heal(self) -> None:
        """Answer every request for a snapshot from the healthy books."""
        decoder = self.hurt.decoder
        decoder.outbox.clear()
        decoder.rest_wanted.clear()
        decoder.notices.clear()
        for symbol, twin in self.healthy.decoder.instruments.items():
            line = decoder.instruments.get(symbol)
            if line is not None and not line.live.is_valid and twin.live.is_valid:
                self.send(self.placed(snapshot_of(self.venue, twin)))

    def close(self) -> None:
        is_sound(self.hurt, self.seen)
        books = books_from(self.hurt.events())
        for line in self.hurt.decoder.instruments.values():
            if line.live.is_valid:
                book = books[line.instrument.instrument_id]
                assert book.depth(BID, 5000) == line.live.depth(BID, 5000)
                assert book.depth(ASK, 5000) == line.live.depth(ASK, 5000)
        self.healthy.close()
        self.hurt.close()


def wound(captures, venue: str, mutations: int, seed: int) -> None:
    """Feed wounded frames until there were enough of them."""
    choose = chooser(seed)
    messages = corpus(captures, venue)
    small = [data for kind, _, data in messages if kind == "recv" and len(data) < LARGE_BYTES]
    seen: Counter = Counter()
    done = 0
    while done < mutations:
        wounds = Wounds(venue, choose)
        for message in messages:
            wounds.take(message, small)
            if done + wounds.done >= mutations:
                break
        seen += wounds.seen
        done += wounds.done
        wounds.close()
    assert seen[0] > 0
    wanted = {Reject.MALFORMED_JSON, Reject.UNEXPECTED_SHAPE, Reject.UNKNOWN_CHANNEL}
    wanted |= {Reject.NOT_A_NUMBER} | ({Reject.NO_SNAPSHOT} if venue not in REST_VENUES else set())
    assert wanted <= set(seen), f"seed {seed}: the wounds no longer reach {wanted - set(seen)}"


@pytest.mark.parametrize("venue", VENUES)
def test_mutated_frames_are_counted_and_never_raise(captures, venue) -> None:
    """3,000 wounds a venue, REST answers among them: 0 uncaught, each frame in one count, sound books."""
    wound(captures, venue, MUTATIONS, SEED)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("venue", VENUES)
def test_a_million_mutated_frames_are_counted_and_never_raise(captures, venue, part) -> None:
    """The same with ten other seeds and 10^5 wounds each: 10^6 a venue."""
    wound(captures, venue, PART_MUTATIONS, SEED + 1 + part)
