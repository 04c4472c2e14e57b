"""Each verb answers with data on stdout, words on stderr and the documented exit status."""

import json
from pathlib import Path

import pytest
from conftest import Instance

from ops import logs, mem, show
from ops.cli import run_verb


def test_help_states_the_exit_statuses(capsys) -> None:
    """They are part of the interface."""
    assert run_verb(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "3 the instance is not running; 4 it runs already" in text
    for verb in ("up", "down", "status", "ready", "audit", "replay", "run", "ring", "config"):
        assert f" {verb}: " in text


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nosuch"], 2, "nosuch"),
        (["status", "--nosuch"], 2, "--nosuch"),
        (["status"], 3, "no instance"),
        (["ready", "--timeout", "0"], 3, "no instance"),
        (["ring", "list"], 3, "no instance"),
        (["ring", "tail", "kraken.events"], 3, "no instance"),
        (["ring", "details", "kraken"], 3, "no instance"),
        (["ring", "hz", "kraken.events"], 3, "no instance"),
        (["ring", "dump", "kraken.events"], 3, "no instance"),
        (["audit"], 3, "no closed books"),
        (["restart"], 2, "name workers"),
        (["restart", "kraken"], 3, "does not answer"),
        (["up", "kraken"], 3, "does not answer"),
        (["logs", "kraken"], 2, "there are: none yet"),
        (["up", "-c", "/nosuch.toml"], 2, "No such file"),
        (["config", "explain", "nosuch"], 2, "unknown key"),
        (["replay", "x", "--venue", "kraken_v2", "--speed", "0"], 2, '"max" expected'),
    ],
)
def test_refusals_have_their_status_and_say_why(
    instance: Instance, monkeypatch, capsys, words: list[str], status: int, said: str
) -> None:
    """Nothing on stdout, one clear text on stderr."""
    monkeypatch.setenv("TICKRING_INSTANCE", instance.name)
    assert run_verb(words) == status
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""
    assert "Traceback" not in err


def test_status_without_an_instance_is_json_too(instance: Instance, capsys) -> None:
    """A script need not special-case it."""
    assert run_verb(["status", "-i", instance.name, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["state"] == "not running"


def test_an_instance_that_does_not_run_is_down(instance: Instance, capsys) -> None:
    """As often as one likes."""
    for _ in range(2):
        assert run_verb(["down", "-i", instance.name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["was_running"] is False


def test_a_topology_with_mistakes_is_refused_with_all_of_them(
    instance: Instance, tmp_path: Path, capsys
) -> None:
    """By every verb that reads one, before anything starts."""
    file = tmp_path / "bad.toml"
    file.write_text('instance = "Bad"\n[features]\nslotz = 3\n')
    for words in (["up", "-c"], ["run", "-c"], ["config", "check"], ["config", "show", "-c"]):
        assert run_verb([*words, str(file)]) == 2
        err = capsys.readouterr().err
        assert "bad.toml: 2 mistakes" in err
        assert "features.slotz: unknown key; did you mean features.slots?" in err
        assert "instance 'Bad' cannot name a region" in err


def test_a_sound_topology_is_said_to_be(tmp_path: Path, capsys) -> None:
    """And its workers are named."""
    file = tmp_path / "good.toml"
    file.write_text("[features]\nslots = 4096\n")
    assert run_verb(["config", "check", str(file), "--json"]) == 0
    assert "features" in json.loads(capsys.readouterr().out)["workers"]


def test_mem_adds_the_rings_up(tmp_path: Path, capsys) -> None:
    """Of a topology that does not run."""
    file = tmp_path / "small.toml"
    off = "".join(f"[{name}]\nenabled = false\n" for name in ("features", "bars"))
    file.write_text(f"{off}[collectors.kraken_v1]\nenabled = false\n")
    assert run_verb(["mem", "-c", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rings_bytes"] == sum(row["n_bytes"] for row in found["rings"])
    assert {row["ring"].partition(".")[0] for row in found["rings"]} == {"kraken"}


OWN = """
import numpy as np
from consumers.own import OwnConsumer, jit, output_layout
OUT = output_layout("WIDE", ("text", "S1000"))
@jit
def kernel(states, records, out):
    return 0
WIDE = OwnConsumer(kernel, np.dtype([("n", "<i8")]), OUT)
"""


def test_mem_counts_the_rings_of_own_consumers(tmp_path: Path, capsys) -> None:
    """By the layout in their module; one that cannot be imported is counted too, and one that is disabled is not."""
    (tmp_path / "my_wide.py").write_text(OWN)
    file = tmp_path / "own.toml"
    file.write_text(
        f'[consumers.wide]\nconsumer = "my_wide:WIDE"\nfolder = "{tmp_path}"\nslots = 1024\nrows_per_s = 20.0\n'
        '[consumers.lost]\nconsumer = "nosuch:X"\nslots = 1024\nrows_per_s = 20.0\n'
        '[consumers.off]\nconsumer = "nosuch:X"\nenabled = false\n'
    )
    assert run_verb(["mem", "-c", str(file), "--json"]) == 0
    rings = {row["ring"]: row for row in json.loads(capsys.readouterr().out)["rings"]}
    assert rings["wide.rows"]["n_bytes"] // 1024 >= 1088
    assert rings["lost.rows"]["n_bytes"] // 1024 >= 256
    assert "off.rows" not in rings


def test_mem_counts_what_a_capture_takes(tmp_path: Path, capsys) -> None:
    """Of the collectors that capture, and of no other."""
    file = tmp_path / "a.toml"
    file.write_text("[capture]\nbuffer_bytes = 2097152\n[collectors.kraken]\ncapture = true\n")
    assert run_verb(["mem", "-c", str(file), "--json"]) == 0
    rings = json.loads(capsys.readouterr().out)["rings"]
    frames = {row["ring"]: row["n_bytes"] for row in rings if row["layout"] == "frames"}
    assert list(frames) == ["kraken (capture)"]
    assert 2 << 20 <= frames["kraken (capture)"] < (2 << 20) + 65536


@pytest.mark.parametrize(("records_per_s", "status"), [(1927.5, 0), (1927.6, 1)])
def test_mem_holds_slots_against_rate_and_outage(
    tmp_path: Path, capsys, records_per_s: float, status: int
) -> None:
    """65,536 slots last 34 s (3 s of trail, 1 s of restart, 30 s of outage) at 1,927.5 records/s, and no longer at more."""
    file = tmp_path / "a.toml"
    file.write_text(f"[collectors.kraken]\nrecords_per_s = {records_per_s}\n")
    assert run_verb(["mem", "-c", str(file), "--json"]) == status
    out, err = capsys.readouterr()
    short = [need for need in json.loads(out)["needs"] if not need["is_enough"]]
    assert [(need["ring"], need["reader"]) for need in short] == [
        ("kraken.events", "fanout")
    ] * status
    assert ("kraken.events holds 34.0 s" in err) == bool(status)
    assert ("give it 131072 slots" in err) == bool(status)


def test_mem_says_what_is_beyond_the_budget_and_what_does_not_fit(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    """More than 48 MiB is worth a word; a byte more than there is, exit 1."""
    monkeypatch.setattr(mem, "room", lambda _: mem.Room(100, 100))
    file = tmp_path / "a.toml"
    file.write_text("[features]\nslots = 131072\n")
    assert run_verb(["mem", "-c", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "more than 48" in err
    assert "enough" in out
    monkeypatch.setattr(mem, "room", lambda _: mem.Room(101, 100))
    assert run_verb(["mem", "-c", str(file)]) == 1
    assert "MiB free" in capsys.readouterr().err


def test_tables_are_plain_in_a_pipe(capsys) -> None:
    """No frame, no colour, "-" where there is nothing, columns that line up."""
    show.table(["name", "records"], [("a", 1234567), ("bb", None)])
    assert capsys.readouterr().out == "name  records\na     1,234,567\nbb    -\n"


def test_a_log_is_rotated_beyond_its_limit(tmp_path: Path) -> None:
    """The newest rotated file is .1, as many are kept as asked for, and the writer goes on where it is."""
    path = tmp_path / "a.log"
    fd = logs.open_log(path)
    with open(fd, "wb", buffering=0) as writer:
        for i in range(4):
            writer.write(b"%d" % i * 10)
            assert not logs.rotate(path, 10, 2)
            writer.write(b"!")
            assert logs.rotate(path, 10, 2)
        writer.write(b"end")
    assert path.read_bytes() == b"end"
    kept = sorted(p.name for p in tmp_path.iterdir())
    assert kept == ["a.log", "a.log.1", "a.log.2"]
    assert (tmp_path / "a.log.1").read_bytes() == b"3333333333!"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("one\ntwo\n\n", "two"),
        ('{"event": "at fault", "error": "no file", "level": "error"}\n', "at fault: no file"),
        ("[1, 2]\n", "[1, 2]"),
        (
            "LLVM ERROR: no symbol\nFatal Python error: Aborted\n\n  File x\n",
            "LLVM ERROR: no symbol",
        ),
    ],
)
def test_last_words_are_the_reason(tmp_path: Path, text: str, words: str) -> None:
    """Of this process, not of the one before it."""
    path = tmp_path / "a.log"
    path.write_text("earlier words\n" + text)
    assert logs.last_words(path, len("earlier words\n")) == words


def test_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    """Also where it is shorter than asked for, or not there."""
    path = tmp_path / "a.log"
    assert logs.tail(path, 3) == []
    path.write_text("1\n2\n3\n4\n")
    assert logs.tail(path, 3) == ["2", "3", "4"]
    assert logs.tail(path, 9) == ["1", "2", "3", "4"]
    assert logs.tail(path, 0) == []
