"""What risk held at the end of one run is what it holds at the beginning of the next, told by OPENING records.

**Why it is right** Quantities and the day's cash less base are brought over as the integers that they are, with the mark
that they were valued at last; sums over positions are made from them as from fills. An OPENING names venue and symbol
itself, since the tables of a new run may not be there yet.

**Failure** One that cannot be taken (account no longer configured, numbers that do not fit): HALTED, and not to be resumed,
because what is held is not known.
"""

from collections.abc import Callable

import numpy as np

from consumers.position import copy_wide
from consumers.risk_limits import join, split
from consumers.risk_memory import RiskMemory
from consumers.risk_money import CASH, PROFIT, ROW_BYTES, add_to_scopes, halt_by_overflow, revalue
from consumers.risk_scales import Named, Names, take_scales, widen
from consumers.risk_state import (
    CONTEXT,
    IDS,
    INSTRUMENT_RISK,
    NO_ROW,
    ORDER_PLACES,
    PROBES,
    QTY_LIMIT,
    SCOPE_ROW,
)
from layouts import ORDER, Kind, Mark, Opening, RiskReason
from shm.njit import as_pointer, carray, jit

AddPosition = Callable[[int, np.ndarray, Named], RiskReason]
_MANY = 1 << 40


def take_opening(
    memory: RiskMemory, names: Names, add: AddPosition, record: np.ndarray
) -> tuple[RiskReason, int]:
    """Take over what an OPENING record (array of one) tells risk; return why not, and the position's row for `settle`.

    Those that are for others are passed over: NO_ROW.
    """
    code = int(record["reason"][0])
    if code not in (Opening.HELD, Opening.STANDS):
        return RiskReason.NONE, NO_ROW
    instrument_id, account = int(record["instrument_id"][0]), int(record["account"][0])
    reason = take_scales(memory, names, instrument_id, record)
    scales = int(record["price_scale"][0]), int(record["qty_scale"][0])
    if reason is RiskReason.NONE and not widen(memory, instrument_id, *scales):
        reason = RiskReason.OVERFLOW
    st = memory.instruments[instrument_id]
    if reason is not RiskReason.NONE:
        return reason, NO_ROW
    number = memory.position_row(instrument_id, account)
    if number == NO_ROW:
        if code == Opening.STANDS:
            return RiskReason.UNKNOWN_ORDER, NO_ROW
        symbol = bytes(record["client_order_id"][0]).decode()
        named = Named(bytes(record["fee_currency"][0]).decode(), symbol, *scales)
        reason = add(instrument_id, record, named)
        if reason is not RiskReason.NONE:
            return reason, NO_ROW
        number = memory.position_row(instrument_id, account)
    qty = int(record["qty"][0]) * 10 ** (int(st["qty_scale"]) - scales[1])
    side = 1 if record["marks"][0] & Mark.BUY else -1
    if qty > QTY_LIMIT:
        return RiskReason.OVERFLOW, NO_ROW
    row = memory.scopes[number]
    if code == Opening.STANDS:
        return _stand(memory, number, int(record["order_id"][0]), qty, side), number
    row["qty"] += side * qty
    row["cash"] = split(join(int(record["amount_low"][0]), int(record["amount_high"][0])))
    if st["mark"] <= 0:
        st["mark"] = int(record["price"][0]) * 10 ** (int(st["price_scale"]) - scales[0])
    memory.context["day"] = max(int(memory.context["day"][0]), int(record["order_id"][0]))
    return RiskReason.NONE, number


def _stand(memory: RiskMemory, number: int, order_id: int, qty: int, side: int) -> RiskReason:
    for i in range(PROBES):
        place = (order_id + i) % ORDER_PLACES
        if memory.orders["order_id"][place] == 0:
            memory.orders[place] = (order_id, number, qty, side)
            memory.scopes["open_buy" if side > 0 else "open_sell"][number] += qty
            memory.context["orders_open"] += 1
            return RiskReason.NONE
    return RiskReason.TOO_MANY_ORDERS


def openings(memory: RiskMemory) -> np.ndarray:
    """Return OPENING records of all that is held, was traded today or stands; a STANDS has no price and no client's id."""
    made = []
    rows = memory.scopes[: memory.n_rows]
    for number in np.flatnonzero(rows["instrument_id"]).tolist():
        row = rows[number]
        amount = join(*row["cash"].tolist()) - join(*row["base"].tolist())
        if row["qty"] or amount or row["open_buy"] or row["open_sell"]:
            made.append(_held(memory, number, amount))
    for order in memory.orders[memory.orders["order_id"] > 0]:
        record = _of_row(memory, int(order["row"]), Opening.STANDS)
        record["order_id"], record["qty"] = order["order_id"], order["qty"]
        record["marks"] = int(Mark.BUY if order["side"] > 0 else Mark.SELL)
        made.append(record)
    return np.concatenate(made) if made else np.zeros(0, ORDER)


def _of_row(memory: RiskMemory, number: int, code: Opening) -> np.ndarray:
    row = memory.scopes[number]
    st = memory.instruments[row["instrument_id"]]
    record = np.zeros(1, ORDER)
    record["kind"], record["reason"] = Kind.OPENING, code
    record["instrument_id"], record["account"] = row["instrument_id"], row["account"]
    for name in ("price_scale", "qty_scale", "multiplier", "multiplier_scale"):
        record[name] = st[name]
    record["quote_currency"] = memory.row_names[int(row["above"][1])].encode()
    record["ts_event"] = record["ts_recv"] = memory.context["ts"]
    return record


def _held(memory: RiskMemory, number: int, amount: int) -> np.ndarray:
    row = memory.scopes[number]
    record = _of_row(memory, number, Opening.HELD)
    venue = memory.row_names[int(row["above"][0])]
    record["fee_currency"] = venue.encode()
    record["client_order_id"] = memory.row_names[number].removeprefix(f"{venue}:").encode()
    record["marks"] = int(Mark.BUY if row["qty"] >= 0 else Mark.SELL)
    record["qty"], record["order_id"] = abs(row["qty"]), memory.context["day"]
    record["price"] = memory.instruments["mark"][row["instrument_id"]]
    record["amount_low"], record["amount_high"] = split(amount)
    return record


@jit
def settle(context: int, number: int, with_cash: int, _unused: int) -> int:
    """Count a position that was opened by a record in its sums; `with_cash`: the day's cash too. 1: it does not fit."""
    c = carray(as_pointer(context), (1,), CONTEXT)[0]
    scopes = carray(as_pointer(c.rows), (_MANY,), SCOPE_ROW)
    instruments = carray(as_pointer(c.instruments), (IDS,), INSTRUMENT_RISK)
    st = instruments[scopes[number].instrument_id]
    failed = 0
    if with_cash:
        # The sum of profits is moved by the cash; that of the position is made by the same call.
        copy_wide(c.scratch, c.rows + number * ROW_BYTES + CASH)
        failed |= add_to_scopes(c, scopes, number, PROFIT, c.scratch)
    failed |= revalue(c, scopes, number, st.mark, st.factor)
    if failed:
        halt_by_overflow(c)
    return int(failed)
