"""What was ordered and decided, read from the rings; and a client's way to the orders worker."""

import socket
import time
from typing import Any

import msgspec
import numpy as np

from collectors.order_requests import Answer, Request, socket_path, text_of
from consumers.risk_limits import join
from layouts import (
    CONTROL,
    RISK_DECISION,
    Action,
    Check,
    Kind,
    RiskReason,
    Scope,
    TradingState,
    Verdict,
)
from ops.control import NoSupervisor
from shm.clock import monotonic_ns
from shm.errors import ConfigurationError
from shm.reader import open_reader
from shm.registry import parse_ring

ORDERS, CONTROLS = 0, 1
"""Inputs of the risk worker, by number."""
DECISIONS = "risk.decisions"
_UNITS = {
    Check.ORDER_SIZE: "units of the instrument",
    Check.POSITION_SIZE: "units of the instrument",
    Check.OPEN_POSITIONS: "positions",
    Check.COLLAR: "bp of the mid",
    Check.BOOK_AGE: "ns",
    Check.RATE_AGE: "ns",
}
_WAIT_S = 5.0
_NAP_S = 0.005
_RECENT = 4096


def ask(instance: str, request: Request, timeout_s: float = 5.0) -> Answer:
    """Send one request to the orders worker and return its answer.

    Raises:
        NoSupervisor: nobody answers. ConfigurationError: it was refused, and why.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout_s)
            client.connect(str(socket_path(instance)))
            client.sendall(msgspec.json.encode(request) + b"\n")
            with client.makefile("rb") as lines:
                answer = msgspec.json.decode(lines.readline(), type=Answer)
    except (OSError, msgspec.DecodeError) as error:
        raise NoSupervisor(
            f"the orders worker of instance {instance!r} does not answer ({error}); see `tickring status`, and "
            "orders.enabled in the TOML"
        ) from error
    if not answer.ok:
        raise ConfigurationError(answer.error)
    return answer


def decision_of(instance: str, source: int, seq: int) -> dict[str, Any] | None:
    """Return the decision on a record of input `source`, waiting for it up to 5 s; None: there is none."""
    until = monotonic_ns() + int(_WAIT_S * 1e9)
    with open_reader(parse_ring(DECISIONS, instance), RISK_DECISION) as reader:
        while True:
            rows = reader.last(_RECENT)[0]
            mine = rows[(rows["input"] == source) & (rows["source_seq"] == seq)]
            mine = mine[mine["kind"] == Kind.RISK_DECISION]
            if len(mine):
                return describe(mine[-1])
            if monotonic_ns() > until:
                return None
            time.sleep(_NAP_S)


def describe(row: np.void) -> dict[str, Any]:
    """Return a decision in words and exact decimals."""
    scale = int(row["value_scale"])
    amounts = {
        name: text_of(join(int(row[f"{name}_low"]), int(row[f"{name}_high"])), scale)
        for name in ("limit", "observed")
    }
    if amounts == {"limit": "0", "observed": "0"}:
        amounts = {"limit": "", "observed": ""}
    return amounts | {
        "verdict": Verdict(int(row["verdict"])).name,
        "reason": RiskReason(int(row["reason"])).name,
        "trading_state": TradingState(int(row["trading_state"])).name,
        "order_id": int(row["order_id"]),
        "decision_no": int(row["decision_no"]),
        "orders_open": int(row["orders_open"]),
        "currency": bytes(row["currency"]).decode(),
    }


def verdicts(instance: str) -> dict[int, str]:
    """Return what was decided of each order that the ring of decisions still tells of."""
    rows = held(instance, DECISIONS, RISK_DECISION)[0]
    rows = rows[np.isin(rows["cause_kind"], (Kind.ORDER, Kind.OPENING))]
    passed = {int(each): each.name for each in (Verdict.ACCEPTED, Verdict.OPENED)}
    return {
        int(row["order_id"]): passed.get(int(row["verdict"]), RiskReason(int(row["reason"])).name)
        for row in rows
    }


def limits_in_force(instance: str) -> list[dict[str, Any]]:
    """Return the limits as the control ring tells them, the newest record of each."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    refused = _refused_controls(instance)
    for record in held(instance, "control.control", CONTROL)[0]:
        seq = (int(record["stamp"]) - 2) >> 1
        if record["action"] not in (Action.SET_LIMIT, Action.CLEAR_LIMIT) or seq in refused:
            continue
        check, scope = Check(int(record["check"])), int(record["scope"])
        name, account = bytes(record["scope_name"]).decode(), int(record["account"])
        key = (check, scope, name, account)
        found.pop(key, None)
        if record["action"] == Action.SET_LIMIT:
            value = join(int(record["value_low"]), int(record["value_high"]))
            found[key] = {
                "check": check.name.lower(),
                "scope": Scope(scope).name.lower() if scope else "",
                "name": name,
                "account": account or None,
                "value": text_of(value, int(record["value_scale"])),
                "unit": _unit_of(check, record),
                "who": bytes(record["who"]).decode(),
                "why": bytes(record["why"]).decode(),
            }
    return [found[key] for key in sorted(found)]


def rates_in_force(instance: str) -> list[dict[str, Any]]:
    """Return the rates as the control ring tells them, the newest record of each currency."""
    found: dict[str, dict[str, Any]] = {}
    refused = _refused_controls(instance)
    for record in held(instance, "control.control", CONTROL)[0]:
        seq = (int(record["stamp"]) - 2) >> 1
        if record["action"] not in (Action.SET_RATE, Action.CLEAR_RATE) or seq in refused:
            continue
        currency = bytes(record["currency"]).decode()
        found.pop(currency, None)
        if record["action"] == Action.SET_RATE:
            number = text_of(int(record["value_low"]), int(record["value_scale"]))
            found[currency] = {
                "currency": currency,
                "rate": bytes(record["scope_name"]).decode() or number,
                "who": bytes(record["who"]).decode(),
                "why": bytes(record["why"]).decode(),
            }
    return [found[currency] for currency in sorted(found)]


def _unit_of(check: Check, record: np.void) -> str:
    """Return what a limit's value counts."""
    if check in (Check.EXPOSURE, Check.DAILY_LOSS):
        return bytes(record["currency"]).decode()
    if check == Check.ORDER_RATE:
        return f"orders in {int(record['window_ns']) / 1e9:g} s"
    return _UNITS[check]


def _refused_controls(instance: str) -> set[int]:
    rows = held(instance, DECISIONS, RISK_DECISION)[0]
    is_refused = (rows["input"] == CONTROLS) & (rows["verdict"] == Verdict.REJECTED)
    return set(rows["source_seq"][is_refused & (rows["kind"] == Kind.RISK_DECISION)].tolist())


def held(instance: str, ring: str, dtype: np.dtype) -> tuple[np.ndarray, list[str]]:
    """Return what a ring holds, and a sentence where that is not all it ever held."""
    with open_reader(parse_ring(ring, instance), dtype) as reader:
        facts = reader.facts()
        records, info = reader.last(facts.slots)
    if len(records) and info.first_seq > facts.first_seq:
        return records, [
            f"{ring}: seqs before {info.first_seq} are overwritten; decisions from them cannot be made again"
        ]
    return records, []
