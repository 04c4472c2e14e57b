"""A worker's counters outlive it, never go back, and cost a reader one map."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ring_kit import outcome

from shm import region as regions
from shm.counters import Counters, counters_file, read_counters
from shm.errors import ConfigurationError, NoMagic, NoRing, OwnershipError, TooShort

NAMES = ["frames_in", "rejected.checksum", "listen_port"]


@pytest.fixture
def named(instance) -> Iterator[str]:
    """The instance's name; its counters end with the test."""
    yield instance.name
    for path in Path("/dev/shm").glob(f"tickring.{instance.name}.*"):
        path.unlink()


def test_values_are_read_by_name(named) -> None:
    """What the worker adds and sets is what anybody reads."""
    with_counters = Counters.create(named, "kraken", NAMES)
    with_counters.add("frames_in")
    with_counters.add("frames_in", 41)
    with_counters.set("listen_port", 8080)
    with_counters.pointer("rejected.checksum")[0] += 3
    with_counters.set_state("READY")
    facts = read_counters(named, "kraken")
    assert facts.values == {"frames_in": 42, "rejected.checksum": 3, "listen_port": 8080}
    assert (facts.state, facts.restarts, facts.alive) == ("READY", 0, True)
    assert with_counters.get("frames_in") == 42
    with_counters.close()


def test_a_successor_adopts_what_it_still_knows(named) -> None:
    """By name, whatever the order; new counters start at 0."""
    first = Counters.create(named, "kraken", NAMES)
    first.add("frames_in", 7)
    first.close()
    second = Counters.create(named, "kraken", ["fresh", "frames_in"])
    facts = read_counters(named, "kraken")
    assert facts.values == {"fresh": 0, "frames_in": 7}
    assert (facts.restarts, facts.state) == (1, "STARTING")
    second.close()


def test_a_crash_while_taking_over_loses_nothing(named, monkeypatch) -> None:
    """The old values stand under the worker's name until the new region is whole."""
    first = Counters.create(named, "kraken", NAMES)
    first.add("frames_in", 7)
    first.close()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("create", "rename"):
        with monkeypatch.context() as patched:
            patched.setattr(regions, step, crash)
            with pytest.raises(KeyboardInterrupt):
                Counters.create(named, "kraken", NAMES)
        assert read_counters(named, "kraken").values["frames_in"] == 7
    second = Counters.create(named, "kraken", NAMES)
    assert second.get("frames_in") == 7
    second.close()


def test_one_process_is_that_worker(named) -> None:
    """A second one is refused while the first has it."""
    first = Counters.create(named, "kraken", NAMES)
    with pytest.raises(OwnershipError):
        Counters.create(named, "kraken", NAMES)
    first.close()
    Counters.create(named, "kraken", NAMES).close()


@pytest.mark.parametrize(
    ("names", "is_allowed"),
    [
        ([], 1),
        (["a"], 1),
        (["a", "a"], 0),
        ([""], 0),
        (["x" * 47], 1),
        (["x" * 48], 0),
        ([f"c{i}" for i in range(4096)], 1),
        ([f"c{i}" for i in range(4097)], 0),
    ],
)
def test_names_are_bounded(named, names: list[str], is_allowed: int) -> None:
    """Different, 1 to 47 bytes, at most 4,096."""
    if not is_allowed:
        with pytest.raises(ConfigurationError, match="names must differ"):
            Counters.create(named, "kraken", names)
        return
    Counters.create(named, "kraken", names).close()
    assert list(read_counters(named, "kraken").values) == names


def test_damage_is_refused_and_never_a_signal(named) -> None:
    """Cut anywhere, or with a count that does not fit: a typed error."""
    Counters.create(named, "kraken", NAMES).close()
    path = Path("/dev/shm", counters_file(named, "kraken"))
    whole = path.read_bytes()
    for length in range(0, len(whole), 8):
        path.write_bytes(whole[:length])
        assert outcome(lambda: read_counters(named, "kraken")).kind in {"NoMagic", "TooShort"}
    words = np.frombuffer(whole, np.int64).copy()
    for count in (-1, 4097, 1 << 62, 4):
        words[6] = count
        path.write_bytes(words.tobytes())
        with pytest.raises(TooShort):
            read_counters(named, "kraken")
    words[0] = 0
    path.write_bytes(words.tobytes())
    with pytest.raises(NoMagic):
        read_counters(named, "kraken")
    with pytest.raises(NoRing):
        read_counters(named, "nobody")


def test_a_closed_counter_is_not_written(named) -> None:
    """After close a name is unknown, and no store reaches the unmapped region."""
    counters = Counters.create(named, "kraken", NAMES)
    counters.close()
    with pytest.raises((KeyError, AttributeError)):
        counters.add("frames_in")
