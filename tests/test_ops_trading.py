"""Trading from the command line, in real processes: ordered, decided, halted, resumed, verified, and the books close."""

import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import Instance
from test_ops_pipeline import Pipeline

from collectors.order_journal import journal_path, read_journal
from consumers.carried import CarriedStore
from consumers.history import data_dir_of
from layouts import Action, Check, Verdict
from ops.cli import run_verb
from ops.options_trading import RiskOptions
from ops.topology import parse_topology
from ops.trading import Order, control_of, orders_of
from shm.errors import ConfigurationError
from shm.instruments import instruments
from shm.registry import files_of, read_instance

TOPOLOGY = """
instance = "{name}"
[venue]
source = "synthetic"
frames_per_s = 200.0
[collectors.kraken]
event_slots = 32768
book_slots = 256
instrument_slots = 1024
instrument_ids = 100
[collectors.kraken_v1]
enabled = false
[features]
enabled = false
[fanout]
enabled = false
[orders]
enabled = true
test_fills = true
[risk]
enabled = true
collar_bp = 0
limits = [
  {{ check = "order_size", scope = "instrument", value = "2" }},
  {{ check = "position_size", scope = "account", value = "3.5", account = "main" }},
]
"""


@pytest.fixture
def pipeline(instance: Instance) -> Iterator[Callable[..., Pipeline]]:
    """Make pipelines; what a failed test leaves of them is taken down."""
    made: list[Pipeline] = []

    def make(text: str = TOPOLOGY) -> Pipeline:
        made.append(Desk(instance, text))
        return made[-1]

    yield make
    for one in made:
        one.call("down")


class Desk(Pipeline):
    """A pipeline whose verbs run in this process: no interpreter is started for each."""

    def call(self, *words: str, timeout_s: float = 180.0) -> subprocess.CompletedProcess:
        """Run one verb on this instance."""
        if words[0] in ("up", "down", "ready"):
            return super().call(*words, timeout_s=timeout_s)
        said, told = io.StringIO(), io.StringIO()
        with redirect_stdout(said), redirect_stderr(told):
            status = run_verb([*words, "--instance", self.name])
        return subprocess.CompletedProcess(words, status, said.getvalue(), told.getvalue())


def place(run: Pipeline, *words: str) -> dict:
    """Place an order and return its decision."""
    done = run.call("order", "new", *words, "--json")
    assert done.stdout, done.stderr + run.logs()
    decision: dict = json.loads(done.stdout)
    assert (done.returncode == 0) == (decision["verdict"] == "ACCEPTED")
    return decision


def wait_for(run: Pipeline, condition: Callable[[], bool]) -> None:
    """Wait until it is so, at most 30 s."""
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, run.logs()
        time.sleep(0.05)


def test_an_order_is_decided_halted_refused_cancelled_and_resumed(
    pipeline: Callable[..., Pipeline],
) -> None:
    """Socket, ring, kernel, audit; killed, the group comes back HALTED; every decision is made again; the books close."""
    run = pipeline()
    run.up()
    known = instruments(run.name)[0]
    symbol = f"{known.venue}:{known.symbol}"
    assert place(run, "buy", "1", symbol)["verdict"] == "ACCEPTED"
    refused = place(run, "buy", "2.00000001", symbol)
    assert refused["reason"] == "ORDER_SIZE_INSTRUMENT"
    assert (refused["limit"], refused["observed"]) == ("2", "2.00000001")
    assert place(run, "buy", "2", symbol, "--client-id", "mine")["verdict"] == "ACCEPTED"
    again = run.call("order", "new", "buy", "2", symbol, "--client-id", "mine")
    assert again.returncode == 0 and "placed before" in again.stdout
    assert run.read("halt", "--why", "a test")["trading_state"] == "HALTED"
    assert place(run, "sell", "1", symbol)["reason"] == "HALTED"
    assert run.read("order", "cancel", "1")["verdict"] == "CANCEL_PASSED"
    assert run.call("resume").returncode == 2
    assert run.read("resume", "--yes")["trading_state"] == "ACTIVE"
    assert run.read("order", "fill", "3", "2", "100.5")["verdict"] == "FILL_BOOKED"
    assert place(run, "buy", "1.6", symbol)["reason"] == "POSITION_SIZE_ACCOUNT"
    run.read("limits", "set", "position_size", "3.6", "--scope", "account", "--account", "main")
    assert place(run, "buy", "1.6", symbol)["verdict"] == "ACCEPTED"
    assert run.read("reduce")["trading_state"] == "REDUCING"
    assert place(run, "buy", "1", symbol)["reason"] == "NOT_REDUCING"
    before = run.pids()
    os.kill(before["risk"], signal.SIGKILL)
    wait_for(run, lambda: all(run.pids()[n] not in (0, before[n]) for n in ("risk", "orders")))
    run.ready()
    assert place(run, "sell", "1", symbol)["reason"] == "HALTED"
    assert run.read("resume", "--yes")["trading_state"] == "ACTIVE"
    assert place(run, "sell", "1", symbol)["verdict"] == "ACCEPTED"
    verified = run.read("risk", "verify")
    assert verified["differing"] == 0 and verified["decisions"] >= 16
    limits = {row["check"]: row for row in run.read("limits", "show")}
    assert limits["position_size"]["value"] == "3.6" and limits["position_size"]["who"]
    assert [limits[check]["unit"] for check in ("position_size", "order_rate", "book_age")] == [
        "units of the instrument",
        "orders in 1 s",
        "ns",
    ]
    books = run.down()
    assert books["unaccounted"] == 0
    checks = {check["name"]: check for check in books["checks"]}
    assert checks["decisions of orders.orders"]["found"] >= 11
    assert {"decisions of control.control", "stored of risk.decisions"} <= set(checks)
    stored_decisions_are_borne_out(run, verified["decisions"])


def stored_decisions_are_borne_out(run: Pipeline, least: int) -> None:
    """With the instance down: all of the day, from its files alone; a decision that was altered there is found."""
    day = datetime.now(UTC).date().isoformat()
    verified = run.read("risk", "verify", day)
    assert (verified["sound"], verified["incomplete"], verified["undecided"]) == (True, [], 0)
    assert verified["decisions"] >= least
    assert run.call("risk", "verify", "2001-01-01").returncode == 1
    (file,) = (data_dir_of(run.name) / "risk.decisions").glob("*.parquet")
    table = pq.read_table(file)
    verdicts = table.column("verdict").to_pylist()
    at = verdicts.index(int(Verdict.REJECTED))
    verdicts[at] = int(Verdict.ACCEPTED)
    forged = pa.array(verdicts, table.schema.field("verdict").type)
    pq.write_table(
        table.set_column(table.schema.get_field_index("verdict"), "verdict", forged), file
    )
    found = run.call("risk", "verify", day)
    number = table.column("decision_no")[at].as_py()
    assert found.returncode == 1
    assert f"decision {number}: verdict is 1, made again 2" in found.stderr
    pq.write_table(table.filter(pc.not_equal(table.column("decision_no"), number)), file)
    found = run.call("risk", "verify")
    assert found.returncode == 1 and "1 rows are missing" in found.stderr
    assert (
        f"decision {number + 1}: decision_no is {number + 1}, made again {number}" in found.stderr
    )


PNL = """
[pnl]
enabled = true
"""


def held(run: Pipeline) -> tuple[list, list]:
    """Return what an operator sees of positions and orders that stand, but for what the market moves."""
    names = ("account", "symbol", "qty", "average_price", "realised", "fees", "carried", "fills")
    positions = [[row[name] for name in names] for row in run.read("positions")]
    orders = [
        [row["order"][name] for name in ("order_id", "instrument", "open_qty", "client_order_id")]
        for row in run.read("order", "list")
    ]
    return positions, orders


def test_positions_and_orders_survive_down_and_the_loss_of_every_ring(
    pipeline: Callable[..., Pipeline],
) -> None:
    """Down and up: as before. All killed and /dev/shm emptied: as before, HALTED. A torn journal: no order is taken."""
    run = pipeline(TOPOLOGY + PNL)
    run.up()
    symbols = [f"{each.venue}:{each.symbol}" for each in instruments(run.name)[:2]]
    assert place(run, "buy", "2", symbols[0])["verdict"] == "ACCEPTED"
    run.read("order", "fill", "1", "1.5", "100.5", "--fee", "0.25")
    run.read("order", "fill", "1", "0.2", "101")
    assert place(run, "sell", "1", symbols[1], "--client-id", "mine")["verdict"] == "ACCEPTED"
    assert place(run, "buy", "9", symbols[1])["reason"] == "ORDER_SIZE_INSTRUMENT"
    positions, orders = held(run)
    assert [row[2] for row in positions] == ["1.70000000"] and orders[1][3] == "mine"
    assert run.down()["unaccounted"] == 0
    run.up()
    assert held(run) == (positions, orders[:2])
    assert place(run, "buy", "1.9", symbols[0])["reason"] == "POSITION_SIZE_ACCOUNT"
    run.read("order", "fill", "2", "0.4", "7.5")
    assert run.read("risk", "verify")["sound"] and run.read("pnl", "verify")["sound"]
    before = held(run)
    # What risk decided in the last checkpoint_s is not kept: such an order would count as standing.
    written = len(read_journal(journal_path(run.state)).records)
    wait_for(run, lambda: _kept_up_to(run) == written + 1)
    for pid in [read_instance(run.name).pid, *run.pids().values()]:
        os.kill(pid, signal.SIGKILL)
    wait_for(run, lambda: not any(map(_lives, run.pids().values())))
    for name in (*files_of(run.name), *Path("/dev/shm").glob(f"tickring.{run.name}.*")):
        Path("/dev/shm", name).unlink(missing_ok=True)
    run.up()
    assert held(run) == (before[0], before[1][:2]), "what risk had refused stands no more"
    assert place(run, "buy", "0.1", symbols[0])["reason"] == "HALTED"
    assert run.read("resume", "--yes")["trading_state"] == "ACTIVE"
    assert place(run, "buy", "0.1", symbols[0])["verdict"] == "ACCEPTED"
    assert run.down()["unaccounted"] == 0
    journal = journal_path(run.state)
    data = bytearray(journal.read_bytes())
    data[200] ^= 1
    journal.write_bytes(bytes(data))
    assert run.call("up", "-c", str(run.file)).returncode == 0
    wait_for(run, lambda: run.workers()["orders"]["state"] == "FAILED")
    assert run.workers()["kraken"]["state"] in ("RUNNING", "STARTING")
    refused = run.call("order", "new", "buy", "1", symbols[0])
    assert refused.returncode != 0
    assert "positions reset --yes" in run.call("logs", "orders").stdout
    run.call("down")


def _kept_up_to(run: Pipeline) -> int:
    found = CarriedStore(run.state, "risk").load()
    return found.next_seq if found else 0


def _lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return pid > 0 and stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


# ---- the configuration ----


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"check": "exposure", "scope": "venue", "value": "-1"}, "decimal string"),
        ({"check": "exposure", "scope": "venue", "value": "1e5"}, "decimal string"),
        ({"check": "open_positions", "scope": "venue", "value": "1.5"}, "decimals"),
        (
            {"check": "exposure", "scope": "venue", "value": "1", "account": "x"},
            "not one of orders",
        ),
        (
            {"check": "exposure", "scope": "portfolio", "value": "1", "account": "main"},
            "the portfolio is all accounts",
        ),
        ({"check": "exposure", "scope": "moon", "value": "1"}, "moon"),
        ({"check": "speed", "scope": "venue", "value": "1"}, "speed"),
    ],
)
def test_a_limit_that_makes_no_sense_is_a_mistake_of_the_configuration(
    limit: dict, said: str
) -> None:
    """Told before anything starts, with what is wrong."""
    with pytest.raises(ConfigurationError, match=said):
        parse_topology({"risk": {"limits": [limit]}}, "t")


def test_risk_without_orders_and_too_many_inputs_are_mistakes() -> None:
    """Nothing to decide on; more rings than a decision can tell of."""
    with pytest.raises(ConfigurationError, match=r"orders\.enabled is false"):
        parse_topology({"risk": {"enabled": True}}, "t")
    crowd = {
        f"c{i}": {"venue": "kraken_v2", "first_instrument_id": 10_000 + 1_000 * i} for i in range(5)
    }
    table = {"risk": {"enabled": True}, "orders": {"enabled": True}, "collectors": crowd}
    with pytest.raises(ConfigurationError, match=r"risk\.inputs: 7 rings"):
        parse_topology(table, "t")


def test_accounts_need_different_numbers() -> None:
    """Two names of one account are a mistake."""
    with pytest.raises(ConfigurationError, match="different numbers"):
        parse_topology({"orders": {"accounts": {"a": 1, "b": 1}}}, "t")


def test_each_configured_limit_is_a_control_record() -> None:
    """Exact values at their own scales, by name and account."""
    risk = RiskOptions()
    order = Order(check="exposure", scope="account", value="250000.250", account="main")
    record = control_of("limit", order, risk, {"main": 7})[0]
    assert (record["value_low"], record["value_scale"], record["account"]) == (25_000_025, 2, 7)
    assert [each.check for each in orders_of(risk)] == [
        *("collar", "order_rate", "book_age", "rate_age"),
    ]
    rate = control_of("limit", orders_of(risk)[1], risk, {})[0]
    assert (rate["check"], rate["value_low"], rate["window_ns"]) == (Check.ORDER_RATE, 100, 10**9)
    risk = RiskOptions(rates={"EUR": "kraken:EUR/USD", "JPY": "0.0065"})
    euro, yen = (control_of("rate", each, risk, {})[0] for each in orders_of(risk)[4:])
    assert (euro["action"], euro["currency"], euro["scope_name"]) == (6, b"EUR", b"kraken:EUR/USD")
    assert (yen["currency"], yen["value_low"], yen["value_scale"]) == (b"JPY", 65, 4)
    cleared = control_of("rate", Order(currency="EUR"), risk, {})[0]
    assert (cleared["action"], cleared["currency"]) == (Action.CLEAR_RATE, b"EUR")
    for wrong in (Order(currency="USD", value="1"), Order(currency="EUR", value="-1"), Order()):
        with pytest.raises(ConfigurationError, match="rate"):
            control_of("rate", wrong, risk, {})
    with pytest.raises(ConfigurationError, match="leave scope"):
        control_of("limit", Order(check="collar", scope="venue", value="1"), risk, {})
    with pytest.raises(ConfigurationError, match="bytes at most"):
        control_of("halt", Order(why="x" * 73), risk, {})
