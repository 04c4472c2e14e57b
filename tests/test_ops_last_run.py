"""What an instance left is found by its name alone, wherever it kept it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Instance

from consumers.history import data_dir_of
from ops import launch
from ops.cli import run_verb
from ops.cli_app import NOT_RUNNING, OK, REFUSED
from ops.plan import make_plan
from ops.topology import parse_topology, topology_of
from shm.errors import ConfigurationError, NoMagic
from shm.registry import files_of, last_instance, memory_file, run_file

ROOT = Path(__file__).parents[1]
TOPOLOGY = """
instance = "{name}"
state_dir = "{state}"
[collectors.kraken]
enabled = false
[collectors.kraken_v1]
enabled = false
[features]
enabled = false
[bars]
enabled = false
[fanout]
enabled = false
[recorder]
enabled = false
data_dir = "{data}"
[capture]
folder = "{data}/wslog"
"""

DESCRIBED = b'{"magic":"tickring","version":%s,"instance":"x","pid":1,"start_time":1,"state_dir":"","config":%s}'


@pytest.fixture
def up(instance: Instance, tmp_path: Path):
    """Return what starts an instance with a state directory of its own, named from where it is started; ended with the test."""

    def start(label: str) -> Path:
        state = tmp_path / label
        file = tmp_path / "own.toml"
        file.write_text(TOPOLOGY.format(name=instance.name, state=label, data=tmp_path / "data"))
        words = [sys.executable, "-m", "ops", "up", "-c", str(file)]
        subprocess.run(words, check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
        return state

    yield start
    run_verb(["down", "-i", instance.name])


def test_every_verb_finds_what_an_instance_left(
    up: Callable[[str], Path], instance: Instance, capsys, monkeypatch, tmp_path: Path
) -> None:
    """After `down`, from another directory: audit, logs, trace, history and mem agree on the TOML's own places."""
    name = instance.name
    state = up("own")
    assert run_verb(["down", "-i", name]) == OK
    assert files_of(name) == []
    assert not run_file(name).exists()
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    capsys.readouterr()
    assert run_verb(["audit", "-i", name, "--json"]) == OK
    closed = json.loads(capsys.readouterr().out)
    assert (closed["instance"], closed["closing"]) == (name, True)
    monkeypatch.setenv("TICKRING_INSTANCE", name)
    assert run_verb(["audit"]) == OK
    assert run_verb(["logs", "supervisor"]) == OK
    assert "draining" in capsys.readouterr().out
    assert topology_of(name).state_path == state
    assert topology_of(name).capture_path == tmp_path / "data" / "wslog"
    assert data_dir_of(name) == tmp_path / "data"
    assert run_verb(["mem", "-i", name, "--json"]) == OK
    shown = json.loads(capsys.readouterr().out)["rings"]
    assert not [row for row in shown if row["ring"].startswith("kraken")]


def test_the_last_run_is_what_counts(up: Callable[[str], Path], instance: Instance) -> None:
    """A later run in another place is found; while one runs, its own description is."""
    first = up("first")
    found = last_instance(instance.name)
    assert found is not None
    assert found.alive
    assert found.state_dir == str(first)
    assert run_verb(["down", "-i", instance.name]) == OK
    assert topology_of(instance.name).state_path == first
    left = memory_file(instance.name).read_bytes()
    second = up("second")
    memory_file(instance.name).write_bytes(left)  # as where it could not be written anew
    assert topology_of(instance.name).state_path == second
    assert run_verb(["down", "-i", instance.name]) == OK
    up("third")
    assert run_verb(["down", "-i", instance.name]) == OK
    assert topology_of(instance.name).state_path == second.with_name("third")


def test_an_instance_that_never_ran_has_the_defaults(instance: Instance, capsys) -> None:
    """Nothing is remembered: the default places, and an audit that says what to do."""
    assert last_instance(instance.name) is None
    assert topology_of(instance.name).state_path == instance.state_dir / instance.name
    assert data_dir_of(instance.name) == instance.state_dir / instance.name / "data"
    assert run_verb(["audit", "-i", instance.name]) == NOT_RUNNING
    assert "tickring up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{", NoMagic),
        (b"[]", NoMagic),
        (DESCRIBED % (b"2", b"{}"), NoMagic),
        (DESCRIBED % (b"1", b'{"collectors":7}'), ConfigurationError),
    ],
)
def test_a_memory_that_cannot_be_read_is_an_error_not_the_defaults(
    instance: Instance, content: bytes, error: type[Exception]
) -> None:
    """Cut, of another shape, of another version: told, with what to do."""
    memory_file(instance.name).parent.mkdir(parents=True)
    memory_file(instance.name).write_bytes(content)
    with pytest.raises(error, match=r"remove it|one version|with -c"):
        topology_of(instance.name)


def test_a_memory_that_cannot_be_written_stops_nothing(
    instance: Instance, monkeypatch, tmp_path: Path, capsys
) -> None:
    """A file stands where the directory should: the operator is told how to read later."""
    own = tmp_path / "own"
    (own / "run").mkdir(parents=True)
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setenv("TICKRING_STATE_DIR", str(blocked))
    topology = parse_topology({"instance": instance.name, "state_dir": str(own)}, "test")
    launch.remember(make_plan(topology), tmp_path / "own.toml")
    assert "with -c" in capsys.readouterr().err
    assert launch.source_of(own) == tmp_path / "own.toml"


def test_a_log_that_is_not_there_is_refused_where_it_was_looked_for(
    instance: Instance, capsys
) -> None:
    """The message names the directory."""
    assert run_verb(["logs", "nobody", "-i", instance.name]) == REFUSED
    assert str(instance.state_dir / instance.name / "logs") in capsys.readouterr().err
