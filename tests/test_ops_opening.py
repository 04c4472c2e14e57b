"""A run begins with what the journal and the workers of the run before left, or does not begin at all."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pnl_market import fill

from collectors.order_journal import (
    JournalDamaged,
    Journaled,
    OrderJournal,
    journal_path,
    read_journal,
    write_journal,
)
from collectors.order_log import OrderLog
from consumers.carried import CarriedStore
from consumers.checkpoint import Position
from consumers.pnl_engine import PnlEngine, PnlOptions
from layouts import ORDER, Action, Kind, Mark, Opening
from ops import opening
from ops.cli import run_verb
from ops.options import Topology
from ops.topology import parse_topology
from ops.trading import ControlRing
from shm import region as regions
from shm.registry import files_of

UUID = "c" * 32


def order(kind: Kind, order_id: int, qty: int, side: int = 1, **more: Any) -> np.ndarray:
    """Make a record of the orders ring."""
    record = fill(side, 10_000, qty, order_id=order_id, **more)
    record["kind"] = kind
    record["client_order_id"] = f"client {order_id}".encode()
    return record


RUN = (
    order(Kind.ORDER, 1, 900),
    order(Kind.FILL, 1, 500),
    order(Kind.ORDER, 2, 70, side=-1, account=2),
    order(Kind.ORDER, 3, 80),
    order(Kind.CANCEL, 3, 0),
    order(Kind.FILL, 1, 100),
)


@pytest.fixture
def topology(instance: Any) -> Topology:
    """An instance that traded one instrument."""
    table = {"orders": {"enabled": True, "accounts": {"a": 1, "b": 2}}, "risk": {"enabled": True}}
    table |= {"instance": instance.name, "state_dir": str(instance.state_dir)}
    made = parse_topology(table, "t")
    file = made.state_path / "instruments" / "kraken.json"
    file.parent.mkdir(parents=True)
    names = {"instrument_id": 1, "symbol": "BTC/USD"}
    file.write_bytes(msgspec.json.encode({"venue": "kraken", "instruments": [names]}))
    return made


def leave(topology: Topology, records: tuple[np.ndarray, ...] = RUN, closed: bool = True) -> None:
    """Leave the journal of a run."""
    found = Journaled(UUID, closed, 0, np.concatenate(records))
    write_journal(journal_path(topology.state_path), found)


def begun(topology: Topology) -> np.ndarray:
    """Return the records of the next run's journal, which belongs to no ring yet."""
    found = read_journal(journal_path(topology.state_path))
    assert found.uuid == ""
    return found.records


def of(records: np.ndarray, code: Opening) -> np.ndarray:
    """Return the OPENINGs of one sort."""
    assert (records["kind"] == Kind.OPENING).all()
    return records[records["reason"] == code]


def test_from_the_journal_alone(topology: Topology) -> None:
    """Held, lots, and what stands with its client's id and what is left of it."""
    leave(topology)
    done = opening.begin(topology)
    records = begun(topology)
    assert (done.why, done.is_known, done.records) == ("", True, len(records))
    held = of(records, Opening.HELD)
    assert held["qty"].tolist() == [600, 0] and held["account"].tolist() == [1, 2]
    assert (held["fee_currency"][0], held["client_order_id"][0]) == (b"kraken", b"BTC/USD")
    stands = of(records, Opening.STANDS)
    assert stands[["order_id", "qty"]].tolist() == [(1, 300), (2, 70)]
    assert stands["client_order_id"].tolist() == [b"client 1", b"client 2"]
    assert of(records, Opening.POSITION)["qty"].tolist() == [600]
    assert read_journal(journal_path(topology.state_path)).last_order_id == 3
    assert (
        len(read_journal(journal_path(topology.state_path).with_name("records.before")).records)
        == 6
    )


def test_a_run_that_only_began_is_begun_again_the_same(topology: Topology) -> None:
    """Killed before the ring was there, or after it with nothing traded: nothing is added, nothing lost."""
    leave(topology)
    opening.begin(topology)
    first = begun(topology)
    opening.begin(topology)
    names = [name for name in ORDER.names or () if name != "stamp"]
    np.testing.assert_array_equal(begun(topology)[names], first[names])


def test_what_risk_had_refused_does_not_stand_and_what_the_workers_knew_is_kept(
    topology: Topology,
) -> None:
    """Risk kept order 1 alone, up to record 3; P&L kept what it had: both are brought up to the journal's end."""
    leave(topology)
    opening.begin(topology)
    whole = begun(topology)
    kept = whole[(whole["reason"] <= Opening.STANDS) & (whole["order_id"] != 2)]
    kept["qty"][(kept["reason"] == Opening.HELD) & (kept["account"] == 1)] = 500
    kept["qty"][kept["reason"] == Opening.STANDS] = 400

    class Kept:
        def openings(self) -> np.ndarray:
            return kept

    leave(topology)
    engine = PnlEngine(lambda _i, _v: 2, PnlOptions())
    journal = read_journal(journal_path(topology.state_path)).records
    engine.process(journal[:2].copy(), 0)
    engine.positions["carried"][0] = (77, 0)
    for worker, next_seq, what in (("risk", 4, Kept()), ("pnl", 3, engine)):
        store = CarriedStore(topology.state_path, worker)
        store.load()
        at = Position(ring="orders.orders", uuid=UUID, next_seq=next_seq, lapped=0)
        store.save(at, what, is_last=True)
    assert opening.begin(topology).why == ""
    records = begun(topology)
    assert of(records, Opening.STANDS)[["order_id", "qty"]].tolist() == [(1, 300)]
    assert of(records, Opening.HELD)["qty"].tolist()[:1] == [600]
    assert of(records, Opening.CARRIED)["amount_low"].tolist() == [77]


def test_what_is_kept_of_another_run_is_passed_over(topology: Topology) -> None:
    """Its ring is another one: the journal alone counts."""
    engine = PnlEngine(lambda _i, _v: 2, PnlOptions())
    store = CarriedStore(topology.state_path, "pnl")
    store.load()
    at = Position(ring="orders.orders", uuid="d" * 32, next_seq=3, lapped=0)
    store.save(at, engine, is_last=True)
    leave(topology)
    assert opening.begin(topology).is_known
    assert of(begun(topology), Opening.POSITION)["qty"].tolist() == [600]


def test_sums_that_do_not_agree_begin_nothing(topology: Topology) -> None:
    """P&L says 601: told with both, and the old journal stays, which no new ring accepts."""
    leave(topology)
    engine = PnlEngine(lambda _i, _v: 2, PnlOptions())
    engine.process(np.concatenate([order(Kind.FILL, 1, 601)]), 0)
    store = CarriedStore(topology.state_path, "pnl")
    store.load()
    at = Position(ring="orders.orders", uuid=UUID, next_seq=7, lapped=0)
    store.save(at, engine, is_last=True)
    done = opening.begin(topology)
    assert not done.is_known and "do not agree" in done.why and "601e-3" in done.why
    assert read_journal(journal_path(topology.state_path)).uuid == UUID
    with pytest.raises(JournalDamaged, match="belongs to another"):
        OrderJournal(topology.state_path, is_first=False).bind("e" * 32, 1)


def test_a_torn_journal_begins_nothing_and_trading_is_halted(topology: Topology) -> None:
    """Told in the control ring's HALT; the process that `up` asks says the same; `reset` begins flat."""
    leave(topology)
    path = journal_path(topology.state_path)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))
    done = opening.prepare(topology)
    assert not done.is_known and "record 1 of 6 is damaged" in done.why
    ring = ControlRing(topology, done)
    try:
        assert _start(topology) == (Action.HALT, done.why.encode()[:72])
    finally:
        ring.stop()
        for file in files_of(topology.instance):
            regions.unlink(file)
    OrderLog(topology.state_path).add("a", "client 9")
    opening.reset(topology.state_path)
    assert (len(begun(topology)), read_journal(path).last_order_id) == (0, 1)
    assert opening.prepare(topology).is_known and path.with_name("records.reset").exists()


def test_a_run_that_was_not_ended_begins_halted(topology: Topology) -> None:
    """Unless the configuration says otherwise; a clean one begins as the configuration wants."""
    for closed, halts, wanted in (
        (False, True, Action.HALT),
        (False, False, Action.RESUME),
        (True, True, Action.RESUME),
    ):
        leave(topology, closed=closed)
        risk = msgspec.structs.replace(topology.risk, halt_on_restart=halts)
        ring = ControlRing(msgspec.structs.replace(topology, risk=risk), opening.begin(topology))
        try:
            assert _start(topology)[0] == wanted
        finally:
            ring.stop()
            for file in files_of(topology.instance):
                regions.unlink(file)


def test_more_than_half_a_ring_is_refused(topology: Topology) -> None:
    """The ring would have no room for what comes."""
    leave(topology)
    n = opening.begin(topology).records
    for slots, is_known in ((32, True), (16, False)):
        leave(topology)
        small = msgspec.structs.replace(topology.orders, slots=slots)
        done = opening.begin(msgspec.structs.replace(topology, orders=small))
        assert done.is_known == is_known == (n <= slots // 2)


def test_an_instrument_without_a_name_is_refused(topology: Topology) -> None:
    """Its position could not be found again."""
    leave(topology, (*RUN, order(Kind.FILL, 7, 5, instrument_id=9)))
    done = opening.begin(topology)
    assert not done.is_known and "instrument 9" in done.why


def test_reset_asks_and_wants_the_instance_down(
    topology: Topology, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 without --yes, or while regions are there."""
    leave(topology)
    file = tmp_path / "t.toml"
    file.write_text(f'instance = "{topology.instance}"\nstate_dir = "{topology.state_path}"\n')
    assert run_verb(["positions", "reset", "-c", str(file)]) == 2
    assert "--yes" in capsys.readouterr().err
    assert run_verb(["positions", "reset", "-c", str(file), "--yes"]) == 0
    assert len(begun(topology)) == 0 and RUN[0]["marks"] & Mark.BUY


def _start(topology: Topology) -> tuple[int, bytes]:
    """Return what the last record of the control ring orders, and why."""
    from layouts import CONTROL
    from ops.trade_log import held

    last = held(topology.instance, "control.control", CONTROL)[0][-1]
    return int(last["action"]), bytes(last["why"])
