"""The C core runs under ThreadSanitizer, AddressSanitizer and UBSan without a report, and the first would report a weakening.

ThreadSanitizer does not model fences, so it sees the fence-free build, in which a plain array changes hands with each record:
only the ring's own edges make that right.
"""

import pytest
from native_build import ASAN, TSAN, Defect, build, run

# In the fence-free build payload words are release stores and acquire loads, which would hide a weakened stamp:
# with them relaxed a "wait" ring still is right, and only by its stamp and its cursor.
PAYLOAD_RELAXED = (
    Defect(
        "atomics.h",
        "#define TR_PAYLOAD_STORE(p, v) TR_STORE_RELEASE(p, v)",
        "#define TR_PAYLOAD_STORE(p, v) TR_STORE_RELAXED(p, v)",
    ),
    Defect(
        "atomics.h",
        "#define TR_PAYLOAD_LOAD(p) TR_LOAD_ACQUIRE(p)",
        "#define TR_PAYLOAD_LOAD(p) TR_LOAD_RELAXED(p)",
    ),
    Defect(
        "atomics.h",
        "#define TR_STAMP_ODD(p, v) TR_STORE_RELEASE(p, v)",
        "#define TR_STAMP_ODD(p, v) TR_STORE_RELAXED(p, v)",
    ),
)

WEAKENED = {
    "relaxed publish (P4)": Defect(
        "ring.h",
        "TR_STORE_RELEASE(slot, 2 * n + 2); /* P4 */",
        "TR_STORE_RELAXED(slot, 2 * n + 2); /* P4 */",
    ),
    "relaxed look (R1)": Defect(
        "ring.h",
        "int64_t stamp = TR_LOAD_ACQUIRE(slot); /* R1 */",
        "int64_t stamp = TR_LOAD_RELAXED(slot); /* R1 */",
    ),
    "relaxed cursor store": Defect(
        "control.c",
        "        TR_STORE_RELEASE(&e->cursor, cursor);\n    }\n    if (lag",
        "        TR_STORE_RELAXED(&e->cursor, cursor);\n    }\n    if (lag",
    ),
    "relaxed cursor load (P0)": Defect(
        "ring.c",
        "int64_t cursor = TR_LOAD_ACQUIRE(&e->cursor);",
        "int64_t cursor = TR_LOAD_RELAXED(&e->cursor);",
    ),
}


def reports(ran) -> int:
    return ran.stderr.count("WARNING: ThreadSanitizer")


def test_five_million_records_without_a_thread_report() -> None:
    """Two consumers, sleep and wake, reuse of every slot."""
    ran = run(build("threads", TSAN), "wait", 5_000_000, 2, timeout_s=200)
    assert (reports(ran), ran.status) == (0, 0), ran.stderr[:3000]
    assert ran.facts == {"records": 5_000_000, "bad": 0, "bad_beside": 0, "lost": 0}


def test_a_relaxed_payload_alone_is_no_race_in_a_wait_ring() -> None:
    """The base of the weakenings below is itself right."""
    ran = run(build("threads", TSAN, PAYLOAD_RELAXED), "wait", 300_000, 2)
    assert (reports(ran), ran.status) == (0, 0), ran.stderr[:3000]


@pytest.mark.parametrize("name", WEAKENED)
def test_each_weakened_edge_is_reported(name: str) -> None:
    """A relaxed publish, look or cursor is a data race on what they hand over."""
    ran = run(build("threads", TSAN, (*PAYLOAD_RELAXED, WEAKENED[name])), "wait", 300_000, 2)
    assert reports(ran) > 0


@pytest.mark.parametrize(
    ("harness", "arguments"),
    [
        ("threads", ("wait", 5_000_000, 2)),
        ("threads", ("exact", 500_000, 64)),
        ("threads", ("exact", 100_000, 1664)),
        ("threads", ("torn", 3_000_000, 3, 64)),
        ("threads", ("torn", 1_000_000, 3, 1664)),
        ("kills", ("producer", 200, 1664)),
        ("kills", ("consumer", 100)),
        ("kills", ("stop", 30, 1664)),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value)),
)
def test_no_address_or_undefined_behaviour_report(harness: str, arguments: tuple) -> None:
    """Any report ends the program with a failure; the counts are right as well."""
    ran = run(build(harness, ASAN), *arguments, timeout_s=200)
    assert (ran.status, ran.stderr) == (0, "")
    for name in ("bad", "bad_beside", "torn", "unaccounted_readers", "left_out"):
        assert ran.facts.get(name, 0) == 0
