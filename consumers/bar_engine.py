"""The bars of any stream of EVENT records, live or replayed: the same jitted code over state that is a plain copy away
from disk.

    engine = BarEngine(config, scales, named)      scales(instrument_id, version) -> (price_scale, qty_scale) or None
    bars = engine.process(records)                 BAR rows, a copy; records as they came off a ring

**Why it is right** Everything that a row depends on is in `states` and `accs` (consumers.bar_state); `to_bytes` copies them
and `load` makes a new engine go on as if it had never stopped. What a wider scale means to a bar that is open is exact: its
integers are multiplied.

**Failure** A version whose scales no table names, or scales that do not fit: the instrument's bars begin anew, PARTIAL, and
it is counted in `bars_begun_anew`. Rows that do not fit the buffer: `unfinished` is true until `apply` was called again.
"""

import hashlib
from collections.abc import Callable
from functools import cache

import msgspec
import numpy as np

from consumers.bar_kernels import process
from consumers.bar_series import (
    BarsConfig,
    Openings,
    most_step_rows,
    openings,
    series_of,
)
from consumers.bar_state import (
    ACC,
    BAR_CONTEXT,
    BAR_STATE,
    COUNTERS,
    FIRST_SIGN,
    MORE_SESSIONS,
    NEW_INSTRUMENT,
    NEW_VERSION,
    NOTHING,
    QTY_LIMIT,
    ROWS,
    ROWS_FULL,
    clear_bar,
    new_accs,
)
from layouts import BAR, EVENT, BarFlag, BarKind, abi_hash
from layouts.bar import MILLIONTHS
from shm._native import ffi, lib
from shm.errors import ConfigurationError
from shm.njit import address_of, entry_point
from shm.sessions import first_match

BATCH_RECORDS = 256
Scales = Callable[[int, int], tuple[int, int] | None]
"""Digits of price and quantity of a version of an instrument (version 0: of the newest); None: not known."""
Named = Callable[[int], str]
"""`venue:symbol` of an instrument, "" where it is not known."""

_IDS = 1 << 16
_FIRST_STATES = 16
_WIDE = 1 << 64
_INT64_END = 1 << 63
_OWN_COUNTERS = ("bars_begun_anew",)
_IMAGE = np.dtype(
    [("states", "<i8"), ("series", "<i8"), *((name, "<i8") for name in (*COUNTERS, *_OWN_COUNTERS))]
)
WORKER_COUNTERS = (*COUNTERS, *_OWN_COUNTERS)


class BarEngine:
    """All instruments of one bars worker."""

    output = BAR
    batch_records = BATCH_RECORDS

    def __init__(self, config: BarsConfig, scales: Scales, named: Named) -> None:
        if mistakes := config.mistakes():
            raise ConfigurationError("; ".join(f"bars.{each}" for each in mistakes))
        self._scales, self._named = scales, named
        self._sessions = list(config.sessions.values())
        self._series = series_of(config)
        self.identity = _identity(config)
        self.rows = np.zeros(ROWS, BAR)
        """Where `apply` puts rows."""
        self._begun_anew = 0
        self._n_states = 0
        self._index = np.full(_IDS, -1, np.int32)
        self._states = np.zeros(_FIRST_STATES, BAR_STATE)
        self._accs = new_accs(_FIRST_STATES * len(self._series))
        self._openings: Openings | None = None
        self._opens = np.zeros((len(self._sessions), 0), np.int64)
        self._context = np.zeros(1, BAR_CONTEXT)
        self._context_address = address_of(self._context)
        self._c = ffi.cast("int64_t *", self._context_address)
        self._rows_address = address_of(self.rows)
        kinds = self._series["bar_kind"]
        self._context["n_utc"] = np.count_nonzero(kinds == BarKind.TIME)
        self._context["n_session"] = np.count_nonzero(kinds == BarKind.SESSION)
        self._context["n_series"] = len(self._series)
        self._context["settle_ns"] = config.settle_ns
        self._context["most_empty_rows"] = config.empty_rows
        self._context["most_step_rows"] = most_step_rows(config)
        self._process = _entry()
        self._place()

    @property
    def instruments(self) -> int:
        """Number of instruments met."""
        return self._n_states

    @property
    def unfinished(self) -> bool:
        """The rows did not fit: take them and call `apply` again with the same records."""
        return bool(self._c[_REQUEST] == ROWS_FULL)

    @property
    def counters(self) -> dict[str, int]:
        """What was counted; part of the state, so that a replay counts nothing twice."""
        counted = {name: int(self._context[name][0]) for name in COUNTERS}
        return counted | {"bars_begun_anew": self._begun_anew}

    def process(self, records: np.ndarray, source: int = 0, epoch: int = 1) -> np.ndarray:
        """Return a copy of the rows that these EVENT records cause.

        Args:
            records: contiguous, with the stamps they had in their ring (the seq is in them).
            source: number of the input; a HEARTBEAT or a loss concerns the instruments of its input.
            epoch: what the rows name as `source_epoch`.
        """
        if records.dtype != EVENT or not records.flags.c_contiguous:
            raise TypeError(f"records: a contiguous array of EVENT expected, {records.dtype} given")
        address, parts = address_of(records), [self.rows[:0].copy()]
        for first in range(0, len(records), BATCH_RECORDS):
            n = min(BATCH_RECORDS, len(records) - first)
            at = address + first * EVENT.itemsize
            parts.append(self.rows[: self.apply(at, n, source, epoch)].copy())
            while self.unfinished:
                parts.append(self.rows[: self.apply(at, n, source, epoch)].copy())
        return np.concatenate(parts)

    def apply(self, records: int, n: int, source: int, epoch: int) -> int:
        """Apply `n` records at an address, at most a batch; return how many rows `self.rows` now begins with."""
        c = self._c
        made: int = 0
        c[_SOURCE], c[_EPOCH] = source, epoch
        while True:
            c[_ROWS_ROOM] = ROWS - made
            room = self._rows_address + made * BAR.itemsize
            made += lib.tr_call_4(self._process, self._context_address, records, n, room)
            request = int(c[_REQUEST])
            if request in (NOTHING, ROWS_FULL):
                return made
            self._serve(request, source)

    def forget(self, source: int) -> None:
        """Records of this input were lost: flag what is open of its instruments, from their last trades on."""
        states = self._states[: self._n_states]
        of_source = states["source"] == source
        since = np.where(states["gap"] == 1, states["gap_from"], states["last_ts"])
        states["gap_from"][of_source] = np.minimum(since, states["last_ts"])[of_source]
        states["gap"][of_source] = 1

    def wanting(self, _source: int) -> list[int]:
        """No snapshot is needed by one who keeps no book."""
        return []

    def idle(self) -> None:
        """Ask again for scales that were not known."""
        for number in np.flatnonzero(self._states["scaled"][: self._n_states] == 0):
            self._take_version(int(number), int(self._states["version"][number]))

    def to_bytes(self) -> bytes:
        """Return the whole state: a checkpoint."""
        head = np.zeros(1, _IMAGE)
        head["states"], head["series"] = self._n_states, len(self._series)
        for name, value in self.counters.items():
            head[name] = value
        accs = self._accs[: self._n_states * len(self._series)]
        return b"".join((head.tobytes(), self._states[: self._n_states].tobytes(), accs.tobytes()))

    def load(self, image: bytes) -> None:
        """Go on from what `to_bytes` returned; this engine must not have been used.

        Raises:
            ValueError: these bytes do not hold what they say.
        """
        n_series = len(self._series)
        each = BAR_STATE.itemsize + n_series * ACC.itemsize
        if len(image) < _IMAGE.itemsize:
            raise ValueError(
                f"bars state of {len(image)} bytes, {_IMAGE.itemsize} or more expected"
            )
        head = np.frombuffer(image, _IMAGE, 1)
        n = int(head["states"][0])
        fits = 0 <= n < _IDS and int(head["series"][0]) == n_series
        if not fits or len(image) != _IMAGE.itemsize + n * each:
            raise ValueError(f"bars state of {len(image)} bytes does not hold what it says")
        self._grow(n)
        at = _IMAGE.itemsize
        self._states[:n] = np.frombuffer(image, BAR_STATE, n, at)
        at += n * BAR_STATE.itemsize
        self._accs[: n * n_series] = np.frombuffer(image, ACC, n * n_series, at)
        self._n_states = n
        self._context["n_states"] = n
        self._index[self._states["instrument_id"][:n]] = np.arange(n)
        for name in COUNTERS:
            self._context[name] = head[name]
        self._begun_anew = int(head["bars_begun_anew"][0])

    def _serve(self, request: int, source: int) -> None:
        instrument_id = int(self._context["request_id"][0])
        if request == NEW_INSTRUMENT:
            self._add(instrument_id, source)
        elif request == NEW_VERSION:
            version = int(self._context["request_version"][0])
            self._take_version(int(self._index[instrument_id]), version)
        elif request == MORE_SESSIONS:
            self._open_sessions(int(self._context["request_ts"][0]))
        else:
            raise AssertionError(f"the bars kernel made request {request}")

    def _add(self, instrument_id: int, source: int) -> None:
        number, n_series = self._n_states, len(self._series)
        self._grow(number + 1)
        self._states[number] = np.zeros(1, BAR_STATE)[0]
        self._accs[number * n_series : (number + 1) * n_series] = new_accs(n_series)
        state = self._states[number : number + 1]
        state["instrument_id"], state["source"] = instrument_id, source
        patterns = (session.instruments for session in self._sessions)
        state["session"] = first_match(patterns, self._named(instrument_id))
        self._n_states = number + 1
        self._context["n_states"] = self._n_states
        self._index[instrument_id] = number
        averages = self._of(number)
        imbalance = self._series["bar_kind"] == BarKind.IMBALANCE
        averages["mean_trades"] = np.where(imbalance, self._series["parameter"], 0)
        averages["mean_sign"] = FIRST_SIGN
        self._take_version(number, 0)

    def _of(self, number: int) -> np.ndarray:
        """Return the accumulators of a state, a view."""
        n_series = len(self._series)
        return self._accs[number * n_series : (number + 1) * n_series]

    def _take_version(self, number: int, version: int) -> None:
        """Put a version's scales in force: what is open is multiplied, or begun anew where that cannot be exact."""
        state = self._states[number : number + 1]
        found = self._scales(int(state["instrument_id"][0]), version)
        before = (int(state["price_scale"][0]), int(state["qty_scale"][0]))
        was_scaled, old = bool(state["scaled"][0]), int(state["version"][0])
        state["version"] = version
        if found is None:
            state["scaled"] = 0
            if version != old:
                self._begin_anew(number)
            return
        state["scaled"], (state["price_scale"], state["qty_scale"]) = 1, found
        self._set_limits(number, *found)
        if was_scaled and found != before:
            wider = found[0] - before[0], found[1] - before[1]
            if min(wider) < 0 or not self._multiply(number, *wider):
                self._begin_anew(number)

    def _multiply(self, number: int, price_digits: int, qty_digits: int) -> bool:
        """Bring prices and quantities to a wider scale; False, and nothing was done, where one does not fit."""
        accs, state = self._of(number), self._states[number : number + 1]
        price, qty = 10**price_digits, 10**qty_digits
        made: list[tuple[np.ndarray, str, list[int]]] = [
            (state, "last_price", [int(state["last_price"][0]) * price])
        ]
        factors = dict.fromkeys(("open", "high", "low", "close"), price)
        factors |= dict.fromkeys(("volume", "buy_volume", "sell_volume"), qty)
        made += [
            (accs, name, [value * factor for value in accs[name].tolist()])
            for name, factor in factors.items()
        ]
        if any(abs(value) >= QTY_LIMIT for _, _, values in made for value in values):
            return False
        pairs = zip(accs["value_low"].tolist(), accs["value_high"].tolist(), strict=True)
        sums = [(high * _WIDE + low % _WIDE) * price * qty for low, high in pairs]
        for array, name, values in made:
            array[name] = values
        accs["value_low"], accs["value_high"] = _words(sums)
        return True

    def _begin_anew(self, number: int) -> None:
        """Forget what is open of an instrument; numbers of bars go on."""
        accs, state = self._of(number), self._states[number : number + 1]
        if not state["begun"][0] and not accs["trades"].any():
            return
        clear_bar(accs)
        accs["has_close"] = accs["close"] = 0
        accs["flags"] = BarFlag.PARTIAL
        state["begun"] = state["has_price"] = state["last_sign"] = 0
        self._begun_anew += 1

    def _set_limits(self, number: int, price_scale: int, qty_scale: int) -> None:
        """Bring the thresholds of VOLUME and DOLLAR bars to the instrument's scales, rounded up."""
        limits = []
        for kind, parameter in self._series.tolist():
            digits = {
                BarKind.VOLUME: qty_scale,
                BarKind.DOLLAR: price_scale + qty_scale,
            }.get(kind)
            limits.append(0 if digits is None else max(1, -(-parameter * 10**digits // MILLIONTHS)))
        accs = self._of(number)
        accs["limit_low"], accs["limit_high"] = _words(limits)

    def _open_sessions(self, ts: int) -> None:
        self._openings = openings(self._sessions, ts, self._openings)
        self._opens = np.ascontiguousarray(self._openings.table)
        self._place()

    def _grow(self, n: int) -> None:
        if n > len(self._states):
            room, n_series = max(n, 2 * len(self._states)), len(self._series)
            states, accs = np.zeros(room, BAR_STATE), new_accs(room * n_series)
            states[: self._n_states] = self._states[: self._n_states]
            accs[: self._n_states * n_series] = self._accs[: self._n_states * n_series]
            self._states, self._accs = states, accs
            self._place()

    def _place(self) -> None:
        """Tell the kernel where everything lies now."""
        for name in ("states", "index", "accs", "series", "opens"):
            self._context[name] = address_of(getattr(self, f"_{name}"))
        self._context["n_opens"] = self._opens.shape[1]


@cache
def _entry() -> int:
    return entry_point(process)


def _word(name: str) -> int:
    return int(BAR_CONTEXT.fields[name][1]) // 8  # type: ignore[index]


_SOURCE, _EPOCH = _word("source"), _word("epoch")
_ROWS_ROOM, _REQUEST = _word("rows_room"), _word("request")


def _words(sums: list[int]) -> tuple[list[int], list[int]]:
    """Return low and high words of 128-bit integers, both as int64."""
    lows = [each % _WIDE for each in sums]
    signed = [low - _WIDE if low >= _INT64_END else low for low in lows]
    return signed, [each // _WIDE for each in sums]


def _identity(config: BarsConfig) -> str:
    """Name state, layout and series, so that a checkpoint of other ones is refused."""
    text = repr((BAR_STATE.descr, ACC.descr, _IMAGE.descr)).encode() + msgspec.json.encode(config)
    return f"bars {abi_hash(BAR).hex()} {hashlib.blake2b(text, digest_size=8).hexdigest()}"
