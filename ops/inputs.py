"""What the built-in venue server plays, and so what a collector without a list of its own subscribes to.

The choice is made once, when an instance starts, and written into its resolved configuration: a restart repeats it.
"""

from pathlib import Path

import msgspec

from collectors.captures import find_captures
from collectors.synthetic import SyntheticSpec, SyntheticTape
from collectors.venue_dialect import Stream
from collectors.venue_library import list_streams
from collectors.venues import DECODERS
from ops.options import Subscription, Topology
from shm.errors import ConfigurationError

CAPTURES = (
    "kraken_v2_btcusd_resubscribes",
    "kraken_v2_ethusd",
    "kraken_v1_book_10pairs",
    "kraken_v1_trade_10pairs",
    "kraken_asset_pairs",
)
"""Recordings that are played where they are found."""


def resolve(topology: Topology) -> Topology:
    """Return the topology with the recordings that are played, and with what each collector subscribes to, filled in.

    Raises:
        ConfigurationError: recordings are asked for and not there, or nothing is played for a collector.
    """
    if not topology.needs_venue:
        return topology
    paths = capture_files(topology)
    venue = msgspec.structs.replace(
        topology.venue,
        source="captures" if paths else "synthetic",
        captures=[str(path) for path in paths],
    )
    collectors = dict(topology.collectors)
    for name, streams in (_played(topology, paths) if paths else _made(topology)).items():
        if not streams:
            raise ConfigurationError(
                f"collectors.{name}: nothing is played for it; name other recordings in venue.captures, "
                "or set enabled = false"
            )
        wanted = subscriptions_to(streams, collectors[name].venue)
        collectors[name] = msgspec.structs.replace(collectors[name], subscriptions=wanted)
    return msgspec.structs.replace(topology, venue=venue, collectors=collectors)


def check_streams(topology: Topology) -> None:
    """Refuse two collectors that would write one Redis stream: their records' ids would not rise.

    Raises:
        ConfigurationError: the venue, the symbol and both collectors.
    """
    owners: dict[tuple[str, str], str] = {}
    for name, options in topology.enabled_collectors.items():
        venue = DECODERS[options.venue].venue
        for symbol in {symbol for wanted in options.subscriptions for symbol in wanted.symbols}:
            other = owners.setdefault((venue, symbol), name)
            if other != name:
                raise ConfigurationError(
                    f"collectors.{name}.subscriptions: {symbol} of {venue} is subscribed to by {other} too; "
                    "each instrument belongs to one collector"
                )


def capture_files(topology: Topology) -> list[Path]:
    """Return the recordings that the venue server plays; empty: it makes a synthetic market.

    Raises:
        ConfigurationError: recordings are asked for and not there.
    """
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


def _wanting(topology: Topology) -> list[str]:
    """Return the collectors that take what is played."""
    return [
        name
        for name, options in topology.enabled_collectors.items()
        if options.is_played and not options.subscriptions
    ]


def _played(topology: Topology, paths: list[Path]) -> dict[str, list[Stream]]:
    """Return what recordings hold for each collector."""
    played = list_streams(paths)
    return {
        name: list(played.get(topology.collectors[name].venue, {})) for name in _wanting(topology)
    }


def _made(topology: Topology) -> dict[str, list[Stream]]:
    """Deal the synthetic market's instruments out, because each belongs to one collector."""
    market = market_of(topology)
    names = _wanting(topology)
    found: dict[str, list[Stream]] = {name: [] for name in names}
    for i in range(len(market.instruments)):
        name = names[i * len(names) // len(market.instruments)] if names else ""
        own = msgspec.structs.replace(market, instruments=market.instruments[i : i + 1])
        if name:
            found[name] += SyntheticTape(own, topology.collectors[name].venue).streams
    return found


def market_of(topology: Topology) -> SyntheticSpec:
    """Return the synthetic market's specification."""
    venue = topology.venue
    return SyntheticSpec(seed=venue.seed, frames_per_s=venue.frames_per_s, depth=venue.depth)


def subscriptions_to(streams: list[Stream], venue: str) -> list[Subscription]:
    """Return subscriptions to all of these streams, and where the venue has it to its table of instruments."""
    symbols: dict[tuple[str, int], list[str]] = {}
    for stream in streams:
        if stream.channel in ("book", "trade"):
            symbols.setdefault((stream.channel, stream.depth), []).append(stream.symbol)
    wanted = [
        msgspec.convert(
            {"channel": channel, "symbols": sorted(names), "depth": depth}, Subscription
        )
        for (channel, depth), names in sorted(symbols.items())
    ]
    if venue == "kraken_v2":
        wanted.insert(0, Subscription(channel="instrument"))
    return wanted
