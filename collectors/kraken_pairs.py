"""Kraken's public list of pairs gives tick and lot of each, under the names that its WebSockets use.

**Layout** GET /0/public/AssetPairs (docs.kraken.com, REST): {"error": [..], "result": {name: {"wsname", "pair_decimals",
"lot_decimals", "tick_size", ..}}}. `pair_decimals` says how fine prices may be, never how many decimals the wire has: those
come from the first snapshot.
"""

import msgspec

from collectors.instruments import Steps

PATH = "/0/public/AssetPairs"
_V2_NAMES = {"XBT": "BTC", "XDG": "DOGE"}


class _Pair(msgspec.Struct, gc=False):
    pair_decimals: int
    lot_decimals: int
    wsname: str = ""
    tick_size: str = ""


class _Answer(msgspec.Struct):
    result: dict[str, _Pair]


_decode = msgspec.json.Decoder(_Answer).decode


def steps_of(body: bytes) -> dict[str, Steps]:
    """Return tick and lot by symbol; a pair that WebSocket v2 calls otherwise is there under both names.

    Raises:
        msgspec.DecodeError: the text is no such answer.
    """
    found = {}
    for pair in _decode(body).result.values():
        if not pair.wsname:
            continue
        steps = Steps(pair.tick_size or f"1e-{pair.pair_decimals}", f"1e-{pair.lot_decimals}")
        found[pair.wsname] = steps
        currencies = (_V2_NAMES.get(part, part) for part in pair.wsname.split("/"))
        found.setdefault("/".join(currencies), steps)
    return found
