"""Exposures and value at risk from rows of positions alone: per currency, and over currencies where rates are configured.

**Protocol** Time is the ts_event of rows that a mark caused (a fill's clock may be another one). The first such row of
a later slot ends the slot: before it is applied, one EXPOSURE row is written for each account and currency, and with a
base currency one for each account and one for all of them. Where a return interval has ended too, the marks are
sampled first. Slots and intervals without a row are left out. A clock that goes back by more than a day begins anew.

**Why it is right** One input, in its order: the same rows make the same exposures. Values are exact integers, those in
the base currency exact fractions that are rounded once; floats are used for returns alone.

**Failure** A position without a mark, and in totals one without a rate, is left out, counted in `unpriced` and flagged.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import NamedTuple

import msgspec
import numpy as np

from consumers.pnl_state import NOBODY
from consumers.rates import parse_rate
from consumers.value_at_risk import historical, parametric, returns_of
from layouts import (
    EXPOSURE,
    POSITION,
    ExposureFault,
    Kind,
    MarkKind,
    PositionFault,
    Scope,
    abi_hash,
)
from layouts.position import split_words
from shm._native import ffi

BASE_SCALE = 8
"""Decimals of sums over currencies."""
BATCH_RECORDS = 16
ROWS_AT_ONCE = 256
"""Most rows of one slot; those beyond are counted in `rows_left_out`."""
COUNTERS = ("slots_ended", "intervals_sampled", "rows_left_out", "clocks_back")
_DAY_NS = 86_400 * 10**9
_STALE = int(PositionFault.MARK_STALE | PositionFault.MARK_CROSSED)
_DOUBTFUL = int(PositionFault.INPUT_LOST | PositionFault.OVERFLOW)

NameOf = Callable[[int], str]
"""The "venue:symbol" of an instrument, "" while it is not known."""


class ExposureOptions(NamedTuple):
    """What is told how often."""

    slot_ns: int = 10**9
    interval_ns: int = 60 * 10**9
    window: int = 500
    """Returns kept of each instrument."""
    least_samples: int = 30
    confidence: float = 0.99
    base_currency: str = ""
    """"": currencies are never added up."""
    rates: dict[str, str] = {}  # noqa: RUF012 - never changed
    """By currency, the price of one unit in the base currency (consumers.rates)."""


class Held(msgspec.Struct):
    """The newest row of one position."""

    account: int
    instrument_id: int
    currency: str
    qty: int
    multiplier: int
    scale: int
    """Decimals of qty x multiplier."""
    fills: int
    faults: int


class Mark(msgspec.Struct):
    """The newest mark of one instrument, and its samples, oldest first."""

    price: int
    scale: int
    is_known: bool
    is_stale: bool
    samples: list[float]

    @property
    def number(self) -> Fraction:
        """The mark as the number it is."""
        return Fraction(self.price, 10**self.scale)


class _State(msgspec.Struct):
    held: dict[str, Held] = {}
    marks: dict[int, Mark] = {}
    slot: int = -1
    interval: int = -1
    counters: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))


class _Sums(NamedTuple):
    long: Fraction
    short: Fraction
    values: dict[int, float]
    unpriced: int
    faults: int


class ExposureEngine:
    """All exposures of one worker (consumers.computation.Computation)."""

    identity = f"exposure 1 {abi_hash(EXPOSURE).hex()} {abi_hash(POSITION).hex()}"
    output = EXPOSURE
    unfinished = False
    batch_records = BATCH_RECORDS

    def __init__(self, options: ExposureOptions, name_of: NameOf) -> None:
        self.options, self._name_of = options, name_of
        self._state = _State()
        self._ids: dict[str, int] = {}
        self._rates = {currency: parse_rate(text) for currency, text in options.rates.items()}
        self.rows = np.zeros(BATCH_RECORDS * ROWS_AT_ONCE, EXPOSURE)

    @property
    def counters(self) -> dict[str, int]:
        """Part of the state, so that a replay counts nothing twice."""
        return self._state.counters

    def process(self, records: np.ndarray, epoch: int = 1) -> np.ndarray:
        """Return a copy of the rows that these POSITION records cause."""
        parts = [self.rows[:0].copy()]
        for first in range(0, len(records), BATCH_RECORDS):
            made = self._take(records[first : first + BATCH_RECORDS], epoch)
            parts.append(self.rows[:made].copy())
        return np.concatenate(parts)

    def apply(self, records: int, n: int, _source: int, epoch: int) -> int:
        """Apply `n` records at an address; return how many rows `rows` begins with."""
        buffer = ffi.buffer(ffi.cast("char *", records), n * POSITION.itemsize)
        return self._take(np.frombuffer(buffer, POSITION), epoch)

    def forget(self, source: int) -> None:
        """Lost rows are counted; each position's next one tells all of it anew."""

    def wanting(self, _source: int) -> list[int]:
        """No snapshot is needed."""
        return []

    def idle(self) -> None:
        """Nothing is due."""

    def to_bytes(self) -> bytes:
        """Return the state."""
        return msgspec.msgpack.encode(self._state)

    def load(self, image: bytes) -> None:
        """Take a state back. Raises ValueError where it is none."""
        try:
            self._state = msgspec.msgpack.decode(image, type=_State)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ValueError(f"no state of exposures: {error}") from None

    def _take(self, records: np.ndarray, epoch: int) -> int:
        made = 0
        for row in records:
            if row["kind"] != Kind.POSITION:
                continue
            key = f"{row['account']}:{row['instrument_id']}"
            before = self._state.held.get(key)
            by_mark = row["account"] == NOBODY or (
                before is not None and before.fills == row["fills"]
            )
            if by_mark:
                made += self._pass_time(row, epoch, made)
            self._note(key, row)
        return made

    def _pass_time(self, row: np.void, epoch: int, made: int) -> int:
        """Sample and write what ends before this row; return how many rows were written."""
        state, options = self._state, self.options
        ts = int(row["ts_event"])
        slot, interval = ts // options.slot_ns, ts // options.interval_ns
        written = 0
        if state.slot >= 0 and slot < state.slot - _DAY_NS // options.slot_ns:
            state.counters["clocks_back"] += 1
            state.slot, state.interval = slot, interval
        if state.interval >= 0 and interval > state.interval:
            self._sample()
        if state.slot >= 0 and slot > state.slot:
            written = self._write(row, epoch, made)
        state.slot, state.interval = max(slot, state.slot), max(interval, state.interval)
        return written

    def _note(self, key: str, row: np.void) -> None:
        instrument_id, kind = int(row["instrument_id"]), int(row["mark_kind"])
        mark = self._state.marks.get(instrument_id)
        if mark is None:
            mark = self._state.marks[instrument_id] = Mark(0, 0, False, False, [])
        mark.price, mark.scale = int(row["mark_price"]), int(row["mark_scale"])
        mark.is_known = kind != MarkKind.NONE
        mark.is_stale = bool(int(row["faults"]) & _STALE)
        if row["account"] != NOBODY:
            self._state.held[key] = Held(
                account=int(row["account"]),
                instrument_id=instrument_id,
                currency=bytes(row["quote_currency"]).decode(),
                qty=int(row["qty"]),
                multiplier=int(row["multiplier"]),
                scale=int(row["qty_scale"]) + int(row["multiplier_scale"]),
                fills=int(row["fills"]),
                faults=int(row["faults"]),
            )

    def _sample(self) -> None:
        self._state.counters["intervals_sampled"] += 1
        for mark in self._state.marks.values():
            if mark.is_known and mark.price > 0:
                mark.samples.append(float(mark.number))
                del mark.samples[: -self.options.window - 1]
            else:
                mark.samples.clear()  # what follows would be no neighbour of what came before

    def _write(self, cause: np.void, epoch: int, first: int) -> int:
        groups = self._groups()
        state = self._state
        state.counters["slots_ended"] += 1
        state.counters["rows_left_out"] += max(0, len(groups) - ROWS_AT_ONCE)
        groups = groups[:ROWS_AT_ONCE]
        for i, (scope, account, currency, positions) in enumerate(groups):
            self.rows[first + i] = np.zeros(1, EXPOSURE)[0]
            row = self.rows[first + i]
            row["kind"], row["scope"], row["account"] = Kind.EXPOSURE, scope, account
            row["ts_event"], row["ts_recv"] = cause["ts_event"], cause["ts_recv"]
            row["source_epoch"], row["source_seq"] = epoch, (int(cause["stamp"]) - 2) >> 1
            row["source_index"], row["source_count"] = i, len(groups)
            row["ts_slot"] = (state.slot + 1) * self.options.slot_ns
            row["currency"] = currency.encode()
            scale = BASE_SCALE
            if scope == Scope.CURRENCY:
                scale = max(
                    each.scale + state.marks[each.instrument_id].scale for each in positions
                )
            self._fill(row, self._sums(positions, scope != Scope.CURRENCY), scale)
            row["positions"] = sum(each.qty != 0 for each in positions)
        return len(groups)

    def _groups(self) -> list[tuple[Scope, int, str, list[Held]]]:
        """Return scope, account, currency and positions of each row of a slot."""
        by_currency: dict[tuple[int, str], list[Held]] = {}
        by_account: dict[int, list[Held]] = {}
        for each in self._state.held.values():
            by_currency.setdefault((each.account, each.currency), []).append(each)
            by_account.setdefault(each.account, []).append(each)
        found = [(Scope.CURRENCY, *key, held) for key, held in sorted(by_currency.items())]
        if base := self.options.base_currency:
            found += [(Scope.ACCOUNT, a, base, held) for a, held in sorted(by_account.items())]
            found.append((Scope.PORTFOLIO, 0, base, list(self._state.held.values())))
        return found

    def _rate(self, currency: str) -> Mark | None:
        """Return the price of a currency in the base currency, None where it is not known."""
        if currency == self.options.base_currency:
            return Mark(1, 0, True, False, [])
        rate = self._rates.get(currency)
        if rate is None:
            return None
        if not rate.instrument:
            return Mark(rate.price, rate.scale, True, False, [])
        if rate.instrument not in self._ids:
            self._ids = {self._name_of(each): each for each in self._state.marks}
        found = self._state.marks.get(self._ids.get(rate.instrument, -1))
        return found if found is not None and found.is_known else None

    def _sums(self, positions: Iterable[Held], converted: bool) -> _Sums:
        """Add up values of positions, exactly; by instrument as floats."""
        sides = [Fraction(0), Fraction(0)]
        values: dict[int, float] = {}
        unpriced, faults = 0, ExposureFault(0)
        for each in positions:
            if each.faults & _DOUBTFUL:
                faults |= ExposureFault.POSITIONS_DOUBTFUL
            mark = self._state.marks[each.instrument_id]
            rate = self._rate(each.currency) if converted else Mark(1, 0, True, False, [])
            if each.qty == 0:
                continue
            if not mark.is_known or rate is None:
                unpriced += 1
                continue
            if mark.is_stale or rate.is_stale:
                faults |= ExposureFault.STALE
            value = Fraction(each.qty * each.multiplier, 10**each.scale) * mark.number * rate.number
            sides[0 if value > 0 else 1] += abs(value)
            values[each.instrument_id] = values.get(each.instrument_id, 0.0) + float(value)
        if unpriced:
            faults |= ExposureFault.UNPRICED
        return _Sums(sides[0], sides[1], values, unpriced, int(faults))

    def _fill(self, row: np.void, sums: _Sums, scale: int) -> None:
        """Write sums and value at risk into a row."""
        faults = sums.faults
        sides = {"long": sums.long, "short": sums.short}
        sides |= {"gross": sums.long + sums.short, "net": sums.long - sums.short}
        try:
            for name, value in sides.items():
                row[f"{name}_low"], row[f"{name}_high"] = split_words(round(value * 10**scale))
        except OverflowError:
            faults |= ExposureFault.OVERFLOW
            for name in sides:
                row[f"{name}_low"] = row[f"{name}_high"] = 0
        row["money_scale"], row["unpriced"] = scale, sums.unpriced
        row["confidence"], row["interval_ns"] = self.options.confidence, self.options.interval_ns
        held = [self._state.marks[each].samples for each in sums.values]
        n = min(map(len, held), default=0) - 1
        if held and n < self.options.least_samples:
            faults |= ExposureFault.FEW_SAMPLES
            row["var_historical"] = row["var_parametric"] = np.nan
            row["samples"] = max(n, 0)
        elif held:
            returns = returns_of(np.array([samples[-n - 1 :] for samples in held]).T)
            values = np.array(list(sums.values.values()))
            row["var_historical"] = historical(values, returns, self.options.confidence)
            row["var_parametric"] = parametric(values, returns, self.options.confidence)
            row["samples"] = n
        row["faults"] = faults
