"""A run of the trading begins with what the one before left: positions, the day's P&L, the orders that stand.

**Protocol** `prepare` is called before any worker starts. Where the ring of orders is there, its run goes on and nothing is
done. Else the journal of the last run is read; what risk and P&L kept (consumers.carried) is brought up to its end by the
same engines; the sum becomes the journal of the next run, durably, and the orders worker publishes it as the ring's first
records. It is done in a process of its own, since the supervisor loads no numba.

**Why it is right** The journal has every record from the OPENINGs of its run on, each before it was in the ring. From those
records the engines make quantities, cost and totals again; what only the workers knew (the marks of day ends, what risk had
accepted) comes from what they kept. Orders that nobody is known to have decided on count as standing.

**Failure** A journal that is damaged or gone, and sums that do not agree: nothing is begun, the reason is told, the orders
worker refuses to start, trading is HALTED. A run that did not end in good order: HALTED until resumed.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from collectors.order_desk import standing_of
from collectors.order_journal import (
    JournalDamaged,
    Journaled,
    journal_path,
    read_journal,
    write_journal,
)
from collectors.order_log import OrderLog
from layouts import ORDER, Kind, Mark, Opening
from ops.options import Topology
from shm.errors import ConfigurationError, TickringError
from shm.registry import ring_names

ORDERS = "orders.orders"
_TIMEOUT_S = 120.0
_ACCOUNTS = range(1, 64)


class Opened(msgspec.Struct):
    """How a run begins: `why` it is HALTED, "" where it is not."""

    why: str = ""
    is_known: bool = True
    """False: what is held is not known, and no order is taken."""
    records: int = 0


def prepare(topology: Topology) -> Opened:
    """Begin the next run's journal where the last one's rings are gone."""
    from ops.child import child_environment

    path = journal_path(topology.state_path)
    rings = [str(each) for each in ring_names(topology.instance)]
    if not topology.orders.enabled or ORDERS in rings or not path.exists():
        return Opened()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ops.opening"],
        input=msgspec.json.encode(topology),
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT_S,
        check=False,
        env=child_environment(),
    )
    try:
        return msgspec.json.decode(done.stdout, type=Opened)
    except msgspec.DecodeError:
        why = f"the opening positions could not be made (status {done.returncode}); see the supervisor's log"
        return Opened(why, is_known=False)


def begin(topology: Topology) -> Opened:
    """Read the last run's journal and write the next one's."""
    path = journal_path(topology.state_path)
    try:
        before = read_journal(path)
        records = openings_of(topology, before)
        most = topology.orders.slots // 2
        if len(records) > most:
            raise ConfigurationError(
                f"orders.slots = {topology.orders.slots}: a run begins with {len(records)} records, at most {most} fit; "
                "enlarge it"
            )
    except TickringError as error:
        return Opened(str(error), is_known=False)
    orders = before.records["order_id"][before.records["kind"] == Kind.ORDER]
    newest = int(orders.max(initial=before.last_order_id))
    if before.uuid:
        kept = path.with_name("records.before")
        write_journal(kept, before)
    write_journal(path, Journaled("", before.is_closed, newest, records))
    why = "" if before.is_closed else "the last run did not end by `tickring down`"
    return Opened(why, records=len(records))


def reset(state_path: Path) -> None:
    """Begin as if nothing were held; the old journal is kept beside it."""
    path = journal_path(state_path)
    if path.exists():
        os.replace(path, path.with_name("records.reset"))
    ids = OrderLog(state_path)
    last_id = ids.last_id
    ids.close()
    write_journal(path, Journaled("", True, last_id, np.zeros(0, ORDER)))


def openings_of(topology: Topology, before: Journaled) -> np.ndarray:
    """Return the OPENING records that the next run begins with.

    Raises:
        JournalDamaged: risk and P&L do not agree on what is held. ConfigurationError: a name is too long.
    """
    if not len(before.records):
        return before.records
    risk = _risk(topology, before)
    pnl = _pnl(topology, before)
    held = risk[risk["reason"] == Opening.HELD]
    positions = pnl[pnl["reason"] == Opening.POSITION]
    if (by_risk := _quantities(held)) != (by_pnl := _quantities(positions)):
        raise JournalDamaged(
            f"risk and P&L do not agree on what is held (account, instrument: quantity): {by_risk} and {by_pnl}; see "
            "`tickring pnl verify` and `tickring risk verify`, then `tickring positions reset --yes`"
        )
    accepted = set(risk["order_id"][risk["reason"] == Opening.STANDS].tolist())
    stands = [
        as_standing(each.record, each.open_qty)
        for order_id, each in standing_of(before.records).items()
        if order_id in accepted
    ]
    found = np.concatenate([held, *stands, pnl])
    found["ts_event"] = found["ts_recv"] = before.records["ts_recv"].max()
    return found


def as_standing(order: np.ndarray, open_qty: int) -> np.ndarray:
    """Return an ORDER as the OPENING that says what still stands of it."""
    record = order.copy()
    record["kind"], record["reason"], record["qty"] = Kind.OPENING, Opening.STANDS, open_qty
    return record


def _quantities(records: np.ndarray) -> dict[str, str]:
    """Return what is held of each account and instrument, as decimals without excess zeros."""
    found = {}
    for each in records:
        if each["qty"]:
            sign = 1 if each["marks"] & Mark.BUY else -1
            qty, scale = sign * int(each["qty"]), int(each["qty_scale"])
            while scale and qty % 10 == 0:
                qty, scale = qty // 10, scale - 1
            found[f"{each['account']}, {each['instrument_id']}"] = f"{qty}e-{scale}"
    return dict(sorted(found.items()))


def _kept(topology: Topology, worker: str, before: Journaled) -> tuple[np.ndarray, np.ndarray]:
    """Return what a worker kept of this run, and the records behind it; else all records of the run."""
    from consumers.carried import CarriedStore

    kept = CarriedStore(topology.state_path, worker).load()
    if kept is None or kept.uuid != before.uuid or kept.next_seq - 1 > len(before.records):
        return before.records[:0], before.records
    return kept.records, before.records[kept.next_seq - 1 :]


def _pnl(topology: Topology, before: Journaled) -> np.ndarray:
    from consumers.pnl import PnlSpec, options_of
    from consumers.pnl_engine import PnlEngine
    from consumers.pnl_state import ORDERS as SOURCE
    from ops.plan import pnl_spec

    options = options_of(msgspec.convert(pnl_spec(topology), PnlSpec))
    engine = PnlEngine(lambda _id, _version: None, options)
    engine.process(_stamped(np.concatenate(_kept(topology, "pnl", before))), SOURCE)
    return engine.openings()


def _risk(topology: Topology, before: Journaled) -> np.ndarray:
    from consumers.risk_engine import BATCH_RECORDS, RiskEngine
    from shm.njit import address_of

    known, behind = _kept(topology, "risk", before)
    names = _names(topology)
    parts = [known]
    there = {
        (int(each["account"]), int(each["instrument_id"]))
        for each in np.concatenate([known, behind])
        if each["kind"] == Kind.OPENING and each["reason"] == Opening.HELD
    }
    for i in range(len(behind)):
        record = behind[i : i + 1]
        key = int(record["account"][0]), int(record["instrument_id"][0])
        if record["kind"][0] in (Kind.ORDER, Kind.FILL) and key not in there:
            there.add(key)
            parts.append(_nothing_held(record, names))
        is_order = record["kind"][0] == Kind.ORDER
        parts.append(as_standing(record, int(record["qty"][0])) if is_order else record)
    records = _stamped(np.concatenate(parts))
    engine = RiskEngine(
        lambda _id, _version: None, list(_ACCOUNTS), topology.risk.currency, ("orders", "control")
    )
    for first in range(0, len(records), BATCH_RECORDS):
        at = address_of(records) + first * ORDER.itemsize
        engine.apply(at, min(BATCH_RECORDS, len(records) - first), 0, 1)
    if engine.openings_refused:
        raise JournalDamaged("risk cannot take over what it held; see the supervisor's log")
    return engine.openings()


def _nothing_held(record: np.ndarray, names: dict[int, tuple[str, str]]) -> np.ndarray:
    """Return the OPENING that makes the position of an order's instrument known by name, with nothing in it."""
    venue, symbol = names.get(int(record["instrument_id"][0]), ("", ""))
    made = record.copy()
    room = made.dtype["fee_currency"].itemsize, made.dtype["client_order_id"].itemsize
    if not venue or len(venue.encode()) > room[0] or len(symbol.encode()) > room[1]:
        raise ConfigurationError(
            f"instrument {int(record['instrument_id'][0])} ({venue}:{symbol}): its position cannot be carried over; names "
            f"of {room[0]} and {room[1]} bytes at most"
        )
    for field in ("qty", "price", "order_id", "amount_low", "amount_high"):
        made[field] = 0
    made["kind"], made["reason"] = Kind.OPENING, Opening.HELD
    made["fee_currency"], made["client_order_id"] = venue.encode(), symbol.encode()
    return made


def _names(topology: Topology) -> dict[int, tuple[str, str]]:
    """Return venue and symbol of every instrument that ever had an id here."""
    found: dict[int, tuple[str, str]] = {}
    for path in sorted((topology.state_path / "instruments").glob("*.json")):
        table: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        for each in table["instruments"]:
            found[each["instrument_id"]] = table["venue"], each["symbol"]
    return found


def _stamped(records: np.ndarray) -> np.ndarray:
    made = np.ascontiguousarray(records)
    made["stamp"] = 2 * np.arange(1, len(made) + 1) + 2
    return made


def main() -> None:
    """Do it for the topology on stdin, and answer with one line."""
    topology = msgspec.json.decode(sys.stdin.buffer.read(), type=Topology)
    sys.stdout.write(msgspec.json.encode(begin(topology)).decode() + "\n")


if __name__ == "__main__":
    main()
