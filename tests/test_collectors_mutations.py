"""Damaged frames are counted, never raised, never half applied, and no corruption of the best levels passes the checksum."""

import json
import random
from collections import Counter

import pytest
from decoding import Pipeline, books_from, frames_of

from layouts import Kind, Mark
from shm.book import ASK, BID
from shm.outlet import Reject

SEED = 20261120
MUTATIONS = 50_000
CHECK_EVERY = 2_500
RESTORED_LEVELS = 12
DIGITS = b"0123456789"
TOKENS = [
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"-",
    b".",
    b"e",
    b"null",
    b"1e-05",
    b"99999999999999999999",
]
FILES = {
    "kraken_v1": ["kraken_v1_book_10pairs.jsonl.gz", "kraken_v1_trade_10pairs.jsonl.gz"],
    "kraken_v2": ["kraken_v2_ethusd.jsonl.gz", "kraken_v2_btcusd_resubscribes.jsonl.gz"],
}
TRADE_V2 = (
    b'{"channel":"trade","type":"update","data":[{"symbol":"ETH/USD","side":"sell","price":1877.61,'
    b'"qty":0.23374249,"ord_type":"limit","trade_id":4665906,"timestamp":"2026-08-02T04:23:43.217117Z"}]}'
)
INSTRUMENT_V2 = (
    b'{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[{"symbol":"ETH/USD","base":"ETH",'
    b'"quote":"USD","price_increment":0.01,"qty_increment":0.00000001,"status":"online"}]}}'
)


def mutate(frame: bytes, chooser: random.Random, other: bytes) -> bytes:
    """Return the frame with one to three wounds."""
    raw = bytearray(frame)
    for _ in range(chooser.choice((1, 1, 1, 2, 3))):
        at = chooser.randrange(len(raw) + 1)
        end = min(len(raw), at + chooser.randrange(1, 12))
        kind = chooser.randrange(9)
        if kind == 0 and raw:
            raw[at % len(raw)] ^= 1 << chooser.randrange(8)
        elif kind == 1:
            raw[at:at] = chooser.choice(TOKENS)
        elif kind == 2:
            del raw[at:end]
        elif kind == 3:
            del raw[at:]
        elif kind == 4:
            raw[at:at] = raw[at:end] * chooser.randrange(1, 4)
        elif kind == 5:
            start = chooser.randrange(len(other))
            raw[at:end] = other[start : start + chooser.randrange(1, 40)]
        elif kind == 6:
            raw[at:end] = bytes(chooser.randrange(256) for _ in range(end - at))
        else:
            places = [i for i, byte in enumerate(raw) if byte in DIGITS]
            if places:
                raw[chooser.choice(places)] = chooser.choice(DIGITS)
    return bytes(raw)


def snapshot_from(line, venue: str) -> bytes:
    """What the venue would send now: the best levels of a healthy book."""
    price_scale, qty_scale = line.live.scales
    symbol = line.instrument.symbol

    def rows(side: int, form: str) -> str:
        levels = line.live.depth(
            side, RESTORED_LEVELS if venue == "kraken_v1" else line.instrument.depth
        )
        return ",".join(form.format(text(p, price_scale), text(q, qty_scale)) for p, q in levels)

    if venue == "kraken_v1":
        form = '["{}","{}","1618678133.000000"]'
        name = f"book-{line.instrument.depth}"
        frame = f'[1,{{"as":[{rows(ASK, form)}],"bs":[{rows(BID, form)}]}},"{name}","{symbol}"]'
    else:
        form = '{{"price":{},"qty":{}}}'
        frame = (
            f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{symbol}","bids":[{rows(BID, form)}],'
            f'"asks":[{rows(ASK, form)}],"checksum":{line.live.crc_kraken},"timestamp":"2026-08-01T00:00:00Z"}}]}}'
        )
    return frame.encode()


def text(value: int, scale: int) -> str:
    digits = f"{value:0{scale + 1}}"
    return f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits


def is_sound(pipeline: Pipeline, seen: Counter) -> None:
    """Every record holds sense, every book its invariants, every frame is counted once."""
    events = pipeline.drain()
    kinds = events["kind"]
    levels = events[kinds == Kind.LEVEL]
    assert (levels["word_0"] > 0).all()
    assert (levels["word_1"] >= 0).all()
    trades = events[kinds == Kind.TRADE]
    assert (trades["word_0"] > 0).all()
    assert (trades["word_1"] > 0).all()
    quotes = events[kinds == Kind.QUOTE]
    whole = (quotes["word_1"] > 0) & (quotes["word_3"] > 0)
    assert (quotes["word_0"][whole] < quotes["word_2"][whole]).all()
    assert (events["ts_event"] > 0).all()
    assert len(events) == 0 or events["marks"][-1] & Mark.LAST_IN_FRAME
    assert all(line.live.check() == 0 for line in pipeline.decoder.instruments.values())
    assert pipeline.accounted() == pipeline.fed == sum(seen.values())


@pytest.mark.parametrize("venue", ["kraken_v1", "kraken_v2"])
def test_mutated_frames_are_counted_and_never_raise(captures, venue) -> None:
    """50,000 wounds of real frames a venue; lost books are mended by snapshots as a venue would, and end equal."""
    wound(captures, venue, MUTATIONS, SEED)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(20))
@pytest.mark.parametrize("venue", ["kraken_v1", "kraken_v2"])
def test_a_million_mutated_frames_a_venue(captures, venue, part) -> None:
    """The same with 20 other seeds."""
    wound(captures, venue, MUTATIONS, SEED + 1 + part)


def wound(captures, venue: str, mutations: int, seed: int) -> None:
    """Feed real frames and, between them, their wounded copies; check after each thousand and at the end."""
    chooser = random.Random(seed)
    corpus = [frame for name in FILES[venue] for frame in frames_of(captures / name)]
    corpus += [TRADE_V2, INSTRUMENT_V2] * 20 if venue == "kraken_v2" else []
    small = [frame for frame in corpus if len(frame) < 2000]
    healthy, hurt = Pipeline(venue), Pipeline(venue)
    seen: Counter = Counter()
    done = 0
    while done < mutations:
        for frame in corpus:
            assert healthy.feed(frame) == 0
            seen[hurt.feed(frame, healthy.ts)] += 1
            for _ in range(chooser.randrange(24) if len(frame) < 2000 else 2):
                seen[hurt.feed(mutate(frame, chooser, chooser.choice(small)), healthy.ts)] += 1
                done += 1
                if done % CHECK_EVERY == 0:
                    is_sound(hurt, seen)
            hurt.decoder.outbox.clear()
            for symbol, line in hurt.decoder.instruments.items():
                twin = healthy.decoder.instruments.get(symbol)
                if not line.live.is_valid and twin and twin.live.is_valid:
                    seen[hurt.feed(snapshot_from(twin, venue), healthy.ts)] += 1
        healthy.drain()
    is_sound(hurt, seen)
    assert seen[0] > 0
    wanted = {Reject.MALFORMED_JSON, Reject.UNEXPECTED_SHAPE, Reject.CHECKSUM, Reject.NOT_A_NUMBER}
    wanted |= {Reject.TOO_MANY_DIGITS, Reject.UNKNOWN_CHANNEL, Reject.CROSSED, Reject.NO_SNAPSHOT}
    assert wanted <= set(seen), f"seed {seed}: the wounds no longer reach {wanted - set(seen)}"
    books = books_from(hurt.events())
    for line in hurt.decoder.instruments.values():
        if line.live.is_valid:
            book = books[line.instrument.instrument_id]
            assert book.depth(BID, 2000) == line.live.depth(BID, 2000)
            assert book.depth(ASK, 2000) == line.live.depth(ASK, 2000)
    healthy.close()
    hurt.close()


def test_ten_thousand_corruptions_of_the_best_levels_are_all_found(captures) -> None:
    """A changed digit of a price or quantity among the ten best never passes, and publishes no LEVEL."""
    chooser = random.Random(SEED)
    pipeline, done = Pipeline("kraken_v2"), 0
    frames = frames_of(captures / FILES["kraken_v2"][0])
    while done < 10_000:
        for frame in frames:
            line = pipeline.decoder.instruments.get("ETH/USD")
            before = snapshot_from(line, "kraken_v2") if line and line.live.is_valid else b""
            assert pipeline.feed(frame) == 0
            if not before or not frame.startswith(b'{"channel":"book"'):
                continue
            wounds = [corrupt_a_level(frame, line, chooser) for _ in range(12)]
            after = snapshot_from(line, "kraken_v2")
            for wounded in filter(None, wounds):
                assert pipeline.feed(before) == 0
                pipeline.drain()
                assert pipeline.feed(wounded) != 0, wounded
                assert not (pipeline.drain()["kind"] == Kind.LEVEL).any()
                done += 1
            assert pipeline.feed(after) == 0
            pipeline.decoder.outbox.clear()
    pipeline.close()


def corrupt_a_level(frame: bytes, line, chooser: random.Random) -> bytes | None:
    """Change one digit of a level that the frame puts among the ten best of `line`'s book; None: it has none."""
    entry = json.loads(frame, parse_float=str, parse_int=str)["data"][0]
    best = {price for side in (BID, ASK) for price, _ in line.live.depth(side, 10)}
    levels = [
        level
        for name in ("bids", "asks")
        for level in entry[name]
        if int(level["price"].replace(".", "")) in best
    ]
    if not levels:
        return None
    level = chooser.choice(levels)
    old = f'"price":{level["price"]},"qty":{level["qty"]}'.encode()
    at = chooser.choice([i for i, byte in enumerate(old) if byte in DIGITS])
    digit = chooser.choice([d for d in DIGITS if d != old[at]])
    return frame.replace(old, old[:at] + bytes([digit]) + old[at + 1 :], 1)
