"""Sessions of a collector are checked, explained and handed on like every other key."""

import json
import tomllib

import msgspec
import pytest

from ops import explain
from ops.plan import make_plan
from ops.strict import Mistakes
from ops.topology import parse_topology


def mistakes(table: dict) -> list[str]:
    """Return what is wrong with a table."""
    with pytest.raises(Mistakes) as caught:
        parse_topology(table, "test.toml")
    return caught.value.found


def listed(**own: object) -> dict:
    """Return a topology of one collector of two symbols, with sessions."""
    wanted = [{"channel": "book", "symbols": ["BTC-USD", "ETH-USD"]}]
    base = {"venue": "coinbase_exchange", "first_instrument_id": 5001, "subscriptions": wanted}
    return {"collectors": {"own": base | {"url": "public", "sessions": own}}}


def test_sessions_are_checked_with_the_rest() -> None:
    """Unknown keys with the nearest, and every wrong entry with its key, beside the mistakes of other tables."""
    found = mistakes(listed(a={"time_zone": "UTC", "hour": ["mon"]}, b={"hours": ["mon"]}))
    assert found == [
        "collectors.own.sessions.a.hour: unknown key; did you mean collectors.own.sessions.a.hours?",
        "collectors.own.sessions.b.time_zone: missing, and it has no default",
    ]
    wrong = {
        "time_zone": "Mars",
        "hours": ["mon 9-10"],
        "instruments": ["coinbase_exchange:*", "okx:*"],
    }
    found = mistakes(listed(nyse=wrong) | {"features": {"slots": 3}})
    told = "\n".join(found)
    for part in ("time_zone = 'Mars'", "hours = 'mon 9-10'", "instruments = 'okx:*': matches none"):
        assert f"collectors.own.sessions.nyse.{part}" in told
    assert "features.slots = 3" in told
    assert len(found) == 4


def test_sessions_reach_the_collector_and_each_of_its_shards() -> None:
    """As they stand, in order; a collector without any is told so."""
    hours = {"time_zone": "America/New_York", "hours": ["mon-fri 09:30-16:00"], "closed": ["fri"]}
    table = listed(nyse=hours)
    table["collectors"]["own"]["shards"] = [["BTC-USD"], ["ETH-USD"]]
    plan = make_plan(parse_topology(table, "t"))
    specs = {w.name: json.loads(w.spec({"venue": 1})) for w in plan.workers if w.kind == "collector"}  # fmt: skip
    assert specs["own_0"]["sessions"] == specs["own_1"]["sessions"] == [{"instruments": ["*"]} | hours]  # fmt: skip
    assert specs["kraken"]["sessions"] == []


def test_a_session_s_keys_are_explained_by_any_name() -> None:
    """Of any collector; and shown as TOML that gives the same again."""
    told = explain.explain("collectors.own.sessions.nyse.closed")
    assert told.default == "[]"
    assert "half days" in told.text
    topology = parse_topology(listed(nyse={"time_zone": "UTC", "closed": ["2026-12-25"]}), "t")
    text = explain.as_toml(msgspec.to_builtins(topology))
    assert "[collectors.own.sessions.nyse]" in text
    assert parse_topology(tomllib.loads(text), "again") == topology
