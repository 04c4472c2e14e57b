"""The features of any stream of EVENT records, live or replayed: the same jitted code over state that is a plain copy
away from disk.

    engine = FeatureEngine(scales)                 scales(instrument_id, version) -> (price_scale, qty_scale) or None
    rows = engine.process(records)                 FEATURES rows, a copy; records as they came off a ring

**Why it is right** Everything that a row depends on is in `states`, `index` and `pool` (consumers.feature_state);
`to_bytes` copies them and `load` makes a new engine go on as if it had never stopped.

**Failure** A version that no table names: the instrument's rows come with every ready bit unset and are counted,
and it is asked for again by `look_up_unscaled`.
"""

import hashlib
import mmap
from collections.abc import Callable
from functools import cache

import numpy as np

from consumers.feature_kernels import process
from consumers.feature_state import (
    CONTEXT,
    COUNTERS,
    GROW_BOOK,
    INSTRUMENT_STATE,
    NEW_INSTRUMENT,
    NEW_VERSION,
    NO_MID,
    NOTHING,
    UNKNOWN_VERSION,
    UNSYNCED,
    new_states,
)
from layouts import EVENT, FEATURES, abi_hash
from shm._native import ffi, lib
from shm.njit import address_of, entry_point

BATCH_RECORDS = 256
Scales = Callable[[int, int], tuple[int, int] | None]
"""Digits of price and quantity of a version of an instrument (version 0: of the newest); None: not known."""

_IDS = 1 << 16
_FIRST_STATES = 16
_FIRST_LEVELS = 64
_HUGE_BYTES = 1 << 21
_IMAGE = np.dtype([("states", "<i8"), ("pool_words", "<i8"), *((name, "<i8") for name in COUNTERS)])


def _state_hash() -> str:
    """Return a hash of the state's fields: a checkpoint of other fields is refused."""
    text = repr((INSTRUMENT_STATE.descr, _IMAGE.descr))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class FeatureEngine:
    """All instruments of one features worker."""

    identity = f"features {abi_hash(FEATURES).hex()} {_state_hash()}"
    output = FEATURES
    unfinished = False

    def __init__(self, scales: Scales, batch_records: int = BATCH_RECORDS) -> None:
        self._scales = scales
        self.batch_records = batch_records
        self._context = np.zeros(1, CONTEXT)
        self._index = np.full(_IDS, -1, np.int32)
        self._n_states = self._pool_used = self._missed = 0
        self._source = self._epoch = 0
        self._process = _entry()
        self._states = _flat(INSTRUMENT_STATE, _FIRST_STATES)
        self._pool = _flat(np.dtype(np.int64), _FIRST_STATES * _book_words(_FIRST_LEVELS))
        self.rows = _flat(FEATURES, batch_records)
        """Where `apply` puts the rows of one batch."""
        self._rows_address = address_of(self.rows)
        self._context_address = address_of(self._context)
        self._c = ffi.cast("int64_t *", self._context_address)
        self._place()

    @property
    def instruments(self) -> int:
        """Number of instruments met."""
        return self._n_states

    @property
    def counters(self) -> dict[str, int]:
        """What the kernel has counted; part of the state, so that a replay counts nothing twice."""
        return {name: int(self._context[name][0]) for name in COUNTERS}

    def process(self, records: np.ndarray, source: int = 0, epoch: int = 1) -> np.ndarray:
        """Return a copy of the rows that these EVENT records cause.

        Args:
            records: contiguous, with the stamps they had in their ring (the seq is in them).
            source: number of the input; books of one input are forgotten together.
            epoch: what the rows name as `source_epoch`.
        """
        if records.dtype != EVENT or not records.flags.c_contiguous:
            raise TypeError(f"records: a contiguous array of EVENT expected, {records.dtype} given")
        address = address_of(records)
        parts = []
        for first in range(0, len(records), self.batch_records):
            n = min(self.batch_records, len(records) - first)
            made = self.apply(address + first * EVENT.itemsize, n, source, epoch)
            parts.append(self.rows[:made].copy())
        return np.concatenate(parts) if parts else self.rows[:0].copy()

    def apply(self, records: int, n: int, source: int, epoch: int) -> int:
        """Apply `n` records at an address, at most a batch; return how many rows `self.rows` now begins with."""
        c = self._c
        if source != self._source or epoch != self._epoch:
            self._source = c[_SOURCE] = source
            self._epoch = c[_EPOCH] = epoch
        made: int = lib.tr_call_4(
            self._process, self._context_address, records, n, self._rows_address
        )
        while c[_REQUEST] != NOTHING:
            self._serve(int(c[_REQUEST]), int(c[_REQUEST_ID]), int(c[_REQUEST_VERSION]), source)
            room = self._rows_address + made * FEATURES.itemsize
            made += lib.tr_call_4(self._process, self._context_address, records, n, room)
        return made

    def forget(self, source: int) -> None:
        """Records of this input were lost: believe none of its books until their next snapshot."""
        states = self._states[: self._n_states]
        states["sync"][states["source"] == source] = UNSYNCED

    def wanting(self, source: int) -> list[int]:
        """Return the instruments of an input to which levels have come since the last call while they lack a snapshot."""
        missed = int(self._context["levels_unsynced"][0])
        if missed == self._missed:
            return []
        self._missed = missed
        states = self._states[: self._n_states]
        chosen = (states["source"] == source) & (states["sync"] == UNSYNCED)
        return [int(each) for each in states["instrument_id"][chosen]]

    def idle(self) -> None:
        """Ask again for scales that were not known."""
        for number in np.flatnonzero(self._states["scaled"][: self._n_states] == 0):
            self._take_version(int(number), int(self._states[number]["version"]))

    def to_bytes(self) -> bytes:
        """Return the whole state: a checkpoint."""
        head = np.zeros(1, _IMAGE)
        head["states"], head["pool_words"] = self._n_states, self._pool_used
        for name in COUNTERS:
            head[name] = self._context[name]
        states, pool = self._states[: self._n_states], self._pool[: self._pool_used]
        return b"".join((head.tobytes(), states.tobytes(), pool.tobytes()))

    def load(self, image: bytes) -> None:
        """Go on from what `to_bytes` returned; this engine must not have been used.

        Raises:
            ValueError: these bytes do not hold what they say.
        """
        if len(image) < _IMAGE.itemsize:
            raise ValueError(
                f"features state of {len(image)} bytes, {_IMAGE.itemsize} or more expected"
            )
        head = np.frombuffer(image, _IMAGE, 1)
        n, words = int(head["states"][0]), int(head["pool_words"][0])
        states_bytes = n * INSTRUMENT_STATE.itemsize
        if (
            not 0 <= n < _IDS
            or words < 0
            or len(image) != _IMAGE.itemsize + states_bytes + 8 * words
        ):
            raise ValueError(f"features state of {len(image)} bytes does not hold what it says")
        self._grow_states(n)
        self._grow_pool(words)
        self._states[:n] = np.frombuffer(image, INSTRUMENT_STATE, n, _IMAGE.itemsize)
        self._pool[:words] = np.frombuffer(image, np.int64, words, _IMAGE.itemsize + states_bytes)
        self._n_states, self._pool_used = n, words
        self._index[self._states["instrument_id"][:n]] = np.arange(n)
        for name in COUNTERS:
            self._context[name] = head[name]
        self._missed = int(head["levels_unsynced"][0])

    def _serve(self, request: int, instrument_id: int, version: int, source: int) -> None:
        if request == NEW_INSTRUMENT:
            self._add(instrument_id, source)
        elif request == NEW_VERSION:
            self._take_version(int(self._index[instrument_id]), version)
        elif request == GROW_BOOK:
            self._grow_book(int(self._index[instrument_id]))
        else:
            raise AssertionError(f"the features kernel made request {request}")

    def _add(self, instrument_id: int, source: int) -> None:
        number = self._n_states
        self._grow_states(number + 1)
        self._states[number] = new_states(1)[0]
        state = self._states[number : number + 1]
        state["instrument_id"], state["source"] = instrument_id, source
        state["book"] = self._new_book(_FIRST_LEVELS)
        self._n_states = number + 1
        self._index[instrument_id] = number
        self._take_version(number, UNKNOWN_VERSION)

    def _take_version(self, number: int, version: int) -> None:
        """Put a version's scales in force; other scales than before start the windows anew."""
        state = self._states[number : number + 1]
        scales = self._scales(int(state["instrument_id"][0]), version)
        before = (float(state["price_unit"][0]), float(state["qty_unit"][0]))
        state["version"] = version
        if scales is None:
            state["scaled"] = 0
            return
        units = (10.0 ** scales[0], 10.0 ** scales[1])
        if state["scaled"][0] == 1 and units == before:
            return
        self._start_windows(number, units)

    def _start_windows(self, number: int, units: tuple[float, float]) -> None:
        old = self._states[number].copy()
        self._states[number] = new_states(1)[0]
        state = self._states[number : number + 1]
        for name in ("instrument_id", "source", "version", "book", "sync", "rows", "day"):
            state[name] = old[name]
        for name in ("price", "has_price", "ofi_day_before"):
            state[name] = old[name]
        if old["scaled"]:
            day = int(old["ofi_day_high"]) * 2**64 + (int(old["ofi_day_low"]) & (2**64 - 1))
            state["ofi_day_before"] += day / old["qty_unit"]
        state["first_row"], state["first_mid"] = old["rows"], NO_MID
        state["price_unit"], state["qty_unit"], state["scaled"] = *units, 1

    def _new_book(self, levels: int) -> int:
        """Return the offset, in words, of a new empty book."""
        offset, words = self._pool_used, _book_words(levels)
        self._grow_pool(offset + words)
        self._pool_used = offset + words
        lib.tr_book_init(ffi.cast("void *", address_of(self._pool) + 8 * offset), levels)
        return offset

    def _grow_book(self, number: int) -> None:
        old = int(self._states[number]["book"])
        levels = 2 * int(self._pool[old + 1])
        new = self._new_book(levels)
        base = address_of(self._pool)
        lib.tr_book_copy(
            ffi.cast("void *", base + 8 * new), levels, ffi.cast("void *", base + 8 * old)
        )
        self._states[number : number + 1]["book"] = new

    def _grow_states(self, n: int) -> None:
        if n > len(self._states):
            grown = _flat(INSTRUMENT_STATE, max(n, 2 * len(self._states)))
            grown[: self._n_states] = self._states[: self._n_states]
            self._states = grown
            self._place()

    def _grow_pool(self, words: int) -> None:
        if words > len(self._pool):
            grown = _flat(np.dtype(np.int64), max(words, 2 * len(self._pool)))
            grown[: self._pool_used] = self._pool[: self._pool_used]
            self._pool = grown
            self._place()

    def _place(self) -> None:
        """Tell the kernel where everything lies now."""
        self._context["states"] = address_of(self._states)
        self._context["index"] = address_of(self._index)
        self._context["pool"] = address_of(self._pool)


@cache
def _entry() -> int:
    return entry_point(process)


def _word(name: str) -> int:
    return int(CONTEXT.fields[name][1]) // 8  # type: ignore[index]


_EPOCH, _SOURCE = _word("epoch"), _word("source")
_REQUEST, _REQUEST_ID = _word("request"), _word("request_id")
_REQUEST_VERSION = _word("request_version")


def _book_words(levels: int) -> int:
    """Return the words that a book of `levels` a side takes, whole cache lines."""
    return (int(lib.tr_book_bytes(levels)) // 8 + 7) // 8 * 8


def _flat(dtype: np.dtype, n: int) -> np.ndarray:
    """Return `n` zeroed items that begin on a page; large ones on huge pages where the kernel has them."""
    n_bytes = max(dtype.itemsize * n, 1)
    memory = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if n_bytes >= _HUGE_BYTES:
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype, n)
