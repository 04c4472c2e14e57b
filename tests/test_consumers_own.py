"""The twenty lines of the manual run as a worker, are killed and go on, and give the same rows over recorded records."""

import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import Instance
from features_market import Tape, walk

import consumers.own
from consumers.own import OwnComputation, OwnConsumer, find_consumer, jit, output_layout
from layouts import EVENT, Kind
from ops.plan import make_plan
from ops.topology import load_topology
from shm import region as regions
from shm.counters import read_counters
from shm.errors import AttachError, ConfigurationError
from shm.producer import Producer, open_ring
from shm.reader import open_reader
from shm.region import ring_name
from shm.registry import files_of

WAIT_S = 60.0
NAME = "my_vwap"


def example() -> str:
    """Cut the program out of the manual."""
    text = consumers.own.__doc__
    assert text is not None
    lines = text[text.index("    import numpy") : text.index("and in the TOML")]
    return textwrap.dedent(lines)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The manual's program as a module of its own."""
    (tmp_path / f"{NAME}.py").write_text(example())
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__(NAME)
    sys.modules.pop(NAME)


def market(frames: int = 400) -> np.ndarray:
    """Make records of three instruments."""
    tape = Tape()
    walk(tape, (1, 2, 700), frames, 4)
    return tape.records()


def test_the_example_is_twenty_lines() -> None:
    """As promised, blank lines not counted."""
    assert len([line for line in example().splitlines() if line.strip()]) <= 20


def test_the_example_computes_what_it_says(module: ModuleType) -> None:
    """The volume-weighted price of every trade so far, for each instrument on its own."""
    records = market()
    rows = OwnComputation(module.VWAP).process(records, epoch=5)
    trades = records[records["kind"] == Kind.TRADE]
    assert len(rows) == len(trades)
    assert rows["source_seq"].tolist() == ((trades["stamp"] - 2) // 2).tolist()
    assert set(rows["source_epoch"].tolist()) == {5}
    assert set(rows["kind"].tolist()) == {Kind.OWN}
    for each in (1, 2, 700):
        mine, of = rows[rows["instrument_id"] == each], trades[trades["instrument_id"] == each]
        qty = np.cumsum(of["word_1"])
        value = np.cumsum(of["word_0"] * of["word_1"].astype(float))
        assert mine["qty"].tolist() == qty.tolist()
        np.testing.assert_allclose(mine["vwap"][qty > 0], (value / np.maximum(qty, 1))[qty > 0])


def test_a_state_goes_on_in_a_new_computation(module: ModuleType) -> None:
    """What is saved is all there is, up to the last instrument seen."""
    records = market()
    whole = OwnComputation(module.VWAP).process(records)
    first, second = OwnComputation(module.VWAP), OwnComputation(module.VWAP)
    before = first.process(records[:300].copy())
    image = first.to_bytes()
    assert len(image) <= 701 * module.STATE.itemsize
    second.load(image)
    after = second.process(records[300:].copy())
    assert np.concatenate([before, after]).tobytes() == whole.tobytes()


def test_records_that_may_not_be_written_are_taken_too(module: ModuleType) -> None:
    """A mapped file or a frozen array gives the same rows."""
    records = market()
    frozen = records.copy()
    frozen.flags.writeable = False
    left = OwnComputation(module.VWAP).process(records)
    assert OwnComputation(module.VWAP).process(frozen).tobytes() == left.tobytes()


@pytest.mark.parametrize("image", [b"", b"x", b"x" * 16 * 70_000])
def test_a_state_that_is_none_is_refused(module: ModuleType, image: bytes) -> None:
    """Empty, in part, or of more instruments than there are ids."""
    with pytest.raises(ValueError, match="states"):
        OwnComputation(module.VWAP).load(image)


def test_another_source_is_another_computation(tmp_path: Path, module: ModuleType) -> None:
    """A constant changed anywhere in the module refuses the old checkpoint."""
    before = OwnComputation(module.VWAP).identity
    assert OwnComputation(module.VWAP).identity == before
    (tmp_path / "other.py").write_text(example() + "\nX = 1\n")
    other = find_consumer("other:VWAP", str(tmp_path))
    assert OwnComputation(other).identity.split()[-1] != before.split()[-1]
    sys.modules.pop("other")
    sys.path.remove(str(tmp_path))


HELPED = """
from consumers.own import OwnConsumer, begin_row, jit, output_layout
from {helper} import factor
import numpy as np
OUT = output_layout("HELPED", ("value", "<f8"))

@jit
def kernel(states, records, out):
    for i in range(len(records)):
        begin_row(out[i], records[i], 0, 1)
        out[i].value = factor(1.0)
    return len(records)

HELPED = OwnConsumer(kernel, np.dtype([("n", "<i8")]), OUT)
"""


def helped(folder: Path, where: str) -> tuple[float, str]:
    """Run the consumer of HELPED as a new process would; give its value and its identity."""
    computation = OwnComputation(find_consumer(f"{where}:HELPED", str(folder)))
    computation.warm_up()
    value = float(computation.process(market()[:1])["value"][0])
    for name in [name for name in sys.modules if name.startswith("helped_")]:
        sys.modules.pop(name)
    return value, computation.identity


@pytest.mark.parametrize("packaged", [False, True])
def test_a_changed_file_that_the_kernel_imports_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packaged: bool
) -> None:
    """Its machine code is not the old one's, and the old checkpoint is refused; another file there changes nothing."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "helped_package" if packaged else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").write_text("")
    where, helper = (
        ("helped_package.helped_a", ".helped_b") if packaged else ("helped_a", "helped_b")
    )
    (folder / "helped_a.py").write_text(HELPED.format(helper=helper))
    text = "from consumers.own import jit\n\n@jit\ndef factor(x):\n    return x * {}\n"
    found = []
    for factor in (2.0, 3.0, 2.0):
        (folder / "helped_b.py").write_text(text.format(factor))
        importlib.invalidate_caches()
        found.append(helped(tmp_path, where))
        (folder / f"other_{len(found)}.py").write_text("X = 1\n")
    assert [value for value, _ in found] == [2.0, 3.0, 2.0]
    assert found[0][1] != found[1][1]
    assert found[0] == found[2]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("my_vwap", "module:name"),
        (":VWAP", "module:name"),
        ("no_such_module:VWAP", "no_such_module"),
        ("my_vwap:NOTHING", "NOTHING"),
        ("my_vwap:STATE", "an OwnConsumer expected"),
    ],
)
def test_a_name_that_leads_nowhere_is_a_clear_error(
    module: ModuleType, where: str, told: str
) -> None:
    """What was given and what is expected."""
    assert module.VWAP
    with pytest.raises(ConfigurationError, match=told):
        find_consumer(where)


@pytest.mark.parametrize(
    ("folder", "wanted"), [("", "{conf}"), ("mine", "{conf}/mine"), ("{conf}/../x", "{conf}/../x")]
)
def test_an_own_consumer_lies_beside_its_toml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, wanted: str
) -> None:
    """Wherever the command is given, and wherever the supervisor runs."""
    conf = tmp_path / "conf"
    conf.mkdir()
    own = f'[consumers.mine]\nconsumer = "a:B"\nfolder = "{folder.format(conf=conf)}"\n'
    (conf / "my.toml").write_text(own)
    monkeypatch.chdir(tmp_path)
    plan = make_plan(load_topology("conf/my.toml"))
    (worker,) = (each for each in plan.workers if each.name == "mine")
    assert json.loads(worker.spec({}))["folder"] == wanted.format(conf=conf)


FAULTS = [
    (
        "import numpy as np",
        "import numpy as np, not_there",
        r"importing it failed: .*not_there.*:1\)",
    ),
    ("n += 1", "n +=", r"importing it failed: SyntaxError.*line 19"),
    ("@jit", "", "is not compiled; put @jit on it"),
    (
        "(states, records, out)",
        "(states, records)",
        r"does not compile: TypeError.*expected 2.*:9\)",
    ),
    ("state.value +=", "state.valu +=", r"does not compile: KeyError: 'valu' \(.*:9\)"),
    ("return n", "pass", "answered None for 0 records"),
    ("return n", "return n * 1.0", r"answered 0\.0 for 0 records"),
    (
        "return n",
        "return len(records) + 1",
        r"answered 1 for 0 records.*, 0 to 0 \(rows_per_record is 1\)",
    ),
    ("return n", "return n - 1", "answered -1 for 0 records"),
]


@pytest.mark.parametrize(("right", "wrong", "told"), FAULTS, ids=[each[1] for each in FAULTS])
def test_a_faulty_kernel_is_told_before_the_first_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, told: str
) -> None:
    """What is wrong and where; a restart would not help, so the worker ends for good (exit status 2)."""
    text = example()
    assert right in text
    (tmp_path / "faulty.py").write_text(text.replace(right, wrong, 1))
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        with pytest.raises(ConfigurationError, match=told):
            OwnComputation(find_consumer("faulty:VWAP", str(tmp_path))).warm_up()
    finally:
        sys.modules.pop("faulty", None)


@pytest.mark.parametrize("wrong", ["return n + (n > 0)", "return -n"])
def test_an_answer_beyond_the_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """One row more than the records may make, or fewer than none: rows from beyond would be published."""
    (tmp_path / "faulty.py").write_text(example().replace("return n", wrong))
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        computation = OwnComputation(find_consumer("faulty:VWAP", str(tmp_path)))
        computation.warm_up()
        records = market()
        trades = records[records["kind"] == Kind.TRADE][:5]
        with pytest.raises(ConfigurationError, match=r"answered -?\d for 5 records.*, 0 to 5"):
            computation.process(trades)
    finally:
        sys.modules.pop("faulty", None)


@jit
def _double_kernel(states: np.ndarray, records: np.ndarray, out: np.ndarray) -> int:
    n = 0
    for record in records:
        for index in range(2):
            consumers_begin(out[n], record, index, 2)
            states[record.instrument_id].n += 1
            out[n].n = states[record.instrument_id].n
            n += 1
    return n


consumers_begin = consumers.own.begin_row


def test_several_rows_a_record() -> None:
    """Each with its index, of the count that the record caused."""
    counted = OwnConsumer(
        _double_kernel, np.dtype([("n", "<i8")]), output_layout("N", ("n", "<i8")), 2
    )
    records = np.zeros(600, EVENT)
    records["stamp"] = 2 * np.arange(600) + 4
    rows = OwnComputation(counted).process(records)
    assert rows["n"].tolist() == list(range(1, 1201))
    assert rows["source_index"].tolist() == [0, 1] * 600
    assert rows["source_count"].tolist() == [2] * 1200


class Running:
    """The example as a worker over one ring."""

    def __init__(self, place: Instance, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.process: subprocess.Popen[bytes] | None = None
        self.producer: Producer = open_ring(
            ring_name(place.name, "feed", "events"), EVENT, 4096, place.state_dir
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it is ready."""
        spec = {
            "instance": self.place.name,
            "worker": "vwap",
            "state_dir": str(self.place.state_dir),
            "inputs": ["feed.events"],
            "consumer": f"{NAME}:VWAP",
            "folder": str(self.folder),
            "slots": 4096,
            "checkpoint_s": 0.05,
        }
        path = self.folder / "spec.json"
        path.write_text(json.dumps(spec))
        process = subprocess.Popen([sys.executable, "-m", "consumers.own", str(path)])
        self.process = process
        self.until(process, lambda facts: facts.pid == process.pid and facts.state == "READY")
        return process

    def end(self) -> None:
        """End what runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def until(self, process: subprocess.Popen[bytes], found: object) -> None:
        """Wait until the worker's counters say so."""
        assert callable(found)
        end = time.monotonic() + WAIT_S
        while True:
            assert process.poll() is None, "the worker ended"
            assert time.monotonic() < end
            try:
                if found(read_counters(self.place.name, "vwap")):
                    return
            except AttachError:
                pass
            time.sleep(0.01)


@pytest.mark.slow
def test_the_example_as_a_worker_that_is_killed(
    instance: Instance, tmp_path: Path, module: ModuleType
) -> None:
    """Its ring describes itself, holds each row once, and nothing was compiled after READY."""
    records = market()
    running = Running(instance, tmp_path)
    try:
        process = running.start()
        for part in np.array_split(records, 2):
            running.producer.publish_batch(part.copy())
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            process = running.start()
        running.until(process, lambda f: f.values["in.feed.events.seq"] == len(records))
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
        with open_reader(ring_name(instance.name, "vwap", "rows")) as reader:
            rows = reader.last(4096)[0]
        facts = read_counters(instance.name, "vwap")
    finally:
        running.end()
        running.producer.close()
        for file in files_of(instance.name):
            regions.unlink(file)
    assert facts.values["compiles_after_ready"] == 0
    assert np.count_nonzero(rows["kind"] == Kind.RESTART) == 2
    rows = rows[rows["kind"] == Kind.OWN]
    wanted = OwnComputation(module.VWAP).process(records)
    for name in ("source_seq", "instrument_id", "ts_event", "vwap", "qty"):
        np.testing.assert_array_equal(rows[name], wanted[name], name)
