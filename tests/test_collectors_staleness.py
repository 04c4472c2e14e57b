"""A silent channel is asked after in steps, alone; a wall clock that jumps is no silence and no sound."""

import json
import random
from collections import Counter

import pytest
from decoding import Pipeline
from kraken_frames import ASKS, BETTER_BID, BIDS, crc, snapshot_v2, v2

from collectors.arrivals import CEILING_S, FLOOR_S
from collectors.calendar import Hours, calendars
from collectors.decoder import Subscription
from collectors.staleness import ANSWER_S, LOOK_NS, PROBE_S, Found, Staleness, Step, take_step
from layouts import STATE, InstrumentState, Kind, Mark, StateReason

SYMBOLS = ("A/B", "C/D", "E/F")
START_NS = 7_000_000_000
WALL_NS = 1_700_000_000_000_000_000
MIDNIGHT_NS = 1_700_006_400_000_000_000
"""2023-11-15, a Wednesday, 00:00 UTC."""
EVERYTHING = {(symbol, "book") for symbol in SYMBOLS} | {("A/B", "trade")}


class Venue:
    """A link of three books and a trade channel on a clock that only `run` moves; each can be made mute."""

    def __init__(self, venue: str = "kraken_v2", sessions: tuple[Hours, ...] = ()) -> None:
        wanted = [Subscription("book", SYMBOLS, 10), Subscription("trade", ("A/B",))]
        self.pipeline = Pipeline(venue, wanted, accept_any=False)
        self.decoder = self.pipeline.decoder
        self.counts: Counter[str] = Counter()
        self.staleness = Staleness(
            self.decoder,
            lambda name, n: self.counts.update({name: n}),
            calendars(sessions, self.decoder.venue),
        )
        self.now_ns = START_NS
        self.wall = lambda: WALL_NS + self.now_ns
        self.mute: set[tuple[str, str]] = set()
        self.found: list[Found] = []
        self.sent: list[dict] = []
        self.trade_id = 0
        self.is_better = False
        self.drawn = random.Random(1)
        self.open()

    def open(self) -> None:
        """The link is up: every book that speaks sends its snapshot."""
        self.decoder.on_open(self.wall())
        self.staleness.on_open()
        self.decoder.outbox.clear()
        for symbol in SYMBOLS:
            if (symbol, "book") not in self.mute:
                self.pipeline.feed(snapshot_v2(symbol), self.wall())

    def run(self, seconds: float) -> None:
        """Let every channel that is not mute speak about twice a second."""
        end = self.now_ns + int(seconds * 1e9)
        while self.now_ns < end:
            self.now_ns += LOOK_NS
            for symbol in SYMBOLS:
                if (symbol, "book") not in self.mute and self.drawn.random() < 0.5:
                    self._update(symbol)
            if ("A/B", "trade") not in self.mute and self.drawn.random() < 0.5:
                self._trade()
            for found in self.staleness.look(self.now_ns, self.wall()):
                self.found.append(found)
                take_step(self.decoder, found, self.wall())
            self.sent += [json.loads(text) for text in self.decoder.outbox]
            self.decoder.outbox.clear()

    def state(self, symbol: str) -> InstrumentState:
        return self.decoder.instruments[symbol].live.state

    def _update(self, symbol: str) -> None:
        line = self.decoder.instruments[symbol]
        if not line.live.is_valid:
            self.pipeline.feed(snapshot_v2(symbol), self.wall())
            return
        bids, _, _ = BETTER_BID
        rows = bids if self.drawn.random() < 0.5 else BIDS[:1]
        self.pipeline.feed(
            v2("update", symbol, rows, [], crc([*rows, *BIDS[1:]], ASKS)), self.wall()
        )

    def _trade(self) -> None:
        self.trade_id += 1
        self.pipeline.feed(
            '{"channel":"trade","type":"update","data":[{"symbol":"A/B","side":"buy","price":10.01,'
            f'"qty":1.000,"ord_type":"limit","trade_id":{self.trade_id},'
            '"timestamp":"2026-08-01T02:53:53.646219Z"}]}',
            self.wall(),
        )

    def asked(self, method: str, channel: str, symbol: str) -> int:
        """How often the venue was asked that."""
        params = [text.get("params", {}) for text in self.sent if text["method"] == method]
        return sum(p.get("channel") == channel and symbol in p.get("symbol", ()) for p in params)


@pytest.fixture
def venue():
    made = Venue()
    yield made
    made.pipeline.close()


def test_channels_that_speak_are_left_alone(venue) -> None:
    """Ten minutes of healthy traffic: nothing is found, nothing is asked."""
    venue.run(600)
    assert venue.found == []
    assert venue.sent == []


def test_a_mute_book_is_stale_then_asked_for_then_the_link_is_opened_anew(venue) -> None:
    """Probe at the limit, resubscription of this book alone after PROBE_S, a new link after ANSWER_S without its snapshot."""
    venue.run(60)
    venue.mute.add(("C/D", "book"))
    venue.run(FLOOR_S + 3.0)
    assert venue.found == [Found(Step.PROBED, "book", "C/D")]
    assert venue.sent == [{"method": "ping"}]
    assert [venue.state(s) for s in SYMBOLS] == [
        InstrumentState.LIVE,
        InstrumentState.STALE,
        InstrumentState.LIVE,
    ]
    venue.run(PROBE_S)
    assert venue.asked("unsubscribe", "book", "C/D") == venue.asked("subscribe", "book", "C/D") == 1
    assert venue.asked("subscribe", "book", "A/B") == 0
    venue.run(ANSWER_S + 1.0)
    assert venue.found[-1] == Found(Step.RECONNECTED, "book", "C/D")
    assert venue.counts == {
        "silence.found": 1,
        "silence.resubscribed": 1,
        "silence.reconnected": 1,
    }


def test_a_new_link_that_does_not_help_is_not_followed_by_another(venue) -> None:
    """One bad symbol costs the others one link, not one after another."""
    venue.run(60)
    venue.mute.add(("C/D", "book"))
    venue.run(60)
    assert venue.counts["silence.reconnected"] == 1
    venue.open()
    venue.run(3600)
    assert venue.counts["silence.reconnected"] == 1
    assert venue.state("A/B") == InstrumentState.LIVE


def test_an_update_makes_a_stale_book_live_again(venue) -> None:
    """Nothing was lost as its numbers say: no snapshot, and the records carry both states."""
    venue.run(60)
    venue.mute.add(("C/D", "book"))
    venue.run(FLOOR_S + 3.0)
    venue.pipeline.drain()
    venue.mute.clear()
    venue.run(2.0)
    assert venue.state("C/D") == InstrumentState.LIVE
    assert venue.staleness.silent == 0
    events = venue.pipeline.events()
    events = events[events["instrument_id"] == 2]
    states = events[events["kind"] == Kind.STATE].view(STATE)
    assert [(s["state"], s["reason"]) for s in states[-2:]] == [
        (InstrumentState.STALE, StateReason.SILENCE),
        (InstrumentState.LIVE, StateReason.SILENCE),
    ]
    stale = events[events["marks"] & Mark.STATE_MASK == InstrumentState.STALE]
    assert stale["kind"].tolist() == [Kind.STATE]


def test_a_book_that_answers_a_resubscription_keeps_the_link(venue) -> None:
    """The snapshot ends the matter, and the next silence is given twice the time."""
    venue.run(60)
    venue.mute.add(("C/D", "book"))
    venue.run(FLOOR_S + 3.0 + PROBE_S)
    assert venue.asked("subscribe", "book", "C/D") == 1
    venue.pipeline.feed(snapshot_v2("C/D"), venue.wall())
    venue.run(1.0)
    assert venue.state("C/D") == InstrumentState.LIVE
    found = len(venue.found)
    venue.run(2 * FLOOR_S - 1.0)
    assert len(venue.found) == found
    venue.run(3 * FLOOR_S)
    assert venue.counts["silence.found"] == 2
    assert venue.counts["silence.reconnected"] == 0


def test_mute_trades_are_subscribed_to_again_and_never_cost_the_link(venue) -> None:
    """Trades owe nothing: their silence is asked after, more and more rarely, and the book stays LIVE."""
    venue.run(60)
    venue.mute.add(("A/B", "trade"))
    venue.run(3600)
    assert venue.state("A/B") == InstrumentState.LIVE
    assert venue.asked("subscribe", "book", "A/B") == 0
    assert 3 <= venue.asked("subscribe", "trade", "A/B") <= 12
    assert venue.counts["silence.reconnected"] == 0


def test_a_link_on_which_nothing_is_heard_is_opened_anew(venue) -> None:
    """Mute all at once, though it answers probes: found, asked, and then left."""
    venue.run(60)
    venue.mute |= EVERYTHING
    venue.run(FLOOR_S + 3.0 + PROBE_S + ANSWER_S + 1.0)
    assert venue.counts["silence.found"] == 4
    assert venue.counts["silence.reconnected"] >= 1


@pytest.mark.parametrize("channel", [(symbol, "book") for symbol in SYMBOLS] + [("A/B", "trade")])
def test_every_mute_channel_is_found(venue, channel) -> None:
    """Whichever it is, within the floor and two looks of its limit; no other is named."""
    venue.run(120)
    venue.mute.add(channel)
    venue.run(4 * FLOOR_S)
    assert {(found.symbol, found.channel) for found in venue.found} == {channel}


@pytest.mark.parametrize("jump_s", [-3600, 3600, -1_700_000_000, 2_600_000_000])
def test_a_wall_clock_that_jumps_is_no_silence(jump_s: int) -> None:
    """An hour back or forth, 1970, 2106: nothing is found, no book is asked for again, records go on in order."""
    venue = Venue()
    venue.run(60)
    before = venue.wall
    venue.wall = lambda: before() + jump_s * 1_000_000_000
    venue.run(120)
    venue.wall = before
    venue.run(120)
    venue.decoder.on_timer(venue.wall())
    assert venue.found == []
    assert [text for text in venue.sent if text["method"] == "subscribe"] == []
    events = venue.pipeline.events()
    assert len({int(e) for e in events["instrument_id"]}) == 3
    stamps = events["stamp"].astype(int)
    assert (stamps[1:] - stamps[:-1] == 2).all()
    assert events["ts_recv"].min() < before() < max(events["ts_recv"].max(), before() + 1)
    assert all(line.live.is_valid for line in venue.decoder.instruments.values())
    venue.pipeline.close()


@pytest.mark.parametrize("jump_s", [-3600, 3600, -1_700_000_000, 2_600_000_000])
def test_a_mute_book_is_found_while_the_wall_clock_jumps(jump_s: int) -> None:
    """Neither direction hides a silence: it is judged by the steady clock."""
    venue = Venue()
    venue.run(60)
    before = venue.wall
    venue.wall = lambda: before() + jump_s * 1_000_000_000
    venue.mute.add(("C/D", "book"))
    venue.run(FLOOR_S + 3.0)
    assert venue.found == [Found(Step.PROBED, "book", "C/D")]
    venue.pipeline.close()


def until(venue: Venue, minute: float) -> None:
    """Run until so many minutes after MIDNIGHT_NS."""
    venue.run((MIDNIGHT_NS - WALL_NS + minute * 60e9 - venue.now_ns) / 1e9)


SHUT_AT_MINUTE_2 = (Hours(time_zone="UTC", closed=("wed 00:02-16:02",)),)


@pytest.fixture
def traded():
    """Closed for 16 hours from minute 2 on; every channel speaks while it is open."""
    venue = Venue(sessions=SHUT_AT_MINUTE_2)
    venue.now_ns = MIDNIGHT_NS - WALL_NS
    venue.run(120 - 2 * LOOK_NS / 1e9)
    yield venue
    venue.pipeline.close()


def test_a_market_that_is_closed_is_not_silent(traded) -> None:
    """While the calendar says closed nothing is judged; the night is no gap to learn from, and after it all goes on."""
    assert traded.staleness.closed == 0
    traded.mute |= EVERYTHING
    until(traded, 3)
    assert traded.staleness.closed == 4
    until(traded, 962 - 1 / 60)
    assert traded.found == []
    assert traded.staleness.closed == 4
    until(traded, 962)
    assert traded.staleness.closed == 0
    traded.mute.clear()
    traded.run(60)
    limits = [channel.limit_s() for channel in traded.staleness._channels.values()]
    assert max(limits) < 4 * FLOOR_S
    assert traded.found == []
    traded.mute.add(("C/D", "book"))
    traded.run(4 * FLOOR_S)
    assert traded.found[0] == Found(Step.PROBED, "book", "C/D")


def test_the_first_frame_after_an_opening_may_come_late_and_teaches_nothing(traded) -> None:
    """Nine minutes and three quarters are no silence, and the limits do not grow by them."""
    traded.mute |= EVERYTHING
    until(traded, 962)
    traded.run(CEILING_S - 15.0)
    traded.mute.clear()
    traded.run(10)
    limits = [channel.limit_s() for channel in traded.staleness._channels.values()]
    assert max(limits) < 4 * FLOOR_S
    assert traded.found == []


def test_a_feed_that_stays_mute_after_an_opening_is_found(traded) -> None:
    """Up to CEILING_S after the opening nothing is; then each channel is asked after, and the link opened anew."""
    traded.mute |= EVERYTHING
    until(traded, 962)
    traded.run(CEILING_S - LOOK_NS / 1e9)
    assert traded.found == []
    traded.run(2 * LOOK_NS / 1e9)
    assert {(found.symbol, found.channel) for found in traded.found} == EVERYTHING
    assert {found.step for found in traded.found} == {Step.PROBED}
    traded.run(PROBE_S + ANSWER_S + 1.0)
    assert traded.counts["silence.reconnected"] >= 1


def test_what_was_being_asked_after_rests_when_its_market_closes() -> None:
    """Probed before the closing, not subscribed to again after it; no silence that began before it is found in it."""
    venue = Venue(sessions=SHUT_AT_MINUTE_2)
    venue.now_ns = MIDNIGHT_NS - WALL_NS
    venue.run(120 - FLOOR_S - 4.0)
    venue.mute.add(("C/D", "book"))
    until(venue, 2 - 1 / 60)
    assert venue.found == [Found(Step.PROBED, "book", "C/D")]
    venue.mute.add(("E/F", "book"))
    until(venue, 600)
    assert venue.found == [Found(Step.PROBED, "book", "C/D")]
    assert venue.staleness.silent == 0
    venue.pipeline.close()


def test_each_instrument_has_its_own_session() -> None:
    """One that is closed is left alone; the others are found as ever, and their link is opened anew though it is silent too."""
    shut = Hours(time_zone="UTC", instruments=("kraken:C/D",), closed=("wed 00:02-16:02",))
    venue = Venue(sessions=(shut,))
    venue.now_ns = MIDNIGHT_NS - WALL_NS
    venue.run(180)
    assert venue.staleness.closed == 1
    venue.mute |= EVERYTHING - {("A/B", "trade")}
    venue.run(3 * FLOOR_S)
    assert {found.symbol for found in venue.found} == {"A/B", "E/F"}
    venue.mute |= EVERYTHING
    venue.run(60)
    again = {(f.symbol, f.channel) for f in venue.found if f.step == Step.RECONNECTED}
    assert ("A/B", "trade") in again
    assert "C/D" not in {found.symbol for found in venue.found}
    venue.pipeline.close()


def test_subscriptions_that_come_and_go_are_followed(venue) -> None:
    """A new one is learned from its first arrival on; one that has gone is no longer missed."""
    venue.run(60)
    venue.decoder.subscriptions = [Subscription("book", ("A/B", "C/D"), 10)]
    venue.mute |= {("E/F", "book"), ("A/B", "trade")}
    venue.run(600)
    assert venue.found == []
    assert len(venue.staleness._channels) == 2
