"""A run begins with the accounts of the run before, to the last digit: lots, sums, day and mark, as OPENING records.

**Why it is right** Each number goes into a record as the integer that it is, with its scales, and comes back multiplied up
to the scales of the position, never divided. With less room for lots than there were (another method), the newest ones are
merged as fills are: quantity, cost and what is realised stay exact.
"""

from typing import TYPE_CHECKING

import numpy as np

from consumers.pnl_state import FILL_WORDS, NOBODY, PRICE_END
from consumers.position import MIXED_PRICE
from layouts import ORDER, Kind, Mark, Opening, PositionFault
from layouts.position import join_words, split_words

if TYPE_CHECKING:
    from consumers.pnl_engine import PnlEngine

SUMS = {
    Opening.REALISED: "realised",
    Opening.FEES: "fees",
    Opening.REALISED_TOTAL: "realised_total",
    Opening.FEES_TOTAL: "fees_total",
    Opening.CARRIED: "carried",
}
_OURS = (Opening.MARK, Opening.LOT, *SUMS, Opening.POSITION)
_MID, _LAST = 1, 2


def take_opening(engine: "PnlEngine", record: np.ndarray) -> bool:
    """Take over what an OPENING record (array of one) tells; False: it does not fit, and the position is flagged."""
    code = int(record["reason"][0])
    if code not in _OURS:
        return True
    words = record.view(FILL_WORDS)[0]
    mark = engine.mark_for(int(record["instrument_id"][0]))
    if code == Opening.MARK:
        recall(mark, record)
        engine.align_all(mark)
        return True
    place = engine.position_for(mark, words)
    if place < 0:
        return False
    position = engine.positions[place]
    scales = tuple(
        max(int(position[own]), int(record[given][0]))
        for own, given in (
            ("price_scale", "price_scale"),
            ("qty_scale", "qty_scale"),
            ("multiplier_scale", "multiplier_scale"),
            ("mark_scale", "fee_scale"),
        )
    )
    if not engine.widen(place, scales):
        position["faults"] |= int(PositionFault.OVERFLOW)
        return False
    try:
        _put(engine, place, Opening(code), record, scales)
    except OverflowError:
        position["faults"] |= int(PositionFault.OVERFLOW)
        return False
    if code == Opening.POSITION:
        engine.align(mark, place)
    return True


def _put(
    engine: "PnlEngine", place: int, code: Opening, record: np.ndarray, scales: tuple[int, ...]
) -> None:
    position = engine.positions[place]
    _, qty_scale, multiplier_scale, mark_scale = scales
    ups = [
        10 ** (qty_scale - int(record["qty_scale"][0])),
        10 ** (multiplier_scale - int(record["multiplier_scale"][0])),
        10 ** (mark_scale - int(record["fee_scale"][0])),
    ]
    amount = (
        join_words(record["amount_low"][0], record["amount_high"][0]) * ups[0] * ups[1] * ups[2]
    )
    if code in SUMS:
        position[SUMS[code]] = split_words(amount)
        return
    side = 1 if record["marks"][0] & Mark.BUY else -1
    qty = side * int(record["qty"][0]) * ups[0]
    multiplier = int(record["multiplier"][0]) * ups[1]
    if code == Opening.LOT:
        price = int(record["price"][0])
        price = price if price == MIXED_PRICE else price * ups[2]
        _add_lot(engine, place, (qty, price, multiplier, amount))
        return
    position["qty"], position["multiplier"] = qty, multiplier
    position["cost"] = split_words(amount)
    position["fills"], position["day"] = record["fill_id"][0], record["order_id"][0]
    position["version"] = record["fee"][0]
    position["faults"] |= int(record["instructions"][0])


def _add_lot(engine: "PnlEngine", place: int, lot: tuple[int, int, int, int]) -> None:
    """Put a lot behind the others, or into the newest where there is no room."""
    position, room = engine.positions[place], engine.room
    qty, price, multiplier, cost = lot
    n = int(position["lots"])
    if n < room:
        at = place * room + (int(position["first_lot"]) + n) % room
        engine.lots[at] = (qty, price, multiplier, split_words(cost))
        position["lots"] = n + 1
        return
    newest = engine.lots[place * room + (int(position["first_lot"]) + n - 1) % room]
    newest["qty"] = int(newest["qty"]) + qty
    newest["cost"] = split_words(join_words(*newest["cost"]) + cost)
    newest["price"] = MIXED_PRICE
    if room > 1:
        position["faults"] |= int(PositionFault.LOTS_MERGED)


def openings(engine: "PnlEngine") -> np.ndarray:
    """Return OPENING records of all positions that ever had a fill, in the order in which they were met."""
    made: list[np.ndarray] = []
    marks = {int(mark["instrument_id"]): mark for mark in engine.marks}
    told: set[int] = set()
    for place, position in enumerate(engine.positions):
        if position["account"] == NOBODY or position["fills"] == 0:
            continue
        instrument_id = int(position["instrument_id"])
        mark = marks[instrument_id]
        if instrument_id not in told and mark["price_scale"] >= 0:
            made.append(_mark(mark, position))
        told.add(instrument_id)
        for i in range(int(position["lots"])):
            at = (int(position["first_lot"]) + i) % engine.room
            made.append(_lot(position, engine.lots[place * engine.room + at]))
        for code, name in SUMS.items():
            made.append(_record(position, code, join_words(*position[name])))
        made.append(_position(position))
    return np.concatenate(made) if made else np.zeros(0, ORDER)


def _record(position: np.void, code: Opening, amount: int) -> np.ndarray:
    record = np.zeros(1, ORDER)
    words = record.view(FILL_WORDS)
    record["kind"], record["reason"] = Kind.OPENING, code
    for name in ("instrument_id", "account", "price_scale", "qty_scale", "multiplier_scale"):
        record[name] = position[name]
    record["fee_scale"], record["multiplier"] = position["mark_scale"], position["multiplier"]
    words["quote_currency"] = position["quote_currency"]
    record["marks"] = int(Mark.BUY if position["qty"] >= 0 else Mark.SELL)
    record["amount_low"], record["amount_high"] = split_words(amount)
    return record


def _lot(position: np.void, lot: np.void) -> np.ndarray:
    record = _record(position, Opening.LOT, join_words(*lot["cost"]))
    record["qty"], record["price"] = abs(lot["qty"]), lot["price"]
    record["multiplier"] = lot["multiplier"]
    record["marks"] = int(Mark.BUY if lot["qty"] >= 0 else Mark.SELL)
    return record


def _position(position: np.void) -> np.ndarray:
    record = _record(position, Opening.POSITION, join_words(*position["cost"]))
    record["qty"], record["fill_id"] = abs(position["qty"]), position["fills"]
    record["order_id"], record["fee"] = position["day"], position["version"]
    record["instructions"] = position["faults"]
    return record


def _mark(mark: np.void, position: np.void) -> np.ndarray:
    record = _record(position, Opening.MARK, 0)
    record["price_scale"], record["fee_scale"] = mark["price_scale"], 0
    record["price"], record["qty"] = mark["mid_twice"], mark["last"]
    record["instructions"] = _MID * bool(mark["has_mid"]) + _LAST * bool(mark["has_last"])
    return record


def recall(mark: np.void, record: np.ndarray) -> None:
    """Put a mark back where none is known yet; it is not believed until its market tells one."""
    scale, known = int(mark["price_scale"]), int(record["instructions"][0])
    if mark["has_mid"] or mark["has_last"]:
        return
    if scale < int(record["price_scale"][0]):
        mark["price_scale"] = scale = int(record["price_scale"][0])
        mark["version"] = 0
    up = 10 ** (scale - int(record["price_scale"][0]))
    for name, flag, field, bit in (
        ("mid_twice", "has_mid", "price", _MID),
        ("last", "has_last", "qty", _LAST),
    ):
        price = int(record[field][0]) * up
        if known & bit and abs(price) < PRICE_END:
            mark[name], mark[flag] = price, 1
