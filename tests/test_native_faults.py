"""Torn reads, exact losses, kills and stops at random and at each numbered step: counted, and each defect seeded shows.

The figures here are the ones of a quick run; `make soak` runs the full ones.
"""

from subprocess import TimeoutExpired

import pytest
from native_build import HOOKS, RELEASE, Defect, build, run

PRODUCER_STEPS = {"P0": 0, "P1": 1, "P2": 2, "P3": 3, "P3 half": 4, "P4": 5, "P5": 6, "P6": 17}
CONSUMER_STEPS = {
    "R1": 7, "R3": 8, "R4": 9, "R5": 10, "W1": 11, "W2": 12, "W3": 13, "J1": 14, "J2": 15, "J3": 16,
}  # fmt: skip

NO_ODD_MARK = Defect("ring.h", "    TR_STAMP_ODD(slot, 2 * n + 1); /* P1 */\n", "")
NO_RE_CHECK = Defect("ring.h", "TR_UNLIKELY(TR_LOAD_RELAXED(slot) != stamp)", "0")
LOSS_MISCOUNTED = Defect(
    "ring.c", "r->lost_total += go_on - r->next;", "r->lost_total += head - r->next;"
)
HEAD_BELIEVED = Defect(
    "ring.c",
    "!= 2 * p->next + 2) break;\n            p->next++;",
    "!= 2 * p->next + 2) break;\n            break;",
)
SLOT_SKIPPED = Defect(
    "ring.c",
    "        TR_STORE_RELEASE(&d->head, p->next);\n    }",
    "        if (TR_LOAD_RELAXED(tr_stamp(p->slots, p->mask, p->stride, p->next)) == 2 * p->next + 1) p->next++;\n"
    "        TR_STORE_RELEASE(&d->head, p->next);\n    }",
)
ROOM_OFF_BY_ONE = Defect(
    "ring.c",
    "p->limit = least + p->mask + 1 < TR_SEQ_END ? least + p->mask + 1 :",
    "p->limit = least + p->mask + 1 < TR_SEQ_END ? least + p->mask + 2 :",
)
CURSOR_TOO_FAR = Defect(
    "control.c",
    "        TR_STORE_RELEASE(&e->cursor, cursor);\n    }\n    if (lag",
    "        TR_STORE_RELEASE(&e->cursor, cursor + 1);\n    }\n    if (lag",
)
KEPT_ONE_TOO_MANY = Defect(
    "ring.c",
    "int64_t oldest = TR_LOAD_RELAXED(&r->data->head) - r->mask;",
    "int64_t oldest = TR_LOAD_RELAXED(&r->data->head) - r->mask - 1;",
)
STAMP_COMPLETE_TOO_EARLY = Defect(
    "ring.h",
    "    TR_STAMP_ODD(slot, 2 * n + 1); /* P1 */",
    "    TR_STAMP_ODD(slot, 2 * n + 2); /* P1 */",
)
CURSOR_FORGOTTEN = Defect(
    "control.c", "        tr_set_ledger(e, cursor, lapped);\n", "        return;\n"
)


COLLISIONS = 1000
"""What a run of torn reads waits for: without them it would have shown nothing."""


def facts_of(ran) -> dict[str, int]:
    assert ran.status == 0, ran.stderr
    return ran.facts


# ---------------------------------------------------------------- torn reads and exact losses


@pytest.mark.stress
@pytest.mark.parametrize(("reads", "stride"), [(100_000_000, 64), (10_000_000, 1664)])
def test_no_torn_read_is_accepted(reads: int, stride: int) -> None:
    """In a ring of two slots, where every read meets the pen: none of 10^8, and collisions did happen."""
    facts = facts_of(run(build("threads"), "torn", reads, 50, stride, COLLISIONS))
    assert facts["torn"] == 0
    assert facts["collisions"] >= COLLISIONS
    assert facts["accepted"] > reads // 20


@pytest.mark.stress
@pytest.mark.parametrize("defect", [NO_ODD_MARK, NO_RE_CHECK], ids=["no odd mark", "no re-check"])
@pytest.mark.parametrize("stride", [64, 1664])
def test_without_its_marks_reads_are_torn_within_four_seconds(defect: Defect, stride: int) -> None:
    """The harness sees what the two marks are there for."""
    facts = facts_of(run(build("threads", RELEASE, (defect,)), "torn", 1 << 40, 4, stride))
    assert facts["torn"] > 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_torn_read_in_a_thousand_million() -> None:
    """10^9 reads with at least 10^7 collisions."""
    accepted = collisions = 0
    for stride in (1664, 256, 64):
        facts = facts_of(run(build("threads"), "torn", 500_000_000, 900, stride, timeout_s=1000))
        assert facts["torn"] == 0
        accepted += facts["accepted"]
        collisions += facts["collisions"]
    assert accepted + collisions >= 1_000_000_000
    assert collisions >= 10_000_000


@pytest.mark.stress
@pytest.mark.parametrize(("records", "stride"), [(20_000_000, 64), (2_000_000, 1664)])
def test_readers_that_fall_behind_count_exactly(records: int, stride: int) -> None:
    """Three readers, each going on elsewhere after a loss: read + lost = published for each of them."""
    facts = facts_of(run(build("threads"), "exact", records, stride))
    assert (facts["bad"], facts["unaccounted_readers"]) == (0, 0)
    assert facts["lost"] > 0


def test_a_miscounted_loss_shows() -> None:
    """Seeded: the loss counted up to the head instead of to where the reader goes on."""
    facts = facts_of(run(build("threads", RELEASE, (LOSS_MISCOUNTED,)), "exact", 2_000_000, 64))
    assert facts["unaccounted_readers"] > 0


# ---------------------------------------------------------------- kill -9 and SIGSTOP


def check_producer_kills(times: int) -> None:
    facts = facts_of(run(build("kills"), "producer", times, 1664, timeout_s=600))
    assert (facts["bad"], facts["again"], facts["kills"]) == (0, 0, times)
    assert facts["read"] + facts["lost"] == facts["published"]
    assert facts["in_record"] >= 0.3 * times, "the kills must hit records in the making"
    for stride in (64, 1664):
        facts = facts_of(run(build("kills"), "lossless", times, stride, timeout_s=600))
        assert (facts["bad"], facts["lost"], facts["again"]) == (0, 0, 0)
        assert facts["read"] == facts["published"] > times


@pytest.mark.stress
def test_a_killed_producer_loses_and_repeats_nothing() -> None:
    """3 x 1,000 kills, of the first at least 30 % in mid-record: all that was published is read once, whole."""
    check_producer_kills(1_000)


@pytest.mark.soak
def test_a_producer_killed_ten_thousand_times() -> None:
    """The full figure."""
    check_producer_kills(10_000)


@pytest.mark.stress
@pytest.mark.parametrize("times", [1_000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_killed_consumer_leaves_nothing_out(times: int) -> None:
    """Its successor goes on at the cursor; every record's effect is done once and in order."""
    facts = facts_of(run(build("kills"), "consumer", times))
    assert (facts["left_out"], facts["lost"], facts["bad"]) == (0, 0, 0)
    assert facts["sunk"] > times


@pytest.mark.stress
@pytest.mark.parametrize("stride", [64, 1664])
def test_a_stopped_producer_is_read_around(stride: int) -> None:
    """100 stops: while it stands, also in mid-record, what is published is whole; it goes on as if nothing had been."""
    facts = facts_of(run(build("kills"), "stop", 100, stride))
    assert (facts["bad"], facts["unaccounted"], facts["torn"], facts["moved"]) == (0, 0, 0, 0)
    assert facts["stops"] == 100
    if stride == 1664:
        assert facts["in_record"] >= 10, "some of the stops must hit records in the making"


@pytest.mark.parametrize("step", PRODUCER_STEPS)
@pytest.mark.parametrize("nth", [0, 7, 256])
def test_a_producer_killed_at_each_step(step: str, nth: int) -> None:
    """Wherever it dies, the successor resumes behind the newest complete record."""
    if step == "P0":
        nth = min(nth, 2)  # a wait ring comes there once a lap
    facts = facts_of(run(build("kills", HOOKS), "step", PRODUCER_STEPS[step], nth))
    assert facts["died"] == 1
    assert (facts["bad"], facts["lost"]) == (0, 0)
    assert facts["resumed_at"] == facts["at"]
    assert facts["read"] == facts["published"]


@pytest.mark.parametrize("step", CONSUMER_STEPS)
def test_a_consumer_killed_at_each_step(step: str) -> None:
    """Reading, falling asleep or joining: the producer waits for its successor, which leaves nothing out."""
    facts = facts_of(run(build("kills", HOOKS), "reader", CONSUMER_STEPS[step], 0))
    assert facts["died"] == 1
    assert (facts["left_out"], facts["lost"], facts["bad"]) == (0, 0, 0)
    assert facts["sunk"] == facts["published"] == 1024


# ---------------------------------------------------------------- seeded defects


@pytest.mark.parametrize(
    ("defect", "arguments", "shows"),
    [
        (HEAD_BELIEVED, ("step", 6, 7), lambda f: f["resumed_at"] != f["at"]),
        (SLOT_SKIPPED, ("step", 5, 7), lambda f: f["resumed_at"] != f["at"]),
        (
            STAMP_COMPLETE_TOO_EARLY,
            ("step", 4, 7),
            lambda f: f["bad"] > 0 or f["resumed_at"] != f["at"],
        ),
        (CURSOR_TOO_FAR, ("reader", 9, 40), lambda f: f["left_out"] > 0 or f["lost"] > 0),
    ],
    ids=["head believed", "half-written slot skipped", "complete too early", "cursor too far"],
)
def test_a_defect_of_recovery_shows(defect: Defect, arguments: tuple, shows) -> None:
    """Seeded in the code that runs after a death; the step campaign sees each."""
    program = build("kills", HOOKS, (defect,))
    try:
        ran = run(program, *arguments, timeout_s=5)
    except TimeoutExpired:
        return  # a reader waits for ever at the hole that was left
    assert ran.status != 0 or shows(ran.facts)


@pytest.mark.parametrize(
    ("harness", "defect", "arguments", "shows"),
    [
        ("threads", ROOM_OFF_BY_ONE, ("wait", 300_000, 2), lambda f: f["lost"] > 0 or f["bad"] > 0),
        ("kills", KEPT_ONE_TOO_MANY, ("stop", 100, 1664), lambda f: f["torn"] > 0),
    ],
    ids=["room off by one", "kept one too many"],
)
def test_a_defect_of_a_bound_shows(harness: str, defect: Defect, arguments: tuple, shows) -> None:
    """One record too many in a wait ring, or in a range that is kept."""
    assert shows(facts_of(run(build(harness, RELEASE, (defect,)), *arguments)))


def test_a_cursor_that_is_never_stored_stops_a_wait_ring() -> None:
    """Seeded: the producer waits for ever, which the harness does not take for success."""
    program = build("threads", RELEASE, (CURSOR_FORGOTTEN,))
    with pytest.raises(TimeoutExpired):
        run(program, "wait", 300_000, 1, timeout_s=3)
