"""A collector's symbols are dealt to its shards so that each stays where it is when others come and go.

**Why it is right** A symbol goes to the shard whose hash with it is the highest (rendezvous hashing): the answer depends on
that symbol and the number of shards alone, and one shard more takes a fair share from each and moves nothing else. Every
channel of a symbol goes the same way, because an instrument belongs to one collector. **See** `shards` in tickring.toml.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from ops.options import CollectorOptions, Subscription


def shard_of(symbol: str, shards: int | Sequence[Sequence[str]]) -> int:
    """Return the number of a symbol's shard; with explicit lists the first one for a symbol that none names."""
    if isinstance(shards, int):
        return max(range(shards), key=lambda i: blake2b(f"{i} {symbol}".encode()).digest())
    return next((i for i, symbols in enumerate(shards) if symbol in symbols), 0)


def split(name: str, options: "CollectorOptions") -> "dict[str, CollectorOptions]":
    """Return the collectors that one table of the topology stands for: itself, or `<name>_0`, `<name>_1`, ..

    Each has its own block of ids, one after the other, and its part of the subscriptions; one that is left without any
    does not run.
    """
    n = options.shards if isinstance(options.shards, int) else len(options.shards)
    if n == 1:
        return {name: options}
    found = {}
    for i in range(n):
        wanted = [
            part for given in options.subscriptions if (part := _part(given, options.shards, i))
        ]
        if wanted:
            found[f"{name}_{i}"] = msgspec.structs.replace(
                options,
                shards=1,
                subscriptions=wanted,
                first_instrument_id=options.first_instrument_id + i * options.instrument_ids,
            )
    return found


def mistakes_of(at: str, options: "CollectorOptions") -> list[str]:
    """Return what is wrong with explicit lists."""
    if isinstance(options.shards, int):
        return []
    named = [symbol for symbols in options.shards for symbol in symbols]
    wanted = {symbol for given in options.subscriptions for symbol in given.symbols}
    found = [
        f"{at}.shards: {symbol!r} is named twice; each symbol belongs to one shard"
        for symbol in sorted({s for s in named if named.count(s) > 1})
    ]
    if missing := sorted(wanted - set(named)):
        found.append(f"{at}.shards: {', '.join(missing)} of its subscriptions in no shard")
    return found


def _part(
    given: "Subscription", shards: int | Sequence[Sequence[str]], number: int
) -> "Subscription | None":
    """Return a shard's part of a subscription; one without symbols (a whole channel) is the first shard's."""
    if not given.symbols:
        return given if number == 0 else None
    mine = [symbol for symbol in given.symbols if shard_of(symbol, shards) == number]
    return msgspec.structs.replace(given, symbols=mine) if mine else None
