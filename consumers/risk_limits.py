"""The limits in force: set and cleared by CONTROL records alone, so that whoever has those records has the limits.

**Units** Each value is an exact integer of the kernel: quantities with 18 decimals, money in halves of 10**-18, counts as
they are.
"""

from typing import Any

import msgspec
import numpy as np

from consumers.risk_state import MONEY_DIGITS, NO_FLOOR, NO_LIMIT, QTY_LIMIT, RATE_PLACES, SCOPES
from layouts import Action, Check, RiskReason, Scope

QTY_CHECKS = (Check.ORDER_SIZE, Check.POSITION_SIZE)
MONEY_CHECKS = (Check.EXPOSURE, Check.DAILY_LOSS)
SCOPED = (*QTY_CHECKS, *MONEY_CHECKS, Check.OPEN_POSITIONS)
_WIDE_END = 1 << 127
_COUNT_LIMITS: dict[int, int] = {Check.ORDER_RATE: RATE_PLACES, Check.COLLAR: 10_000}
_WORD = 1 << 64


class LimitKey(msgspec.Struct, frozen=True, order=True):
    """What a limit is about: account 0 is every account, an empty name every one of the scope."""

    check: int
    scope: int
    account: int
    name: str


class Ruled(msgspec.Struct):
    """A limit."""

    key: LimitKey
    value: str
    """The kernel's integer as decimal digits: it may have 128 bits."""


class Limits:
    """All limits of the five scopes."""

    def __init__(self) -> None:
        self.values: dict[LimitKey, int] = {}

    def of_row(self, check: int, scope: int, account: int, name: str) -> int | None:
        """Return the limit of one row: the most particular one, account before name."""
        for of_account, of_name in ((account, name), (account, ""), (0, name), (0, "")):
            found = self.values.get(LimitKey(check, scope, of_account, of_name))
            if found is not None:
                return found
        return None

    def write_row(self, row: np.ndarray, name: str) -> None:
        """Put what holds for a SCOPE_ROW (array of one) into it."""
        bits = 0
        for check in SCOPED:
            found = self.of_row(check, int(row["scope"][0]), int(row["account"][0]), name)
            at = 2 * (check - 1)
            if check == Check.DAILY_LOSS:
                bound = NO_FLOOR if found is None else -found
            else:
                bound = NO_LIMIT if found is None else found
            row["limits"][0][at : at + 2] = split(bound)
            bits |= (found is not None) << (check - 1)
        row["limits_set"] = bits

    def take(self, record: np.void, currency: str) -> RiskReason:
        """Set or clear the limit of a CONTROL record; the reason why not, if so."""
        check, scope = int(record["check"]), int(record["scope"])
        if check not in SCOPED or scope not in tuple(Scope):
            return RiskReason.BAD_LIMIT
        key = LimitKey(
            check,
            scope,
            int(record["account"]),
            bytes(record["scope_name"]).decode("utf-8", "replace"),
        )
        if record["action"] == Action.CLEAR_LIMIT:
            return (
                RiskReason.NONE if self.values.pop(key, None) is not None else RiskReason.BAD_LIMIT
            )
        if check in MONEY_CHECKS and not _fits_currency(record, scope, currency):
            return RiskReason.OTHER_CURRENCY
        value = value_of(record, check)
        if value is None:
            return RiskReason.BAD_LIMIT
        self.values[key] = value
        return RiskReason.NONE

    def kept(self) -> list[Ruled]:
        """Return all, for keeping."""
        return [Ruled(key, str(value)) for key, value in sorted(self.values.items())]

    def restore(self, kept: list[Ruled]) -> None:
        """Go on with what `kept` returned."""
        self.values = {each.key: int(each.value) for each in kept}


def write_least(scopes: np.ndarray, number: int) -> None:
    """Put the least order size and position size of its five scopes into the SCOPE_ROW of a position."""
    row = scopes[number : number + 1]
    over = [number, *row["above"][0].tolist()]
    assert len(over) == SCOPES
    for check, name in ((Check.ORDER_SIZE, "order_size"), (Check.POSITION_SIZE, "position_size")):
        at = 2 * (check - 1)
        least = min(join(*scopes["limits"][each][at : at + 2].tolist()) for each in over)
        row[name] = min(least // int(row["qty_unit"][0]), QTY_LIMIT)


def value_of(record: np.void, check: int) -> int | None:
    """Return the kernel's integer of a CONTROL record's value, None where it has none."""
    value = join(int(record["value_low"]), int(record["value_high"]))
    digits = int(record["value_scale"])
    if value < 0 or digits > MONEY_DIGITS:
        return None
    if check in QTY_CHECKS or check in MONEY_CHECKS:
        value *= 10 ** (MONEY_DIGITS - digits) * (2 if check in MONEY_CHECKS else 1)
        return value if value < _WIDE_END else None
    limit = _COUNT_LIMITS.get(check, 1 << 62)
    return value if digits == 0 and value <= limit else None


def split(value: int) -> tuple[int, int]:
    """Return the two int64 words, low and high, of an integer."""
    low = value % _WORD
    return (low if low < _WORD // 2 else low - _WORD), value >> 64


def join(low: int, high: int) -> int:
    """Return the integer of two int64 words."""
    return (high << 64) + low % _WORD


def _fits_currency(record: Any, scope: int, currency: str) -> bool:
    """A sum over instruments of several currencies is in the configured one, and limited in it only."""
    named = bytes(record["currency"]).decode("ascii", "replace")
    return named == currency or scope in (Scope.INSTRUMENT, Scope.CURRENCY)
