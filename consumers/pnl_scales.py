"""Positions and their lots are brought to more decimals exactly, in Python's integers, or stay as they are."""

from typing import Any

import numpy as np

from consumers.position import MIXED_PRICE
from layouts.position import join_words, split_words

WIDES = ("cost", "realised", "fees", "realised_total", "fees_total", "carried")
SCALES = ("price_scale", "qty_scale", "multiplier_scale", "mark_scale")


def widen(position: np.ndarray, lots: np.ndarray, scales: tuple[int, ...]) -> bool:
    """Bring a position (array of one) and its lots to more decimals (SCALES); False: it does not fit, nothing changed."""
    room = len(lots)
    before = [int(position[name][0]) for name in SCALES]
    _, qty, multiplier, price = (10 ** (b - a) for a, b in zip(before, scales, strict=True))
    wider_position, wider_lots = position.copy(), lots.copy()
    try:
        for i in range(int(position["lots"][0])):
            each = wider_lots[(int(position["first_lot"][0]) + i) % room]
            _multiply(each, qty=qty, multiplier=multiplier, cost=qty * multiplier * price)
            if each["price"] != MIXED_PRICE:
                _multiply(each, price=price)
        money = dict.fromkeys(WIDES, qty * multiplier * price)
        _multiply(wider_position[0], qty=qty, multiplier=multiplier, **money)
    except OverflowError:
        return False
    for name, scale in zip(SCALES, scales, strict=True):
        wider_position[name] = scale
    position[:], lots[:] = wider_position, wider_lots
    return True


def _multiply(record: Any, **factors: int) -> None:
    """Multiply fields of a record, int64 or wide. Raises OverflowError where one does not fit."""
    for name, factor in factors.items():
        if np.ndim(record[name]):
            record[name] = split_words(join_words(*record[name]) * factor)
        else:
            record[name] = int(record[name]) * factor
