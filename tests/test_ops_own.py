"""An own consumer is a full member of its instance: recorded, queried, shown and audited like every other, killed or not."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Instance
from sinks import remove_regions
from test_consumers_own import example
from test_ops_pipeline import Pipeline, pipeline, wait_for
from test_ops_topology import mistakes

from consumers import history
from consumers.own import output_layout
from layouts import Kind
from ops import capacity
from ops.audit_checks import own_checks
from ops.plan import make_plan
from ops.topology import parse_topology
from shm.producer import open_ring
from shm.region import ring_name

__all__ = ["pipeline"]

TOPOLOGY = """
instance = "{name}"
fanout.enabled = false
features.enabled = false
bars.enabled = false
[venue]
source = "synthetic"
frames_per_s = 400.0
[collectors.kraken]
event_slots = 32768
book_slots = 256
instrument_slots = 1024
instrument_ids = 100
[collectors.kraken_v1]
enabled = false
[consumers.vwap]
consumer = "my_vwap:VWAP"
"""


@pytest.mark.parametrize(
    ("name", "own", "told"),
    [
        (
            "vwap",
            {"consumer": "m:N", "inputs": ["*"]},
            "kraken.books, .*vwap.rows: no EVENT records",
        ),
        ("trades", {"consumer": "m:N"}, "consumers.trades: .* view 'trades' of history"),
        ("bar", {"consumer": "m:N"}, "consumers.bar: .* view 'bar_records' of history"),
    ],
)
def test_what_it_cannot_read_or_be_called_is_told(
    name: str, own: dict[str, object], told: str
) -> None:
    """Rings without events, and a name that another view of history has."""
    assert re.search(told, "\n".join(mistakes({"consumers": {name: own}})))


def test_rows_of_ones_own_consumer_are_recorded_like_others() -> None:
    """By default, and by name; a misspelt name is told."""
    own = {"vwap": {"consumer": "m:N"}, "off": {"consumer": "m:N", "enabled": False}}
    topology = parse_topology({"consumers": own}, "t")
    assert "vwap.rows" in topology.inputs_of(topology.recorder)
    (worker,) = (w for w in make_plan(topology).workers if w.name == "recorder")
    spec = json.loads(worker.spec({}))
    assert spec["inputs"] == topology.inputs_of(topology.recorder)
    named = parse_topology({"consumers": own, "recorder": {"inputs": ["vwap.rows"]}}, "t")
    assert named.inputs_of(named.recorder) == ["vwap.rows"]
    told = mistakes({"consumers": own, "recorder": {"inputs": ["vwpa.rows"]}})
    assert told[0].startswith("recorder.inputs = 'vwpa.rows': no such ring; there are ")
    assert "vwap.rows" in told[0]


def test_the_ring_of_ones_own_consumer_is_held_against_its_rate() -> None:
    """Of what the recorder may be away for; by default the slots are enough."""
    own = {"consumer": "m:N"}
    needs = capacity.needs(parse_topology({"consumers": {"vwap": own}}, "t"))
    assert [(n.reader, n.is_enough) for n in needs if n.ring == "vwap.rows"] == [("recorder", True)]
    needs = capacity.needs(parse_topology({"consumers": {"vwap": own | {"rows_per_s": 600}}}, "t"))
    assert [n.slots_needed for n in needs if n.ring == "vwap.rows"] == [32768]


def check_of(books: dict, name: str) -> dict:
    """Return one check of the books."""
    (found,) = (check for check in books["checks"] if check["name"] == name)
    return found


def enough_rows(one: Pipeline, n: int = 300) -> None:
    """Wait until the consumer of this process has published n rows more."""
    before = one.counters("vwap")["rows_published"]
    wait_for(lambda: one.counters("vwap")["rows_published"] >= before + n)


def kill(one: Pipeline, worker: str) -> None:
    """kill -9, and wait until it is back."""
    pid = one.pids()[worker]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: one.pids()[worker] not in (0, pid))
    one.ready()


def shown(one: Pipeline, folder: Path) -> None:
    """The verbs that look at rings name the layout, its columns and their values."""
    rings = {row["name"]: row for row in one.read("ring", "list")}
    assert rings["vwap.rows"]["layout"] == "vwap"
    details = one.read("ring", "details", "vwap.rows")
    assert details["layout"] == "vwap"
    assert details["fields"][-2:] == ["qty", "zeros"]
    assert "vwap, qty, zeros" in one.call("ring", "details", "vwap.rows").stdout
    rows = [
        json.loads(line)
        for line in one.call("ring", "tail", "vwap.rows", "--json").stdout.splitlines()
    ]
    assert len(rows) == 10
    assert {row["kind"] for row in rows} <= {"OWN", "RESTART"}
    assert all(row["vwap"] > 0 and "/" in row["symbol"] for row in rows if row["kind"] == "OWN")
    assert (
        one.call(
            "ring", "dump", "vwap.rows", "--last", "50", "-o", str(folder / "a.parquet")
        ).returncode
        == 0
    )
    assert {"vwap", "qty", "symbol"} <= set(pq.read_schema(folder / "a.parquet").names)


def compared(name: str) -> int:
    """Hold each stored row against the trades that are stored; return how many there are."""
    query = """
        select r.vwap, r.qty, t.vwap, t.qty from vwap r join (
            select epoch, seq, sum(price * qty::double) over w / sum(qty) over w as vwap, sum(qty) over w as qty
            from trades window w as (partition by instrument_id order by epoch, seq)
        ) t on r.source_epoch = t.epoch and r.source_seq = t.seq order by r.seq"""
    found = np.array(history.sql(query, name, price="fixed").fetchall(), float)
    np.testing.assert_allclose(found[:, 0], found[:, 2], rtol=1e-12)
    np.testing.assert_array_equal(found[:, 1], found[:, 3])
    return len(found)


@pytest.mark.stress
def test_an_own_consumer_is_a_full_member(pipeline: Any, instance: Instance) -> None:
    """Killed twice, recorded, shown, queried live and stored, its layout changed between runs; the books close."""
    module = instance.state_dir / "my_vwap.py"
    module.write_text(example())
    one = pipeline(TOPOLOGY)
    one.up()
    for _ in range(2):
        enough_rows(one)
        kill(one, "vwap")
    enough_rows(one)
    shown(one, instance.state_dir)
    live = one.read("audit")
    assert live["unaccounted"] == 0, json.dumps(live, indent=1)
    query = "select count(*), count(distinct seq), max(seq) - min(seq) + 1 from vwap_records"
    (counts,) = history.sql(query, one.name).fetchall()
    assert counts[0] == counts[1] == counts[2] > 900
    books = one.down()
    assert books["unaccounted"] == 0, json.dumps(books, indent=1)
    published = check_of(books, "stored of vwap.rows")["found"]
    assert check_of(books, "rows of vwap")["found"] == published - 2  # two RESTART
    assert compared(one.name) == published - 2
    assert history.sql("select count(*) from trades", one.name).fetchall() == [(published - 2,)]

    module.write_text(
        example()
        .replace('("qty", "<i8"))', '("qty", "<i8"), ("trades", "<i8"))', 1)
        .replace("out[n].vwap, out[n].qty =", "out[n].trades = 1; out[n].vwap, out[n].qty =")
    )
    one.up()
    enough_rows(one)
    module.write_text(example())
    assert one.call("restart", "vwap").returncode == 0
    wait_for(lambda: "- our" in one.logs() and "tickring down" in one.logs())
    books = one.down()
    more = check_of(books, "stored of vwap.rows")
    assert more["found"] == more["expected"] > 0
    rows = history.sql("select count(*), count(trades) from vwap", one.name).fetchall()
    assert rows == [(published - 2 + more["found"], more["found"])]


@pytest.mark.parametrize(
    ("spoil", "unaccounted"),
    [
        (lambda rows: rows, 0),
        (lambda rows: rows[:-1], 1),
        (lambda rows: np.concatenate([rows, rows[2:3]]), 1),
        (lambda rows: np.delete(rows, 2), 1),
    ],
    ids=["whole", "one missing at the end", "one twice", "one missing"],
)
def test_rows_of_ones_own_are_counted_by_their_causes(
    instance: Instance, spoil: Any, unaccounted: int
) -> None:
    """Each record's rows are all there, once; at the end too when the books are closed."""
    layout = output_layout("X", ("x", "<f8"))
    rows = np.zeros(8, layout)
    rows["kind"], rows["source_epoch"], rows["source_count"] = Kind.OWN, 1, 2
    rows["source_seq"], rows["source_index"] = np.arange(8) // 2 + 1, np.arange(8) % 2
    producer = open_ring(ring_name(instance.name, "x", "rows"), layout, 64, instance.state_dir)
    producer.publish_batch(spoil(rows))
    table = {"instance": instance.name, "consumers": {"x": {"consumer": "m:N"}}}
    (check,) = own_checks(parse_topology(table, "t"), closing=True)
    producer.close()
    remove_regions(instance)
    assert (check.name, check.expected, check.unaccounted) == ("rows of x", 8, unaccounted)
