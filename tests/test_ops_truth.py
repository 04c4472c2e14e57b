"""`tickring truth` says what holds of a folder of recordings, and that something does not."""

import gzip
import json

import pytest

from ops import truth
from ops.cli import run_verb
from shm.errors import ConfigurationError

ETH = "kraken_v2_ethusd.jsonl.gz"
OKX = "okx_v5_books_3instruments.jsonl.gz"


def rows(capsys) -> dict[str, tuple]:
    """Return what was printed as JSON, by truth."""
    told = json.loads(capsys.readouterr().out)
    return {row["truth"]: (row["expected"], row["found"], row["holds"]) for row in told}


def test_a_folder_of_sound_recordings_holds(captures, tmp_path, capsys) -> None:
    """Frames, gaps, checksums, tops and hand-counted truths of two venues; exit status 0."""
    for name in (ETH, OKX):
        (tmp_path / name).symlink_to(captures / name)
    assert run_verb(["truth", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert all(row["holds"] for row in told)
    assert {row["venue"] for row in told} == {"kraken_v2", "okx"}
    right = [row["found"] for row in told if row["truth"] == "checksums that hold"]
    assert sorted(right) == [290, 1129]


def test_a_recording_under_another_name_is_judged_by_its_own_frames(
    captures, tmp_path, capsys
) -> None:
    """Nothing was counted by hand, and the checksums that the frames carry must hold all the same."""
    (tmp_path / "kraken_v2_other.jsonl.gz").symlink_to(captures / ETH)
    assert run_verb(["truth", str(tmp_path), "--json"]) == 0
    told = rows(capsys)
    assert told["checksums that hold"] == (1129, 1129, True)
    assert "checksums, as counted by hand" not in told


def test_one_changed_digit_is_a_truth_that_does_not_hold(captures, tmp_path, capsys) -> None:
    """A digit of what one frame says of the book changed: a checksum fails, a gap is told, the exit status is 1."""
    lines = gzip.decompress((captures / ETH).read_bytes()).splitlines(keepends=True)
    place = max(i for i, line in enumerate(lines[:600]) if b"checksum" in line)
    at = lines[place].index(b"checksum") + len(b'checksum\\":')
    digit = b"1" if lines[place][at : at + 1] != b"1" else b"2"
    lines[place] = lines[place][:at] + digit + lines[place][at + 1 :]
    (tmp_path / ETH).write_bytes(gzip.compress(b"".join(lines)))
    assert run_verb(["truth", str(tmp_path), "--json"]) == 1
    told = rows(capsys)
    assert told["checksums that do not"] == (0, 1, False)
    assert not told["gaps told"][2]
    assert not told["checksums, as counted by hand"][2]


def test_a_hole_in_a_connections_sequence_is_expected_as_a_gap(captures, tmp_path) -> None:
    """Read off the frames: with one message left out, one gap for each instrument must be told, not none."""
    name = "coinbase_advanced_btc_eth_350.jsonl.gz"
    lines = gzip.decompress((captures / name).read_bytes()).splitlines(keepends=True)
    del lines[200]
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"".join(lines)))
    told = {row.truth: row for row in truth.judge("coinbase_advanced", (path,), {})}
    assert told["breaks of the connection's sequence"].found == 1
    assert told["gaps told"].found > 0
    assert not told["gaps told"].holds


def test_an_empty_folder_and_none_at_all_are_refused(tmp_path) -> None:
    """The message says what a recording's name must begin with, or that the folder is not there."""
    with pytest.raises(ConfigurationError, match="name begins with a venue's"):
        list(truth.groups_of(tmp_path))
    with pytest.raises(ConfigurationError, match="not found"):
        truth.run(tmp_path / "nowhere", as_json=True)


def test_readable_rows_are_a_table(captures, tmp_path, capsys) -> None:
    """Without --json a line a truth, with yes or NO at its end."""
    (tmp_path / OKX).symlink_to(captures / OKX)
    assert truth.run(tmp_path, as_json=False) == 0
    assert "okx_v5_books_3instruments" in capsys.readouterr().out


def test_a_file_of_a_known_name_with_other_frames_is_judged_by_them(
    captures, tmp_path, capsys
) -> None:
    """What was counted by hand is expected of the recording that was counted, not of its name."""
    lines = gzip.decompress((captures / ETH).read_bytes()).splitlines(keepends=True)
    (tmp_path / ETH).write_bytes(gzip.compress(b"".join(lines[:-1])))
    assert run_verb(["truth", str(tmp_path), "--json"]) == 0
    assert "checksums, as counted by hand" not in rows(capsys)


def test_a_rest_answer_in_a_file_of_its_own_belongs_to_the_frames_of_its_session(
    captures, tmp_path, capsys
) -> None:
    """Books that begin with a REST answer are LIVE, whatever the files are called; without that answer they are not."""
    for name in ("bitstamp_rest_books", "bitstamp_diffbook_trades"):
        (tmp_path / f"{name}_x.jsonl.gz").symlink_to(captures / f"{name}.jsonl.gz")
    assert run_verb(["truth", str(tmp_path), "--json"]) == 0
    assert rows(capsys)["books live"] == (10, 10, True)
    (tmp_path / "bitstamp_rest_books_x.jsonl.gz").unlink()
    assert run_verb(["truth", str(tmp_path), "--json"]) == 1
    assert rows(capsys)["books live"] == (9, 0, False)


def test_a_checksum_of_zero_is_none(tmp_path, capsys) -> None:
    """OKX sends 0 beside its sequence ids since it gave checksums up: none is expected, the chain is the proof."""
    lines = b""
    for previous, number in ((-1, 10), (10, 12), (12, 12), (12, 15)):
        side = [["8476.9", "415", "0", "13"]] if previous != number else []
        entry = {"asks": [["8477.1", "7", "0", "1"]], "bids": side, "ts": "1597026383085"}
        entry |= {"checksum": 0, "prevSeqId": previous, "seqId": number}
        frame = {"arg": {"channel": "books", "instId": "BTC-USDT"}, "data": [entry]}
        frame["action"] = "snapshot" if previous < 0 else "update"
        line = {"ts": 1597026383085000000 + number, "kind": "recv", "url": ""}
        lines += json.dumps(line | {"data": json.dumps(frame)}).encode() + b"\n"
    (tmp_path / "okx_new.jsonl").write_bytes(lines)
    assert run_verb(["truth", str(tmp_path), "--json"]) == 0
    assert rows(capsys)["checksums that hold"] == (0, 0, True)
