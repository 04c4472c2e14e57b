"""Each seeded defect of staging and scanning is caught: the core's own sources, changed by one line, driven through ctypes."""

import ctypes
import random
import subprocess
import zlib
from pathlib import Path

import pytest
from native_build import Defect, defective_sources
from wslogs import ENTRY, frames

HEAD, HALF = 4096, 1 << 16
USED, OPEN_AT, NEXT_NO, FRAMES = 8, 6, 3, 4
"""Words of struct tr_stage_head."""
DEFECTS = {
    "a payload's CRC is not looked at": ("e->payload_bytes) != e->payload_crc32", "0) != 0"),
    "a header's CRC is not looked at": ("&& e.header_crc32 == header_crc(&e)", ""),
    "the CRC leaves the tail out": (
        "n - lanes * LANE_BYTES);",
        "0);",
        "crc32.c",
    ),
    "an entry beyond the end is taken": (
        "if ((int64_t)e->payload_bytes > n_bytes - payload)",
        "if ((int64_t)e->payload_bytes > n_bytes - payload + 1)",
    ),
    "the number does not grow": (
        "    head->next_entry_no++;\n    head->frames",
        "    head->frames",
    ),
    "a lost entry leaves no hole": (
        "s->head->next_entry_no++;\n    s->head->frames +=",
        "s->head->frames +=",
    ),
    "records are counted from nought": (
        "(uint32_t)(s->events->next - e.first_seq)",
        "(uint32_t)s->events->next",
    ),
    "the first seq is the one before": (
        ".first_seq = s->events->next,",
        ".first_seq = s->events->next - 1,",
    ),
    "an abandoned frame is forgotten": (
        "tr_stage_end(s, TR_WSLOG_STATUS_ABANDONED);",
        "s->entry = NULL;",
    ),
    "the entry in hand is not mended": ("e.records = TR_WSLOG_IN_HAND;\n    e.status", "e.status"),
    "nothing is in hand": (
        "TR_STORE_RELEASE(&head->open_at, 1 +",
        "TR_STORE_RELEASE(&head->open_at, 0 *",
    ),
    "what was staged is not told": (
        "TR_STORE_RELEASE(&head->used[head->half], used + ROOM_FOR_ENTRY + n_bytes)",
        "TR_STORE_RELEASE(&head->used[head->half], used)",
    ),
    "a half is filled beyond its end": (
        "if (!is_large && used + ROOM_FOR_ENTRY + n_bytes > head->half_bytes)",
        "if (!is_large && used + n_bytes > head->half_bytes)",
    ),
    "halves do not change": ("TR_STORE_RELEASE(&s->head->half, 1 - before);", ""),
    "the next sound entry is not found": ("if (is_header(next))", "if (!is_header(next))"),
}


class Core:
    """wslog.c and crc32.c as a library of their own."""

    def __init__(self, sources: Path) -> None:
        library = sources / "wslog.so"
        command = ["gcc", "-std=c11", "-O0", "-w", "-shared", "-fPIC"]
        # Its own functions, even where the core itself was loaded for all to see.
        command += ["-Wl,-Bsymbolic", f"-I{sources}"]
        command += [str(sources / "wslog.c"), str(sources / "crc32.c"), "-o", str(library)]
        subprocess.run(command, check=True)
        self.lib = ctypes.CDLL(str(library))
        for name in ("frame", "end", "turn", "mend"):
            getattr(self.lib, f"tr_stage_{name}").restype = ctypes.c_int64
        self.lib.tr_wslog_scan.restype = self.lib.tr_wslog_find.restype = ctypes.c_int64
        self.region = ctypes.create_string_buffer(HEAD + 2 * HALF + 4096)
        self.stage = ctypes.create_string_buffer(256)
        self.producer = (ctypes.c_int64 * 16)()
        self.next_at = 5  # word of tr_producer.next
        self.producer[self.next_at] = 1
        pointers = (self.stage, self.region, ctypes.c_int64(HALF), self.producer, ctypes.c_int64(7))
        self.lib.tr_stage_open(*pointers)

    @property
    def head(self):
        return ctypes.cast(self.region, ctypes.POINTER(ctypes.c_int64))

    def begin(self, text: bytes) -> int:
        return self.lib.tr_stage_frame(
            self.stage, text, ctypes.c_int64(len(text)), ctypes.c_int64(5)
        )

    def take(self, text: bytes) -> int:
        full = self.begin(text)
        self.producer[self.next_at] += len(text) % 4
        self.lib.tr_stage_end(self.stage, ctypes.c_int64(0))
        return full

    def staged(self) -> bytes:
        half = self.head[7]
        begin = HEAD + half * HALF
        return self.region.raw[begin : begin + self.head[USED + half]]

    def scan(self, raw: bytes) -> tuple[list[bytes], int, int]:
        """Return payloads, where it stopped and why."""
        entries = ctypes.create_string_buffer(64 * 512)
        offsets, stop = (ctypes.c_int64 * 512)(), (ctypes.c_int64 * 2)()
        sizes = (ctypes.c_int64(len(raw)), ctypes.c_int64(0), entries, offsets)
        n = self.lib.tr_wslog_scan(raw, *sizes, ctypes.c_int64(512), stop)
        rows = [ENTRY.unpack_from(entries.raw, 64 * i) for i in range(n)]
        found = [raw[o : o + row[2]] for o, row in zip(offsets, rows, strict=False)]
        return found, stop[0], stop[1]


def findings(core: Core) -> list[str]:
    """Name what is wrong with a core; empty for a sound one."""
    found = []
    texts = frames(40, longest=90)
    for text in texts:
        core.take(text)
    raw = core.staged()
    if not raw:
        return ["nothing is staged"]
    rows, at, seq = [], 0, 1
    while at + 64 <= len(raw):
        row = ENTRY.unpack_from(raw, at)
        rows.append(row)
        body = raw[at + 64 : at + 64 + row[2]]
        if row[1] != zlib.crc32(raw[at + 8 : at + 64]) or row[3] != zlib.crc32(body):
            found.append("a CRC is not zlib's")
            break
        if (row[4], row[7], row[8]) != (len(rows), seq, len(body) % 4):
            found.append("number, first seq or records")
            break
        seq += row[8]
        at += 64 + row[2]
    if len(rows) != len(texts) or at != len(raw):
        found.append("entries are missing")
    payloads, stop, why = core.scan(raw)
    if (payloads, stop, why) != (texts, len(raw), 0):
        found.append("the scan does not give what was staged")
    rng = random.Random(5)
    for _ in range(150):
        damaged = bytearray(raw)
        damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        payloads = core.scan(bytes(damaged))[0]
        if len(payloads) == len(texts) or not set(payloads) <= set(texts):
            found.append("a flipped bit is not noticed")
            break
    for n in range(len(raw) - 200, len(raw)):
        payloads, _, why = core.scan(raw[:n])
        if why or not set(payloads) <= set(texts):
            found.append("a cut entry is taken, or for damage")
            break
    if len(raw) and core.lib.tr_wslog_find(raw, ctypes.c_int64(len(raw)), ctypes.c_int64(1)) != (
        64 + len(texts[0])
    ):
        found.append("the next entry is not found")
    return found + crash_findings(core)


def crash_findings(core: Core) -> list[str]:
    """The entry in hand is readable after a crash, an abandoned one is ended, a full half is refused, a hole is left."""
    found = []
    core.begin(b"abandoned")
    core.producer[core.next_at] += 2
    core.begin(b"in hand")
    at = HEAD + core.head[7] * HALF + core.head[USED + core.head[7]] - len(b"in hand") - 64
    core.region[at + 48] = 3  # killed in S4: some of the records are named
    core.lib.tr_stage_mend(core.stage)
    payloads, _, why = core.scan(core.staged())
    if payloads[-2:] != [b"abandoned", b"in hand"] or why:
        found.append("the entry in hand cannot be read")
    else:
        raw = core.staged()
        last = ENTRY.unpack_from(raw, len(raw) - 64 - len(b"in hand"))
        before = ENTRY.unpack_from(raw, len(raw) - 128 - len(b"in handabandoned"))
        if (last[8], last[11]) != (0xFFFFFFFF, 254) or (before[8], before[11]) != (2, 255):
            found.append("what is in hand, or abandoned, is not marked")
    core.lib.tr_stage_end(core.stage, ctypes.c_int64(0))
    number = core.head[NEXT_NO]
    core.lib.tr_stage_skip(core.stage, ctypes.c_int64(1))
    if core.head[NEXT_NO] != number + 1:
        found.append("a lost entry leaves no hole")
    while not core.take(b"x"):
        if core.head[USED + core.head[7]] > HALF:
            found.append("a half is filled beyond its end")
            break
    half = core.head[7]
    core.lib.tr_stage_turn(core.stage)
    if core.head[7] == half or core.head[USED + core.head[7]]:
        found.append("halves do not change")
    return found


def test_a_sound_core_has_no_findings() -> None:
    assert findings(Core(defective_sources(()))) == []


@pytest.mark.parametrize("name", DEFECTS)
def test_a_seeded_defect_is_found(name: str) -> None:
    """Each of them alone."""
    text, instead, *file = DEFECTS[name]
    defect = Defect(*(file or ["wslog.c"]), text, instead)
    assert findings(Core(defective_sources((defect,)))), name
