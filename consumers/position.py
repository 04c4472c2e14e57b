"""A position is booked exactly: fills open, reduce, close and turn it, and what they realise is a 128-bit integer.

**Layout** A POSITION_STATE, and a ring of LOTs of its own. A lot is a quantity still held and its cost, signed as the
position is. FIFO takes the oldest lot first. Average cost is FIFO with room for one lot: a fill that finds no room
goes into the newest lot, quantities and costs added up. A fill at the price of the newest lot always does.

**Why it is right** Costs are products and sums of integers at one scale. The only division is a part of a lot, whose
cost x part / whole is rounded half to even; what is rounded off stays in the lot, so realised + unrealised is exact at
any time, and with FIFO, while lots are of one price, so is each of them. A fill is worked out in `work` first and then
written: one that does not fit changes nothing.

**Cost** bench_pnl_kernel.
"""

from typing import Any

import numpy as np

from layouts.position import PositionFault
from shm.njit import (
    as_pointer,
    carray,
    jit,
    tr_wide_add,
    tr_wide_at,
    tr_wide_divide,
    tr_wide_multiply,
    tr_wide_multiply_add,
    tr_wide_share,
    tr_wide_subtract,
)

BOOKED, TOO_WIDE = 0, 1
MIXED_PRICE = -(1 << 63)
"""Price of a lot that holds fills of several prices or multipliers."""
_INT_MAX = (1 << 63) - 1
_WORKS = 8
TERM, RELEASED, PART, KEPT, GAIN, TOTAL, COST, OPENED = range(_WORKS)
_LOTS_MERGED = int(PositionFault.LOTS_MERGED)

LOT = np.dtype([("qty", "<i8"), ("price", "<i8"), ("multiplier", "<i8"), ("cost", "<i8", (2,))])

POSITION_STATE = np.dtype(
    [
        ("account", "<i8"),
        ("instrument_id", "<i8"),
        ("next", "<i8"),  # number of the next position of the same instrument, -1: none
        ("qty", "<i8"),  # signed
        ("multiplier", "<i8"),  # of the last fill
        ("fills", "<i8"),
        ("version", "<i8"),  # of the instrument, of the last fill
        ("day", "<i8"),
        ("ts_row", "<i8"),  # ts_event of the last row
        ("mark_row", "<i8"),  # mark of the last row
        ("faults_row", "<i8"),
        ("first_lot", "<i8"),  # number of the oldest lot, modulo the room
        ("lots", "<i8"),
        ("faults", "<i8"),  # those that stay
        ("price_scale", "<i8"),
        ("qty_scale", "<i8"),
        ("multiplier_scale", "<i8"),
        ("mark_scale", "<i8"),
        ("mark_unit", "<i8"),  # 10**(mark_scale - price_scale of the instrument now); 0: not known
        ("quote_currency", "<i8", (2,)),  # the bytes of its S16
        ("cost", "<i8", (2,)),
        ("realised", "<i8", (2,)),
        ("fees", "<i8", (2,)),
        ("realised_total", "<i8", (2,)),
        ("fees_total", "<i8", (2,)),
        ("carried", "<i8", (2,)),
        ("work", "<i8", (_WORKS, 2)),
    ]
)
_LOT_BYTES = LOT.itemsize


def _at(name: str) -> int:
    return int(POSITION_STATE.fields[name][1])  # type: ignore[index]


_COST, _REALISED, _TOTAL, _WORK = (_at(n) for n in ("cost", "realised", "realised_total", "work"))
_FEES, _FEES_TOTAL, _CARRIED = _at("fees"), _at("fees_total"), _at("carried")
_LOT_COST = int(LOT.fields["cost"][1])  # type: ignore[index]


@jit
def set_wide(address: int, low: int, high: int) -> None:
    """Write the two words of a wide number."""
    words = carray(as_pointer(address), (2,), np.int64)
    words[0], words[1] = low, high


@jit
def copy_wide(to: int, source: int) -> None:
    """Copy a wide number."""
    words = carray(as_pointer(source), (2,), np.int64)
    set_wide(to, words[0], words[1])


@jit
def product(out: int, price: int, qty: int, multiplier: int) -> int:
    """Write price x qty x multiplier; 1 where it does not fit."""
    set_wide(out, 0, 0)
    if tr_wide_multiply_add(out, price, qty):
        return 1
    if multiplier == 1:
        return 0
    return int(tr_wide_multiply(out, multiplier))


@jit
def book_fill(
    position: int, lots: int, room: int, side: int, price: int, qty: int, multiplier: int
) -> int:
    """Book a fill into the POSITION_STATE at an address; BOOKED, or TOO_WIDE and nothing changed.

    Args:
        position: address of the state.
        lots: address of its LOTs.
        room: how many there are; 1: average cost.
        side: +1 bought, -1 sold.
        price: at the state's mark_scale.
        qty: above 0, at its qty_scale.
        multiplier: above 0, at its multiplier_scale.
    """
    st = carray(as_pointer(position), (1,), POSITION_STATE)[0]
    work = position + _WORK
    held = 1 if st.qty > 0 else (-1 if st.qty < 0 else 0)
    closing = min(qty, abs(st.qty)) if held == -side else 0
    opening = qty - closing
    if opening > 0 and closing == 0 and abs(st.qty) > _INT_MAX - qty:
        return TOO_WIDE
    copy_wide(work + 16 * COST, position + _COST)
    head, left, rest = st.first_lot, st.lots, closing
    if closing > 0:
        if product(work + 16 * TERM, price, held * closing, multiplier):
            return TOO_WIDE
        head, left, rest = _release(work, lots, room, head, left, closing)
        if left < 0 or _realise(position, work):
            return TOO_WIDE
    if opening > 0:
        if product(work + 16 * OPENED, price, side * opening, multiplier):
            return TOO_WIDE
        if tr_wide_add(work + 16 * COST, work + 16 * OPENED):
            return TOO_WIDE
        if left > 0:  # nothing was closed: it may go into the newest lot
            copy_wide(work + 16 * KEPT, lots + (head + left - 1) % room * _LOT_BYTES + _LOT_COST)
            if tr_wide_add(work + 16 * KEPT, work + 16 * OPENED):
                return TOO_WIDE
    # From here on nothing is refused.
    if closing > 0:
        copy_wide(position + _REALISED, work + 16 * GAIN)
        copy_wide(position + _TOTAL, work + 16 * TOTAL)
        if rest > 0:
            lot = carray(as_pointer(lots + head % room * _LOT_BYTES), (1,), LOT)[0]
            lot.qty -= rest
            copy_wide(lots + head % room * _LOT_BYTES + _LOT_COST, work + 16 * KEPT)
    st.first_lot, st.lots = head % room, left
    if left == 0:
        st.faults &= ~_LOTS_MERGED
    if opening > 0:
        _open_lot(position, lots, room, price, opening, multiplier)
    st.qty += side * qty
    st.multiplier = multiplier
    copy_wide(position + _COST, work + 16 * COST)
    return BOOKED


@jit
def _release(work: int, lots: int, room: int, head: int, left: int, closing: int) -> Any:
    """Add up the cost of the oldest `closing` held into RELEASED.

    Return the oldest lot and the lots that are left then (-1: the sum does not fit), and how much of that lot goes as
    well; what it keeps of its cost is in KEPT.
    """
    set_wide(work + 16 * RELEASED, 0, 0)
    rest = closing
    while rest > 0:
        at = lots + head % room * _LOT_BYTES
        lot = carray(as_pointer(at), (1,), LOT)[0]
        if lot.qty > rest:
            tr_wide_share(work + 16 * PART, at + _LOT_COST, rest, lot.qty)
            if tr_wide_add(work + 16 * RELEASED, work + 16 * PART):
                return head, -1, 0
            copy_wide(work + 16 * KEPT, at + _LOT_COST)
            tr_wide_subtract(work + 16 * KEPT, work + 16 * PART)
            return head, left, rest
        if tr_wide_add(work + 16 * RELEASED, at + _LOT_COST):
            return head, -1, 0
        rest -= lot.qty
        head += 1
        left -= 1
    return head, left, 0


@jit
def _realise(position: int, work: int) -> int:
    """Work out GAIN, the day's realised, TOTAL and COST after TERM less RELEASED; 1 where one does not fit."""
    if tr_wide_subtract(work + 16 * TERM, work + 16 * RELEASED):
        return 1
    copy_wide(work + 16 * GAIN, position + _REALISED)
    copy_wide(work + 16 * TOTAL, position + _TOTAL)
    if tr_wide_add(work + 16 * GAIN, work + 16 * TERM):
        return 1
    if tr_wide_add(work + 16 * TOTAL, work + 16 * TERM):
        return 1
    return int(tr_wide_subtract(work + 16 * COST, work + 16 * RELEASED))


@jit
def _open_lot(
    position: int, lots: int, room: int, price: int, opening: int, multiplier: int
) -> None:
    """Put OPENED into a lot of its own, or into the newest one where that is of this price or there is no room."""
    st = carray(as_pointer(position), (1,), POSITION_STATE)[0]
    cost = position + _WORK + 16 * OPENED
    if st.lots > 0:
        at = lots + (st.first_lot + st.lots - 1) % room * _LOT_BYTES
        newest = carray(as_pointer(at), (1,), LOT)[0]
        same = newest.price == price and newest.multiplier == multiplier
        if same or st.lots == room:
            newest.qty += opening
            tr_wide_add(at + _LOT_COST, cost)  # it fits: book_fill has tried
            if not same:
                newest.price = MIXED_PRICE
                if room > 1:
                    st.faults |= _LOTS_MERGED
            return
    at = lots + (st.first_lot + st.lots) % room * _LOT_BYTES
    lot = carray(as_pointer(at), (1,), LOT)[0]
    lot.qty, lot.price, lot.multiplier = opening, price, multiplier
    copy_wide(at + _LOT_COST, cost)
    st.lots += 1


@jit
def book_fee(position: int, fee: int, unit: int) -> int:
    """Add fee x unit, which is at money_scale, to the fees; 1 where that does not fit, and nothing changed."""
    work = position + _WORK
    copy_wide(work + 16 * PART, position + _FEES)
    copy_wide(work + 16 * KEPT, position + _FEES_TOTAL)
    if tr_wide_multiply_add(work + 16 * PART, fee, unit):
        return 1
    if tr_wide_multiply_add(work + 16 * KEPT, fee, unit):
        return 1
    copy_wide(position + _FEES, work + 16 * PART)
    copy_wide(position + _FEES_TOTAL, work + 16 * KEPT)
    return 0


@jit
def unrealised(position: int, mark: int, out: int) -> int:
    """Write qty x mark x multiplier - cost; 1 and 0 written where it does not fit."""
    st = carray(as_pointer(position), (1,), POSITION_STATE)[0]
    if st.qty == 0:
        set_wide(out, 0, 0)
        return 0
    if product(out, mark, st.qty, st.multiplier) or tr_wide_subtract(out, position + _COST):
        set_wide(out, 0, 0)
        return 1
    return 0


@jit
def begin_day(position: int, day: int, carried: int) -> None:
    """Start a day: what is unrealised now (address) is carried over, and the day's sums begin at 0."""
    st = carray(as_pointer(position), (1,), POSITION_STATE)[0]
    st.day = day
    set_wide(position + _REALISED, 0, 0)
    set_wide(position + _FEES, 0, 0)
    copy_wide(position + _CARRIED, carried)


@jit
def average_price(position: int, out: int) -> int:
    """Write cost / (qty x multiplier) as an int64 at mark_scale, 0 where nothing is held; 1 where it does not fit."""
    st = carray(as_pointer(position), (1,), POSITION_STATE)[0]
    work = position + _WORK
    result = carray(as_pointer(out), (1,), np.int64)
    result[0] = 0
    if st.qty == 0:
        return 0
    if product(work + 16 * PART, st.qty, st.multiplier, 1):
        return 1
    if tr_wide_divide(work + 16 * KEPT, position + _COST, work + 16 * PART):
        return 1
    return int(tr_wide_at(work + 16 * KEPT, 0, 0, out))
