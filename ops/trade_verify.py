"""The decisions of a running instance, made again from what its rings hold of orders, controls and events."""

import msgspec
import numpy as np

from consumers.instruments import InstrumentTable
from consumers.risk import roles_of, table_names
from consumers.risk_engine import RiskEngine
from consumers.risk_verify import Verified, verify
from layouts import CONTROL, EVENT, ORDER, RISK_DECISION, Kind
from ops.options import Topology
from ops.trade_log import DECISIONS, held
from shm.registry import read_instance

_LAYOUTS = {"orders": ORDER, "control": CONTROL, "events": EVENT}


def verify_decisions(instance: str, day: str = "") -> tuple[Verified, list[str]]:
    """Make the decisions of a running instance again from its rings; also say which rings no longer hold all."""
    topology = msgspec.convert(read_instance(instance).config, Topology)
    names = topology.inputs_of(topology.risk)
    roles = roles_of(names)
    decisions, incomplete = held(instance, DECISIONS, RISK_DECISION)
    inputs = []
    for name, role in zip(names, roles, strict=True):
        records, missing = held(instance, name, _LAYOUTS[role])
        inputs.append(records)
        incomplete = incomplete + missing
    if day:
        wanted = np.datetime64(day, "D").astype(np.int64) * 86_400 * 10**9
        late = decisions["ts_recv"] >= wanted + 86_400 * 10**9
        decisions = decisions[~late | (decisions["kind"] != Kind.RISK_DECISION)]
    table = InstrumentTable(instance)
    try:
        accounts = sorted(topology.orders.accounts.values())
        engine = RiskEngine(table_names(table), accounts, topology.risk.currency, roles)
        return verify(engine, inputs, decisions), incomplete
    finally:
        table.close()
