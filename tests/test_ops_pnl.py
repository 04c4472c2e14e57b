"""P&L as an operator has it: configured in the TOML, looked at from the command line, recomputed from what is stored."""

import msgspec
import pytest

from ops import mem
from ops.plan import make_plan
from ops.strict import Mistakes
from ops.topology import load_topology, parse_topology


def mistakes(table: dict) -> list[str]:
    """Return what is wrong with a table."""
    with pytest.raises(Mistakes) as caught:
        parse_topology(table, "test.toml")
    return caught.value.found


def test_the_pnl_worker_runs_when_it_is_asked_for() -> None:
    """Off by default; its spec names the orders first, then the events, and how positions are accounted for."""
    from consumers.pnl import PnlSpec

    assert "pnl" not in load_topology().workers()
    assert "pnl.positions" not in load_topology().rings()
    table = {"enabled": True, "inputs": ["kraken.events"], "method": "fifo", "day_start": "22:30"}
    topology = parse_topology({"pnl": table}, "t")
    assert topology.expand(topology.recorder.inputs)[-1] == "pnl.positions"
    worker = {each.name: each for each in make_plan(topology).workers}["pnl"]
    spec = msgspec.json.decode(worker.spec({}), type=PnlSpec)
    assert spec.inputs == ["orders.orders", "kraken.events"]
    assert (spec.method, spec.day_start_s) == ("fifo", 81_000)
    assert "pnl.positions" in [row.ring for row in mem.ring_rows(topology)]


@pytest.mark.parametrize("rings", [7, 8])
def test_pnl_reads_as_many_rings_as_its_rows_can_tell(rings: int) -> None:
    """Seven beside the orders; with one more the mistake names them."""
    more = {
        f"c{i}": {"venue": "kraken_v2", "first_instrument_id": 2001 + 1000 * i}
        for i in range(rings - 2)
    }
    table = {"collectors": more, "pnl": {"enabled": True}}
    if rings == 7:
        assert len(parse_topology(table, "t").inputs_of(parse_topology(table, "t").pnl)) == 8
    else:
        assert any("pnl.inputs: 8 rings (kraken.events" in line for line in mistakes(table))


@pytest.mark.parametrize(
    ("day_start", "sound"), [("00:00", True), ("23:59", True), ("24:00", False)]
)
def test_a_day_begins_at_an_hour_that_there_is(day_start: str, sound: bool) -> None:
    """HH:MM, and nothing else."""
    table = {"pnl": {"day_start": day_start}}
    assert bool(mistakes(table)) != sound if not sound else parse_topology(table, "t")
