"""A topology is read from overrides, checked whole, and every mistake is told at once with its key."""

import json
from pathlib import Path

import msgspec
import pytest
from conftest import Instance

from ops import explain, mem
from ops.inputs import check_streams, resolve
from ops.options import Topology
from ops.plan import make_plan
from ops.strict import Mistakes, keys_of
from ops.topology import load_topology, parse_topology
from shm.errors import ConfigurationError


def mistakes(table: dict) -> list[str]:
    """Return what is wrong with a table."""
    with pytest.raises(Mistakes) as caught:
        parse_topology(table, "test.toml")
    return caught.value.found


def test_the_defaults_are_sound_and_start_everything() -> None:
    """No file is needed."""
    workers = list(load_topology().workers())
    assert workers == [
        "redis",
        "venue",
        "kraken",
        "kraken_v1",
        "features",
        "bars",
        "fanout",
        "recorder",
    ]


def test_the_rings_of_the_default_topology_fit_a_small_dev_shm() -> None:
    """48 MiB, as the set-up asks for."""
    assert sum(row.n_bytes for row in mem.ring_rows(load_topology())) <= mem.LIMIT_BYTES


def test_the_shipped_example_holds_exactly_the_defaults() -> None:
    """It may be used as it is, and changes nothing."""
    assert parse_topology(explain.shipped(), "shipped") == load_topology()


def test_every_key_is_explained_in_the_shipped_example() -> None:
    """With a text that is no mere repetition of the key; and nothing else is."""
    told = explain.manual()
    within_values = ("[]", ".ticks.")
    known = {key for key in keys_of(Topology) if not any(part in key for part in within_values)}
    known.add("collectors.<NAME>.ticks")
    assert set(told) == known
    assert all(len(told[key].text) > 10 for key in known)


def test_overrides_change_single_keys() -> None:
    """All others keep their defaults, also within a default collector."""
    topology = parse_topology({"collectors": {"kraken": {"cpu": 3}}, "redis": {"cpu": 1}}, "t")
    assert topology.collectors["kraken"].cpu == 3
    assert topology.collectors["kraken"].venue == "kraken_v2"
    assert topology.redis.cpu == 1
    assert topology.features == load_topology().features


def test_an_unknown_key_names_the_nearest() -> None:
    """Wherever it is."""
    found = mistakes(
        {"instanse": "x", "features": {"slot": 4}, "collectors": {"kraken": {"evnt_slots": 2}}}
    )
    assert found == [
        "instanse: unknown key; did you mean instance?",
        "features.slot: unknown key; did you mean features.slots?",
        "collectors.kraken.evnt_slots: unknown key; did you mean collectors.kraken.event_slots?",
    ]


def test_all_mistakes_are_told_together() -> None:
    """Types, bounds, names and relations, each on its own line with the value."""
    found = mistakes(
        {
            "instance": "UPPER",
            "supervisor": {"heartbeat_timeout_s": -1.0, "log_files": "many"},
            "collectors": {"kraken": {"event_slots": 1000}},
            "features": {"inputs": ["nobody.events"]},
            "fanout": {"depends_on": ["nobody"]},
        }
    )
    text = "\n".join(found)
    assert "supervisor.heartbeat_timeout_s = -1.0: Expected `float` > 0" in text
    assert "supervisor.log_files = 'many'" in text
    assert "instance 'UPPER'" in text
    assert "collectors.kraken.event_slots = 1000: a power of two expected, e.g. 1024" in text
    assert "features.inputs = 'nobody.events': no such ring; there are kraken.events" in text
    assert "fanout.depends_on = 'nobody': no such worker" in text
    assert len(found) == 6


@pytest.mark.parametrize(("slots", "sound"), [(1, False), (2, True), (3, False), (4096, True)])
def test_slots_are_powers_of_two_from_two_on(slots: int, sound: bool) -> None:
    """The ring would refuse the others."""
    table = {"features": {"slots": slots}}
    assert parse_topology(table, "t").features.slots == slots if sound else mistakes(table)


@pytest.mark.parametrize(
    ("first", "n", "said"),
    [
        (2001, 1000, ""),
        (2000, 1000, "overlap"),
        (64536, 1000, ""),
        (64537, 1000, "go beyond 65535"),
    ],
)
def test_instrument_ids_are_disjoint_blocks_of_16_bits(first: int, n: int, said: str) -> None:
    """Both sides of both bounds."""
    extra = {"venue": "kraken_v2", "first_instrument_id": first, "instrument_ids": n}
    table = {"collectors": {"third": extra}}
    if said:
        assert said in mistakes(table)[0]
    else:
        assert parse_topology(table, "t").collectors["third"].first_instrument_id == first


def test_a_new_collector_needs_its_venue_and_ids() -> None:
    """They have no default that could be right."""
    found = mistakes({"collectors": {"third": {}}})
    assert found == [
        "collectors.third.venue: missing, and it has no default",
        "collectors.third.first_instrument_id: missing, and it has no default",
    ]


@pytest.mark.parametrize(
    ("url", "sound"),
    [
        ("wss://ws.kraken.com/v2", True),
        ("ws://127.0.0.1:9000/kraken_v2", True),
        ("ws://ws.kraken.com/v2", False),
        ("https://ws.kraken.com", False),
    ],
)
def test_a_venue_is_reached_by_tls_or_on_this_host(url: str, sound: bool) -> None:
    """Nothing unencrypted leaves the host."""
    wanted = [{"channel": "book", "symbols": ["BTC/USD"], "depth": 10}]
    table = {"collectors": {"kraken": {"url": url, "subscriptions": wanted}}}
    if sound:
        assert parse_topology(table, "t").collectors["kraken"].url == url
    else:
        assert "collectors.kraken.url" in mistakes(table)[0]
        assert "wss://" in mistakes(table)[0]


def test_every_venue_is_collected_by_its_name() -> None:
    """Whatever can be decoded can be named in the TOML, needs nothing but symbols there, and goes to its public address."""
    from typing import get_args

    from collectors.collector_spec import CollectorSpec
    from collectors.venues import DECODERS
    from ops.options import PLAYED, VenueName

    assert set(get_args(VenueName)) == set(DECODERS)
    wanted = [{"channel": "book", "symbols": ["A-B"]}]
    for venue, decoder in DECODERS.items():
        own = {"venue": venue, "first_instrument_id": 5001, "subscriptions": wanted}
        if venue in PLAYED:
            own["url"] = "public"
        plan = make_plan(parse_topology({"collectors": {"own": own}}, "t"))
        (worker,) = (w for w in plan.workers if w.name == "own")
        spec = msgspec.json.decode(worker.spec({}), type=CollectorSpec)
        assert (spec.url, spec.rest_url) == (decoder.url, decoder.rest_url)
        assert worker.needs == ()


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"rest_url": "http://api.binance.com"}, "rest_url = 'http://api.binance.com': http:// is"),
        ({"key_file": "key.json"}, "key_file: only coinbase_advanced"),
        ({"subscriptions": []}, "subscriptions: empty; name channels and symbols of binance_spot"),
        ({"venue": "binance"}, "venue"),
    ],
)
def test_a_live_collector_says_what_is_wrong_with_it(own: dict[str, object], told: str) -> None:
    """An unencrypted REST side, a key that no request needs, nothing to ask for, a venue that there is not."""
    wanted = [{"channel": "book", "symbols": ["BTCUSDT"]}]
    base = {"venue": "binance_spot", "first_instrument_id": 5001, "subscriptions": wanted}
    base["url"] = "public"
    assert told in "\n".join(mistakes({"collectors": {"own": base | own}}))


def test_a_password_in_the_file_is_refused_and_not_repeated() -> None:
    """Secrets come from the environment."""
    found = mistakes({"redis": {"url": "redis://:canary@127.0.0.1/0"}})
    assert "TICKRING_REDIS_URL" in found[0]
    assert "canary" not in found[0]


def test_the_environment_s_redis_url_replaces_the_embedded_server(monkeypatch) -> None:
    """And stands in no resolved configuration."""
    monkeypatch.setenv("TICKRING_REDIS_URL", "redis://:canary@127.0.0.1/0")
    topology = load_topology()
    assert "redis" not in topology.workers()
    assert b"canary" not in msgspec.json.encode(make_plan(topology).config)


def test_workers_that_wait_for_each_other_are_found() -> None:
    """A circle would wait for ever."""
    found = mistakes(
        {"fanout": {"depends_on": ["recorder"]}, "recorder": {"depends_on": ["fanout"]}}
    )
    assert found == ["depends_on: fanout -> recorder -> fanout wait for each other"]


def test_a_group_and_its_restart_belong_together() -> None:
    """One without the other would do nothing."""
    assert "belong together" in mistakes({"fanout": {"restart": "group"}})[0]
    assert "belong together" in mistakes({"fanout": {"group": "risk"}})[0]


def test_inputs_expand_to_the_rings_there_are() -> None:
    """In order, each once."""
    topology = parse_topology({"collectors": {"kraken": {"enabled": False}}}, "t")
    assert topology.expand(["*.events", "kraken_v1.*", "features.features"]) == [
        "kraken_v1.events",
        "kraken_v1.books",
        "kraken_v1.instruments",
        "features.features",
    ]


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    """No TOML, and no file."""
    broken = tmp_path / "broken.toml"
    broken.write_text("instance = ")
    with pytest.raises(ConfigurationError, match="no valid TOML: Invalid value"):
        load_topology(broken)
    with pytest.raises(ConfigurationError, match="No such file"):
        load_topology(tmp_path / "none.toml")


def test_what_is_played_is_what_is_subscribed_to(monkeypatch, tmp_path: Path) -> None:
    """The synthetic market, where no recordings are found."""
    monkeypatch.setenv("TICKRING_CAPTURES", str(tmp_path))
    resolved = resolve(load_topology())
    assert resolved.venue.source == "synthetic"
    for name, symbols in (
        ("kraken", ["BTC/USD", "ETH/USD"]),
        ("kraken_v1", ["SOL/USD", "XRP/USD"]),
    ):
        wanted = {(s.channel, s.depth): s.symbols for s in resolved.collectors[name].subscriptions}
        assert wanted["book", 10] == wanted["trade", 0] == symbols
    check_streams(resolved)


def test_two_collectors_of_one_instrument_are_refused() -> None:
    """They would write one Redis stream with ids that do not rise; two venues' instruments of one name may be."""
    wanted = {"subscriptions": [{"channel": "trade", "symbols": ["BTC/USD"]}]}
    third = wanted | {"venue": "kraken_v2", "first_instrument_id": 3001}
    table = {"collectors": {"kraken": wanted, "kraken_v1": wanted}}
    check_streams(parse_topology(table, "t"))
    table["collectors"]["third"] = third
    with pytest.raises(
        ConfigurationError, match="BTC/USD of kraken is subscribed to by kraken too"
    ):
        check_streams(parse_topology(table, "t"))


def test_the_recordings_are_played_where_they_are(captures: Path, monkeypatch) -> None:
    """At the depths that were recorded."""
    monkeypatch.setenv("TICKRING_CAPTURES", str(captures))
    resolved = resolve(load_topology())
    assert len(resolved.venue.captures) == 5
    books = [s for s in resolved.collectors["kraken"].subscriptions if s.channel == "book"]
    assert {(tuple(s.symbols), s.depth) for s in books} == {(("BTC/USD",), 10), (("ETH/USD",), 25)}
    assert resolve(resolved) == resolved


def test_recordings_that_are_asked_for_and_missing_are_an_error(monkeypatch, tmp_path) -> None:
    """Not a silent synthetic market."""
    monkeypatch.setenv("TICKRING_CAPTURES", str(tmp_path))
    with pytest.raises(ConfigurationError, match="no recordings found"):
        resolve(parse_topology({"venue": {"source": "captures"}}, "t"))
    with pytest.raises(ConfigurationError, match="no file"):
        resolve(parse_topology({"venue": {"captures": ["gone.jsonl.gz"]}}, "t"))


def test_each_spec_is_what_its_worker_takes(instance: Instance) -> None:
    """No worker may find a key it does not know only when it is started."""
    from collectors.venue_server import VenueServerSpec
    from collectors.worker import CollectorSpec
    from consumers.bars import BarsSpec
    from consumers.fanout import FanoutSpec
    from consumers.features import FeaturesSpec
    from consumers.recorder import RecorderSpec

    types = {
        "venue": VenueServerSpec,
        "kraken": CollectorSpec,
        "kraken_v1": CollectorSpec,
        "features": FeaturesSpec,
        "bars": BarsSpec,
        "fanout": FanoutSpec,
        "recorder": RecorderSpec,
    }
    plan = make_plan(resolve(load_topology(None, instance=instance.name)))
    for worker in plan.workers:
        if worker.name in types:
            spec = worker.spec({"venue": 1234})
            assert msgspec.json.decode(spec, type=types[worker.name]).worker == worker.name


def test_toml_text_is_read_back(monkeypatch) -> None:
    """`config show` prints what `up -c` takes."""
    import tomllib

    topology = load_topology()
    text = explain.as_toml(msgspec.to_builtins(topology))
    assert parse_topology(tomllib.loads(text), "shown") == topology


def test_explain_finds_keys_and_helps_with_others() -> None:
    """A key of a collector by any name; the nearest for a misspelt one."""
    assert explain.explain("collectors.mine.event_slots").default == "65536"
    assert explain.explain("recorder.cpu").default == "-1"
    with pytest.raises(ConfigurationError, match=r"did you mean recorder\.segment_rows"):
        explain.explain("recorder.segment_row")
    with pytest.raises(ConfigurationError, match="is a table"):
        explain.explain("recorder")


def test_a_core_that_does_not_exist_is_told(monkeypatch) -> None:
    """And allowed: the file may be made for another host."""
    topology = parse_topology({"features": {"cpu": 9999}}, "t")
    assert "features.cpu = 9999: not a core of this host" in explain.warnings_of(topology)[0]


def test_too_small_a_dev_shm_is_told_before_anything_starts(monkeypatch) -> None:
    """What is needed, what is free, what to do."""
    from shm.errors import NoSpace

    huge = parse_topology({"features": {"slots": 1 << 40}}, "t")
    with pytest.raises(
        NoSpace, match=r"MiB free and the rings of instance 'default' need .*remount"
    ):
        mem.check_room(huge)


def test_a_consumer_of_ones_own_is_a_worker_by_its_name() -> None:
    """Its module, inputs and capacity reach its spec; it drains with the features, before what stores and sends."""
    table = {"consumers": {"vwap": {"consumer": "my_vwap:VWAP", "inputs": ["*.events"], "cpu": 1}}}
    topology = parse_topology(table, "t")
    assert list(topology.workers()).index("vwap") < list(topology.workers()).index("features")
    (worker,) = (w for w in make_plan(topology).workers if w.name == "vwap")
    assert worker.kind == "features"
    spec = json.loads(worker.spec({}))
    assert spec["consumer"] == "my_vwap:VWAP"
    assert spec["inputs"] == ["kraken.events", "kraken_v1.events"]
    assert (spec["worker"], spec["cpu"], spec["slots"]) == ("vwap", 1, 16384)


@pytest.mark.parametrize(
    ("name", "own", "told"),
    [
        ("vwap", {}, "consumers.vwap.consumer: missing"),
        ("vwap", {"consumer": "m:N", "slots": 100}, "consumers.vwap.slots = 100: a power of two"),
        ("vwap", {"consumer": "m:N", "inputs": ["x.y"]}, "consumers.vwap.inputs = 'x.y': no such"),
        ("features", {"consumer": "m:N"}, "consumers.features: that name is taken"),
        ("kraken", {"consumer": "m:N"}, "consumers.kraken: that name is taken"),
        ("Vwap", {"consumer": "m:N"}, "'Vwap' cannot name a region"),
        ("vwap", {"consumer": "m:N", "slotz": 8}, "consumers.vwap.slotz: unknown key"),
    ],
)
def test_a_wrong_consumer_of_ones_own_is_told(name: str, own: dict[str, object], told: str) -> None:
    """Whatever is wrong with it, by its key."""
    assert told in "\n".join(mistakes({"consumers": {name: own}}))


def test_a_key_of_ones_own_consumer_is_explained() -> None:
    """From the example that is no default."""
    assert explain.explain("consumers.vwap.slots").default == "16384"
    assert "module:name" in explain.explain("consumers.<NAME>.consumer").text


def test_rings_of_disabled_workers_are_just_not_read() -> None:
    """Switching a worker off needs no other change, until a reader has nothing left."""
    off = {"enabled": False}
    topology = parse_topology({"features": off, "bars": off}, "t")
    assert topology.expand(topology.fanout.inputs) == ["kraken.events", "kraken_v1.events"]
    found = mistakes({"features": off, "fanout": {"inputs": ["features.features"]}})
    assert found == ["fanout.inputs: none of these rings has a worker; set enabled = false"]
