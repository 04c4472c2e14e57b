"""P&L as an operator has it: configured in the TOML, looked at from the command line, recomputed from what is stored."""

import json
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from conftest import Instance
from features_market import instrument_record
from pnl_market import DAY_NS, T0, Stream, fill, quote

from consumers import history
from consumers.pnl_engine import PnlEngine, PnlOptions
from consumers.pnl_state import ORDERS
from consumers.pnl_verify import verify
from layouts import INSTRUMENT, ORDER, POSITION, CostMethod
from ops import mem
from ops.cli import run_verb
from ops.plan import make_plan
from ops.strict import Mistakes
from ops.topology import load_topology, parse_topology
from shm import region as regions
from shm.producer import Producer, open_ring
from shm.region import ring_name
from shm.registry import files_of


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
    topology = parse_topology({"orders": {"enabled": True}, "pnl": table}, "t")
    assert "pnl.positions" in topology.expand(topology.recorder.inputs)
    worker = {each.name: each for each in make_plan(topology).workers}["pnl"]
    spec = msgspec.json.decode(worker.spec({}), type=PnlSpec)
    assert spec.inputs == ["orders.orders", "kraken.events"]
    assert (spec.method, spec.day_start_s) == ("fifo", 81_000)
    assert "pnl.positions" in [row.ring for row in mem.ring_rows(topology)]


def test_pnl_without_orders_is_refused() -> None:
    """It would wait for fills that nobody can bring."""
    told = mistakes({"pnl": {"enabled": True}})
    assert any("pnl.orders = 'orders.orders': no worker makes this ring" in line for line in told)


@pytest.mark.parametrize("rings", [7, 8])
def test_pnl_reads_as_many_rings_as_its_rows_can_tell(rings: int) -> None:
    """Seven beside the orders; with one more the mistake names them."""
    more = {
        f"c{i}": {"venue": "kraken_v2", "first_instrument_id": 2001 + 1000 * i}
        for i in range(rings - 2)
    }
    table = {"collectors": more, "orders": {"enabled": True}, "pnl": {"enabled": True}}
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


class Desk:
    """The rings of an instance with two accounts that trade, as the orders and the pnl worker leave them."""

    def __init__(self, instance: Instance, method: CostMethod = CostMethod.FIFO) -> None:
        self.instance = instance
        self.engine = PnlEngine(lambda _id, _version: 2, PnlOptions(method, pause_ns=0))
        self.table, self.orders = (
            self.open("kraken.instruments", INSTRUMENT),
            self.open("orders.orders", ORDER),
        )
        self.positions = self.open("pnl.positions", POSITION)
        self.table.publish_batch(instrument_record(1, 2, 3))
        self.seen, self.epoch = Stream(), self.orders.epoch

    def open(self, ring: str, layout: np.dtype) -> Producer:
        worker, _, name = ring.partition(".")
        return open_ring(
            ring_name(self.instance.name, worker, name), layout, 64, self.instance.state_dir
        )

    def fills(self, *records: np.ndarray) -> np.ndarray:
        """Publish fills; return the rows they cause, which are not published yet."""
        joined = np.concatenate(records)
        first = self.orders.publish_batch(joined.copy())
        joined["stamp"] = 2 * np.arange(first, first + len(joined)) + 2
        return self.engine.process(joined, ORDERS, self.epoch)

    def sees(self, *records: np.ndarray) -> np.ndarray:
        """Apply events; return the rows they cause."""
        return self.engine.process(self.seen.take(*records), 1, 999)

    def publish(self, *rows: np.ndarray) -> None:
        """Publish rows."""
        self.positions.publish_batch(np.concatenate(rows))

    def close(self) -> None:
        """Leave nothing behind."""
        for producer in (self.table, self.orders, self.positions):
            producer.close()
        for file in files_of(self.instance.name):
            regions.unlink(file)


@pytest.fixture
def desk(instance: Instance) -> Iterator[Desk]:
    """Two accounts: 1 has bought 5 at 1.00 and sold 2 at 1.10, marked at 1.02; 2 is short 4 of euros."""
    made = Desk(instance)
    made.publish(
        made.fills(
            fill(1, 100, 5000, fee=25, fee_scale=4), fill(-1, 110, 2000),
            fill(-1, 200, 4000, account=2, instrument_id=9, quote_currency=b"EUR"),
        ),
        made.sees(quote(101, 103)),
    )  # fmt: skip
    yield made
    made.close()


def said(desk: Desk, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run a verb on the desk's instance: status, stdout, stderr."""
    status = run_verb([*words, "-i", desk.instance.name])
    out, err = capsys.readouterr()
    return status, out, err


def test_positions_are_exact_decimals(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest row of each account and instrument."""
    status, out, err = said(desk, capsys, "positions", "--json")
    first, second = json.loads(out)
    assert (status, err) == (0, "")
    assert (first["symbol"], first["qty"], first["average_price"]) == ("I1", "3.000", "1.000")
    assert (first["mark_price"], first["unrealised"]) == ("1.020", "0.060000")
    assert (first["realised"], first["fees"], first["day_pnl"]) == (
        "0.200000",
        "0.002500",
        "0.257500",
    )
    assert (second["account"], second["qty"], second["currency"]) == (2, "-4.000", "EUR")
    assert second["faults"] == ["NO_MARK"]
    status, out, _ = said(desk, capsys, "positions", "--account", "2")
    assert (status, out.splitlines()[0].split()[:3]) == (0, ["account", "symbol", "qty"])
    assert len(out.splitlines()) == 2


def test_totals_are_by_account_and_currency(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Currencies are never added up; what is of a day that is over no longer counts into the day."""
    _, out, _ = said(desk, capsys, "pnl", "--json")
    first, second = json.loads(out)
    assert (first["currency"], first["positions"], first["day_pnl"]) == ("USD", 1, "0.257500")
    assert (second["currency"], second["day_pnl"], second["faults"]) == (
        "EUR",
        "0.000000",
        ["NO_MARK"],
    )
    later = fill(1, 100, 1000, T0 + DAY_NS, instrument_id=2)
    desk.publish(desk.fills(later))
    _, out, _ = said(desk, capsys, "pnl", "--json", "--account", "1")
    (total,) = json.loads(out)
    assert (total["positions"], total["day_pnl"], total["total_pnl"]) == (2, "0.000000", "0.257500")


def test_rows_that_are_overwritten_are_told(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A position whose rows are gone is not shown without a word."""
    for i in range(64):
        desk.publish(desk.sees(quote(100 - i, 104)))
    status, out, err = said(desk, capsys, "positions", "--json")
    assert status == 0 and len(json.loads(out)) == 1
    assert "4 older rows are overwritten" in err


def test_without_a_pnl_worker_the_verb_says_so(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 3."""
    assert run_verb(["positions", "-i", instance.name]) == 3
    assert "pnl.positions" in capsys.readouterr().err


@pytest.mark.parametrize("day", ["", "2024-10-04"])
def test_positions_that_the_fills_bear_out_pass(
    desk: Desk, capsys: pytest.CaptureFixture[str], day: str
) -> None:
    """All of them, or those of a day; fills before it count into what is held."""
    desk.publish(desk.fills(fill(-1, 120, 1000, T0 + DAY_NS)))
    status, out, err = said(desk, capsys, "pnl", "verify", *([day] if day else []), "--json")
    report = json.loads(out)
    assert (status, err, report["sound"]) == (0, "", True)
    assert (report["fills"], report["missing"], report["unfounded"]) == (3 if day else 4, 0, 0)


def wound(rows: np.ndarray, name: str) -> np.ndarray:
    """Change one number of the last row."""
    rows[name][-1] += 1
    return rows


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("qty", "qty"), ("cost_low", "cost"), ("realised_total_low", "realised_total"), ("fees_total_high", "fees_total"),
        ("average_price", "average_price"), ("lots", "lots"), ("fills", "fills"),
    ],
)  # fmt: skip
def test_a_number_that_the_fills_do_not_bear_out_is_told(
    desk: Desk, capsys: pytest.CaptureFixture[str], column: str, told: str
) -> None:
    """The fill, the column, both numbers; exit status 1."""
    desk.publish(wound(desk.fills(fill(-1, 120, 1000)), column))
    status, _, err = said(desk, capsys, "pnl", "verify")
    assert status == 1
    assert f"fill {desk.epoch}:4: {told} is " in err


def test_a_fill_without_a_row_and_a_row_without_a_fill_are_told(desk: Desk) -> None:
    """And a fill that cannot be booked is neither."""
    desk.fills(fill(-1, 120, 1000))
    desk.fills(fill(-1, 120, 0))
    rows = desk.fills(fill(-1, 120, 1000))
    rows["source_seq"] = 77
    desk.publish(rows)
    report = verify(history.connect(desk.instance.name), 256)
    assert (report.fills, report.missing, report.unfounded) == (5, 2, 1)
    assert not report.is_sound


def test_fills_that_are_not_stored_are_told_first(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ring has gone round and nothing was recorded."""
    for _ in range(70):
        desk.fills(fill(1, 100, 1))
    status, _, err = said(desk, capsys, "pnl", "verify")
    assert status == 1
    assert "records 1 .. 10 are not stored; what came before cannot be borne out" in err


def test_the_exposure_worker_runs_when_it_is_asked_for() -> None:
    """Off by default; the instruments of its rates are watched by the pnl worker."""
    from consumers.exposure import ExposureSpec
    from consumers.pnl import PnlSpec

    assert "exposure" not in load_topology().workers()
    exposure = {"enabled": True, "base_currency": "USD", "rates": {"EUR": "kraken:EUR/USD"}}
    pnl = {"enabled": True, "watch": ["kraken:BTC/USD", "kraken:EUR/USD"]}
    table = {"orders": {"enabled": True}, "pnl": pnl, "exposure": exposure}
    topology = parse_topology(table, "t")
    assert list(topology.workers())[-4:] == ["pnl", "exposure", "fanout", "recorder"]
    plan = {each.name: each for each in make_plan(topology).workers}
    spec = msgspec.json.decode(plan["exposure"].spec({}), type=ExposureSpec)
    assert (spec.inputs, spec.rates) == (["pnl.positions"], {"EUR": "kraken:EUR/USD"})
    watched = msgspec.json.decode(plan["pnl"].spec({}), type=PnlSpec).watch
    assert watched == ("kraken:BTC/USD", "kraken:EUR/USD")
    assert "exposure.exposures" in [row.ring for row in mem.ring_rows(topology)]


@pytest.mark.parametrize(
    ("exposure", "told"),
    [
        ({"rates": {"EUR": "kraken:EUR/USD"}}, "no currency to convert to; set base_currency"),
        ({"base_currency": "USD", "rates": {"USD": "a:b"}}, "USD is the base currency"),
        ({"base_currency": "USD", "rates": {"EUR": "EUR/USD"}}, "exposure.rates"),
        ({"least_samples": 3, "window": 2}, "least_samples = 3: more than window = 2"),
        ({"confidence": 1.0}, "exposure.confidence"),
        ({"enabled": True}, "exposure.inputs: none of these rings has a worker"),
    ],
)
def test_exposures_that_cannot_be_worked_out_are_refused(exposure: dict, told: str) -> None:
    """The key, and what to do."""
    assert any(told in line for line in mistakes({"exposure": exposure}))
