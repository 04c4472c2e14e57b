"""Decode a synthetic market with the C core at hand and name what is wrong: run by test_collectors_defects.

python tests/defects_run.py     prints a JSON list of findings, empty for a sound core
"""

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from decoding import Pipeline, books_from, kinds
from kraken_frames import ASKS, BETTER_BID, BIDS, SNAPSHOTS, update

from collectors.synthetic import SyntheticSpec, synthetic_frames
from layouts import Kind, Mark
from shm.book import ASK, BID, Book
from shm.forms import Forms

FRAMES = 700


def market(protocol: str) -> list[str]:
    """Every frame is decoded, and a consumer of the records holds the collector's books and tops."""
    found = []
    pipeline = Pipeline(protocol)
    spec = SyntheticSpec(seed=5, depth=10, start_ns=10**18, frames=FRAMES)
    statuses = {pipeline.feed(data) for _, data in synthetic_frames(spec, protocol)}
    if statuses != {0}:
        found.append(f"{protocol}: statuses {sorted(statuses)}")
    events = pipeline.events()
    books = books_from(events)
    for line in pipeline.decoder.instruments.values():
        book = books.get(line.instrument.instrument_id, Book(1))
        for side in (BID, ASK):
            if book.depth(side, 99) != line.live.depth(side, 99):
                found.append(f"{protocol}: a consumer's book differs on side {side}")
            if line.live.is_valid and book.count(side) > 10:
                found.append(f"{protocol}: the book is deeper than the subscription")
        quotes = events[(events["instrument_id"] == line.instrument.instrument_id)]
        quotes = quotes[quotes["kind"] == Kind.QUOTE]
        last = tuple(int(quotes[-1][f"word_{i}"]) for i in range(4)) if len(quotes) else ()
        if last != book.top():
            found.append(f"{protocol}: the last QUOTE is not the top")
    found += frame_ends(events, protocol)
    pipeline.close()
    return found


def frame_ends(events: np.ndarray, protocol: str) -> list[str]:
    """A QUOTE ends its frame, and nothing else of a frame claims to be its last."""
    quotes = events["kind"] == Kind.QUOTE
    ends = events["marks"] & Mark.LAST_IN_FRAME > 0
    wrong = (quotes & ~ends).any() or (ends[:-1] & quotes[1:]).any()
    return [f"{protocol}: LAST_IN_FRAME is not on the last record"] if wrong else []


def refusals(protocol: str) -> list[str]:
    """A wrong checksum, a crossed top and a half-bad frame are refused, and the book is as it was."""
    found = []
    for name, frame in {
        "a wrong checksum": update(protocol, *BETTER_BID, checksum=1),
        "a crossed book": update(
            protocol, [["10.01", "1.000"]], [], ([["10.01", "1.000"], *BIDS], ASKS)
        ),
        "a bad level": update(
            protocol, [["9.99", "9.000"], ["10.00", "1.00001"]], [], (BIDS, ASKS)
        ),
    }.items():
        pipeline = Pipeline(protocol)
        pipeline.feed(SNAPSHOTS[protocol]())
        pipeline.drain()
        if pipeline.feed(frame) == 0:
            found.append(f"{protocol}: {name} is accepted")
        if (pipeline.drain()["kind"] == Kind.LEVEL).any():
            found.append(f"{protocol}: {name} publishes a LEVEL")
        line = pipeline.decoder.instruments["A/B"]
        if name == "a bad level" and line.live.depth(BID, 2)[1] != (999, 2000):
            found.append(f"{protocol}: {name} is half applied")
        if line.live.is_valid:
            found.append(f"{protocol}: {name} leaves the book valid")
        pipeline.close()
    return found


def details(protocol: str) -> list[str]:
    """A short number is padded, a changed quantity at the top is quoted, a snapshot of one side empties the other."""
    found = []
    pipeline = Pipeline(protocol)
    pipeline.feed(SNAPSHOTS[protocol]())
    pipeline.drain()
    book = ([["10.00", "7.000"], *BIDS[1:]], ASKS)
    status = pipeline.feed(update(protocol, [["10", "7.0"]], [], book))
    if status:
        found.append(f"{protocol}: a short number ends in {status}")
    if kinds(pipeline.drain()) != ["LEVEL", "QUOTE"]:
        found.append(f"{protocol}: a changed quantity at the top is not quoted")
    pipeline.feed(SNAPSHOTS[protocol](asks=[]))
    if pipeline.decoder.instruments["A/B"].live.depth(ASK, 9):
        found.append(f"{protocol}: a snapshot keeps levels of the book before it")
    pipeline.close()
    return found


def _advanced(number: int, kind: str, *rows: tuple[str, str, str]) -> str:
    """A frame of Coinbase Advanced Trade as it writes it."""
    row = '{"side":"%s","event_time":"2024-01-01T00:00:0%d.5Z","price_level":"%s","new_quantity":"%s"}'
    return (
        '{"channel":"l2_data","client_id":"","timestamp":"2024-01-01T00:00:00Z",'
        f'"sequence_num":{number},"events":[{{"type":"{kind}","product_id":"A","updates":['
        + ",".join(row % (side, number, price, qty) for side, price, qty in rows)
        + "]}]}"
    )


UPDATE = '{"type":"l2update","product_id":"A","changes":[["buy","9.9","%s"]],"time":"%s"}'
FUTURE_BOOK = (
    '{"feed":"book_snapshot","product_id":"A","timestamp":1700000000000,"seq":%d,'
    '"bids":[{"price":9.8,"qty":1.5}],"asks":[{"price":10.1,"qty":1.5}]}'
)
FUTURE = '{"feed":"book","product_id":"A","side":"%s","seq":%d,"price":%s,"qty":%s,"timestamp":1700000000000}'
TRADE = (
    '{"stream":"a@trade","data":{"e":"trade","E":1,"T":1700000000000,"s":"A","t":%d,"p":"10.0",'
    '"q":"%s","X":"MARKET","m":%s}}'
)
DIFF = (
    '{"stream":"a@depth@0ms","data":{"e":"depthUpdate","E":1700000000000,"T":1,"s":"A","U":%d,"u":%d,'
    '"pu":%d,"b":[["9.9","%d"]],"a":[]}}'
)
AGGREGATE = (
    '{"stream":"b@aggTrade","data":{"e":"aggTrade","E":1,"a":7,"s":"B","p":"10.0","q":"1.5","f":1,"l":2,'
    '"T":1700000000000,"m":true}}'
)
FORMED = {
    "coinbase_exchange": [
        '{"type":"snapshot","product_id":"A","bids":[["9.8","1"]],"asks":[["10.1","1"]]}',
        UPDATE % ("2.5", "2021-04-17T16:44:07.1Z"),
        UPDATE % ("2.5", "2021-04-17T16:44:07.1Z"),
        UPDATE % ("3.5", "2021-04-17T16:44:07.2Z"),
        UPDATE % ("4.5", "2021-04-17T16:44:07.1Z"),
    ],
    "coinbase_advanced": [
        _advanced(0, "snapshot", ("bid", "9.8", "1.5"), ("offer", "10.1", "1.5")),
        _advanced(1, "update", ("bid", "9.9", "2"), ("offer", "10.0", "0.25"), ("bid", "9.8", "0")),
        _advanced(2, "update", ("offer", "10.0", "0"), ("bid", "0", "1")),
        _advanced(3, "snapshot", ("bid", "9.8", "1.5"), ("offer", "10.1", "1.5")),
        _advanced(4, "update", ("bid", "9.7", "1.25"), ("offer", "10.1", "3.5")),
    ],
    "kraken_futures": [
        FUTURE_BOOK % 1,
        *(
            FUTURE % (side, number, price, qty)
            for number, side, price, qty in (
                (2, "buy", "9.9", "2.0"),
                (3, "sell", "10.0", "0.5"),
                (5, "sell", "10.0", "0.5"),
            )
        ),
        FUTURE_BOOK % 6,
        *(
            FUTURE % ("buy", 7 + i, *level)
            for i, level in enumerate((("9.9", "1.25"), ("0.0", "1.0")))
        ),
    ],
    "binance_usdm": [
        *(TRADE % (7 + i, "1.5", side) for i, side in enumerate(("true", "false", "true"))),
        TRADE % (9, "1.5", "true"),
        AGGREGATE,
        TRADE.replace('"A"', '"B"') % (8, "1.5", "true"),
        TRADE % (10, "1.55", "true"),
        DIFF % (1, 3, 0, 4),
        {"lastUpdateId": 2, "bids": [["9.8", "1"]], "asks": [["10.1", "1"]]},
        *(DIFF % (n, n + 1, n - 1, n) for n in (4, 6, 8)),
        (DIFF % (10, 10, 9, 5)).replace('"a":[]', '"a":[["10.1","0.0"],["10.2","7.5"]]'),
        DIFF % (13, 14, 12, 5),
    ],
}


def forms(venue: str) -> list[str]:
    """What forms take ends as it does without them: statuses, counts and records."""
    made = []
    for with_forms in (True, False):
        pipeline = Pipeline(venue)
        if not with_forms:
            pipeline.decoder.known = Forms(pipeline.outlet, 1 << 20, ())
        statuses = []
        for frame in FORMED[venue]:
            if isinstance(frame, dict):
                url = "https://x/depth?symbol=A"
                pipeline.decoder.rest_response(url, json.dumps(frame).encode(), pipeline.ts)
            else:
                statuses.append(pipeline.feed(frame))
        events = pipeline.events()
        names = [name for name in events.dtype.names if name not in ("stamp", "publish_delta_ns")]
        records = [tuple(event) for event in events[names].tolist()]
        made.append((statuses, pipeline.counts, records))
        taken = pipeline.decoder.known.taken
        pipeline.close()
        if (taken > 0) is not with_forms:
            return [f"{venue}: {taken} frames were taken by forms"]
    return [f"{venue}: forms make something else of a frame"] if made[0] != made[1] else []


TIME = "2021-04-17T16:44:07.0Z"


def crowded() -> list[str]:
    """Frames whose levels fill the 256 records of scratch to the last leave room for the QUOTE that closes them.

    A book of 254 levels that is widened, and 128 new levels that cut 128 old ones off; a core with assertions dies.
    """
    found = []
    pipeline = Pipeline("coinbase_exchange")
    sides = [[[f"{price}", "1"] for price in prices] for prices in (range(1, 121), range(200, 320))]
    frame = {"type": "snapshot", "product_id": "A", "bids": sides[0], "asks": sides[1]}
    pipeline.feed(frame)
    added = [["buy", f"{price}", "1"] for price in range(121, 135)]
    pipeline.feed({"type": "l2update", "product_id": "A", "changes": added, "time": TIME})
    pipeline.feed(UPDATE % ("2.55", "2021-04-17T16:44:07.1Z"))
    if kinds(pipeline.drain())[-2:] != ["QUOTE", "LEVEL"] or pipeline.accounted() != 3:
        found.append("a widened book of 254 levels is not followed by its frame")
    pipeline.close()
    pipeline = Pipeline("kraken_v2")
    old = [[f"{9 - 0.01 * i:.3f}", "1.000"] for i in range(100)]
    new = [[f"{10 - 0.001 * i:.3f}", "2.000"] for i in range(128)]
    asks = [[f"{price}0", qty] for price, qty in ASKS]
    pipeline.feed(SNAPSHOTS["kraken_v2"](bids=old, asks=asks))
    if pipeline.feed(update("kraken_v2", new, [], (new[:100], asks))) or pipeline.accounted() != 2:
        found.append("128 levels that cut 128 off are refused")
    if kinds(pipeline.drain())[-1] != "QUOTE":
        found.append("128 levels that cut 128 off are not closed by a QUOTE")
    pipeline.close()
    return found


def deep_rows(chooser: random.Random, levels: dict[int, int], turn: int) -> list[tuple[int, int]]:
    """Changes of one frame: anywhere and near the best by turns, later a market that rises, and what they leave in `levels`."""
    rows = []
    for _ in range(chooser.randrange(1, 7)):
        near = chooser.random() < 0.3
        price = max(levels) - chooser.randrange(4) if near else chooser.randrange(1, 1198)
        qty = 0 if price in levels and chooser.random() < 0.7 else chooser.randrange(1, 9)
        if turn > 600:
            price, qty = (min(levels), 0) if len(rows) % 2 else (max(levels) + 1, turn)
        levels[price] = qty
        if not qty:
            del levels[price]
        rows.append((price, qty))
    return rows


def deep() -> list[str]:
    """A book of some hundred levels, deleted from and added to everywhere, is what a dictionary is, also republished."""
    chooser, pipeline = random.Random(3), Pipeline("coinbase_exchange", slots=1 << 15)
    levels = dict.fromkeys(range(3, 1200, 3), 1)
    bids = [[f"{price}", "1"] for price in levels]
    pipeline.feed({"type": "snapshot", "product_id": "A", "bids": bids, "asks": []})
    line = pipeline.decoder.instruments["A"]
    for turn in range(1200):
        rows = [["buy", f"{price}", f"{qty}"] for price, qty in deep_rows(chooser, levels, turn)]
        pipeline.feed({"type": "l2update", "product_id": "A", "changes": rows, "time": TIME})
        if line.live.check() or line.live.depth(BID, 999) != sorted(levels.items(), reverse=True):
            pipeline.close()
            return [f"a deep book differs from a dictionary after {turn + 1} frames"]
        pipeline.drain()
    line.live.republish(pipeline.ts)
    told = [
        (int(e["word_0"]), int(e["word_1"])) for e in pipeline.drain() if e["kind"] == Kind.LEVEL
    ]
    pipeline.close()
    return [] if told == sorted(levels.items()) else ["a republished book differs from its levels"]


def main() -> None:
    findings = crowded() + deep()
    for venue in FORMED:
        findings += forms(venue)
    for protocol in ("kraken_v1", "kraken_v2"):
        for check in (market, refusals, details):
            try:
                findings += check(protocol)
            except AssertionError as error:
                findings.append(f"{protocol}: {check.__name__} fails: {error}")
    sys.stdout.write(json.dumps(findings))


if __name__ == "__main__":
    main()
