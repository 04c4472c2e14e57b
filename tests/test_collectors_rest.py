"""REST requests keep the venue's rate, end in one counted way each, and are tried again with full jitter."""

import asyncio
import random
import subprocess
import sys
from collections import Counter, deque

import pytest
from rest_venue import HUGE_BYTES, Market, running

from collectors import rest
from collectors.allowance import Allowance, Rate
from collectors.rest import COUNTERS, OUTCOMES, RestClient, pause_s
from shm import clock

FAST = Rate(per_s=1000.0, burst=100.0)
SYMBOL = "BTCUSDT"
WAIT_S = 30.0


class Taker:
    """Takes bodies that look like a book."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def __call__(self, url: str, body: bytes, ts_recv: int) -> bool:
        assert ts_recv > 0
        if not body.startswith(b'{"lastUpdateId"'):
            return False
        self.bodies.append(body)
        return True


def _ask(script: list[str], rate: Rate = FAST, max_bytes: int = 1_000_000):
    """Ask a venue of that script for one book; return the taker, the counts and how often the venue was asked."""
    counts: Counter[str] = Counter()
    taker = Taker()

    async def ask(url: str) -> None:
        client = RestClient(taker, lambda name, n: counts.update({name: n}), rate, max_bytes)
        client.want(url)
        client.want(url)  # under way already: no second request
        async with asyncio.timeout(WAIT_S):
            while client.under_way:
                await asyncio.sleep(0.005)
        await client.close()

    with running("binance_spot") as venue:
        venue.markets[SYMBOL] = Market(SYMBOL, "binance_spot", 1)
        venue.script[SYMBOL] = deque(script)
        asyncio.run(ask(f"{venue.rest_url}/depth?symbol={SYMBOL}"))
        asked = venue.asked[SYMBOL]
    assert set(counts) <= set(COUNTERS)
    assert counts["rest.requests"] == sum(counts[f"rest.{outcome}"] for outcome in OUTCOMES)
    return taker, counts, asked


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch) -> None:
    monkeypatch.setattr(rest, "FIRST_PAUSE_S", 0.01)


def test_an_answer_is_handed_on_once() -> None:
    """One request, one body, however often it is wanted meanwhile."""
    taker, counts, asked = _ask([])
    assert (len(taker.bodies), asked) == (1, 1)
    assert counts == {"rest.requests": 1, "rest.answered": 1}


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        ("503", "server_error"),
        ("garbage", "unreadable"),
        ("cut", "unreachable"),
    ],
)
def test_what_may_pass_is_tried_again(behaviour: str, outcome: str) -> None:
    """Each failure is counted for what it was, and the answer comes after all."""
    taker, counts, asked = _ask([behaviour] * 3)
    assert (len(taker.bodies), asked) == (1, 4)
    assert counts[f"rest.{outcome}"] == 3
    assert counts["rest.given_up"] == 0


def test_a_hanging_server_is_left_in_time(monkeypatch) -> None:
    """A request that gets no answer is unreachable after its time-out, and asked again."""
    monkeypatch.setattr(rest, "REQUEST_TIMEOUT_S", 0.3)
    taker, counts, _ = _ask(["hang"])
    assert len(taker.bodies) == 1
    assert counts["rest.unreachable"] == 1


def test_a_venue_that_says_too_many_is_left_alone_as_long_as_it_says(monkeypatch) -> None:
    """After 429 with Retry-After: 1 the next request of any URL comes a second later at the earliest."""
    pauses: list[float] = []
    real = asyncio.sleep

    async def noted(delay: float) -> None:
        pauses.append(delay)
        await real(delay)

    monkeypatch.setattr(rest.asyncio, "sleep", noted)
    _, counts, asked = _ask(["429"])
    assert (asked, counts["rest.rate_limited"]) == (2, 1)
    assert max(pauses) >= 1.0


@pytest.mark.parametrize(("behaviour", "outcome"), [("404", "refused"), ("huge", "too_large")])
def test_what_will_not_pass_is_given_up_at_once(behaviour: str, outcome: str) -> None:
    """A refusal, or a body beyond the limit, is one request; whoever needs it asks anew."""
    taker, counts, asked = _ask([behaviour], max_bytes=HUGE_BYTES)
    assert (taker.bodies, asked) == ([], 1)
    assert counts[f"rest.{outcome}"] == counts["rest.given_up"] == 1


def test_a_body_of_the_limit_is_taken() -> None:
    """The limit itself is still allowed, a byte less is not."""
    body = HUGE_BYTES + len("[]")
    assert _ask(["huge"], max_bytes=body)[1]["rest.too_large"] == 0
    assert _ask(["huge"], max_bytes=body - 1)[1]["rest.too_large"] == 1


def test_tries_are_bounded() -> None:
    """A venue that stays broken is given up after TRIES requests."""
    taker, counts, asked = _ask(["503"] * 50)
    assert (taker.bodies, asked) == ([], rest.TRIES)
    assert counts["rest.given_up"] == 1


def test_what_is_dropped_is_counted_as_cancelled() -> None:
    """A link that closes drops the requests under way; the same URL may be wanted again at once."""
    counts: Counter[str] = Counter()
    taker = Taker()

    async def drop(url: str, asked: Counter) -> None:
        client = RestClient(taker, lambda name, n: counts.update({name: n}), FAST, 1_000_000)
        client.want(url)
        async with asyncio.timeout(WAIT_S):
            while not asked[SYMBOL]:
                await asyncio.sleep(0.005)
            client.drop()
            client.want(url)
            while not taker.bodies:
                await asyncio.sleep(0.005)
        await client.close()

    with running("binance_spot") as venue:
        venue.markets[SYMBOL] = Market(SYMBOL, "binance_spot", 1)
        venue.script[SYMBOL] = deque(["hang"])
        asyncio.run(drop(f"{venue.rest_url}/depth?symbol={SYMBOL}", venue.asked))
    assert counts["rest.cancelled"] == counts["rest.answered"] == 1


def test_pauses_have_full_jitter_under_a_doubling_cap() -> None:
    """Every pause lies between 0 and the cap, is spread over all of it, and never exceeds the longest."""
    for tries, cap in ((1, 0.02), (3, 0.08), (40, rest.LONGEST_PAUSE_S)):
        drawn = [pause_s(tries, 0.0, random.Random(seed)) for seed in range(400)]
        assert 0.0 <= min(drawn) < 0.05 * cap
        assert 0.95 * cap < max(drawn) <= cap
    assert pause_s(1, 7.0, random.Random(1)) >= 7.0


def test_requests_leave_at_the_rate() -> None:
    """After the burst each caller is told a pause of its own: the n-th leaves (n - burst) / rate later."""
    now = [0.0]
    with clock.replaced(steady=lambda: int(now[0] * 1e9)):
        allowance = Allowance(Rate(per_s=2.0, burst=3.0))
        assert [allowance.take() for _ in range(6)] == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5]
        now[0] = 1.5
        assert allowance.take() == 0.5
        now[0] = 100.0
        assert [allowance.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_nothing_of_it_is_loaded_before_the_first_request() -> None:
    """A collector that asks nothing has neither aiohttp nor stamina in memory."""
    probe = "import sys, collectors.worker; print({'aiohttp', 'stamina', 'jwt'} & set(sys.modules))"
    said = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == "set()"
