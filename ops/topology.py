"""One TOML describes an instance: which workers run, what they read and write, and how they are looked after.

A user's file holds overrides only; every key, its default and unit are in `ops/tickring.toml`. The rings of a topology
follow from it, and so does the memory they take.

**Invariants** (1) Ring and worker names are unique and can name regions. (2) The collectors' instrument ids are
disjoint blocks below 2**16. (3) Every input names a ring of the topology. (4) Each mistake is told, not only the first.
"""

import fnmatch
import grp
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from collectors.addresses import check_url
from collectors.calendar import hours_mistakes
from collectors.venues import DECODERS
from consumers import rates
from consumers.bar_series import BarsConfig
from consumers.record_views import taken
from layouts import APPLIED_INPUTS
from layouts.own import OWN_RING
from ops import shards, trading
from ops.options import (
    IDS_END,
    PUBLIC,
    BarsOptions,
    CollectorOptions,
    Topology,
)
from ops.options_base import WorkerOptions
from ops.strict import Mistakes, convert
from shm.errors import ConfigurationError
from shm.region import check_part
from shm.registry import last_instance
from shm.sessions import first_match

RESERVED = (
    "supervisor",
    "control",
    "redis",
    "venue",
    "orders",
    "risk",
    "features",
    "bars",
    "pnl",
    "exposure",
    "fanout",
    "recorder",
)
CONSUMERS = ("risk", "features", "bars", "pnl", "exposure", "fanout", "recorder")
SHIPPED = Path(__file__).with_name("tickring.toml")

DEFAULT_COLLECTORS: dict[str, dict[str, Any]] = {
    "kraken": {"venue": "kraken_v2", "first_instrument_id": 1},
    "kraken_v1": {"venue": "kraken_v1", "first_instrument_id": 1001, "event_slots": 131_072},
}
"""The collectors of the default topology; a user's file may change single keys of them, or `enabled = false`."""


def load_topology(path: str | Path | None = None, **overrides: Any) -> Topology:
    """Return the topology of a TOML file laid over the defaults; None: the defaults.

    Args:
        path: the user's file; a relative `folder` of an own consumer is taken from where it is.
        overrides: top-level keys that the command line sets, e.g. instance; None is left out.

    Raises:
        Mistakes: everything that is wrong with it. ConfigurationError: it cannot be read.
    """
    table = _read(Path(path)) if path else {}
    table |= {key: value for key, value in overrides.items() if value is not None}
    topology = parse_topology(table, str(path) if path else "the configuration")
    if path is None:
        return topology
    # The supervisor runs elsewhere: only here is it known where the file, and what lies beside it, is.
    here = Path(path).absolute().parent
    own = {
        name: msgspec.structs.replace(options, folder=str(here / Path(options.folder).expanduser()))
        for name, options in topology.consumers.items()
    }
    return msgspec.structs.replace(topology, consumers=own)


def topology_of(instance: str) -> Topology:
    """Return the configuration of an instance as it runs, or last ran; the defaults where it never did.

    Raises:
        ConfigurationError: it was left by another version of tickring.
    """
    found = last_instance(instance)
    if found is None:
        return load_topology(None, instance=instance)
    try:
        topology = msgspec.convert(found.config, Topology)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"instance {instance!r} last ran with a configuration of another version ({error}); name its TOML with -c"
        ) from None
    topology.state_dir = found.state_dir  # as it was resolved then, wherever this is called
    return topology


def parse_topology(table: dict[str, Any], source: str) -> Topology:
    """Return the topology that a parsed TOML table describes, over the defaults."""
    given = table.get("collectors", {})
    collectors = {name: dict(defaults) for name, defaults in DEFAULT_COLLECTORS.items()}
    if isinstance(given, dict):
        for name, options in given.items():
            base = collectors.get(name, {})
            collectors[name] = base | options if isinstance(options, dict) else options
    else:
        collectors = given
    found: list[str] = []
    topology = convert(table | {"collectors": collectors}, Topology, found)
    if topology is not None:
        found += mistakes_of(topology)
    if found:
        raise Mistakes(source, found)
    assert isinstance(topology, Topology)
    return topology


def mistakes_of(topology: Topology) -> list[str]:
    """Return a line for each thing that the types alone do not show."""
    found = _names(topology) + _collectors(topology) + _inputs(topology) + _redis(topology)
    found += _rates(topology)
    found += trading.mistakes_of(topology)
    workers = topology.workers()
    for name, options in workers.items():
        for needed in options.depends_on:
            if needed not in workers:
                found.append(
                    f"{name}.depends_on = {needed!r}: no such worker; there are {', '.join(workers)}"
                )
        if (options.restart == "group") != bool(options.group):
            found.append(f'{name}.restart: "group" and the key `group` belong together')
    found += [
        f"depends_on: {' -> '.join(circle)} wait for each other" for circle in _circles(workers)
    ]
    for key in ("reader_group", "consumer_group"):
        try:
            group_id(getattr(topology, key))
        except ConfigurationError as error:
            found.append(f"{key}: {error}")
    return found


def group_id(name: str) -> int:
    """Return the id of a group of this host; -1 for no name."""
    if not name:
        return -1
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigurationError(
            f"group {name!r} does not exist here; make it with `groupadd {name}`"
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: no valid TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; name a readable TOML file") from None


def _names(topology: Topology) -> list[str]:
    found = []
    for what, name in [
        ("instance", topology.instance),
        *(("collectors", n) for n in {**topology.collectors, **topology.running_collectors}),
        *(("consumers", n) for n in topology.consumers),
    ]:
        try:
            check_part(what, name)
        except ConfigurationError as error:
            found.append(str(error))
    for name, c in topology.enabled_collectors.items():
        found += [
            f"collectors.{name}.shards: the name of its shard {worker} is taken; rename one of them"
            for worker in shards.split(name, c)
            if worker != name and (worker in topology.collectors or worker in topology.consumers)
        ]
    found += [
        f"{what}.{name}: that name is taken by a worker of tickring; choose another"
        for what, names in (("collectors", topology.collectors), ("consumers", topology.consumers))
        for name in names
        if name in RESERVED or (what == "consumers" and name in topology.collectors)
    ]
    own = list(topology.consumers)
    found += [
        f"consumers.{name}: its rows would be the view {view!r} of history, which is another's; choose another name"
        for i, name in enumerate(own)
        if name not in RESERVED and (view := taken(name, own[:i]))
    ]
    return found


def _collectors(topology: Topology) -> list[str]:
    found = [
        mistake
        for name, c in topology.enabled_collectors.items()
        for mistake in (
            *shards.mistakes_of(f"collectors.{name}", c),
            *_sessions(f"collectors.{name}", c),
        )
    ]
    blocks: list[tuple[int, int, str]] = []
    for name, c in topology.running_collectors.items():
        end = c.first_instrument_id + c.instrument_ids
        if end > IDS_END:
            found.append(
                f"collectors.{name}.instrument_ids: ids {c.first_instrument_id} .. {end - 1} go beyond {IDS_END - 1}"
            )
        for first, last, other in blocks:
            if c.first_instrument_id < last and first < end:
                free = max(b[1] for b in blocks)
                found.append(
                    f"collectors.{name}.first_instrument_id = {c.first_instrument_id}: its ids overlap those of "
                    f"{other} ({first} .. {last - 1}); {free} is free"
                )
        blocks.append((c.first_instrument_id, end, name))
        if c.key_file and c.venue != "coinbase_advanced":
            found.append(
                f"collectors.{name}.key_file: only coinbase_advanced signs what it asks for"
            )
        for key in ("event_slots", "book_slots", "instrument_slots"):
            found += _slots(f"collectors.{name}.{key}", getattr(c, key))
        if c.instrument_slots < 4 * min(c.instrument_ids, 1024):
            found.append(
                f"collectors.{name}.instrument_slots = {c.instrument_slots}: at least 4 slots an instrument"
            )
        if not c.is_played:
            found += _live(f"collectors.{name}", c)
        elif not topology.venue.enabled:
            found.append(
                f"collectors.{name}.url: empty, and the built-in venue server is not enabled"
            )
    if topology.features.enabled:
        found += _slots("features.slots", topology.features.slots)
    if topology.bars.enabled:
        found += _slots("bars.slots", topology.bars.slots)
        found += [f"bars.{each}" for each in bars_config(topology.bars).mistakes()]
    if topology.pnl.enabled:
        found += _slots("pnl.slots", topology.pnl.slots)
    if topology.exposure.enabled:
        found += _slots("exposure.slots", topology.exposure.slots)
    if topology.orders.enabled:
        found += _slots("orders.slots", topology.orders.slots)
    if topology.risk.enabled:
        found += _slots("risk.slots", topology.risk.slots)
    for name, own in topology.consumers.items():
        found += _slots(f"consumers.{name}.slots", own.slots)
    return found


def _sessions(at: str, collector: CollectorOptions) -> list[str]:
    """Return what is wrong with the sessions of a collector's instruments."""
    found = [
        f"{at}.sessions.{name}.{each}"
        for name, given in collector.sessions.items()
        for each in hours_mistakes(given)
    ]
    venue = DECODERS[collector.venue].venue
    names = {f"{venue}:{s}" for given in collector.subscriptions for s in given.symbols}
    for name, given in collector.sessions.items():
        found += [
            f"{at}.sessions.{name}.instruments = {pattern!r}: matches none of {', '.join(sorted(names)[:3])}, .."
            for pattern in given.instruments
            if names and not any(first_match([[pattern]], each) == 0 for each in names)
        ]
    return found


def bars_config(options: BarsOptions) -> BarsConfig:
    """Return what the bars worker is told of its series."""
    return msgspec.convert(
        {name: getattr(options, name) for name in BarsConfig.__struct_fields__},
        BarsConfig,
        from_attributes=True,
    )


def _live(at: str, collector: CollectorOptions) -> list[str]:
    """Return what is wrong with a collector that connects to a venue itself."""
    found = []
    given = (("url", collector.url, "ws"), ("rest_url", collector.rest_url, "http"))
    for key, url, scheme in given:
        try:
            if url not in ("", PUBLIC):
                check_url(url, scheme)
        except ConfigurationError as error:
            found.append(f"{at}.{key} = {str(error).removeprefix('url ')}")
    if not collector.subscriptions:
        venue = collector.url if collector.url != PUBLIC else collector.venue
        found.append(f"{at}.subscriptions: empty; name channels and symbols of {venue}")
    return found


def _slots(at: str, slots: int) -> list[str]:
    if slots >= 2 and slots & (slots - 1) == 0:
        return []
    return [f"{at} = {slots}: a power of two expected, e.g. {1 << max(1, slots).bit_length()}"]


def _inputs(topology: Topology) -> list[str]:
    """A ring of a disabled worker may be named, and is not read; a worker that is left without any has nothing to do."""
    found = []
    known = topology.rings(of_disabled=True)
    reading = {name: getattr(topology, name) for name in CONSUMERS}
    reading |= {f"consumers.{name}": own for name, own in topology.consumers.items()}
    for name, options in reading.items():
        if not options.enabled:
            continue
        # "*.rows" stands for own consumers' rings also where there are none
        there = [*known, f".{OWN_RING}"]
        unknown = [p for p in options.inputs if not any(fnmatch.fnmatchcase(r, p) for r in there)]
        found += [
            f"{name}.inputs = {pattern!r}: no such ring; there are {', '.join(known)}"
            for pattern in unknown
        ]
        others = [r for r in topology.expand(options.inputs) if not r.endswith(".events")]
        if others and name not in ("fanout", "recorder", "exposure"):
            found.append(
                f"{name}.inputs: {', '.join(others)}: no EVENT records; name rings like kraken.events"
            )
        if not unknown and not topology.expand(options.inputs):
            found.append(f"{name}.inputs: none of these rings has a worker; set enabled = false")
    if topology.pnl.enabled and topology.pnl.orders not in topology.rings():
        found.append(
            f"pnl.orders = {topology.pnl.orders!r}: no worker makes this ring; set orders.enabled = true"
        )
    events = topology.expand(topology.pnl.inputs)
    if topology.pnl.enabled and len(events) >= APPLIED_INPUTS:
        found.append(
            f"pnl.inputs: {len(events)} rings ({', '.join(events)}); a row tells how far {APPLIED_INPUTS - 1} of them "
            "were: name those that are traded"
        )
    return found


def _rates(topology: Topology) -> list[str]:
    """Sums over currencies need to know what one is worth in the other."""
    options = topology.exposure
    found = rates.mistakes_of("exposure.rates", options.rates, options.base_currency)
    if options.least_samples > options.window:
        found.append(
            f"exposure.least_samples = {options.least_samples}: more than window = {options.window} can hold"
        )
    return found


def _redis(topology: Topology) -> list[str]:
    url = topology.redis.url
    if not url:
        if topology.fanout.enabled and not topology.redis.enabled:
            return ["redis.url: empty while redis.enabled is false; give a URL or disable fanout"]
        return []
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        return [f"redis.url: scheme {parts.scheme!r}; redis://, rediss:// or unix:// expected"]
    if parts.password:
        return [
            "redis.url: holds a password; put the whole URL into the environment as TICKRING_REDIS_URL"
        ]
    return []


def _circles(workers: dict[str, WorkerOptions]) -> list[list[str]]:
    """Return each chain of depends_on that comes back to its beginning, once."""
    found: list[list[str]] = []
    for start, options in workers.items():
        trail = [start]
        seen = {start}
        ahead = list(options.depends_on)
        while ahead:
            name = ahead.pop()
            if name == start:
                if start == min(trail):
                    found.append([*trail, start])
                break
            if name in workers and name not in seen:
                seen.add(name)
                trail.append(name)
                ahead += workers[name].depends_on
    return found
