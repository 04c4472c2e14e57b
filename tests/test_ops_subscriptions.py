"""Verbs change what a running instance collects, without a new process or link of what did not change."""

import subprocess
import sys
import time

import msgspec
import pytest

from ops.explain import as_toml
from ops.options import Topology
from ops.subscriptions import edited
from shm.counters import read_counters
from shm.errors import ConfigurationError

WAIT_S = 20.0


def _write(instance, symbols: list[str], **more: object) -> str:
    """Write a TOML with one collector and nothing that reads it."""
    wanted = [{"channel": "book", "symbols": symbols, "depth": 10}]
    table = {
        name: {"enabled": False}
        for name, options in msgspec.to_builtins(Topology()).items()
        if isinstance(options, dict) and "enabled" in options and name != "venue"
    }
    table |= {
        "instance": instance.name,
        "state_dir": str(instance.state_dir),
        "venue": {"source": "synthetic"},
        "collectors": {
            "kraken": {"subscriptions": wanted} | more,
            "kraken_v1": {"enabled": False},
        },
    }
    path = instance.state_dir.parent / "own.toml"
    path.write_text(as_toml(table))
    return str(path)


def _tickring(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", "-m", "ops", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _until(instance, **wanted: int) -> dict[str, int]:
    end = time.monotonic() + WAIT_S
    values: dict[str, int] = {}
    while time.monotonic() < end:
        values = read_counters(instance.name, "kraken").values
        if all(values[name] == value for name, value in wanted.items()):
            return values
        time.sleep(0.05)
    raise AssertionError({name: values[name] for name in wanted})


def test_a_running_instance_collects_more_and_less_and_reads_its_file_again(instance) -> None:
    """Subscribe, unsubscribe, reload: one process and one link throughout; other changes are told and wait. Reload finds the
    file that the instance was started with.
    """
    symbols = ["BTC/USD", "ETH/USD"]
    file = _write(instance, symbols[:1])
    own = ("--instance", instance.name)
    assert _tickring("up", "-c", file).returncode == 0
    try:
        assert _tickring("ready", "--timeout", "60", *own).returncode == 0
        pid = read_counters(instance.name, "kraken").pid
        more = ("kraken", "book", "ETH/USD")
        assert _tickring("subscribe", *more, "--depth", "10", *own).returncode == 0
        _until(instance, books_live=2, books_total=2)
        assert _tickring("unsubscribe", *more, *own).returncode == 0
        _until(instance, books_total=1, reloads=2)
        refused = _tickring("subscribe", "kraken", "candles", "ETH/USD", *own)
        assert refused.returncode != 0
        assert "channel 'candles'; kraken_v2 has" in refused.stderr
        _write(instance, symbols)
        told = _tickring("reload", *own)
        assert told.stdout.strip() == "reload: kraken"
        values = _until(instance, books_live=2, books_total=2, reloads=3)
        assert values["reconnects"] == 0
        told = _tickring("reload", "-c", _write(instance, symbols, event_slots=1024))
        assert "`tickring restart kraken` applies it" in told.stderr
        assert read_counters(instance.name, "kraken").pid == pid
        assert read_counters(instance.name, "kraken").values["reloads"] == 3
    finally:
        _tickring("down", *own)


def test_symbols_come_and_go_in_a_list() -> None:
    """A symbol is in a channel once, at the depth asked for last; other channels and whole-channel entries stay."""
    given = [
        {"channel": "instrument", "symbols": [], "depth": 0},
        {"channel": "book", "symbols": ["A/B", "C/D"], "depth": 10},
        {"channel": "trade", "symbols": ["A/B"], "depth": 0},
    ]
    more = edited("kraken_v2", given, "subscribe", "book", ["C/D", "E/F", "E/F"], 25)
    assert more == [
        given[0],
        {"channel": "book", "symbols": ["A/B"], "depth": 10},
        given[2],
        {"channel": "book", "symbols": ["C/D", "E/F"], "depth": 25},
    ]
    less = edited("kraken_v2", given, "unsubscribe", "book", ["A/B", "C/D"], 0)
    assert less == [given[0], given[2]]


@pytest.mark.parametrize(
    ("channel", "depth", "told"),
    [("candles", 0, "channel 'candles'"), ("book", 11, "book depth 11")],
)
def test_what_a_venue_does_not_have_is_refused(channel: str, depth: int, told: str) -> None:
    """The error names what there is."""
    with pytest.raises(ConfigurationError, match=told):
        edited("kraken_v2", [], "subscribe", channel, ["A/B"], depth)


def test_the_last_subscription_is_not_taken_away() -> None:
    """A collector of nothing is ended, not emptied."""
    given = [{"channel": "trade", "symbols": ["A/B"], "depth": 0}]
    with pytest.raises(ConfigurationError, match="tickring down"):
        edited("kraken_v2", given, "unsubscribe", "trade", ["A/B"], 0)
