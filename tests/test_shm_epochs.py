"""Epochs are persisted, given once each, and never go back."""

import subprocess
import sys

import pytest

from shm.epochs import take_epoch
from shm.errors import ConfigurationError


def test_epochs_survive_and_never_go_back(tmp_path) -> None:
    """Persisted, one more each time, and a damaged counter is an error that says what to do."""
    directory = tmp_path / "new" / "state"
    assert [take_epoch(directory) for _ in range(3)] == [1, 2, 3]
    (directory / "epoch").write_text("many\n")
    with pytest.raises(ConfigurationError, match="write the largest epoch ever used"):
        take_epoch(directory)
    (directory / "epoch").write_text("41\n")
    assert take_epoch(directory) == 42
    for wrong in ("", "-3", str(1 << 62)):
        (directory / "epoch").write_text(wrong)
        with pytest.raises(ConfigurationError):
            take_epoch(directory)


def test_racing_takers_get_different_epochs(tmp_path) -> None:
    """From several processes at once, none is given twice and none is left out."""
    code = (
        "import sys; from shm.epochs import take_epoch\n"
        "print(*[take_epoch(sys.argv[1]) for _ in range(50)])"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    taken = [int(word) for child in children for word in child.communicate()[0].split()]
    assert sorted(taken) == list(range(1, 201))
