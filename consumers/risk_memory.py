"""All that a risk worker knows, in flat arrays and a few names: saved by copying, loaded by copying back.

**Invariants** (1) A row of `scopes` never moves to another number. (2) What `to_bytes` returned makes `load` of a new memory
equal in every bit that a decision depends on.
"""

import msgspec
import numpy as np

from consumers.rates import Rate
from consumers.risk_limits import Limits, Ruled, write_least
from consumers.risk_state import (
    CONTEXT,
    CURRENCIES,
    CURRENCY_RATE,
    IDS,
    INSTRUMENT_RISK,
    KEPT,
    OPEN_ORDER,
    ORDER_PLACES,
    RATE,
    SCOPE_ROW,
    RateKind,
)
from layouts import TradingState
from shm.njit import address_of

ACCOUNTS = 64
"""Accounts are numbers 1 .. 63."""
NO_SCOPE = 0
"""Of a row that is a part of a sum: no limit is its own."""
_FIRST_ROWS = 64


class Kept(msgspec.Struct):
    """The part of the state that is no array."""

    context: list[int]
    applied: list[int]
    limits: list[Ruled]
    row_names: list[str]
    venues: list[str]
    currencies: list[str]
    rates: dict[str, Rate]
    linked: list[int]
    instruments: list[int]
    places: list[int]
    accounts: list[int]
    rows: int


class RiskMemory:
    """The arrays of risk_state, where the kernel finds them, and the names of their rows; HALTED until a CONTROL resumes it."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.row_names: list[str] = []
        self.venues: list[str] = []
        self.currencies: list[str] = []
        self.context = np.zeros(1, CONTEXT)
        self.instruments = np.zeros(IDS, INSTRUMENT_RISK)
        self.instruments["price_up"] = self.instruments["qty_up"] = 1
        self.orders = np.zeros(ORDER_PLACES, OPEN_ORDER)
        self.rates = np.zeros(ACCOUNTS, RATE)
        self.currency_rates = np.zeros(CURRENCIES, CURRENCY_RATE)
        self.conversions: dict[str, Rate] = {}
        """What the rows of `currency_rates` are made of, by currency."""
        self.scopes = np.zeros(_FIRST_ROWS, SCOPE_ROW)
        self.n_rows = 0
        self._scratch = np.zeros(16, np.int64)
        self._row_of: dict[tuple[int, int, str], int] = {}
        self.context["trading_state"] = TradingState.HALTED
        self._place()

    def scope_row(self, scope: int, account: int, name: str, scope_id: int) -> int:
        """Return the number of a row, made where it is new."""
        key = (int(scope), account, name)
        number = self._row_of.get(key)
        if number is not None:
            return number
        number = self.n_rows
        self._grow(number + 1)
        self.n_rows = number + 1
        row = self.scopes[number : number + 1]
        row["scope"], row["account"], row["scope_id"] = scope, account, scope_id
        self._row_of[key] = number
        self.row_names.append(name)
        self.limits.write_row(row, name)
        return number

    def position_row(self, instrument_id: int, account: int) -> int:
        """Return the row of an account's position in an instrument, NO_ROW where there is none."""
        number = int(self.instruments["first_row"][instrument_id]) - 1
        while number >= 0 and self.scopes["account"][number] != account:
            number = int(self.scopes["next_row"][number]) - 1
        return number

    def part_row(self, whole: int, currency: str, number: int) -> int:
        """Return the number of the part of a sum that is in another currency, made where it is new."""
        before = self.n_rows
        part = self.scope_row(NO_SCOPE, 0, f"{whole}:{currency}", whole)
        if part == before:
            self.scopes["currency"][part] = number
            self.scopes["next_part"][part] = self.scopes["next_part"][whole]
            self.scopes["next_part"][whole] = part + 1
            self.context["mixed"] = 1
        return part

    def currency_number(self, name: str) -> int | None:
        """Return the number of a currency, None where there are too many."""
        number = number_of(self.currencies, name)
        if number >= CURRENCIES:
            return None
        self.currency_rates["name"][number] = name.encode()
        return number

    def convert_by(self, currency: str, rate: Rate | None) -> bool:
        """Take another rate of a currency, or none; False: there are too many currencies."""
        number = self.currency_number(currency)
        if number is None:
            return False
        row = self.currency_rates[number : number + 1]
        row["instrument_id"] = 0
        if rate is None:
            self.conversions.pop(currency, None)
            row["kind"] = RateKind.NONE
            return True
        self.conversions[currency] = rate
        row["kind"] = RateKind.MID if rate.instrument else RateKind.NUMBER
        row["price"], row["unit"] = rate.price, 10**rate.scale
        return True

    def rates_by_instrument(self) -> dict[str, list[int]]:
        """Return the numbers of the currencies whose rate is an instrument's mid, by its name."""
        found: dict[str, list[int]] = {}
        for currency, rate in self.conversions.items():
            if rate.instrument:
                number = number_of(self.currencies, currency)
                found.setdefault(rate.instrument, []).append(number)
        return found

    def write_limits(self) -> None:
        """Bring every row up to the limits in force."""
        for number, name in enumerate(self.row_names):
            self.limits.write_row(self.scopes[number : number + 1], name)
        for position in np.flatnonzero(self.scopes["instrument_id"][: self.n_rows]).tolist():
            write_least(self.scopes, position)

    def to_bytes(self) -> bytes:
        """Return the state."""
        used = np.flatnonzero(self.instruments["seen"] + self.instruments["factor"])
        places = np.flatnonzero(self.orders["order_id"])
        accounts = np.flatnonzero(self.rates["accepted"])
        kept = Kept(
            [int(self.context[name][0]) for name in KEPT],
            self.context["applied"][0].tolist(),
            self.limits.kept(),
            self.row_names,
            self.venues,
            self.currencies,
            self.conversions,
            self.currency_rates["instrument_id"].tolist(),
            used.tolist(),
            places.tolist(),
            accounts.tolist(),
            self.n_rows,
        )
        meta = msgspec.json.encode(kept)
        arrays = (
            self.instruments[used],
            self.orders[places],
            self.rates[accounts],
            self.scopes[: self.n_rows],
        )
        parts = [len(meta).to_bytes(8, "little"), meta, *(array.tobytes() for array in arrays)]
        return b"".join(parts)

    def load(self, image: bytes) -> None:
        """Go on from what `to_bytes` returned; this memory must not have been used.

        Raises:
            ValueError: these bytes do not hold what they say.
        """
        n_meta = int.from_bytes(image[:8], "little")
        try:
            kept = msgspec.json.decode(image[8 : 8 + n_meta], type=Kept)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ValueError(f"risk state: {error}") from None
        counts = (len(kept.instruments), len(kept.places), len(kept.accounts), kept.rows)
        dtypes = (INSTRUMENT_RISK, OPEN_ORDER, RATE, SCOPE_ROW)
        n_bytes = sum(n * dtype.itemsize for n, dtype in zip(counts, dtypes, strict=True))
        if len(image) != 8 + n_meta + n_bytes or len(kept.context) != len(KEPT):
            raise ValueError(f"risk state of {len(image)} bytes does not hold what it says")
        arrays, at = [], 8 + n_meta
        for n, dtype in zip(counts, dtypes, strict=True):
            arrays.append(np.frombuffer(image, dtype, n, at))
            at += n * dtype.itemsize
        self._grow(kept.rows)
        self.instruments[kept.instruments] = arrays[0]
        self.orders[kept.places] = arrays[1]
        self.rates[kept.accounts] = arrays[2]
        self.scopes[: kept.rows] = arrays[3]
        self.n_rows, self.row_names = kept.rows, kept.row_names
        self.venues, self.currencies = kept.venues, kept.currencies
        for number, name in enumerate(self.row_names):
            row = self.scopes[number]
            self._row_of[int(row["scope"]), int(row["account"]), name] = number
        self.limits.restore(kept.limits)
        for currency in kept.currencies:
            self.currency_number(currency)
        for currency, rate in kept.rates.items():
            self.convert_by(currency, rate)
        self.currency_rates["instrument_id"] = kept.linked
        for name, value in zip(KEPT, kept.context, strict=True):
            self.context[name] = value
        self.context["applied"][0] = kept.applied

    def _grow(self, n: int) -> None:
        if n > len(self.scopes):
            grown = np.zeros(max(n, 2 * len(self.scopes)), SCOPE_ROW)
            grown[: self.n_rows] = self.scopes[: self.n_rows]
            self.scopes = grown
            self._place()

    def _place(self) -> None:
        """Tell the kernel where everything lies now."""
        for name, array in (
            ("instruments", self.instruments),
            ("rows", self.scopes),
            ("orders", self.orders),
            ("rates", self.rates),
            ("currency_rates", self.currency_rates),
            ("scratch", self._scratch),
        ):
            self.context[name] = address_of(array)


def number_of(known: list[str], name: str) -> int:
    """Return the number of a name, from 1, in the order in which names were met."""
    if name not in known:
        known.append(name)
    return known.index(name) + 1
