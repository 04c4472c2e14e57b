"""How fast is a .wslog read: every entry found and both its CRCs proved, beside reading the same bytes and doing nothing?

    file ──read──> chunk ──scan and CRC in C──> headers as one array (and, in `frames`, each payload as bytes)

Inside the timed window: opening the file to its last entry, from the page cache. Limits in the same run, in turns: plain
reads of the file, and one memcpy of its bytes. Entries are counted and their lengths added up, else the run fails.

    python bench/bench_wslog_read.py [--smoke] [--cpu N]
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from conditions import asked, conditions

from collectors.synthetic import SyntheticSpec, synthetic_frames
from collectors.wslog import CHUNK_BYTES, COMPRESSED, About, Header, WsLog, pack_header
from ops.wslog_keeper import compress
from shm import clock
from shm._native import ffi, lib

RUNS = {"smoke": 2, "real": 7}
FRAMES = {"smoke": 5_000, "real": 100_000}
COPIES = {"smoke": 1, "real": 8}
TO_REACH_MB_PER_S = 400


def write(path: Path, frames: list[bytes], copies: int) -> tuple[int, int]:
    """Write frames as a capture does; returns entries and payload bytes."""
    about = About(
        instance="bench",
        venue="kraken_v2",
        venue_name="kraken",
        url="wss://venue",
        max_frame_bytes=1,
        first_instrument_id=1,
        instrument_ids=1,
    )
    header = Header("bench", 1, 0, 1, 1, 1, "00" * 16, msgspec.json.encode(about))
    half = 1 << 20
    region = ffi.new("char[]", lib.TR_STAGE_HEAD_BYTES + 2 * half)
    producer, stage = ffi.new("tr_producer *"), ffi.new("tr_stage *")
    lib.tr_stage_open(stage, region, half, producer, 1)
    with path.open("wb") as file:
        file.write(pack_header(header))

        def flush() -> None:
            begin = lib.TR_STAGE_HEAD_BYTES + int(stage.head.half) * half
            file.write(ffi.buffer(region)[begin : begin + int(lib.tr_stage_turn(stage))])

        for _ in range(copies):
            for frame in frames:
                if lib.tr_stage_frame(stage, frame, len(frame), 1):
                    flush()
                    lib.tr_stage_frame(stage, frame, len(frame), 1)
                lib.tr_stage_end(stage, 0)
        flush()
    return copies * len(frames), copies * sum(map(len, frames))


def scan(path: Path) -> tuple[int, int]:
    """Prove every entry."""
    entries = n_bytes = 0
    for batch in WsLog(path).batches():
        entries += len(batch.entries)
        n_bytes += int(batch.entries["payload_bytes"].sum(dtype=int))
    return entries, n_bytes


def frames_of(path: Path) -> tuple[int, int]:
    """Prove every entry and make its payload a Python object."""
    entries = n_bytes = 0
    for batch in WsLog(path).batches():
        for *_, payload in batch.rows():
            entries += 1
            n_bytes += len(payload)
    return entries, n_bytes


def plain(path: Path) -> None:
    """Read the bytes."""
    with path.open("rb", buffering=0) as file:
        while file.read(CHUNK_BYTES):
            pass


def main() -> None:
    """Run, check, and print one JSON line."""
    kind, cpu = asked(__doc__)
    spec = SyntheticSpec(depth=10, start_ns=10**18, frames=FRAMES[kind])
    frames = [data for _, data in synthetic_frames(spec, "kraken_v2")]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "bench.20260101T000000.00000001.0000.wslog"
        packed = path.with_name(path.name.removesuffix(".wslog") + COMPRESSED)
        held = write(path, frames, COPIES[kind])
        compress(path, packed, 3)
        file_bytes = path.stat().st_size
        whole, copy = path.read_bytes(), bytearray(file_bytes)

        def memcpy() -> None:
            copy[:] = whole

        ways: dict[str, Callable[[], object]] = {
            "plain_read": lambda: plain(path),
            "memcpy": memcpy,
            "proved": lambda: scan(path),
            "frames": lambda: frames_of(path),
            "proved_from_zstd": lambda: scan(packed),
        }
        rates: dict[str, list[float]] = {what: [] for what in ways}
        for _ in range(RUNS[kind]):
            for what, way in ways.items():
                began = clock.monotonic_ns()
                found = way()
                rates[what].append(file_bytes * 1e3 / (clock.monotonic_ns() - began))
                if found is not None and found != held:
                    sys.exit(f"{what}: {found} entries and bytes, {held} were written")
        ratio = packed.stat().st_size / file_bytes
    figures = {
        what: {
            "mb_per_s": round(statistics.median(each)),
            "lowest": round(min(each)),
            "highest": round(max(each)),
        }
        for what, each in rates.items()
    }
    of_plain = [p / r for p, r in zip(rates["proved"], rates["plain_read"], strict=True)]
    line = {"bench": Path(__file__).stem, **conditions(kind, cpu), "figures": figures}
    line |= {"proved_of_plain_read": round(statistics.median(of_plain), 3)}
    line |= {"file_bytes": file_bytes, "entries": held[0], "zstd_ratio": round(ratio, 3)}
    sys.stdout.write(json.dumps(line | {"to_reach_mb_per_s": TO_REACH_MB_PER_S}) + "\n")


if __name__ == "__main__":
    main()
