"""The features worker as a process: killed anywhere, its rows are those of a worker that never was."""

import random
from pathlib import Path

import numpy as np
import pytest
from conftest import Instance
from features_market import Tape, walk
from worker_market import SCALES, Worker, market

from consumers.feature_engine import FeatureEngine
from layouts import FEATURES, Kind

FEATURES_WORKER = Worker("consumers.features", "features", FEATURES, {})


def data_of(rows: np.ndarray) -> dict[int, np.ndarray]:
    """Give the data rows by instrument, without what may differ between a live run and a replay."""
    data = rows[rows["kind"] == Kind.FEATURES].copy()
    for field in ("stamp", "source_epoch", "source_seq", "ts_recv", "publish_delta_ns"):
        data[field] = 0
    return {int(i): data[data["instrument_id"] == i] for i in np.unique(data["instrument_id"])}


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Both hold the same data rows, bit for bit, by instrument."""
    left, right = data_of(found), data_of(wanted)
    assert left.keys() == right.keys()
    for each, rows in left.items():
        assert rows.tobytes() == right[each].tobytes(), f"instrument {each} differs"


def tapes(frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make records for both inputs."""
    made = []
    for ids in ((1, 2, 3), (11, 12, 13)):
        tape = Tape()
        walk(tape, ids, frames, seed + ids[0])
        made.append(tape.records())
    return made[0], made[1]


def never_killed(records: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Give the rows of one engine that has seen both inputs, one after the other."""
    engine = FeatureEngine(lambda _id, _version: SCALES)
    return np.concatenate([engine.process(each, i) for i, each in enumerate(records)])


def campaign(place: Instance, folder: Path, kills: int, frames: int, seed: int) -> None:
    """Feed two inputs bit by bit while the worker is killed `kills` times at random moments."""
    records = tapes(frames, seed)
    slots = 1 << max(len(each) for each in records).bit_length()
    with market(FEATURES_WORKER, place, folder, slots, slots) as made:
        rows, _ = made.feed_and_kill(records, kills, random.Random(seed))
    data = rows[rows["kind"] == Kind.FEATURES]
    for epoch in np.unique(data["source_epoch"]):
        seqs = data["source_seq"][data["source_epoch"] == epoch]
        assert np.all(np.diff(seqs) > 0), "a row is there twice or out of order"
    assert_same(rows, never_killed(records))


def test_rows_through_the_rings_are_those_of_the_engine(instance: Instance, tmp_path: Path) -> None:
    """A worker that is fed two interleaved inputs and never killed writes what one engine computes."""
    campaign(instance, tmp_path, 0, 600, 1)


@pytest.mark.stress
@pytest.mark.slow
def test_killed_anywhere_its_rows_are_those_of_a_worker_never_killed(
    instance: Instance, tmp_path: Path
) -> None:
    """20 kills at random moments: no row twice, none missing, every column bit for bit."""
    campaign(instance, tmp_path, 20, 1500, 7)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_120_times(instance: Instance, tmp_path: Path) -> None:
    """The full figure."""
    campaign(instance, tmp_path, 120, 8000, 11)
