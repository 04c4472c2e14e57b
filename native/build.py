"""Builds `shm._native` from every `native/*.c`; its Python face is every `native/*_api.h`.

An `*_api.h` holds plain declarations only, so that cffi can read it once its preprocessor lines are gone: a new
part of the core adds its `.c` and `_api.h` beside the others and nothing here. Symbols keep default visibility,
because njit code calls them by name.
"""

import re
from pathlib import Path

from cffi import FFI

NATIVE = Path(__file__).resolve().parent
ROOT = NATIVE.parent

# The fields that Python reads or sets; `...;` lets the compiler fill in the rest.
PRELUDE = """
typedef struct tr_producer {
    int64_t mask; int64_t stride; int64_t next; int64_t limit; int64_t mode; int64_t timeout_ns; ...;
} tr_producer;
typedef struct tr_reader {
    int64_t mask; int64_t stride; int64_t next; int64_t lost_from; int64_t lost_to; int64_t lost_total; int64_t rejoin; ...;
} tr_reader;
struct tr_epoch { int64_t epoch; int64_t first_seq; };
struct tr_data {
    int64_t magic; int32_t layout_version; int32_t byte_order; int64_t header_bytes; int64_t slot_stride; int64_t slots;
    int64_t mask; int32_t mode; int32_t description_bytes; uint8_t abi_hash[16]; uint8_t ring_uuid[16]; uint8_t boot_id[16];
    int64_t created_ns; int64_t first_seq; int64_t static_checksum; int64_t head; int64_t epoch; int64_t state;
    int64_t producer_pid; int64_t producer_start_time; int64_t heartbeat_ns; int64_t epochs_taken; struct tr_epoch epochs[64];
    int64_t published_bytes; int64_t back_pressure_ns; int64_t restarts; ...;
};
struct tr_entry {
    int64_t cursor; int64_t state; int64_t heartbeat_ns; int32_t sleep_word; char name[32]; int64_t pid; int64_t start_time;
    int64_t generation; int64_t start_seq; int64_t lag_max; int64_t required; int64_t dead_generation; ...;
};
struct tr_control {
    int64_t magic; int32_t layout_version; int32_t byte_order; int64_t entries; int64_t total_bytes; uint8_t ring_uuid[16];
    struct tr_entry entry[32]; ...;
};
#define TR_MAGIC_DATA ...
#define TR_MAGIC_CONTROL ...
#define TR_LAYOUT_VERSION ...
#define TR_BYTE_ORDER ...
#define TR_SEQ_END ...
#define TR_CONSUMERS ...
#define TR_OVERWRITE ...
#define TR_WAIT ...
#define TR_LATEST ...
#define TR_INIT ...
#define TR_LIVE ...
#define TR_RETIRED ...
#define TR_STOPPED ...
#define TR_FREE ...
#define TR_RESERVED ...
#define TR_JOINING ...
#define TR_ACTIVE ...
#define TR_DETACHED ...
#define TR_OK ...
#define TR_EMPTY ...
#define TR_LAPPED ...
#define TR_WOULD_BLOCK ...
#define TR_SEQ_EXHAUSTED ...
#define TR_BAD_ARGUMENT ...
#define TR_NO_ENTRY ...
#define TR_TAKEN ...
#define TR_FAULT_NONE ...
#define TR_FAULT_CHECKSUM ...
#define TR_FAULT_PADDING ...
#define TR_FAULT_HEAD ...
"""

COMPILE_ARGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-fno-math-errno"]


def declarations() -> str:
    """Return the text for cffi: the prelude, then every `*_api.h` without its preprocessor lines and comments."""
    parts = [PRELUDE]
    for header in sorted(NATIVE.glob("*_api.h")):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
        parts.append("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return "\n".join(parts)


def make_builder(module: str = "shm._native", extra_args: tuple[str, ...] = ()) -> FFI:
    """Return the cffi builder of `module`; `extra_args` make the sanitizer and hook builds of the tests."""
    builder = FFI()
    builder.cdef(declarations())
    headers = sorted(path.name for path in NATIVE.glob("*_api.h"))
    builder.set_source(
        module,
        "\n".join(f'#include "{name}"' for name in headers),
        sources=sorted(
            f"native/{path.name}" for path in NATIVE.glob("*.c") if path.stem != "_native"
        ),
        include_dirs=["native"],
        depends=sorted(f"native/{path.name}" for path in NATIVE.glob("*.h")),
        extra_compile_args=[*COMPILE_ARGS, *extra_args],
    )
    return builder


ffibuilder = make_builder()
