"""Symbols are dealt to shards by a rule that depends on nothing but the symbol and the number of shards."""

import json
from collections import Counter

import pytest

from ops.inputs import check_streams, resolve
from ops.plan import make_plan
from ops.shards import shard_of
from ops.strict import Mistakes
from ops.topology import load_topology, parse_topology

SYMBOLS = [f"A{n}-USD" for n in range(1000)]
GOLDEN = [1, 1, 1, 3, 1, 3, 2, 2, 0, 1, 1, 2]


def _topology(shards: object, symbols: list[str] | None = None, **given: object):
    wanted = symbols or ["BTC-USD", "ETH-USD", "SOL-USD", "ADA-USD", "XRP-USD", "DOT-USD"]
    collector = {
        "venue": "coinbase_exchange",
        "first_instrument_id": 5001,
        "instrument_ids": 100,
        "shards": shards,
        "subscriptions": [
            {"channel": "book", "symbols": wanted},
            {"channel": "trade", "symbols": wanted[:4]},
        ],
    } | given
    return parse_topology({"collectors": {"coinbase": collector}}, "t")


def _specs(topology) -> dict[str, dict]:
    plan = make_plan(topology)
    return {
        worker.name: json.loads(worker.spec({"venue": 1}))
        for worker in plan.workers
        if worker.name.startswith("coinbase")
    }


def test_the_assignment_is_written_in_stone() -> None:
    """A release that dealt otherwise would give instruments new ids: these answers must never change."""
    assert [shard_of(symbol, 4) for symbol in SYMBOLS[:12]] == GOLDEN


def test_one_shard_more_moves_a_fair_share_to_itself_and_nothing_else() -> None:
    """From n to n + 1 shards only symbols move that the new one takes, about one in n + 1."""
    for n in range(1, 9):
        before = [shard_of(symbol, n) for symbol in SYMBOLS]
        after = [shard_of(symbol, n + 1) for symbol in SYMBOLS]
        moved = [new for old, new in zip(before, after, strict=True) if old != new]
        assert set(moved) == {n}
        assert 0.7 / (n + 1) < len(moved) / len(SYMBOLS) < 1.3 / (n + 1)


def test_shards_are_filled_evenly() -> None:
    """No shard of eight has a third more than its share of a thousand symbols."""
    counts = Counter(shard_of(symbol, 8) for symbol in SYMBOLS)
    assert len(counts) == 8
    assert max(counts.values()) < 1.33 * len(SYMBOLS) / 8


def test_each_shard_is_a_worker_with_its_own_ids_and_part() -> None:
    """All symbols are there once, every channel of a symbol in one place, blocks of ids follow each other."""
    specs = _specs(_topology(2))
    assert list(specs) == ["coinbase_0", "coinbase_1"]
    assert [spec["first_instrument_id"] for spec in specs.values()] == [5001, 5101]
    owners: dict[str, set[str]] = {}
    for name, spec in specs.items():
        for wanted in spec["subscriptions"]:
            for symbol in wanted["symbols"]:
                owners.setdefault(symbol, set()).add(name)
    assert len(owners) == 6
    assert all(len(names) == 1 for names in owners.values())
    assert all(spec["rest_share"] == 0.5 for spec in specs.values())


def test_explicit_lists_are_obeyed() -> None:
    """One process a list, in their order."""
    specs = _specs(
        _topology([["SOL-USD"], ["BTC-USD", "ETH-USD"]], ["BTC-USD", "ETH-USD", "SOL-USD"])
    )
    assert [spec["subscriptions"][0]["symbols"] for spec in specs.values()] == [
        ["SOL-USD"],
        ["BTC-USD", "ETH-USD"],
    ]


def test_a_shard_without_symbols_does_not_run() -> None:
    """More shards than symbols are no error: the rest waits for symbols."""
    assert len(_specs(_topology(64))) <= 6
    assert list(_specs(_topology(1))) == ["coinbase"]


def test_rings_of_shards_are_read_by_pattern() -> None:
    """Consumers see a ring for each shard, none of the table's own name; an exact name that is gone is told."""
    topology = _topology(2)
    assert [r for r in topology.rings() if r.endswith(".events")][-2:] == [
        "coinbase_0.events",
        "coinbase_1.events",
    ]
    table = {"fanout": {"inputs": ["coinbase.events"]}, "collectors": {}}
    with pytest.raises(Mistakes, match=r"no such ring"):
        parse_topology(table | {"collectors": {"coinbase": _table(2)}}, "t")
    check_streams(topology)


def _table(shards: object) -> dict:
    return {
        "venue": "okx",
        "first_instrument_id": 5001,
        "shards": shards,
        "subscriptions": [{"channel": "book", "symbols": ["BTC-USDT", "ETH-USDT"]}],
    }


@pytest.mark.parametrize(
    ("shards", "told"),
    [
        (0, "shards"),
        (65, "shards"),
        ([["BTC-USDT"]], "ETH-USDT of its subscriptions in no shard"),
        ([["BTC-USDT", "ETH-USDT"], ["BTC-USDT"]], "'BTC-USDT' is named twice"),
    ],
)
def test_wrong_shards_are_told(shards: object, told: str) -> None:
    """The number has bounds; lists name each symbol once."""
    with pytest.raises(Mistakes, match=told):
        parse_topology({"collectors": {"own": _table(shards)}}, "t")


def test_the_ids_of_all_shards_are_checked() -> None:
    """A block that would reach into another collector's is refused, whichever shard it is of."""
    later = _table(1) | {"first_instrument_id": 6500}
    tables = {"own": _table([["BTC-USDT"], ["ETH-USDT"]]) | {"instrument_ids": 1000}, "late": later}
    with pytest.raises(Mistakes, match="overlap"):
        parse_topology({"collectors": tables}, "t")


def test_a_shard_may_not_take_another_workers_name() -> None:
    """Two tables that would make one worker are refused."""
    tables = {"own": _table(2), "own_1": _table(1) | {"first_instrument_id": 9001}}
    with pytest.raises(Mistakes, match=r"name of its shard own_1 is taken"):
        parse_topology({"collectors": tables}, "t")


def test_the_built_in_venue_feeds_shards_too() -> None:
    """What is played for a table is dealt to its shards."""
    topology = parse_topology(
        {"venue": {"source": "synthetic"}, "collectors": {"kraken": {"shards": 2}}}, "t"
    )
    resolved = resolve(topology)
    names = [name for name in resolved.running_collectors if name.startswith("kraken_")]
    assert {"kraken_0", "kraken_1"} & set(names)
    assert all(resolved.running_collectors[name].is_played for name in names)
    assert load_topology().collectors["kraken"].shards == 1
