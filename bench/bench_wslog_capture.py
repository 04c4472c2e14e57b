"""What does it cost a frame to be captured, beside decoding the same frame?

    frame ──> decode ──> ring                      frame ──> staging ──> decode ──> ring, header named after
          timed A                                              timed B

Inside the timed window: the frames of one read batch, decoded (or handed to a function that does nothing), in A without and in
B with capture, in turns over the same frames. Outside: the tick that hands a half to the disk's thread, and that thread's
write, which is waited for. Every frame that was captured is read back and compared, else the run fails.

    python bench/bench_wslog_capture.py [--smoke] [--cpu N]
"""

import json
import statistics
import sys
import tempfile
import uuid
from pathlib import Path

import msgspec
import numpy as np
from conditions import asked, conditions

from collectors import wslog_writer
from collectors.captures import open_captures
from collectors.decoder import Subscription
from collectors.instruments import InstrumentTable
from collectors.kraken_v2 import KrakenV2
from collectors.synthetic import SyntheticSpec, synthetic_frames
from collectors.wslog import About
from collectors.wslog_writer import Capture, CaptureSpec, Decode
from layouts import EVENT, INSTRUMENT
from shm import clock
from shm import region as regions
from shm.counters import Counters
from shm.outlet import Outlet
from shm.producer import open_ring
from shm.region import ring_name
from shm.registry import files_of

RUNS = {"smoke": 2, "real": 7}
FRAMES = {"smoke": 2_000, "real": 60_000}
BATCH = 200
TO_REACH_US = 1.0


def nothing(frame: bytes, ts_recv: int) -> int:
    """Stand for a decoder that costs nothing."""
    del frame, ts_recv
    return 0


class Bench:
    """A collector's decoder and capture without its socket."""

    def __init__(self, folder: Path) -> None:
        self.instance = f"b{uuid.uuid4().hex[:12]}"
        names = ("frames_in", *wslog_writer.COUNTERS)
        self.counters = Counters.create(self.instance, "bench", names)
        self.events = open_ring(ring_name(self.instance, "bench", "events"), EVENT, 4096, folder)
        table_ring = ring_name(self.instance, "bench", "instruments")
        table = InstrumentTable(
            "bench", "kraken", 1, 99, open_ring(table_ring, INSTRUMENT, 1024, folder)
        )
        wanted = [Subscription("book", ("BTC/USD", "ETH/USD"), 10)]
        self.decoder = KrakenV2(Outlet(self.events), table, wanted, accept_any=True)
        about = About(
            instance=self.instance,
            venue="kraken_v2",
            venue_name="kraken",
            url="wss://venue",
            max_frame_bytes=1 << 24,
            first_instrument_id=1,
            instrument_ids=99,
        )
        self.capture = Capture(
            CaptureSpec(folder=str(folder), free_bytes_min=0),
            self.instance,
            "bench",
            self.counters,
            self.events,
            lambda: msgspec.json.encode(about),
        )
        self.capture.start()
        self.folder = folder / "bench"

    def run(self, frames: list[bytes], decode: Decode) -> int:
        """Return the ns that the frames took, a batch at a time."""
        took = 0
        for at in range(0, len(frames), BATCH):
            batch = frames[at : at + BATCH]
            began = clock.monotonic_ns()
            for frame in batch:
                decode(frame, 1)
            took += clock.monotonic_ns() - began
            self.capture.tick()
            while any(self.capture._disk.is_busy):
                pass
        return took

    def close(self) -> None:
        """Remove the regions."""
        self.capture.stop()
        for file in files_of(self.instance):
            regions.unlink(file)


def main() -> None:
    """Run, check, and print one JSON line."""
    kind, cpu = asked(__doc__)
    spec = SyntheticSpec(depth=10, start_ns=10**18, frames=FRAMES[kind])
    frames = [data for _, data in synthetic_frames(spec, "kraken_v2")]
    captured: list[bytes] = []
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        kept = bench.capture.through
        ways = {
            "nothing": nothing,
            "nothing_captured": kept(nothing),
            "decode": bench.decoder.decode,
            "decode_captured": kept(bench.decoder.decode),
        }
        for run in range(RUNS[kind] + 1):
            for what, decode in ways.items():
                took = bench.run(frames, decode)
                captured += frames if what.endswith("captured") else []
                if run:
                    times.setdefault(what, []).append(took / len(frames) / 1e3)
        bench.close()
        found = open_captures(sorted(bench.folder.glob("*.wslog")))
        if [f.data for c in found for f in c if f.kind == "recv"] != captured:
            sys.exit("what was captured is not what came: the figures would mean nothing")
    figures: dict[str, float] = {
        f"{what}_us": round(statistics.median(each), 3) for what, each in times.items()
    }
    for what in ("nothing", "decode"):
        pairs = zip(times[what], times[f"{what}_captured"], strict=True)
        added = [captured_us - plain_us for plain_us, captured_us in pairs]
        figures[f"added_to_{what}_us"] = round(statistics.median(added), 3)
        figures[f"added_to_{what}_us_highest"] = round(max(added), 3)
    figures["frame_bytes"] = round(float(np.mean([len(frame) for frame in frames])), 1)
    line = {"bench": Path(__file__).stem, **conditions(kind, cpu), "figures": figures}
    sys.stdout.write(json.dumps(line | {"to_reach_us": TO_REACH_US}) + "\n")


if __name__ == "__main__":
    main()
