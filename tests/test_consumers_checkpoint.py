"""A checkpoint is whole or passed over, and is refused by what it does not belong to."""

from pathlib import Path

import pytest

from consumers.checkpoint import Checkpoint, CheckpointStore, Found, Position

INPUTS = [("one.events", "aa"), ("two.events", "bb")]


def checkpoint(seq: int = 10) -> Checkpoint:
    """Make one for two inputs."""
    positions = tuple(
        Position(ring=ring, uuid=uuid, next_seq=seq + i, lapped=3)
        for i, (ring, uuid) in enumerate(INPUTS)
    )
    return Checkpoint(
        computation="sums 1", output_uuid="cc", output_next_seq=77, positions=positions
    )


def load(folder: Path) -> Found | None:
    """Read what a new process would."""
    return CheckpointStore(folder, "worker").load()


def written(folder: Path, n: int) -> CheckpointStore:
    """Write n checkpoints, the images numbered."""
    store = CheckpointStore(folder, "worker")
    store.load()
    for i in range(n):
        store.save(checkpoint(i), bytes([i]) * (100 + i))
    return store


def test_none_is_found_where_none_was_written(tmp_path: Path) -> None:
    """The first start of a worker."""
    assert load(tmp_path) is None


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_the_newest_is_found(tmp_path: Path, n: int) -> None:
    """Positions and image, in either of the two files."""
    written(tmp_path, n)
    assert load(tmp_path) == Found(checkpoint(n - 1), bytes([n - 1]) * (99 + n))


def test_a_new_process_writes_over_the_older_file(tmp_path: Path) -> None:
    """So that the newest survives a crash in the next write."""
    written(tmp_path, 3)
    store = CheckpointStore(tmp_path, "worker")
    store.load()
    newest = (tmp_path / "checkpoints" / "worker.1").read_bytes()
    store.save(checkpoint(50), b"new")
    assert (tmp_path / "checkpoints" / "worker.1").read_bytes() == newest
    assert load(tmp_path) == Found(checkpoint(50), b"new")


def test_a_write_cut_at_any_byte_leaves_the_one_before(tmp_path: Path) -> None:
    """Every length of the newest file but the whole one."""
    written(tmp_path, 2)
    path = tmp_path / "checkpoints" / "worker.0"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = load(tmp_path)
        assert found is not None
        assert found.image == bytes([0]) * 100


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """In head, meta or image: the file is passed over."""
    written(tmp_path, 2)
    path = tmp_path / "checkpoints" / "worker.0"
    whole = bytearray(path.read_bytes())
    for at in range(len(whole)):
        whole[at] ^= 1 << at % 8
        path.write_bytes(whole)
        found = load(tmp_path)
        assert found is not None
        assert found.image == bytes([0]) * 100, f"byte {at}"
        whole[at] ^= 1 << at % 8


def test_a_shorter_image_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    """The file is cut to what was written."""
    store = CheckpointStore(tmp_path, "worker")
    store.load()
    for image in (b"x" * 10_000, b"y", b"z" * 3, b""):
        store.save(checkpoint(), image)
        found = load(tmp_path)
        assert found is not None
        assert found.image == image


def test_it_fits_what_it_was_made_for() -> None:
    """No reason against it."""
    assert checkpoint().misfit("sums 1", "cc", INPUTS) == ""


@pytest.mark.parametrize(
    ("computation", "output", "inputs", "reason"),
    [
        ("sums 2", "cc", INPUTS, "sums 2"),
        ("sums 1", "dd", INPUTS, "output"),
        ("sums 1", "cc", [("one.events", "aa"), ("two.events", "xx")], "other incarnations"),
        ("sums 1", "cc", INPUTS[:1], "other incarnations"),
        ("sums 1", "cc", INPUTS[::-1], "other incarnations"),
    ],
)
def test_a_misfit_is_refused_with_its_reason(
    computation: str, output: str, inputs: list[tuple[str, str]], reason: str
) -> None:
    """Another computation, a ring made anew, other inputs or another order."""
    assert reason in checkpoint().misfit(computation, output, inputs)
