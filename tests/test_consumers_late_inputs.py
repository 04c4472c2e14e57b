"""A worker begins with the inputs that are there; each that comes late is taken up whole, whatever is killed around it."""

import pytest
from conftest import Instance
from stateful_kit import RINGS, SLOTS, Place


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("saved", ["never", "before it came", "after it came"])
@pytest.mark.parametrize("killed", ["before it came", "after it came", "both"])
def test_a_kill_around_a_ring_that_comes_late(
    instance: Instance, first: int, saved: str, killed: str
) -> None:
    """Its rows are once and whole like the others', whichever input it is; nothing of it is told as forgotten."""
    place = Place(instance, rings=0)
    there, late = RINGS[first].partition(".")[0], RINGS[1 - first].partition(".")[0]
    made = {first: place.open(there)}
    place.producers = [made[first]] * 2  # the one that is there, until the other comes
    try:
        worker = place.start()
        place.feed(first, 40)
        place.drain()
        if saved == "before it came":
            worker.save()
        if killed != "after it came":
            place.feed(first, 10)
            place.drain()
            place.die()
            worker = place.start()
            assert place.restored == (saved == "before it came")
        made[1 - first] = place.open(late)
        place.producers = [made[0], made[1]]
        place.feed(1 - first, 30, 2)
        place.beat()
        place.feed(first, 5)
        place.drain()
        assert place.computation.forgotten == []
        if saved == "after it came":
            worker.save()
        place.feed(1 - first, 3, 2)
        place.drain()
        if killed != "before it came":
            place.die()
            place.start()
            assert place.restored == (saved != "never")
        place.feed(1 - first, 10, 2)
        place.drain()
        place.beat()
        assert place.computation.forgotten == []
        wanted = {first: 45 if killed == "after it came" else 55, 1 - first: 86}
        place.assert_whole([wanted[0], wanted[1]])
        assert [place.counters.get(f"in.{ring}.here") for ring in RINGS] == [1, 1]
    finally:
        place.close()


def test_a_late_ring_is_checkpointed_before_it_has_gone_round(instance: Instance) -> None:
    """After an eighth of it, as every input: a restart finds all that it has to replay."""
    place = Place(instance, rings=1)
    place.start()
    place.beat()
    place.producers.append(place.open(RINGS[1].partition(".")[0]))
    place.beat()
    place.feed(1, SLOTS // 8 - 1, 0)
    place.drain()
    assert place.counters.get("checkpoints") == 0
    place.feed(1, 1, 0)
    place.drain()
    assert place.counters.get("checkpoints") == 1
    place.close()
