"""The limit of a silence follows a channel's own arrivals: rarely wrong where it speaks, and always in bounds."""

import math
import random
from collections import defaultdict
from pathlib import Path

import pytest
from decoding import Pipeline

from collectors import arrivals
from collectors.arrivals import CEILING_S, FLOOR_S, LEARNED, Arrivals
from collectors.captures import Capture
from collectors.staleness import LOOK_NS

CAPTURES = {
    "binance_spot_4pairs": "binance_spot",
    "binance_usdm_btcusdt": "binance_usdm",
    "bitstamp_diffbook_trades": "bitstamp",
    "bybit_v5_linear_spot_book200": "bybit",
    "coinbase_advanced_btc_eth_350": "coinbase_advanced",
    "coinbase_exchange_10pairs": "coinbase_exchange",
    "deribit_10options": "deribit",
    "kraken_futures_10products": "kraken_futures",
    "kraken_v1_book_10pairs": "kraken_v1",
    "kraken_v1_trade_10pairs": "kraken_v1",
    "kraken_v2_btcusd_resubscribes": "kraken_v2",
    "kraken_v2_ethusd": "kraken_v2",
    "okx_v5_books_3instruments": "okx",
}


def _alarms(gaps: list[float]) -> int:
    """Return how many of these gaps were beyond the limit of their moment."""
    made = Arrivals()
    alarms = 0
    for gap in gaps:
        alarms += made._seen >= LEARNED and gap > made.limit_s
        made.note(gap)
    return alarms


def test_nothing_is_judged_before_it_is_known() -> None:
    """With LEARNED - 1 gaps the limit is the ceiling, with one more it is the channel's own."""
    made = Arrivals()
    for _ in range(LEARNED - 1):
        made.note(0.5)
        assert made.limit_s == CEILING_S
    made.note(0.5)
    assert made.limit_s == FLOOR_S


def test_even_arrivals_leave_half_a_gap() -> None:
    """What is left of gaps of one length is half of it; of random ones it is their mean."""
    made = Arrivals()
    for _ in range(1000):
        made.note(2.0)
    assert made.residual_s == pytest.approx(1.0)
    drawn = random.Random(1)
    made = Arrivals()
    mean = []
    for n in range(20_000):
        made.note(drawn.expovariate(0.5))
        if n > 1000:
            mean.append(made.residual_s)
    assert sum(mean) / len(mean) == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("mean_s", [1.0, 4.0, 30.0])
def test_random_arrivals_raise_no_alarm(monkeypatch, mean_s: float) -> None:
    """Of 100,000 gaps between random arrivals at most one is an alarm, at every rate; the bounds are out of the way."""
    monkeypatch.setattr(arrivals, "FLOOR_S", 0.0)
    monkeypatch.setattr(arrivals, "CEILING_S", math.inf)
    drawn = random.Random(int(mean_s))
    assert _alarms([drawn.expovariate(1 / mean_s) for _ in range(100_000)]) <= 1


def test_bursts_raise_no_alarm_where_a_plain_mean_would(monkeypatch) -> None:
    """Twenty frames within moments, then nothing for about ten seconds, over and over: the long gaps rule the limit."""
    monkeypatch.setattr(arrivals, "FLOOR_S", 0.0)
    drawn = random.Random(5)
    gaps = []
    for _ in range(3000):
        gaps += [drawn.expovariate(100.0) for _ in range(20)] + [drawn.expovariate(0.1)]
    assert _alarms(gaps) <= 1
    plain = sum(gaps) / len(gaps) * math.log(1e6)
    assert sum(gap > plain for gap in gaps) > 300


def test_a_silence_that_lasts_is_news_within_the_limit() -> None:
    """At ten a second it takes the floor; at one in ten seconds some minutes; never more than the ceiling."""
    limits = {}
    for mean_s in (0.1, 10.0, 1000.0):
        drawn, made = random.Random(3), Arrivals()
        for _ in range(500):
            made.note(drawn.expovariate(1 / mean_s))
        limits[mean_s] = made.limit_s
    assert limits[0.1] == FLOOR_S
    assert 100.0 < limits[10.0] < 500.0
    assert limits[1000.0] == CEILING_S


def test_a_false_alarm_teaches() -> None:
    """The gap that was taken for a silence is below the limit from then on."""
    made = Arrivals()
    for _ in range(100):
        made.note(1.0)
    assert made.limit_s < 60.0
    made.note(60.0)
    assert made.limit_s > 60.0


@pytest.mark.parametrize("name", sorted(CAPTURES))
def test_no_healthy_channel_of_a_recording_is_flagged(captures: Path, name: str) -> None:
    """Every book and trade channel of every venue, at the recorded times: no alarm."""
    alarms, channels, _ = _judge(captures, name)
    assert channels > 0
    assert alarms == []


def test_a_fixed_limit_would_kill_healthy_channels(captures: Path) -> None:
    """The check can fail: with 5 s for everybody dozens of healthy channels would be flagged."""
    quiet = sum(
        _judge(captures, name)[2] for name in ("coinbase_exchange_10pairs", "deribit_10options")
    )
    assert quiet > 5


def _judge(captures: Path, name: str) -> tuple[list, int, int]:
    """Play a recording through its decoder and look as often as live: alarms, channels, channels once silent for 5 s."""
    pipeline = Pipeline(CAPTURES[name], slots=1 << 18)
    known: dict[tuple[str, str], Arrivals] = defaultdict(Arrivals)
    heard: dict[tuple[str, str], tuple[int, int]] = {}
    alarms, quiet = [], set()
    look = 0
    for fed, frame in enumerate(Capture(captures / f"{name}.jsonl.gz")):
        if frame.kind not in ("recv", "rest") or frame.ts == 0:
            continue
        look = look or frame.ts
        while frame.ts >= look + LOOK_NS:
            look += LOOK_NS
            for symbol, line in pipeline.decoder.instruments.items():
                counts = {"book": line.handle.book_frames, "trade": line.handle.trades_seen}
                for channel, count in counts.items():
                    key = symbol, channel
                    before, at = heard.get(key, (0, 0))
                    silent_s = (look - at) / 1e9
                    if at and silent_s > known[key].limit_s:
                        alarms.append((key, silent_s))
                    if at and silent_s > FLOOR_S:
                        quiet.add(key)
                    if count != before:
                        if at:
                            known[key].note(silent_s)
                        heard[key] = count, look
        if frame.kind == "recv":
            pipeline.feed(frame.data, frame.ts)
        else:
            pipeline.decoder.rest_response(frame.url, frame.data, frame.ts)
        if fed % 200 == 0:
            pipeline.events_ring.drain()
            pipeline.instruments()
    pipeline.close()
    return alarms, len(heard), len(quiet)
