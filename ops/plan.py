"""A topology becomes a plan: for each worker its kind, its program, its spec, and whom it waits for.

**Protocol** A worker is `python -m <module> <spec.json>`; the spec is written when it starts, because a collector's URL
holds the port that the venue server has told by then. Kinds order the drain: what produces ends before what reads it.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ops import redis_server
from ops.options import CollectorOptions, SupervisorOptions, Topology, WorkerOptions
from ops.topology import group_id
from shm.errors import ConfigurationError

DRAIN_ORDER = ("collector", "features", "sink", "redis", "venue")
"""Kinds of workers in the order in which they end."""

CAPTURES = (
    "kraken_v2_btcusd_resubscribes",
    "kraken_v2_ethusd",
    "kraken_v1_book_10pairs",
    "kraken_v1_trade_10pairs",
    "kraken_asset_pairs",
)
"""Recordings that the built-in venue server plays where they are found."""

Ports = Mapping[str, int]


class WorkerPlan(NamedTuple):
    """One worker: `spec` makes its spec from the ports that others listen on; `argv` its command from the spec's path."""

    name: str
    kind: str
    options: WorkerOptions
    spec: Callable[[Ports], dict[str, Any]]
    argv: Callable[[Path], list[str]]
    needs: tuple[str, ...] = ()


class Plan(NamedTuple):
    """All workers of an instance."""

    instance: str
    state_path: Path
    supervisor: SupervisorOptions
    workers: tuple[WorkerPlan, ...]
    config: dict[str, Any]

    @property
    def run_dir(self) -> Path:
        """Specs and the workers' states."""
        return self.state_path / "run"

    @property
    def log_dir(self) -> Path:
        """One log file per worker."""
        return self.state_path / "logs"


def python_module(module: str) -> Callable[[Path], list[str]]:
    """Return the command of a worker that is a Python module; the current directory is no place to import from."""
    return lambda spec: [sys.executable, "-P", "-m", module, str(spec)]


def make_plan(topology: Topology) -> Plan:
    """Return the plan of a checked topology.

    Raises:
        ConfigurationError: there is no Redis server, or a recording is missing.
    """
    workers = tuple(
        _worker(topology, name, options) for name, options in topology.workers().items()
    )
    config = msgspec.to_builtins(topology)
    return Plan(topology.instance, topology.state_path, topology.supervisor, workers, config)


def _worker(topology: Topology, name: str, options: WorkerOptions) -> WorkerPlan:
    needs = tuple(options.depends_on)
    if name == "redis":
        server = redis_server.find_server(topology)
        return WorkerPlan(
            name, "redis", options, lambda _: {}, lambda spec: [server, str(spec)], needs
        )
    if name == "venue":
        venue = venue_spec(topology)
        argv = python_module("collectors.venue_server")
        return WorkerPlan(
            name, "venue", options, lambda ports: venue | {"port": ports.get(name, 0)}, argv, needs
        )
    if isinstance(options, CollectorOptions):
        if not options.url:
            needs = tuple(dict.fromkeys([*needs, "venue"]))
        argv = python_module("collectors.worker")
        return WorkerPlan(
            name, "collector", options, _collector(topology, name, options), argv, needs
        )
    build = {"features": _features, "fanout": _fanout, "recorder": _recorder}[name]
    kind = "features" if name == "features" else "sink"
    argv = python_module(f"consumers.{name}")
    return WorkerPlan(name, kind, options, lambda _: build(topology), argv, needs)


def _common(topology: Topology, name: str, options: WorkerOptions) -> dict[str, Any]:
    return {
        "instance": topology.instance,
        "worker": name,
        "state_dir": str(topology.state_path),
        "cpu": options.cpu,
        "reader_group": group_id(topology.reader_group),
        "consumer_group": group_id(topology.consumer_group),
    }


def venue_spec(topology: Topology) -> dict[str, Any]:
    """Return the venue server's spec without its port."""
    venue = topology.venue
    spec = _common(topology, "venue", venue)
    spec["speed"] = venue.speed
    if paths := capture_files(topology):
        return spec | {"captures": [str(path) for path in paths]}
    market = {"seed": venue.seed, "frames_per_s": venue.frames_per_s, "depth": venue.depth}
    return spec | {"synthetic": market}


def capture_files(topology: Topology) -> list[Path]:
    """Return the recordings that the venue server plays; empty: it makes a synthetic market.

    Raises:
        ConfigurationError: recordings are asked for and not there.
    """
    from collectors.captures import find_captures

    venue = topology.venue
    if venue.source == "synthetic":
        return []
    if venue.captures:
        paths = [Path(text).expanduser().absolute() for text in venue.captures]
        if missing := [str(path) for path in paths if not path.is_file()]:
            raise ConfigurationError(f"venue.captures: no file {', '.join(missing)}")
        return paths
    folder = find_captures()
    paths = [folder / f"{name}.jsonl.gz" for name in CAPTURES] if folder else []
    if paths and all(path.is_file() for path in paths):
        return paths
    if venue.source == "captures":
        raise ConfigurationError(
            'venue.source = "captures": no recordings found; set TICKRING_CAPTURES to their folder, '
            'name files in venue.captures, or use venue.source = "synthetic"'
        )
    return []


def _collector(
    topology: Topology, name: str, options: CollectorOptions
) -> Callable[[Ports], dict[str, Any]]:
    subscriptions = [
        {"channel": s.channel, "symbols": s.symbols, "depth": s.depth}
        for s in options.subscriptions
    ]

    def build(ports: Ports) -> dict[str, Any]:
        url = options.url or f"ws://127.0.0.1:{ports['venue']}/{options.venue}"
        return _common(topology, name, options) | {
            "venue": options.venue,
            "url": url,
            "subscriptions": subscriptions or played_streams(topology, options.venue),
            "first_instrument_id": options.first_instrument_id,
            "instrument_ids": options.instrument_ids,
            "event_slots": options.event_slots,
            "book_slots": options.book_slots,
            "instrument_slots": options.instrument_slots,
            "max_frame_bytes": options.max_frame_bytes,
            "steps": {symbol: [s.tick, s.lot] for symbol, s in options.ticks.items()},
        }

    return build


def played_streams(topology: Topology, venue: str) -> list[dict[str, Any]]:
    """Return subscriptions to everything that the built-in venue server plays under a protocol."""
    from collectors.synthetic import SyntheticSpec, SyntheticTape
    from collectors.venue_library import list_streams

    if paths := capture_files(topology):
        streams = list(list_streams(paths).get(venue, {}))
    else:
        options = topology.venue
        market = SyntheticSpec(
            seed=options.seed, frames_per_s=options.frames_per_s, depth=options.depth
        )
        streams = list(SyntheticTape(market, venue).streams)
    symbols: dict[tuple[str, int], list[str]] = {}
    for stream in streams:
        symbols.setdefault((stream.channel, stream.depth), []).append(stream.symbol)
    return [
        {"channel": channel, "symbols": sorted(names), "depth": depth}
        for (channel, depth), names in sorted(symbols.items())
        if channel in ("book", "trade")
    ]


def _features(topology: Topology) -> dict[str, Any]:
    options = topology.features
    return _common(topology, "features", options) | {
        "inputs": topology.expand(options.inputs),
        "slots": options.slots,
        "checkpoint_s": options.checkpoint_s,
    }


def _fanout(topology: Topology) -> dict[str, Any]:
    options = topology.fanout
    return _common(topology, "fanout", options) | {
        "inputs": topology.expand(options.inputs),
        "redis_url": redis_server.redis_url(topology),
        "maxlen": options.maxlen,
    }


def _recorder(topology: Topology) -> dict[str, Any]:
    options = topology.recorder
    return _common(topology, "recorder", options) | {
        "inputs": topology.expand(options.inputs),
        "data_dir": str(topology.data_path),
        "segment_rows": options.segment_rows,
    }
