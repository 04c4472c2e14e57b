"""What does a frame of each venue cost from bytes to ring, over the recordings, and how does that grow with instruments?

    frame (bytes) ──> form matched ──> C: digits, book, checks ──> one batch in the ring        most frames
                 └──> msgspec ──> decoder ──> C                                                   all others

Inside the timed window: `decode` of one frame; what two clock reads take is measured in the same run and deducted. Outside:
reading the recording, all frames of other kinds (they are decoded, untimed), any socket. Binance's diffs are also held
against its bookTicker inside the window. `empty_us` is the same loop around a function that does nothing. `thousand` holds
1,000 instruments against 10 in one decoder, frames in shuffled order. `replay` decodes Kraken's recording into a `wait` ring
again and again while its records are read off in the same thread: frames a second by the clock, every record read. A
refused frame fails the bench. The rival is in bench_collector_kraken_v1_frame.

    python bench/bench_collector_venues_frame.py [--smoke] [--cpu N] [--captures FOLDER]
"""

import argparse
import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from conditions import conditions

from collectors.captures import Capture, find_captures
from collectors.decoder import Decoder
from collectors.instruments import InstrumentTable
from collectors.venues import DECODERS
from layouts import EVENT, INSTRUMENT
from shm.consumer import join_private
from shm.outlet import Outlet
from shm.producer import open_private

RUNS = {"smoke": 1, "real": 7}
MOST_FRAMES = {"smoke": 3_000, "real": 60_000}
REPEATS = {"smoke": 5, "real": 100}
REPLAYED = {"smoke": 5_000, "real": 400_000}
MANY_FRAMES = {"smoke": 2_000, "real": 40_000}
INSTRUMENTS = (10, 1000)
SLOTS = 1 << 17
LARGE_BYTES = 60_000
TRADE_V2 = (
    '{"channel":"trade","type":"update","data":[{"symbol":"ETH/USD","side":"sell","price":1877.61,"qty":0.23374249,'
    '"ord_type":"limit","trade_id":%d,"timestamp":"2026-08-02T04:23:43.217117Z"}]}'
)
UPDATE = (
    '{"type":"l2update","product_id":"S%d-USD","changes":[["%s","%d.%02d","%d.5"]],'
    '"time":"2021-04-17T16:44:07.%06dZ"}'
)
Frame = tuple[str, str, bytes, int]
"""Kind, url, data, time."""


class Row(NamedTuple):
    """One kind of frame of one recording."""

    venue: str
    recording: str
    pattern: bytes


ROWS = {
    "kraken_v1_book": Row("kraken_v1", "kraken_v1_book_10pairs", rb'"c":"'),
    "kraken_v1_trade": Row("kraken_v1", "kraken_v1_trade_10pairs", rb'^\[.*"trade","'),
    "kraken_v2_book": Row("kraken_v2", "kraken_v2_ethusd", rb'"book","type":"update"'),
    "kraken_v2_trade": Row("kraken_v2", "", rb'"trade"'),
    "binance_spot_trade": Row("binance_spot", "binance_spot_btcusdt_day1", rb'"e":"trade"'),
    "binance_spot_depth": Row("binance_spot", "binance_spot_btcusdt_day1", rb"depthUpdate"),
    "binance_usdm_trade": Row("binance_usdm", "binance_usdm_btcusdt", rb'"e":"trade"'),
    "binance_usdm_depth": Row("binance_usdm", "binance_usdm_btcusdt", rb"depthUpdate"),
    "coinbase_advanced_book": Row(
        "coinbase_advanced", "coinbase_advanced_btc_eth_350", rb'"l2_data".*"type":"update"'
    ),
    "coinbase_exchange_book": Row("coinbase_exchange", "coinbase_exchange_10pairs", rb"l2update"),
    "coinbase_exchange_trade": Row("coinbase_exchange", "coinbase_exchange_10pairs", rb'"match"'),
    "okx_book": Row("okx", "okx_v5_books_3instruments", rb'"action":"update"'),
    "bybit_book": Row("bybit", "bybit_v5_linear_spot_book200", rb'"type":"delta"'),
    "kraken_futures_book": Row("kraken_futures", "kraken_futures_10products", rb'"feed":"book",'),
}


class Rig:
    """A fresh decoder over private rings."""

    def __init__(self, venue: str, instruments: int = 256) -> None:
        self.events, self.data_fd, self.control_fd = open_private("bench", EVENT, SLOTS, ["reader"])
        self.table, *_ = open_private("bench", INSTRUMENT, 4096, [])
        self.outlet = Outlet(self.events)
        table = InstrumentTable("bench", venue, 1, instruments, self.table)
        self.decoder: Decoder = DECODERS[venue](self.outlet, table, accept_any=True)
        self.reader = join_private("bench", self.data_fd, self.control_fd, "reader", EVENT)
        self.batch = np.empty(8192, EVENT)
        self.read = 0

    def take(self, frame: Frame) -> None:
        """Decode a frame or a REST answer; a refusal fails the bench."""
        kind, url, data, ts = frame
        if kind == "rest":
            self.decoder.rest_response(url, data, ts)
        elif self.decoder.decode(data, ts):
            sys.exit(f"a frame was refused; the figures would mean nothing: {data[:300]!r}")

    def drain(self) -> None:
        """Read everything off the ring."""
        while (n := self.reader.poll_into(self.batch)) > 0:
            self.read += n
        self.reader.commit()

    def close(self) -> None:
        """Check that every record was read, and unmap."""
        self.drain()
        published = self.outlet.counts()["records_published"]
        if self.read != published or self.events.next_seq - 1 != published:
            sys.exit(f"{published} records published, {self.read} read")
        self.reader.close()
        self.events.close()
        self.table.close()


def load(folder: Path, row: Row, scale: str) -> list[Frame]:
    """Return a recording's frames and REST answers; Kraken's few trades repeated, v2's made."""
    if not row.recording:
        texts = (TRADE_V2 % (4_000_000 + i) for i in range(20 * REPEATS[scale]))
        return [("recv", "", text.encode(), 10**18 + i) for i, text in enumerate(texts)]
    capture = Capture(folder / f"{row.recording}.jsonl.gz")
    found: list[Frame] = [
        (f.kind, f.url, f.data, f.ts) for f in capture if f.kind in ("recv", "rest")
    ]
    return found * REPEATS[scale] if row.recording.startswith("kraken_v1_trade") else found


def clock_ns() -> float:
    """What two clock reads in a row take."""
    now = time.perf_counter_ns
    return statistics.median(-(now() - now()) for _ in range(2001))


def empty(frame: bytes, ts: int) -> int:
    """The least that a call with a frame can be."""
    del frame, ts
    return 0


def run(
    frames: list[Frame], hot: list[bool], venue: str, decode: Callable[..., int] | None
) -> list[float]:
    """Decode a recording afresh and return what each timed frame took, in ns; `decode` stands in for the decoder."""
    rig = Rig(venue)
    now, overhead_ns = time.perf_counter_ns, clock_ns()
    took: list[float] = []
    timed = decode or rig.decoder.decode
    for i, (frame, is_hot) in enumerate(zip(frames, hot, strict=True)):
        if is_hot:
            began = now()
            status = timed(frame[2], frame[3])
            took.append(now() - began - overhead_ns)
            if status:
                sys.exit(f"a frame was refused: {frame[2][:300]!r}")
        elif decode is None:
            rig.take(frame)
        if i % 64 == 0:
            rig.decoder.rest_wanted.clear()
            rig.drain()
    rig.close()
    return took


def levels_of(data: bytes) -> int:
    """Levels of a Binance diff, counted in its text."""
    found = json.loads(data)["data"]
    return len(found["b"]) + len(found["a"])


def venue_rows(folder: Path, scale: str) -> dict[str, dict[str, Any]]:
    """Measure every row, runs in turn with the empty call."""
    out: dict[str, dict[str, Any]] = {}
    for name, row in ROWS.items():
        frames = load(folder, row, scale)[: MOST_FRAMES[scale]]
        pattern = re.compile(row.pattern, re.DOTALL)
        hot = [
            f[0] == "recv" and len(f[2]) < LARGE_BYTES and bool(pattern.search(f[2]))
            for f in frames
        ]
        if not any(hot):
            sys.exit(f"{name}: no such frame in the recording")
        ours, nothing, each = [], [], []
        for _ in range(RUNS[scale]):
            took = run(frames, hot, row.venue, None)
            ours.append(statistics.fmean(took) / 1e3)
            each += took
            nothing.append(statistics.fmean(run(frames, hot, row.venue, empty)) / 1e3)
        each.sort()
        out[name] = {
            "mean_us": round(statistics.median(ours), 3),
            "mean_us_range": [round(min(ours), 3), round(max(ours), 3)],
            "p50_us": round(each[len(each) // 2] / 1e3, 3),
            "p99_us": round(each[len(each) * 99 // 100] / 1e3, 3),
            "empty_us": round(statistics.median(nothing), 3),
            "frames": sum(hot),
        }
        if name.endswith("_depth"):
            counts = [levels_of(f[2]) for f, is_hot in zip(frames, hot, strict=True) if is_hot]
            out[name]["levels_mean"] = round(statistics.fmean(counts), 1)
    return out


def snapshot_ms(folder: Path, scale: str) -> dict[str, Any]:
    """Load the largest recorded snapshot of Coinbase into an empty book."""
    frames = load(folder, ROWS["coinbase_advanced_book"], scale)
    largest = max(
        (frame for frame in frames if frame[0] == "recv"), key=lambda frame: len(frame[2])
    )
    took: list[float] = []
    for _ in range(RUNS[scale]):
        rig = Rig("coinbase_advanced")
        began = time.perf_counter_ns()
        rig.take(largest)
        took.append((time.perf_counter_ns() - began) / 1e6)
        rig.close()
    return {"levels": largest[2].count(b'"price_level"'), "ms": round(statistics.median(took), 2)}


def shuffled(instruments: int, n: int) -> Iterator[Frame]:
    """Yield snapshots of so many products, then updates of them in shuffled order."""
    choose = random.Random(1)
    for i in range(instruments):
        sides = [
            [[f"{100 - k}.00", "1.5"] for k in range(50)],
            [[f"{101 + k}.00", "1.5"] for k in range(50)],
        ]
        frame = {"type": "snapshot", "product_id": f"S{i}-USD", "bids": sides[0], "asks": sides[1]}
        yield "recv", "", json.dumps(frame).encode(), 10**18
    for i in range(n):
        text = UPDATE % (
            choose.randrange(instruments),
            "buy",
            choose.randrange(60, 100),
            0,
            i % 90 + 1,
            i,
        )
        yield "recv", "", text.encode(), 10**18 + i


def thousand(scale: str) -> dict[str, Any]:
    """Hold 1,000 instruments in one decoder against 10."""
    means: dict[int, list[float]] = {n: [] for n in INSTRUMENTS}
    for _ in range(RUNS[scale]):
        for n in INSTRUMENTS:
            frames = list(shuffled(n, MANY_FRAMES[scale]))
            rig = Rig("coinbase_exchange", 2 * n)
            for frame in frames[:n]:
                rig.take(frame)
                rig.drain()
            decode, began = rig.decoder.decode, time.perf_counter_ns()
            for _, _, data, ts in frames[n:]:
                decode(data, ts)
            means[n].append((time.perf_counter_ns() - began) / len(frames[n:]) / 1e3)
            if rig.outlet.counts()["frames_decoded"] != len(frames):
                sys.exit("a frame was refused; the figures would mean nothing")
    pairs = zip(means[INSTRUMENTS[1]], means[INSTRUMENTS[0]], strict=True)
    return {
        **{f"mean_us_{n}": round(statistics.median(found), 3) for n, found in means.items()},
        "ratio": round(statistics.median(many / few for many, few in pairs), 3),
    }


def replayed(folder: Path, scale: str) -> dict[str, Any]:
    """Decode Kraken's recording again and again while its records are read off: frames a second by the clock."""
    frames = [f for f in load(folder, ROWS["kraken_v1_book"], scale) if f[0] == "recv"]
    rig = Rig("kraken_v1")
    count, began = 0, time.perf_counter_ns()
    while count < REPLAYED[scale]:
        for i, frame in enumerate(frames):
            rig.decoder.decode(frame[2], frame[3])
            if i % 512 == 0:
                rig.drain()
        rig.drain()
        count += len(frames)
    rig.drain()
    elapsed_s = (time.perf_counter_ns() - began) / 1e9
    unaccounted = count - rig.outlet.counts()["frames_decoded"]
    rig.close()
    if unaccounted:
        sys.exit(f"{unaccounted} frames unaccounted")
    return {"frames_per_s": round(count / elapsed_s), "frames": count, "unaccounted": unaccounted}


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny parameters: does it run?")
    parser.add_argument("--cpu", type=int, default=-1, help="core to run on (-1: any)")
    parser.add_argument("--captures", type=Path, default=find_captures())
    given = parser.parse_args()
    if given.captures is None:
        sys.exit("no recordings: set TICKRING_CAPTURES to their folder; nothing was measured")
    scale = "smoke" if given.smoke else "real"
    if given.cpu >= 0:
        os.sched_setaffinity(0, {given.cpu})
    figures: dict[str, Any] = venue_rows(given.captures, scale)
    figures["snapshot"] = snapshot_ms(given.captures, scale)
    figures["thousand"] = thousand(scale)
    figures["replay"] = replayed(given.captures, scale)
    line = {"bench": Path(__file__).stem, **conditions(scale, given.cpu), "figures": figures}
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
