"""A topology becomes a plan: for each worker its kind, its program, its spec, and whom it waits for.

**Protocol** A worker is `python -m <module> <spec.json>`; the spec is written when it starts, because a collector's URL
holds the port that the venue server has told by then. Kinds order the drain: what produces ends before what reads it.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from consumers.bar_series import series_names
from consumers.rates import watched
from ops import redis_server
from ops.inputs import capture_files, market_of
from ops.options import (
    PUBLIC,
    CollectorOptions,
    OwnOptions,
    SupervisorOptions,
    Topology,
)
from ops.options_base import WorkerOptions
from ops.topology import bars_config, group_id
from ops.wslog_keeper import KeeperSpec

DRAIN_ORDER = ("orders", "collector", "features", "sink", "redis", "venue")
"""Kinds of workers in the order in which they end."""

Ports = Mapping[str, int]


class WorkerPlan(NamedTuple):
    """One worker: `spec` makes its spec from the ports that others listen on; `argv` its command from the spec's path."""

    name: str
    kind: str
    options: WorkerOptions
    spec: Callable[[Ports], bytes]
    argv: Callable[[Path], list[str]]
    needs: tuple[str, ...] = ()


class Plan(NamedTuple):
    """All workers of an instance."""

    instance: str
    state_path: Path
    supervisor: SupervisorOptions
    workers: tuple[WorkerPlan, ...]
    config: dict[str, Any]
    keeper: KeeperSpec | None = None
    """What is done with finished captures; None: nothing."""

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
        ConfigurationError: there is no Redis server.
    """
    workers = tuple(
        _worker(topology, name, options) for name, options in topology.workers().items()
    )
    config = msgspec.to_builtins(topology)
    capture = topology.capture
    keeper = KeeperSpec(
        folder=str(topology.capture_path),
        compress=capture.compress,
        zstd_level=capture.zstd_level,
        keep_days=capture.keep_days,
        keep_bytes=capture.keep_bytes,
        copy_to=capture.copy_to,
    )
    return Plan(
        topology.instance, topology.state_path, topology.supervisor, workers, config, keeper
    )


def _worker(topology: Topology, name: str, options: WorkerOptions) -> WorkerPlan:
    needs = tuple(options.depends_on)
    if name == "redis":
        server = redis_server.find_server(topology)
        return WorkerPlan(
            name,
            "redis",
            options,
            lambda _: redis_server.configuration(topology),
            lambda spec: [server, str(spec)],
            needs,
        )
    if name == "venue":
        venue = venue_spec(topology)
        argv = python_module("collectors.venue_server")
        return WorkerPlan(
            name,
            "venue",
            options,
            lambda ports: _encode(venue | {"port": ports.get(name, 0)}),
            argv,
            needs,
        )
    if isinstance(options, CollectorOptions):
        if options.is_played:
            needs = tuple(dict.fromkeys([*needs, "venue"]))
        argv = python_module("collectors.worker")
        return WorkerPlan(
            name, "collector", options, _collector(topology, name, options), argv, needs
        )
    if isinstance(options, OwnOptions):
        own = _own(topology, name, options)
        argv = python_module("consumers.own")
        return WorkerPlan(name, "features", options, lambda _: _encode(own), argv, needs)
    if name == "orders":
        argv = python_module("collectors.orders")
        return WorkerPlan(name, name, options, lambda _: _encode(_orders(topology)), argv, needs)
    build = {
        "risk": _risk,
        "features": _features,
        "bars": _bars,
        "pnl": pnl_spec,
        "exposure": _exposure,
        "fanout": _fanout,
        "recorder": _recorder,
    }[name]
    kind = "sink" if name in ("fanout", "recorder") else "features"
    argv = python_module(f"consumers.{name}")
    return WorkerPlan(name, kind, options, lambda _: _encode(build(topology)), argv, needs)


def _encode(spec: dict[str, Any]) -> bytes:
    return msgspec.json.encode(spec)


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
    spec = _common(topology, "venue", venue) | {"speed": venue.speed}
    if paths := capture_files(topology):
        return spec | {"captures": [str(path) for path in paths]}
    return spec | {"synthetic": msgspec.to_builtins(market_of(topology))}


def _collector(
    topology: Topology, name: str, options: CollectorOptions
) -> Callable[[Ports], bytes]:
    # Processes of one host share what a venue allows its address.
    others = [o for o in topology.running_collectors.values() if o.venue == options.venue]
    rest_share = 1.0 / len(others)

    def build(ports: Ports) -> bytes:
        played = f"ws://127.0.0.1:{ports['venue']}/{options.venue}" if options.is_played else ""
        spec = _common(topology, name, options) | {
            "venue": options.venue,
            "url": played or ("" if options.url == PUBLIC else options.url),
            "rest_url": options.rest_url,
            "rest_share": rest_share,
            "key_file": options.key_file,
            "subscriptions": msgspec.to_builtins(options.subscriptions),
            "first_instrument_id": options.first_instrument_id,
            "instrument_ids": options.instrument_ids,
            "event_slots": options.event_slots,
            "book_slots": options.book_slots,
            "instrument_slots": options.instrument_slots,
            "max_frame_bytes": options.max_frame_bytes,
            "capture": _capture(topology, options),
            "sessions": msgspec.to_builtins(list(options.sessions.values())),
            "steps": {symbol: [s.tick, s.lot] for symbol, s in options.ticks.items()},
        }
        return _encode(spec)

    return build


def _capture(topology: Topology, options: CollectorOptions) -> dict[str, Any]:
    capture = topology.capture
    return {
        "folder": str(topology.capture_path),
        "is_on": options.capture,
        "fsync_s": capture.fsync_s,
        "buffer_bytes": capture.buffer_bytes,
        "free_bytes_min": capture.free_bytes_min,
        "retry_s": capture.retry_s,
    }


def _features(topology: Topology) -> dict[str, Any]:
    options = topology.features
    return _common(topology, "features", options) | {
        "inputs": topology.inputs_of(options),
        "slots": options.slots,
        "checkpoint_s": options.checkpoint_s,
    }


def _orders(topology: Topology) -> dict[str, Any]:
    options = topology.orders
    return _common(topology, "orders", options) | {
        "accounts": options.accounts,
        "slots": options.slots,
        "test_fills": options.test_fills,
    }


def _risk(topology: Topology) -> dict[str, Any]:
    options = topology.risk
    return _common(topology, "risk", options) | {
        "inputs": topology.inputs_of(options),
        "slots": options.slots,
        "checkpoint_s": options.checkpoint_s,
        "accounts": sorted(topology.orders.accounts.values()),
        "currency": options.currency,
        "halt_on_restart": options.halt_on_restart,
    }


def pnl_spec(topology: Topology) -> dict[str, Any]:
    """Return what the pnl worker is told."""
    options = topology.pnl
    return _common(topology, "pnl", options) | {
        "inputs": topology.inputs_of(options),
        "slots": options.slots,
        "checkpoint_s": options.checkpoint_s,
        "method": options.method,
        "lots": options.lots,
        "mark": options.mark,
        "row_pause_s": options.row_pause_s,
        "day_start_s": options.day_start_s,
        "watch": list(dict.fromkeys([*options.watch, *watched(topology.exposure.rates)])),
    }


def _exposure(topology: Topology) -> dict[str, Any]:
    options = topology.exposure
    names = ["slots", "checkpoint_s", "slot_s", "interval_s", "window", "least_samples"]
    names += ["confidence", "base_currency", "rates"]
    return _common(topology, "exposure", options) | {
        "inputs": topology.inputs_of(options),
        **{name: getattr(options, name) for name in names},
    }


def _bars(topology: Topology) -> dict[str, Any]:
    options = topology.bars
    return _common(topology, "bars", options) | {
        "inputs": topology.inputs_of(options),
        "slots": options.slots,
        "checkpoint_s": options.checkpoint_s,
        "bars": msgspec.to_builtins(bars_config(options)),
    }


def _own(topology: Topology, name: str, options: OwnOptions) -> dict[str, Any]:
    return _common(topology, name, options) | {
        "inputs": topology.inputs_of(options),
        "slots": options.slots,
        "checkpoint_s": options.checkpoint_s,
        "consumer": options.consumer,
        "folder": options.folder,
    }


def _fanout(topology: Topology) -> dict[str, Any]:
    options = topology.fanout
    return _common(topology, "fanout", options) | {
        "inputs": topology.inputs_of(options),
        "redis_url": redis_server.redis_url(topology),
        "maxlen": options.maxlen,
        "bar_series": series_names(bars_config(topology.bars)),
    }


def _recorder(topology: Topology) -> dict[str, Any]:
    options = topology.recorder
    return _common(topology, "recorder", options) | {
        "inputs": topology.inputs_of(options),
        "data_dir": str(topology.data_path),
        "segment_rows": options.segment_rows,
    }
