"""A silent channel is asked after in steps, alone; a wall clock that jumps is no silence and no sound."""

import json
import random
from collections import Counter

import pytest
from decoding import Pipeline
from kraken_frames import ASKS, BETTER_BID, BIDS, crc, snapshot_v2, v2

from collectors.arrivals import FLOOR_S
from collectors.decoder import Subscription
from collectors.staleness import ANSWER_S, LOOK_NS, PROBE_S, Found, Staleness, Step, take_step
from layouts import STATE, InstrumentState, Kind, Mark, StateReason

SYMBOLS = ("A/B", "C/D", "E/F")
START_NS = 7_000_000_000
WALL_NS = 1_700_000_000_000_000_000


class Venue:
    """A link of three books and a trade channel on a clock that only `run` moves; each can be made mute."""

    def __init__(self, venue: str = "kraken_v2", calendar=None) -> None:
        wanted = [Subscription("book", SYMBOLS, 10), Subscription("trade", ("A/B",))]
        self.pipeline = Pipeline(venue, wanted, accept_any=False)
        self.decoder = self.pipeline.decoder
        self.counts: Counter[str] = Counter()
        self.staleness = Staleness(
            self.decoder, lambda name, n: self.counts.update({name: n}), calendar
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
    venue.mute |= {(symbol, "book") for symbol in SYMBOLS} | {("A/B", "trade")}
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


def test_a_market_that_is_closed_is_not_silent() -> None:
    """While the calendar says closed nothing is judged; the night is no gap to learn from, and after it all goes on."""

    class Hours:
        is_trading = True

        def is_open(self, ts: int) -> bool:
            return self.is_trading

    hours = Hours()
    venue = Venue(calendar=hours)
    everything = {(symbol, "book") for symbol in SYMBOLS} | {("A/B", "trade")}
    venue.run(60)
    hours.is_trading = False
    venue.mute |= everything
    venue.run(16 * 3600)
    assert venue.found == []
    hours.is_trading = True
    venue.mute.clear()
    venue.run(60)
    limits = [channel.limit_s() for channel in venue.staleness._channels.values()]
    assert max(limits) < 4 * FLOOR_S
    assert venue.found == []
    venue.mute.add(("C/D", "book"))
    venue.run(4 * FLOOR_S)
    assert venue.found[0] == Found(Step.PROBED, "book", "C/D")
    venue.pipeline.close()


def test_subscriptions_that_come_and_go_are_followed(venue) -> None:
    """A new one is learned from its first arrival on; one that has gone is no longer missed."""
    venue.run(60)
    venue.decoder.subscriptions = [Subscription("book", ("A/B", "C/D"), 10)]
    venue.mute |= {("E/F", "book"), ("A/B", "trade")}
    venue.run(600)
    assert venue.found == []
    assert len(venue.staleness._channels) == 2
