"""An instrument's numbers stand at the widest scales it was ever seen with; what comes at narrower ones is brought up to them.

**Why it is right** A venue's digits grow wider while positions are held: the version that a record names tells its scales.
Bringing up is multiplication, so nothing is rounded; what would not fit is refused.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import structlog

from consumers.risk_booking import STATE_SCALE
from consumers.risk_limits import write_least
from consumers.risk_memory import RiskMemory
from consumers.risk_state import MONEY_DIGITS
from layouts import Kind, RiskReason

_FACTOR_LIMIT = 1 << 61
_QTY_END = 1 << 62
_PRICES = ("bid", "ask", "mark", "day_mark")
log = structlog.get_logger()


class Named(NamedTuple):
    """One version of an instrument."""

    venue: str
    symbol: str
    price_scale: int
    qty_scale: int


Names = Callable[[int, int], Named | None]
"""An instrument by id and version (0: the newest); None: not known."""


def take_version(memory: RiskMemory, names: Names, instrument_id: int, version: int) -> None:
    """Follow an instrument's records into another version."""
    st = memory.instruments[instrument_id : instrument_id + 1]
    st["version"] = version
    st["price_up"] = st["qty_up"] = 1
    if st["factor"][0] == 0:
        # Never traded: the first order tells the scales; what there is of prices is at those of another version.
        for name in ("top_known", *_PRICES):
            st[name] = 0
        link_rates(memory, names, [instrument_id])
        return
    found = names(instrument_id, version)
    if found is None or not widen(memory, instrument_id, found.price_scale, found.qty_scale):
        st["version"] = 0
        log.error("no table names this version", instrument_id=instrument_id, version=version)
        return
    st["price_up"] = 10 ** (int(st["price_scale"][0]) - found.price_scale)
    st["qty_up"] = 10 ** (int(st["qty_scale"][0]) - found.qty_scale)


def link_rates(memory: RiskMemory, names: Names, instrument_ids: Iterable[int]) -> None:
    """Find among instruments those whose mids are rates, and learn their price scales."""
    wanted = memory.rates_by_instrument()
    for instrument_id in instrument_ids if wanted else ():
        st = memory.instruments[instrument_id : instrument_id + 1]
        named = names(instrument_id, int(st["version"][0])) if st["version"][0] else None
        currencies = wanted.get(f"{named.venue}:{named.symbol}", []) if named else []
        for number in currencies:
            memory.currency_rates["instrument_id"][number] = instrument_id
        if named is not None and currencies and st["factor"][0] == 0:
            st["price_scale"] = named.price_scale


def take_scales(
    memory: RiskMemory, names: Names, instrument_id: int, order: np.ndarray
) -> RiskReason:
    """Take an instrument's scales and multiplier from an ORDER or FILL, which is brought to them."""
    st = memory.instruments[instrument_id : instrument_id + 1]
    price_scale, qty_scale = int(order["price_scale"][0]), int(order["qty_scale"][0])
    if st["factor"][0] == 0:
        if int(st["version"][0]) not in (0, int(order["instrument_version"][0])):
            named = names(instrument_id, int(st["version"][0]))
            if named is not None:
                price_scale, qty_scale = named.price_scale, named.qty_scale
        st["price_scale"], st["qty_scale"] = price_scale, qty_scale
        st["multiplier"], st["multiplier_scale"] = (
            order["multiplier"],
            order["multiplier_scale"],
        )
        factor = _factor(st)
        if factor is None:
            return RiskReason.OVERFLOW
        st["factor"] = factor
    if order["kind"][0] != Kind.FILL or order["instrument_version"][0] == st["version"][0]:
        return RiskReason.NONE
    if not widen(memory, instrument_id, int(order["price_scale"][0]), int(order["qty_scale"][0])):
        return RiskReason.OVERFLOW
    price = int(order["price"][0]) * 10 ** int(st["price_scale"][0] - order["price_scale"][0])
    qty = int(order["qty"][0]) * 10 ** int(st["qty_scale"][0] - order["qty_scale"][0])
    if max(price, qty) >= _QTY_END:
        return RiskReason.OVERFLOW
    order["price"], order["qty"], order["instrument_version"] = price, qty, STATE_SCALE
    return RiskReason.NONE


def widen(memory: RiskMemory, instrument_id: int, price_scale: int, qty_scale: int) -> bool:
    """Bring all that is kept of an instrument to scales at least as wide as these; False: it would not fit."""
    st = memory.instruments[instrument_id : instrument_id + 1]
    price_up = 10 ** max(0, price_scale - int(st["price_scale"][0]))
    qty_up = 10 ** max(0, qty_scale - int(st["qty_scale"][0]))
    if price_up == qty_up == 1:
        return True
    after = st.copy()
    after["price_scale"] = max(price_scale, int(st["price_scale"][0]))
    after["qty_scale"] = max(qty_scale, int(st["qty_scale"][0]))
    factor = _factor(after)
    mine = np.flatnonzero(memory.scopes["instrument_id"][: memory.n_rows] == instrument_id)
    kept = memory.scopes[["qty", "open_buy", "open_sell"]][mine].tolist()
    largest = max((abs(value) for row in kept for value in row), default=0)
    highest = max(abs(int(st[name][0])) for name in _PRICES)
    if factor is None or largest * qty_up >= _QTY_END or highest * price_up >= _QTY_END:
        return False
    for name in _PRICES:
        st[name] *= price_up
    st["price_up"] *= price_up
    st["qty_up"] *= qty_up
    st["price_scale"], st["qty_scale"] = after["price_scale"], after["qty_scale"]
    st["factor"] = factor
    for number in mine:
        for name in ("qty", "open_buy", "open_sell"):
            memory.scopes[name][number] *= qty_up
        memory.scopes["qty_unit"][number] = 10 ** (MONEY_DIGITS - int(st["qty_scale"][0]))
        write_least(memory.scopes, int(number))
    memory.orders["qty"][np.isin(memory.orders["row"], mine) & (memory.orders["order_id"] > 0)] *= (
        qty_up
    )
    return True


def _factor(st: np.ndarray) -> int | None:
    """Return multiplier x 10**(18 - all scales), None where that is no whole number or too large."""
    digits = sum(int(st[name][0]) for name in ("price_scale", "qty_scale", "multiplier_scale"))
    multiplier = int(st["multiplier"][0])
    if digits > MONEY_DIGITS or multiplier <= 0:
        return None
    factor = multiplier * 10 ** (MONEY_DIGITS - digits)
    return factor if factor < _FACTOR_LIMIT else None
