"""`tickring ring` tells what a ring's regions hold, counts what it could not have, and disturbs nobody."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ring_kit import RingMaker, path_of, ring_maker

from layouts import BOOK, EVENT, Kind, abi_hash
from ops import ring_rate
from ops.cli import run_verb
from shm.consumer import join
from shm.process import own_identity, start_time
from shm.producer import Producer
from shm.registry import Instance, write_instance


@pytest.fixture
def ring(instance, monkeypatch) -> Iterator[RingMaker]:
    """Open rings that end with the test, in the instance that the verbs look at."""
    monkeypatch.setenv("TICKRING_INSTANCE", instance.name)
    yield from ring_maker(instance)


def events(n: int, kind: Kind = Kind.HEARTBEAT) -> np.ndarray:
    """Make n records that count in word_0."""
    records = np.zeros(n, EVENT)
    records["kind"] = kind
    records["ts_event"] = records["ts_recv"] = 1_700_000_000_000_000_000 + np.arange(n)
    records["word_0"] = np.arange(n)
    return records


def asked(capsys, *words: str) -> tuple[int, str, str]:
    """Run a verb; returns its status, stdout and stderr."""
    status = run_verb(["ring", *words])
    out, err = capsys.readouterr()
    return status, out, err


# ---------------------------------------------------------------- details


def test_details_are_those_of_the_header(ring, instance, capsys) -> None:
    """Every word that an operator may need, and the producer by pid and start time."""
    producer = ring(16)
    producer.publish_batch(events(20))
    producer.heartbeat()
    status, out, _ = asked(capsys, "details", "worker.events", "--json")
    found = json.loads(out)
    pid, started = own_identity()
    assert status == 0
    assert found["instance"] == instance.name
    assert (found["layout"], found["abi_hash"]) == ("event", abi_hash(EVENT).hex())
    assert (found["slots"], found["stride_bytes"], found["mode"]) == (16, 64, "overwrite")
    assert (found["state"], found["this_boot"], found["restarts"]) == ("LIVE", True, 0)
    assert (found["published"], found["held"], found["next_seq"]) == (20, 15, 21)
    assert found["epochs"] == [{"epoch": found["epoch"], "first_seq": 1}]
    assert found["producer"]["pid"] == pid
    assert found["producer"]["start_time"] == started
    assert found["producer"]["alive"] is True
    assert 0 <= found["producer"]["heartbeat_age_s"] < 30
    assert found["consumers"] == []
    memory = found["memory"]
    assert memory["data_bytes"] == path_of(producer).stat().st_size
    assert memory["allocated_bytes"] >= memory["data_bytes"]
    assert memory["control_bytes"] == path_of(producer, "ctl").stat().st_size
    assert memory["resident_bytes"] == memory["data_bytes"]
    assert memory["locked"] is producer.is_kept_in_memory


def test_details_show_each_consumer(ring, capsys) -> None:
    """Cursor, lag from the cursor, what it lost, whether it sleeps; a detached one keeps its entry."""
    producer = ring(8)
    slow, gone = (ring.keep(join(producer.name, name, EVENT)) for name in ("slow", "gone"))
    gone.detach()
    producer.publish_batch(events(20))
    while len(slow.poll()[0]):
        pass
    slow.commit(20)
    _, out, _ = asked(capsys, "details", "worker.events", "--json")
    rows = {row["name"]: row for row in json.loads(out)["consumers"]}
    assert rows["slow"]["state"] == "ACTIVE"
    assert (rows["slow"]["cursor"], rows["slow"]["lag"]) == (20, 1)
    assert rows["slow"]["lapped"] == slow.lost > 0
    assert (rows["slow"]["pid"], rows["slow"]["alive"]) == (os.getpid(), True)
    assert rows["slow"]["asleep"] is False
    assert (rows["gone"]["state"], rows["gone"]["lag"], rows["gone"]["lapped"]) == (
        "DETACHED",
        20,
        0,
    )


def test_details_survive_the_producer(ring, capsys) -> None:
    """A ring whose producer is gone is told as such; what only the producer's /proc knows is left open."""
    producer = ring(8)
    dead = 2**22 - 1
    assert start_time(dead) == 0
    producer.header.producer_pid = dead
    status, out, _ = asked(capsys, "details", "worker.events", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["producer"]["alive"] is False
    assert found["memory"]["locked"] is None
    assert any("smaps" in note for note in found["notes"])


def test_details_without_the_control_region_are_told(ring, capsys) -> None:
    """Consumers are None, not an empty list: they are not known."""
    producer = ring(8)
    path_of(producer, "ctl").rename(path_of(producer, "ctl").with_suffix(".away"))
    try:
        _, out, _ = asked(capsys, "details", "worker.events", "--json")
    finally:
        path_of(producer, "ctl").with_suffix(".away").rename(path_of(producer, "ctl"))
    found = json.loads(out)
    assert found["consumers"] is None
    assert any("consumers are not shown" in note for note in found["notes"])


def test_details_are_a_table_for_a_person(ring, capsys) -> None:
    """The same facts, with thousands marked."""
    producer = ring(1024)
    ring.keep(join(producer.name, "reader", EVENT))
    _, out, _ = asked(capsys, "details", "worker.events")
    assert "1,024 of 64 bytes, mode overwrite" in out
    assert "reader" in out


@pytest.mark.parametrize("verb", ["details", "hz", "tail", "dump"])
def test_a_wrong_name_is_answered_with_the_nearest(ring, instance, capsys, verb: str) -> None:
    """And with all that are there; without an instance with how to start one."""
    status, out, err = asked(capsys, verb, "worker.event")
    assert (status, out) == (3, "")
    assert "no instance" in err
    ring(8)
    status, out, err = asked(capsys, verb, "worker.evnts")
    assert (status, out) == (3, "")
    assert "did you mean worker.events? there are: worker.events" in err


def test_an_instance_without_rings_is_told(ring, instance, capsys) -> None:
    """It is starting: status knows more."""
    pid, started = own_identity()
    write_instance(
        Instance(
            instance=instance.name, pid=pid, start_time=started, state_dir=str(instance.state_dir)
        )
    )
    try:
        status, _, err = asked(capsys, "details", "worker.events")
    finally:
        Path(f"/dev/shm/tickring.{instance.name}.run").unlink()
    assert status == 3
    assert "has no ring yet" in err


# ---------------------------------------------------------------- hz


def test_hz_counts_all_and_each_kind(ring, monkeypatch, capsys) -> None:
    """Records of the interval, none from before it; the kinds add up to the total."""
    producer = ring(1024)
    producer.publish_batch(events(100))
    publish_on_sleep(monkeypatch, producer, events(30, Kind.TRADE), events(10, Kind.QUOTE))
    status, out, _ = asked(capsys, "hz", "worker.events", "--for", "0.05", "--json")
    rate = json.loads(out)
    assert status == 0
    assert (rate["records"], rate["lost"], rate["state"]) == (40, 0, "LIVE")
    assert rate["per_s"] == pytest.approx(40 / rate["seconds"])
    kinds = {kind: round(per_s * rate["seconds"]) for kind, per_s in rate["per_s_by_kind"].items()}
    assert kinds == {"TRADE": 30, "QUOTE": 10}


def test_hz_tells_what_it_missed(ring, monkeypatch, capsys) -> None:
    """A lap is in the rate, in `lost`, and in no kind."""
    producer = ring(16)
    publish_on_sleep(monkeypatch, producer, *[events(8)] * 5)
    _, out, _ = asked(capsys, "hz", "worker.events", "--for", "0.05", "--json")
    rate = json.loads(out)
    read = round(rate["per_s_by_kind"]["HEARTBEAT"] * rate["seconds"])
    assert rate["records"] == 40
    assert rate["lost"] == 40 - read >= 24


def publish_on_sleep(monkeypatch, producer: Producer, *batches: np.ndarray) -> None:
    """Have batches published while the measurement takes its first nap."""
    left = list(batches)

    def nap(_: float) -> None:
        while left:
            producer.publish_batch(left.pop(0))

    monkeypatch.setattr(ring_rate.time, "sleep", nap)


def test_hz_measures_interval_after_interval(ring, capsys) -> None:
    """The last one is cut to the end; in a pipe without --for there is one."""
    ring(16)
    _, out, _ = asked(
        capsys, "hz", "worker.events", "--interval", "0.02", "--for", "0.05", "--json"
    )
    assert len(out.splitlines()) == 3
    _, out, _ = asked(capsys, "hz", "worker.events", "--interval", "0.02")
    assert len(out.splitlines()) == 2
    assert "records/s" in out


@pytest.mark.parametrize("words", [("--interval", "0"), ("--for", "-1"), ("--for", "nan")])
def test_hz_refuses_intervals_that_measure_nothing(ring, capsys, words: tuple[str, str]) -> None:
    """With the limit."""
    ring(16)
    status, out, err = asked(capsys, "hz", "worker.events", *words)
    assert (status, out) == (2, "")
    assert "0.01 to 1e9 s expected" in err


# ---------------------------------------------------------------- dump


def account(capsys, out: Path, *words: str) -> tuple[int, dict]:
    """Dump into a file; returns the status and the account."""
    status, said, _ = asked(capsys, "dump", "worker.events", "--out", str(out), "--json", *words)
    return status, json.loads(said)


@pytest.mark.parametrize(
    ("words", "seqs", "lost", "ahead"),
    [
        ((), range(6, 21), 0, 0),
        (("--last", "0"), range(0), 0, 0),
        (("--last", "1"), range(20, 21), 0, 0),
        (("--last", "15"), range(6, 21), 0, 0),
        (("--last", "16"), range(6, 21), 0, 0),
        (("--from", "6", "--to", "20"), range(6, 21), 0, 0),
        (("--from", "5", "--to", "20"), range(6, 21), 1, 0),
        (("--from", "6", "--to", "21"), range(6, 21), 0, 1),
        (("--from", "1", "--to", "5"), range(0), 5, 0),
        (("--from", "21", "--to", "30"), range(0), 0, 10),
        (("--from", "1", "--to", "100"), range(6, 21), 5, 80),
        (("--from", "19"), range(19, 21), 0, 0),
        (("--to", "7"), range(6, 8), 0, 0),
    ],
)
def test_a_dump_accounts_for_every_record_asked_for(
    ring, tmp_path: Path, capsys, words: tuple[str, ...], seqs: range, lost: int, ahead: int
) -> None:
    """Written + overwritten + not yet published = asked for; exit 1 unless all of it was written."""
    ring(16).publish_batch(events(20))
    out = tmp_path / "a.npy"
    status, told = account(capsys, out, *words)
    records = np.load(out)
    assert (records["stamp"] // 2 - 1).tolist() == list(seqs)
    assert (told["written"], told["lost"], told["ahead"]) == (len(seqs), lost, ahead)
    assert told["asked_to"] - told["asked_from"] + 1 == len(seqs) + lost + ahead
    assert status == (1 if lost or ahead else 0)


def test_each_format_holds_the_same_records(ring, tmp_path: Path, capsys) -> None:
    """JSON lines, CSV, Parquet and raw numpy, by the suffix or by --format; nothing else is left beside the file."""
    from pyarrow import csv, parquet

    ring(16).publish_batch(events(20))
    for suffix in ("jsonl", "csv", "parquet", "npy"):
        status, told = account(capsys, tmp_path / f"a.{suffix}", "--last", "5")
        assert (status, told["format"]) == (0, suffix)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == [16, 17, 18, 19, 20]
    assert {line["epoch"] for line in lines} == {told["epoch"]}
    assert csv.read_csv(tmp_path / "a.csv")["word_0"].to_pylist() == [15, 16, 17, 18, 19]
    assert parquet.read_table(tmp_path / "a.parquet")["seq"].to_pylist() == [16, 17, 18, 19, 20]
    assert np.load(tmp_path / "a.npy")["word_0"].tolist() == [15, 16, 17, 18, 19]
    assert len(list(tmp_path.glob("*.*"))) == 4


def test_a_column_of_arrays_becomes_several_in_csv(ring, tmp_path: Path, capsys) -> None:
    """The 50 prices of a side are 50 columns, in order."""
    from pyarrow import csv

    book = np.zeros(2, BOOK)
    book["bid_price"] = np.arange(100).reshape(2, 50)
    ring(8, ring="books", dtype=BOOK).publish_batch(book)
    out = tmp_path / "a.csv"
    assert asked(capsys, "dump", "worker.books", "--out", str(out))[0] == 0
    table = csv.read_csv(out)
    assert table["bid_price_0"].to_pylist() == [0, 50]
    assert table["bid_price_49"].to_pylist() == [49, 99]


def test_a_dump_goes_down_a_pipe(ring, capsys) -> None:
    """Data on stdout alone; what was lost is a word on stderr."""
    ring(16).publish_batch(events(20))
    status, out, err = asked(capsys, "dump", "worker.events", "--from", "3", "--to", "7")
    assert status == 1
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [6, 7]
    assert "2 records written, seq 6 .. 7; 3 were overwritten, 0 are not published yet" in err


def test_a_dump_under_a_running_producer_is_never_torn(ring, tmp_path: Path, capsys) -> None:
    """Whatever is overwritten while it is copied is counted, and what is written is whole and in order."""
    producer = ring(64)
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            batch = events(16)
            batch["word_0"] = batch["word_1"] = producer.next_seq + np.arange(16)
            producer.publish_batch(batch)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        while producer.next_seq < 1000:
            pass
        for i in range(20):
            out = tmp_path / f"{i}.npy"
            _, told = account(capsys, out)
            records = np.load(out)
            assert len(records) == told["written"]
            assert (records["word_0"] == records["stamp"] // 2 - 1).all()
            assert (records["word_1"] == records["word_0"]).all()
            assert (
                told["written"] + told["lost"] + told["ahead"]
                == told["asked_to"] - told["asked_from"] + 1
            )
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--last", "1", "--from", "1"), "--last goes without --from and --to"),
        (("--last", "-1"), "a number of records from 0 on"),
        (("--from", "0"), "seqs from 1 on"),
        (("--from", "9", "--to", "7"), "seqs from 1 on"),
        (("--to", str(2**61)), "seqs from 1 on"),
        (("--from", str(2**70)), "seqs from 1 on"),
        (("--format", "xml"), "one of jsonl, csv, parquet, npy"),
        (("--out", "a.xml"), "its suffix tells no format"),
        (("--out", "/nosuch/a.csv"), "there is no directory /nosuch"),
    ],
)
def test_a_dump_refuses_what_makes_no_sense(
    ring, capsys, words: tuple[str, ...], said: str
) -> None:
    """Before anything is written."""
    ring(16).publish_batch(events(20))
    status, out, err = asked(capsys, "dump", "worker.events", *words)
    assert (status, out) == (2, "")
    assert said in err


def test_a_dump_that_cannot_be_written_leaves_nothing(ring, tmp_path: Path, capsys) -> None:
    """The error says why; what was there is as it was, and nothing is beside it."""
    ring(16).publish_batch(events(20))
    (tmp_path / "a.csv").mkdir()
    status, out, err = asked(capsys, "dump", "worker.events", "--out", str(tmp_path / "a.csv"))
    assert (status, out) == (2, "")
    assert "cannot be written: Is a directory; name another file" in err
    assert [path.name for path in tmp_path.glob("a.*")] == ["a.csv"]
