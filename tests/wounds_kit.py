"""Wounded copies of real frames, and all that must hold of a decoder that gets them, whatever they are.

A campaign feeds one decoder the frames of a recording and, before each, wounded copies of it; a second one without forms gets
the same; a third, healthy one the frames alone: its books answer for the snapshots that are asked for.

**Invariants** (1) No frame raises, and none hangs. (2) Each ends in one count, and one that is refused publishes no data.
(3) Every record holds sense, every book keeps its invariants. (4) A consumer of the records holds the decoder's books.
(5) With forms and without, statuses, counts, records and requests are the same.

**Cost** 20 to 60 us a wound, nearly all of it the decoders': 2 to 5 are looked at over CHECK_EVERY wounds at once, by column.
"""

import faulthandler
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from decoding import Follower, Pipeline
from venue_kit import (
    KRAKEN_FILES,
    REST_VENUES,
    Message,
    feed,
    messages_of,
    renumber,
    snapshot_of,
    update_of,
)

from layouts import Kind, Mark, StateReason
from shm.book import ASK, BID
from shm.forms import Forms
from shm.outlet import Reject

SEED = 20261120
CHECK_EVERY = 500
BOOKS_EVERY = 8
"""Checks between two comparisons of all levels; every pass of a recording ends with one."""
DRAIN_EVERY = 64
"""Frames of the healthy decoder; a pass begins with the largest, 20,000 levels of ten Kraken books."""
HEAL_EVERY = 2
"""Frames, on average; few wounds find a book that is lost then."""
HEALED_LEVELS = 25
SLOTS = 1 << 17
LARGE_BYTES = 3_000
WOUNDS_A_FRAME = 12
"""One less at most, and each number down to 0 alike; a longer frame than LARGE_BYTES gets one."""
HANG_S = 120.0
"""Between two checks; a hung process ends with its stack."""
DIGIT = re.compile(rb"\d")
DIGITS = b"0123456789"
TOKENS = [
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"-",
    b".",
    b"e",
    b"null",
    b"1e-05",
    b"99999999999999999999",
]
SAME = [
    "ts_event",
    "ts_recv",
    "instrument_id",
    "kind",
    "marks",
    "word_0",
    "word_1",
    "word_2",
    "word_3",
]


def mutate(frame: bytes, choose: random.Random, other: bytes) -> bytes:
    """Return the frame with one to three wounds."""
    raw, drawn = bytearray(frame), choose.random
    for _ in range((1, 1, 1, 2, 3)[int(drawn() * 5)]):
        at = int(drawn() * (len(raw) + 1))
        end = min(len(raw), at + 1 + int(drawn() * 11))
        kind = int(drawn() * 9)
        if kind >= 7:
            place = DIGIT.search(raw, at) or DIGIT.search(raw)
            if place:
                raw[place.start()] = DIGITS[int(drawn() * 10)]
        elif kind == 0 and raw:
            raw[at % len(raw)] ^= 1 << int(drawn() * 8)
        elif kind == 1:
            raw[at:at] = TOKENS[int(drawn() * len(TOKENS))]
        elif kind == 2:
            del raw[at:end]
        elif kind == 3:
            del raw[at:]
        elif kind == 4:
            raw[at:at] = raw[at:end] * (1 + int(drawn() * 3))
        elif kind == 5:
            start = int(drawn() * len(other))
            raw[at:end] = other[start : start + 1 + int(drawn() * 39)]
        elif kind == 6:
            raw[at:end] = choose.randbytes(end - at)
    return bytes(raw)


def check_records(events: np.ndarray) -> None:
    """Every record holds sense."""
    kinds = events["kind"]
    levels = events[kinds == Kind.LEVEL]
    assert (levels["word_0"] > 0).all()
    assert (levels["word_1"] >= 0).all()
    trades = events[kinds == Kind.TRADE]
    assert (trades["word_0"] > 0).all()
    assert (trades["word_1"] > 0).all()
    quotes = events[kinds == Kind.QUOTE]
    whole = (quotes["word_1"] > 0) & (quotes["word_3"] > 0)
    assert (quotes["word_0"][whole] < quotes["word_2"][whole]).all()
    assert (events["ts_event"] > 0).all()
    assert len(events) == 0 or events["marks"][-1] & Mark.LAST_IN_FRAME


def check_refused(events: np.ndarray, refused: list[int], has_rest: bool) -> None:
    """What came at these times published no trade, and no level but where it brought more decimals: a new version publishes the
    book as it stands. With REST books a diff that told of a gap waits for the snapshot, and its levels come after that.
    """
    mine = events[np.isin(events["ts_recv"], refused)]
    opens = (mine["kind"] == Kind.STATE) & (mine["word_1"] == StateReason.NEW_VERSION)
    wider = mine["ts_recv"][opens | (mine["kind"] == Kind.SNAPSHOT_BEGIN)]
    rest = mine[~np.isin(mine["ts_recv"], wider)]
    assert not (mine["kind"] == Kind.TRADE).any()
    assert has_rest or not (rest["kind"] == Kind.LEVEL).any()


class Pass:
    """The decoders of one pass over a recording."""

    def __init__(self, venue: str, seen: Counter) -> None:
        self.venue, self.seen = venue, seen
        self.healthy = Pipeline(venue, slots=SLOTS)
        self.taken = 0
        self.begin()

    def begin(self) -> None:
        """Make the decoders that are hurt."""
        self.hurt = Pipeline(self.venue, slots=SLOTS)
        self.plain = Pipeline(self.venue, slots=SLOTS) if self.hurt.decoder.forms else None
        if self.plain:
            limit = self.plain.decoder.max_frame_bytes
            self.plain.decoder.known = Forms(self.plain.outlet, limit, ())
        self.follower = Follower()
        self.refused: list[int] = []
        """When what was refused since the last check came."""
        self.checks = 0
        self.before = sum(self.seen.values())

    def send(self, message: Message) -> int:
        """Feed a message to the hurt decoders; returns its status."""
        status = feed(self.hurt, message)
        if self.plain:
            assert feed(self.plain, message) == status
        if message[0] == "recv":
            self.seen[status] += 1
            # Of a frame that names an unknown symbol as well, the trades of the known ones are published.
            if status not in (0, Reject.UNKNOWN_SYMBOL):
                self.refused.append(self.hurt.ts)
        return status

    def send_real(self, message: Message) -> None:
        """Feed what is whole; fresh decoders go on where a wound brought more decimals than leave room for a real price."""
        if self.send(self.placed(message)) == Reject.TOO_MANY_DIGITS:
            self.end()
            self.begin()

    def pace(self) -> None:
        """Make room: a private ring waits for its reader."""
        if self.healthy.fed % DRAIN_EVERY == 0:
            self.healthy.events_ring.drain()

    def placed(self, message: Message) -> Message:
        """A frame of Coinbase's connection bears the number that is expected: else few would be looked at."""
        if self.venue != "coinbase_advanced":
            return message
        return renumber(message, max(self.hurt.decoder._expected, 0))

    def heal(self, symbol: str | None) -> None:
        """Answer for one book, or all that were lost, as the venue would, from the healthy ones."""
        lines, twins = self.hurt.decoder.instruments, self.healthy.decoder.instruments
        for each in (symbol,) if symbol else list(twins):
            line, twin = lines.get(each), twins[each]
            if (line is None or not line.live.is_valid) and twin.live.is_valid:
                self.send_real(snapshot_of(self.venue, twin, levels=HEALED_LEVELS))

    def check(self, with_books: bool = False) -> None:
        """Look at all that has come since the last check."""
        events = self.hurt.events_ring.drain()
        check_records(events)
        check_refused(events, self.refused, self.venue in REST_VENUES)
        self.refused.clear()
        lines = self.hurt.decoder.instruments.values()
        assert all(line.live.check() == 0 for line in lines)
        counted = sum(self.seen.values()) - self.before
        assert self.hurt.accounted() == self.hurt.fed == counted
        self.follower.follow(events)
        self.checks += 1
        if with_books or self.checks % BOOKS_EVERY == 0:
            for line in lines:
                if line.live.is_valid:
                    mine = line.instrument.instrument_id
                    for side in (BID, ASK):
                        levels = self.follower.levels(mine, side)
                        assert levels == line.live.depth(side, len(levels) + 1)
        if self.plain:
            self._compare(events)
        for pipeline in filter(None, (self.hurt, self.plain)):
            for asked in ("outbox", "rest_wanted", "notices"):
                getattr(pipeline.decoder, asked).clear()

    def _compare(self, events: np.ndarray) -> None:
        """With forms and without, all is the same."""
        plain = self.plain
        assert plain is not None
        others = plain.events_ring.drain()
        assert len(events) == len(others)
        for name in SAME:
            assert np.array_equal(events[name], others[name]), name
        assert self.hurt.counts == plain.counts
        for asked in ("outbox", "rest_wanted", "notices"):
            assert getattr(self.hurt.decoder, asked) == getattr(plain.decoder, asked), asked
        assert plain.decoder.known.taken == 0

    def end(self) -> None:
        """Check once more, and close what is hurt."""
        self.check(with_books=True)
        self.taken += self.hurt.decoder.known.taken
        for pipeline in filter(None, (self.hurt, self.plain)):
            pipeline.close()

    def close(self) -> int:
        """End all; returns how many frames were taken by forms."""
        self.end()
        self.healthy.close()
        return self.taken


class Campaign:
    """So many wounds of one venue's frames."""

    def __init__(
        self,
        venue: str,
        messages: Sequence[Message],
        seed: int,
        each_check: Callable[[], None] = lambda: None,
    ) -> None:
        self.venue, self.messages, self.seed = venue, messages, seed
        self.each_check = each_check
        self.choose = random.Random(seed)
        self.small = [m[2] for m in messages if m[0] == "recv" and len(m[2]) < LARGE_BYTES]
        self.seen: Counter = Counter()
        self.done = 0
        self.taken = 0
        self.has_forms = False

    def run(self, wounds: int) -> Counter:
        """Wound until there were enough; returns how many frames ended in each count, by status."""
        while self.done < wounds:
            running = Pass(self.venue, self.seen)
            self.has_forms = running.plain is not None
            for message in self.messages:
                try:
                    self._wound(running, message)
                except Exception as error:
                    raise AssertionError(
                        f"{self.venue}, seed {self.seed}, wound {self.done}: beside {message!r}"
                    ) from error
                if self.done >= wounds:
                    break
            self.taken += running.close()
        return self.seen

    def _wound(self, running: Pass, message: Message) -> None:
        drawn, small = self.choose.random, self.small
        kind, url, data = message
        assert feed(running.healthy, message) == 0
        running.pace()
        for _ in range(int(drawn() * WOUNDS_A_FRAME) if len(data) < LARGE_BYTES else 1):
            data = running.placed(message)[2]
            other = small[int(drawn() * len(small))]
            running.send((kind, url, mutate(data, self.choose, other)))
            self.done += 1
            if self.done % CHECK_EVERY == 0:
                running.check()
                self.each_check()
        running.send_real(message)
        if drawn() * HEAL_EVERY < 1.0:
            running.heal(update_of(self.venue, message))


def wanted_of(venue: str) -> set[Reject]:
    """Return the reasons that the wounds must reach."""
    wanted = {Reject.MALFORMED_JSON, Reject.UNEXPECTED_SHAPE, Reject.UNKNOWN_CHANNEL}
    wanted |= {Reject.NOT_A_NUMBER} | ({Reject.NO_SNAPSHOT} if venue not in REST_VENUES else set())
    if venue in KRAKEN_FILES:
        wanted |= {Reject.CHECKSUM, Reject.TOO_MANY_DIGITS, Reject.CROSSED}
    return wanted


def wound(
    folder: Path, venue: str, wounds: int, seed: int, each_check: Callable[[], None] = lambda: None
) -> Counter:
    """Run a campaign; returns how many frames ended in each count, by status."""
    campaign = Campaign(venue, messages_of(folder, venue), seed, each_check)
    seen = campaign.run(wounds)
    assert seen[0] > 0
    missed = wanted_of(venue) - set(seen)
    assert not missed, f"{venue}, seed {seed}: the wounds no longer reach {missed}"
    assert campaign.taken > 0 or not campaign.has_forms
    return seen


def wound_in_parts(
    folder: Path, venue: str, parts: int, wounds: int, seed: int, processes: int
) -> Counter:
    """Run campaigns of consecutive seeds, so many at once; returns the sum of their counts.

    A process that crashes, or hangs for HANG_S, fails the whole with its stack on stderr.
    """
    messages_of(folder, venue)  # read once, before the processes are made
    with ProcessPoolExecutor(processes, get_context("fork")) as pool:
        ran = [pool.submit(_part, folder, venue, wounds, seed + i) for i in range(parts)]
        return sum((each.result() for each in ran), Counter())


def _part(folder: Path, venue: str, wounds: int, seed: int) -> Counter:
    def watch() -> None:
        faulthandler.dump_traceback_later(HANG_S, exit=True)

    watch()
    seen = wound(folder, venue, wounds, seed, watch)
    faulthandler.cancel_dump_traceback_later()
    return seen
