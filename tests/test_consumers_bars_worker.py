"""The bars worker as a process: killed anywhere, its bars are those of a worker that never was."""

import random
from pathlib import Path

import numpy as np
import pytest
from bars_market import random_prints
from conftest import Instance
from worker_market import SCALES, Worker, market

from consumers.bar_engine import BarEngine
from consumers.bar_series import BarsConfig, Session
from layouts import BAR, Kind

CONFIG = BarsConfig(
    session_frames=("1h", "1d"),
    tick_bars=(10,),
    volume_bars=(2.5,),
    dollar_bars=(1e6,),
    imbalance_bars=(5,),
    empty_rows=2,
    sessions={"us": Session(open="09:30", time_zone="America/New_York", instruments=("test:I1*",))},
)
BARS_WORKER = Worker("consumers.bars", "bars", BAR, {"bars": CONFIG})
BETWEEN_RUNS = ("stamp", "source_epoch", "source_seq", "ts_recv", "publish_delta_ns")


def data_of(rows: np.ndarray) -> dict[int, bytes]:
    """Give the bars by instrument, without what may differ between a live run and a replay."""
    data = rows[rows["kind"] == Kind.BAR].copy()
    for field in BETWEEN_RUNS:
        data[field] = 0
    return {
        int(i): data[data["instrument_id"] == i].tobytes() for i in np.unique(data["instrument_id"])
    }


def campaign(place: Instance, folder: Path, kills: int, n: int, seed: int) -> None:
    """Feed two inputs bit by bit while the worker is killed `kills` times at random moments."""
    records = [random_prints(seed + i, n, ids) for i, ids in enumerate(((1, 2, 3), (11, 12, 13)))]
    slots = 1 << max(len(each) for each in records).bit_length()
    with market(BARS_WORKER, place, folder, slots, 1 << 17) as made:
        rows, facts = made.feed_and_kill(records, kills, random.Random(seed))
    engine = BarEngine(CONFIG, lambda _id, _version: SCALES, lambda i: f"test:I{i}")
    wanted = np.concatenate([engine.process(each, i) for i, each in enumerate(records)])
    assert len(wanted) < 1 << 17
    bars = rows[rows["kind"] == Kind.BAR]
    for epoch in np.unique(bars["source_epoch"]):
        mine = bars[bars["source_epoch"] == epoch]
        order = mine["source_seq"] * (1 << 20) + mine["source_index"]
        assert np.all(np.diff(order) > 0), "a bar is there twice or out of order"
    assert data_of(rows) == data_of(wanted)
    assert {name: facts.values[name] for name in engine.counters} == engine.counters


def test_bars_through_the_rings_are_those_of_the_engine(instance: Instance, tmp_path: Path) -> None:
    """A worker that is fed two interleaved inputs and never killed writes what one engine computes."""
    campaign(instance, tmp_path, 0, 300, 1)


@pytest.mark.stress
@pytest.mark.slow
def test_killed_anywhere_its_bars_are_those_of_a_worker_never_killed(
    instance: Instance, tmp_path: Path
) -> None:
    """10 kills at random moments: no bar twice, none missing, every column bit for bit."""
    campaign(instance, tmp_path, 10, 1200, 7)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_120_times(instance: Instance, tmp_path: Path) -> None:
    """The full figure."""
    campaign(instance, tmp_path, 120, 4000, 11)
