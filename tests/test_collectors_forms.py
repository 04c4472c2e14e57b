"""A form takes only what the decoder would take, and makes of it exactly the same records."""

from collections import Counter

import numpy as np
import pytest
from decoding import Pipeline
from venue_kit import ALL_VENUES, REST_VENUES, Message, feed, messages_of
from wounds_kit import SAME

from shm.forms import Form, FormKind, Forms

WITH_FORMS = [v for v in ALL_VENUES if v not in ("bybit", "deribit")]
SHARE = {
    "binance_spot": 0.8,
    "binance_usdm": 0.6,
    "coinbase_advanced": 0.6,
    "okx": 0.15,
    "bitstamp": 0.01,
}
"""Least share of a recording's frames that are taken, where tickers and snapshots are many, or only trades have a form;
else it is nine tenths."""


class Twins:
    """The same frames through a decoder with its forms and through one without."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self.fast, self.slow = (Pipeline(venue, slots=1 << 17) for _ in range(2))
        self.slow.decoder.known = Forms(self.slow.outlet, self.slow.decoder.max_frame_bytes, ())
        self.seen: Counter = Counter()

    def send(self, message: Message) -> int:
        """Feed both; whatever they do must be the same."""
        one, other = feed(self.fast, message), feed(self.slow, message)
        assert one == other, message
        self.seen[one] += 1
        return one

    def check(self) -> None:
        """All records since the last check, all counts and all that goes back to the venue are the same."""
        records = [pipeline.drain() for pipeline in (self.fast, self.slow)]
        assert len(records[0]) == len(records[1])
        for name in SAME:
            assert np.array_equal(records[0][name], records[1][name]), name
        assert self.fast.counts == self.slow.counts
        one, other = self.fast.decoder, self.slow.decoder
        assert (one.outbox, one.rest_wanted) == (other.outbox, other.rest_wanted)
        assert one.notices == other.notices
        for asked in (one, other):
            asked.outbox.clear()
            asked.rest_wanted.clear()
            asked.notices.clear()

    def close(self) -> int:
        """Check once more; returns how many frames were taken by forms."""
        self.check()
        assert self.slow.decoder.known.taken == 0
        taken = self.fast.decoder.known.taken
        self.fast.close()
        self.slow.close()
        return taken


@pytest.mark.parametrize("venue", ALL_VENUES)
def test_a_recording_gives_equal_records_with_forms_and_without(captures, venue) -> None:
    """Every venue's recording, frame by frame the same status; most frames of a venue with forms are taken."""
    twins = Twins(venue)
    messages = messages_of(captures, venue)
    for i, message in enumerate(messages):
        twins.send(message)
        if i % 500 == 0:
            twins.check()
    taken = twins.close()
    if venue in WITH_FORMS:
        assert taken >= SHARE.get(venue, 0.9) * len(messages)
    else:
        assert taken == 0


# Each is one changed member of a frame that is taken, and what the decoder makes of it is its own affair.
DELICATE = {
    "kraken_v1": [
        (b'"trade","', b'"trade" ,"'),
        (b'"s","', b'"x","'),
        (b'["', b'[-"'),
        (b"[1921,", b"[01921,"),
        (b"[1921,", b"[1921e0,"),
        (b'"15979.71727919"', b'"15979.717279199"'),
        (b'"15979.71727919"', b'"0"'),
        (b'"15979.71727919"', b'"-1"'),
        (b'"15979.71727919"', b'"1.5.9"'),
        (b'"15979.71727919"', b'"1597\\u0039"'),
        (b'"15979.71727919"', b'"15979\xff"'),
        (b'"1618678145.920708"', b'"yesterday"'),
        (b'"SC/EUR"', b'"SC/EUR","SC/EUR"'),
        (b'"SC/EUR"]', b'"SC/EUR"]]'),
        (b'"SC/EUR"]', b'"SC/EUR"'),
        (b'"SC/EUR"', b'"SC\\/EUR"'),
        (b'"SC/EUR"', b'"XX/EUR"'),
    ],
    "binance_spot": [
        (b"@trade", b"@bookTicker"),
        (b'"m":true', b'"m":1'),
        (b'"m":false', b'"m":null'),
        (b'"t":', b'"t":-'),
        (b'"t":', b'"t":0'),
        (b'"t":', b'"t":99999999999999999999'),
        (b'"e":"trade"', b'"e":"aggTrade"'),
        (b'"p":"', b'"p":"0'),
        (b'"T":', b'"T":1e3'),
        (b'"M":true', b'"M":true,"m":false'),
        (b"}}", b"}} "),
        (b'{"stream"', b' {"stream"'),
    ],
}


@pytest.mark.parametrize("venue", DELICATE)
def test_one_byte_beside_a_form_is_the_decoders_affair(captures, venue) -> None:
    """Spaces, signs, exponents, escapes, zeros, doubled members and foreign bytes are judged alike."""
    twins = Twins(venue)
    messages = [m for m in messages_of(captures, venue) if b'"trade"' in m[2]]
    for message in messages[:200]:
        twins.send(message)
        for old, new in DELICATE[venue]:
            if old in message[2]:
                twins.send((message[0], message[1], message[2].replace(old, new, 1)))
    assert len(twins.seen) > 2
    assert twins.close() > 0


def test_a_text_that_is_no_form_is_refused() -> None:
    """Unknown letters, two letters in a row and a letter at the start are errors at the decoder's making."""
    pipeline = Pipeline("kraken_v1")
    for text in (b"%S]", b"[%S%S]", b"[%y]", b"[%S", b"", b"[%"):
        with pytest.raises(ValueError, match="no form"):
            Forms(pipeline.outlet, 1000, [Form(text, FormKind.TRADE)])
    pipeline.close()


def test_a_symbol_that_was_dropped_is_no_longer_taken(captures) -> None:
    """Its frames go to the decoder until it is entered again."""
    pipeline = Pipeline("kraken_v1")
    trades = [
        m for m in messages_of(captures, "kraken_v1") if b'"SC/EUR"' in m[2] and b'"trade"' in m[2]
    ]
    trades = [m for m in trades if m[2].startswith(b"[")]
    assert [feed(pipeline, message) for message in trades[:3]] == [0, 0, 0]
    line, known = pipeline.decoder.instruments["SC/EUR"], pipeline.decoder.known
    assert known.taken == 2  # the first one opened the version
    known.drop(line.place)
    feed(pipeline, trades[3])
    assert known.taken == 2
    assert known.enter("SC/EUR", line.live) == line.place
    feed(pipeline, trades[4])
    assert known.taken == 3
    pipeline.close()


def test_a_thousand_symbols_are_each_known_by_name() -> None:
    """The table grows, and none is taken for another; an empty name and one of 65 bytes are refused."""
    pipeline = Pipeline("kraken_v1")
    known = pipeline.decoder.known
    lives = [pipeline.outlet.open_live(i, 0) for i in range(1, 1001)]
    places = [known.enter(f"S{i}", live) for i, live in enumerate(lives)]
    assert places == list(range(1000))
    assert [known.enter(f"S{i}", live) for i, live in enumerate(lives)] == places
    for i in (0, 63, 64, 999):
        known.keep(i, b"frame%d" % i, b"time")
    assert known.kept(64) == (b"frame64", b"time")
    assert known.kept(65) == (b"", b"")
    assert known.enter("s" * 64, lives[0]) == 1000
    for name in ("", "s" * 65):
        with pytest.raises(MemoryError):
            known.enter(name, lives[0])
    pipeline.close()


def test_venues_that_are_asked_by_rest_keep_their_rules_of_numbers() -> None:
    """A diff is taken by its form only where the decoder has said that the chain holds."""
    assert {"binance_spot", "binance_usdm"} <= REST_VENUES
    for venue, rule in (("binance_spot", "SPANS"), ("binance_usdm", "PREVIOUS")):
        pipeline = Pipeline(venue)
        rows = [f for f in pipeline.decoder.forms if f.kind is FormKind.ROWS]
        assert [f.rule.name for f in rows] == [rule]
        pipeline.close()
