"""Captured frames add up: frames in = kept + lost + not asked for, and what is kept is in the files, counted anew.

**Why it is right** A collector writes its account several times a second, between two frames, and with it how many frames had
come by then: the sum is that of one instant, however many come meanwhile; what came since is in hand, not missing. Counters and
staging region survive their process' death, so the sum closes over kills too. The files are read entry by entry (or their rows
taken from index.json, which was made so), those of this instance's epochs alone.
"""

import time
from pathlib import Path

from ops.audit_ledgers import LOOK_S, LOOKS, counters_of, ring_facts
from ops.audit_store import Check
from ops.options import Topology
from ops.wslog_index import rows_of


def capture_checks(topology: Topology, closing: bool) -> list[Check]:
    """Return a check of each collector that has captured anything, or tried to."""
    checks = []
    for name in topology.running_collectors:
        check = _check(topology, name, closing)
        if check is not None:
            checks.append(check)
    return checks


def _check(topology: Topology, name: str, closing: bool) -> Check | None:
    facts = counters_of(topology.instance, name)
    if facts is None:
        return None
    for _ in range(
        LOOKS
    ):  # one account is several stores: read between two of them, it is read again
        facts = counters_of(topology.instance, name) or facts
        values = facts.values
        kept, lost = values.get("capture_frames", 0), values.get("capture_lost", 0)
        if not kept and not lost:
            return None
        accounted = values.get("capture_accounted", 0)
        in_hand = values.get("frames_in", 0) - accounted
        wanted = accounted - values.get("capture_unasked", 0) - lost
        wrong = abs(wanted - kept) + max(0, -in_hand)
        if not wrong or closing:
            break
        time.sleep(LOOK_S)
    notes = [f"{lost} lost, counted"] if lost else []
    if facts.state == "STOPPED":
        wrong += max(0, in_hand)
    elif facts.alive and in_hand > 0:
        notes.append(f"{in_hand} more came since its last account")
    elif not facts.alive and wrong + in_hand:
        notes.append(f"{wrong + in_hand} more are told when it is back")
        wrong = 0
    if closing and facts.state == "STOPPED":
        held, is_whole = frames_held(topology.capture_path / name, _epochs(topology, name))
        if is_whole:
            wrong += abs(held - kept)
        else:
            notes.append("files have been removed since: not counted again")
    return Check(
        name=f"captured frames of {name}",
        expected=wanted,
        found=kept,
        unaccounted=wrong,
        note=", ".join(notes),
    )


def frames_held(folder: Path, epochs: set[int]) -> tuple[int, bool]:
    """Return how many frames the files of these epochs hold, and whether no file between the first and the last is gone."""
    frames, parts = 0, dict.fromkeys(epochs, 0)
    is_whole = True
    for _, row in rows_of(folder):
        if row.epoch not in epochs:
            continue
        is_whole = is_whole and row.part == parts[row.epoch]
        parts[row.epoch] = row.part + 1
        frames += row.frames
    return frames, is_whole


def _epochs(topology: Topology, name: str) -> set[int]:
    facts = ring_facts(topology.instance, f"{name}.events")
    return {epoch for epoch, _ in facts.epochs} if facts else set()
