"""Positions and their P&L from any stream of fills and events, live or stored: the same jitted code over state that is
a plain copy away from disk.

    engine = PnlEngine(price_scale, PnlOptions())   price_scale(instrument_id, version) -> digits or None
    rows = engine.process(records, source)          POSITION rows, a copy; source 0: ORDER records, else EVENT

**Why it is right** Everything that a row depends on is in `marks`, `positions` and `lots`; `to_bytes` copies them and
`load` makes a new engine go on as if it had never stopped. Scales only widen, in Python's integers: a position keeps
the most decimals it has met, so that every earlier integer is brought up exactly.

**Failure** A fill that cannot be booked at 64 bits of price or quantity or 128 of money leaves the position as it was,
is counted in `fills_too_wide` and flagged OVERFLOW in every later row.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from consumers import pnl_opening
from consumers.pnl_kernels import process_events, process_fills
from consumers.pnl_scales import SCALES, widen
from consumers.pnl_state import (
    ACCOUNTS,
    CONTEXT,
    COUNTERS,
    FILL_WORDS,
    IDS,
    MARK_STATE,
    NEVER,
    NOBODY,
    ORDERS,
    PRICE_END,
    TAKEN,
    Request,
)
from consumers.position import LOT, POSITION_STATE
from layouts import EVENT, ORDER, POSITION, CostMethod, MarkKind, PositionFault, abi_hash
from shm._native import ffi, lib
from shm.njit import address_of, entry_point

BATCH_RECORDS = 128
PriceScale = Callable[[int, int], int | None]
"""Digits of price of a version of an instrument (version 0: of the newest); None: not known."""
IsWatched = Callable[[int], bool]
"""Whether an instrument's mark is told although nothing of it is held."""

_FIRST = 16
_IMAGE = np.dtype(
    [
        ("marks", "<i8"),
        ("positions", "<i8"),
        ("lots", "<i8"),
        ("orders_lost", "<i8"),
        ("applied", "<i8", CONTEXT["applied"].shape),
        *((name, "<i8") for name in COUNTERS),
    ]
)


class PnlOptions(NamedTuple):
    """How positions are accounted for."""

    method: CostMethod = CostMethod.AVERAGE
    mark: MarkKind = MarkKind.MID
    lots: int = 256
    """FIFO: lots kept of a position; the fills beyond share the newest one."""
    pause_ns: int = 100_000_000
    """Least ts_event between two rows of a position that its mark causes."""
    day_start_ns: int = 0
    """When a day begins, after midnight UTC."""


class PnlEngine:
    """All positions of one pnl worker."""

    output = POSITION
    batch_records = BATCH_RECORDS
    unfinished = False

    def __init__(
        self,
        price_scale: PriceScale,
        options: PnlOptions | None = None,
        is_watched: IsWatched | None = None,
    ) -> None:
        self._price_scale, self._is_watched = price_scale, is_watched
        self.options = options = options or PnlOptions()
        room = options.lots if options.method == CostMethod.FIFO else 1
        self.identity = f"pnl {_state_hash()} {options.method.name} {room}"
        self._context = np.zeros(1, CONTEXT)
        self._c = self._context[0]
        self._c["room"], self._c["method"] = room, options.method
        self._c["mark_kind"], self._c["pause_ns"] = options.mark, options.pause_ns
        self._c["day_start_ns"] = options.day_start_ns
        self._index = np.full(IDS, -1, np.int32)
        self._marks = np.zeros(_FIRST, MARK_STATE)
        self._positions = np.zeros(_FIRST, POSITION_STATE)
        self._lots = np.zeros(_FIRST * room, LOT)
        self._n_marks = self._n_positions = 0
        self.rows = np.zeros(BATCH_RECORDS * ACCOUNTS, POSITION)
        """Where `apply` puts the rows of one batch."""
        self._fills, self._events = _entries()
        self._rows_address = address_of(self.rows)
        self._place()

    @property
    def counters(self) -> dict[str, int]:
        """What the kernels have counted, and how many positions there are; part of the state."""
        counted = {name: int(self._c[name]) for name in COUNTERS}
        return counted | {"positions": self._n_positions}

    def process(self, records: np.ndarray, source: int, epoch: int = 1) -> np.ndarray:
        """Return a copy of the rows that these records, with the stamps they had in their ring, cause."""
        wanted = ORDER if source == ORDERS else EVENT
        if records.dtype != wanted or not records.flags.c_contiguous:
            raise TypeError(f"records of {records.dtype} for input {source}")
        parts = [self.rows[:0].copy()]
        for first in range(0, len(records), BATCH_RECORDS):
            n = min(BATCH_RECORDS, len(records) - first)
            at = address_of(records) + first * wanted.itemsize
            parts.append(self.rows[: self.apply(at, n, source, epoch)].copy())
        return np.concatenate(parts)

    def apply(self, records: int, n: int, source: int, epoch: int) -> int:
        """Apply `n` records at an address, at most a batch; return how many rows `self.rows` now begins with."""
        self._c["source"], self._c["epoch"] = source, epoch
        if source == ORDERS and _seq_at(records) != self._c["applied"][ORDERS] + 1:
            self.forget(ORDERS)
        kernel = self._fills if source == ORDERS else self._events
        context = address_of(self._context)
        made = int(lib.tr_call_4(kernel, context, records, n, self._rows_address))
        while (request := int(self._c["request"])) != Request.NOTHING:
            self._serve(Request(request), records)
            room = self._rows_address + made * POSITION.itemsize
            made += int(lib.tr_call_4(kernel, context, records, n, room))
        return made

    def forget(self, source: int) -> None:
        """Records of this input were lost: fills may be missing, or marks are from before the loss."""
        if source == ORDERS:
            self._c["orders_lost"] = 1
            self._positions["faults"][: self._n_positions] |= int(PositionFault.INPUT_LOST)
        else:
            marks = self._marks[: self._n_marks]
            marks["believed"][marks["source"] == source] = 0

    def wanting(self, _source: int) -> list[int]:
        """No snapshot is needed: the next quote tells the top."""
        return []

    def idle(self) -> None:
        """Ask again for scales that were not known."""
        for number in np.flatnonzero(self._marks["price_scale"][: self._n_marks] < 0):
            self._take_version(int(number), int(self._marks[number]["version"]))

    def to_bytes(self) -> bytes:
        """Return the whole state: a checkpoint."""
        lots = self._lots[self._lots_used()]
        head = np.zeros(1, _IMAGE)
        head["marks"], head["positions"], head["lots"] = self._n_marks, self._n_positions, len(lots)
        for name in ("orders_lost", "applied", *COUNTERS):
            head[name] = self._c[name]
        marks, positions = self._marks[: self._n_marks], self._positions[: self._n_positions]
        return b"".join(part.tobytes() for part in (head, marks, positions, lots))

    def load(self, image: bytes) -> None:
        """Go on from what `to_bytes` returned; this engine must not have been used.

        Raises:
            ValueError: these bytes do not hold what they say.
        """
        wrong = ValueError(f"P&L state of {len(image)} bytes does not hold what it says")
        if len(image) < _IMAGE.itemsize:
            raise wrong
        head = np.frombuffer(image, _IMAGE, 1)[0]
        counts = [int(head[name]) for name in ("marks", "positions", "lots")]
        dtypes = (MARK_STATE, POSITION_STATE, LOT)
        held = sum(n * dtype.itemsize for n, dtype in zip(counts, dtypes, strict=True))
        if min(counts) < 0 or len(image) != _IMAGE.itemsize + held:
            raise wrong
        self._n_marks, self._n_positions, n_lots = counts
        self._grow()
        at = _IMAGE.itemsize
        self._marks[: self._n_marks] = np.frombuffer(image, MARK_STATE, self._n_marks, at)
        at += self._n_marks * MARK_STATE.itemsize
        found = np.frombuffer(image, POSITION_STATE, self._n_positions, at)
        self._positions[: self._n_positions] = found
        used = self._lots_used()
        if int(used.sum()) != n_lots:
            raise wrong
        at += self._n_positions * POSITION_STATE.itemsize
        self._lots[used] = np.frombuffer(image, LOT, n_lots, at)
        self._index[self._marks["instrument_id"][: self._n_marks]] = np.arange(self._n_marks)
        for name in ("orders_lost", "applied", *COUNTERS):
            self._c[name] = head[name]

    # ---- what is brought over from one run to the next ----

    def openings(self) -> np.ndarray:
        """Return the OPENING records that another run begins with (consumers.carried)."""
        return pnl_opening.openings(self)

    @property
    def room(self) -> int:
        """Lots of a position."""
        return int(self._c["room"])

    @property
    def marks(self) -> np.ndarray:
        """The MARK_STATEs of all instruments met."""
        return self._marks[: self._n_marks]

    @property
    def positions(self) -> np.ndarray:
        """The POSITION_STATEs."""
        return self._positions[: self._n_positions]

    @property
    def lots(self) -> np.ndarray:
        """The LOTs, `room` of each position."""
        return self._lots

    def mark_for(self, instrument_id: int) -> np.void:
        """Return an instrument's MARK_STATE, made where it is new."""
        if self._index[instrument_id] < 0:
            self._add_instrument(instrument_id)
        mark: np.void = self._marks[self._index[instrument_id]]
        return mark

    def position_for(self, mark: np.void, fill: np.void) -> int:
        """Return the place of an account's position, made where it is new; -1: there is no room."""
        place = int(mark["position"])
        while place >= 0 and self._positions[place]["account"] != fill["account"]:
            place = int(self._positions[place]["next"])
        if place >= 0 or not self._add_position(mark, fill):
            return place
        return self._n_positions - 1

    def _lots_used(self) -> np.ndarray:
        """Return which lots are held, as a mask over all of them."""
        room = int(self._c["room"])
        numbers = np.arange(room)[None, :] - self._positions["first_lot"][:, None]
        used = numbers % room < self._positions["lots"][:, None]
        used[self._n_positions :] = False
        flat: np.ndarray = used.ravel()
        return flat

    def _serve(self, request: Request, records: int) -> None:
        instrument_id = int(self._c["request_id"])
        if request == Request.NEW_INSTRUMENT:
            self._add_instrument(instrument_id)
        elif request == Request.NEW_VERSION:
            self._take_version(int(self._index[instrument_id]), int(self._c["request_version"]))
        else:
            at = records + int(self._c["next_record"]) * ORDER.itemsize
            record = np.frombuffer(ffi.buffer(ffi.cast("char *", at), ORDER.itemsize), ORDER)
            if request == Request.OPENING:
                self._c["denied"] = TAKEN if pnl_opening.take_opening(self, record) else 1
                return
            fill = record.view(FILL_WORDS)[0]
            mark = self._marks[self._index[instrument_id]]
            serve = self._add_position if request == Request.NEW_POSITION else self._widen_for
            self._c["denied"] = 0 if serve(mark, fill) else 1

    def _add_instrument(self, instrument_id: int) -> None:
        number = self._n_marks
        self._n_marks += 1
        self._grow()
        mark = self._marks[number]
        mark["instrument_id"], mark["position"] = instrument_id, -1
        mark["source"] = mark["price_scale"] = -1
        self._index[instrument_id] = number
        self._take_version(number, 0)
        if self._is_watched is not None and self._is_watched(instrument_id):
            self._watch(mark)

    def _take_version(self, number: int, version: int) -> None:
        """Put a version's scale in force; prices at another one are brought to it, or forgotten."""
        mark = self._marks[number]
        scale = self._price_scale(int(mark["instrument_id"]), version)
        before = int(mark["price_scale"])
        mark["version"], mark["price_scale"] = version, -1 if scale is None else scale
        if before >= 0 and scale != before:
            for price, known in (("mid_twice", "has_mid"), ("last", "has_last")):
                wider = int(mark[price]) * 10 ** max(0, (scale or 0) - before)
                keep = scale is not None and scale > before and abs(wider) < PRICE_END
                mark[price], mark[known] = (wider, mark[known]) if keep else (0, 0)
        self.align_all(mark)

    def align_all(self, mark: np.void) -> None:
        """Align every position of an instrument."""
        place = int(mark["position"])
        while place >= 0:
            self.align(mark, place)
            place = int(self._positions[place]["next"])

    def _watch(self, mark: np.void) -> None:
        """Make the position of nobody that brings the rows of a mark alone."""
        nobody = np.zeros(1, FILL_WORDS)[0]
        nobody["account"], nobody["instrument_id"] = NOBODY, mark["instrument_id"]
        nobody["price_scale"] = max(0, int(mark["price_scale"]))
        self._add_position(mark, nobody)

    def _add_position(self, mark: np.void, fill: np.void) -> bool:
        """Make the position of a fill's account; False: its instrument has as many as there is room for."""
        if mark["positions"] >= ACCOUNTS:
            return False
        place = self._n_positions
        self._n_positions += 1
        self._grow()
        position = self._positions[place]
        for name in ("account", "instrument_id", "quote_currency", *SCALES[:3]):
            position[name] = fill[name]
        position["mark_scale"] = int(fill["price_scale"]) + 1
        position["day"] = position["ts_row"] = NEVER
        position["multiplier"] = 1
        if self._c["orders_lost"]:
            position["faults"] |= int(PositionFault.INPUT_LOST)
        position["next"], mark["position"] = mark["position"], place
        mark["positions"] += 1
        self.align(mark, place)
        return True

    def _widen_for(self, mark: np.void, fill: np.void) -> bool:
        """Give the position of a fill's account the fill's decimals where those are more; False: they do not fit."""
        place = int(mark["position"])
        while self._positions[place]["account"] != fill["account"]:
            place = int(self._positions[place]["next"])
        position = self._positions[place]
        price, qty, multiplier = (max(int(position[n]), int(fill[n])) for n in SCALES[:3])
        mark_scale = max(int(position["mark_scale"]), price + 1)
        if fill["fee"] and (fill["fee_currency"] == fill["quote_currency"]).all():
            mark_scale = max(mark_scale, int(fill["fee_scale"]) - qty - multiplier)
        done = self.widen(place, (price, qty, multiplier, mark_scale))
        self.align(mark, place)
        return done

    def align(self, mark: np.void, place: int) -> None:
        """Tell a position what its instrument's prices are multiplied by; it takes their decimals if it has fewer."""
        position = self._positions[place]
        scale = int(mark["price_scale"])
        position["mark_unit"] = 0
        if scale < 0:
            return
        if scale >= position["mark_scale"]:
            price, qty, multiplier, _ = (int(position[name]) for name in SCALES)
            if not self.widen(place, (price, qty, multiplier, scale + 1)):
                return
        unit = 10 ** (int(position["mark_scale"]) - scale)
        position["mark_unit"] = unit if unit < PRICE_END else 0

    def widen(self, place: int, scales: tuple[int, ...]) -> bool:
        """Bring a position and its lots to more decimals; False, and nothing changed, where one does not fit."""
        first = place * self.room
        return widen(
            self._positions[place : place + 1], self._lots[first : first + self.room], scales
        )

    def _grow(self) -> None:
        """Make room for all marks and positions, and tell the kernels where everything lies now."""
        room = int(self._c["room"])
        self._marks = _grown(self._marks, self._n_marks)
        self._positions = _grown(self._positions, self._n_positions)
        self._lots = _grown(self._lots, self._n_positions * room)
        self._place()

    def _place(self) -> None:
        self._c["marks"], self._c["index"] = address_of(self._marks), address_of(self._index)
        self._c["positions"], self._c["lots"] = address_of(self._positions), address_of(self._lots)


def _seq_at(record: int) -> int:
    """Return the seq that the stamp of a record at an address tells."""
    return (int(ffi.cast("int64_t *", record)[0]) - 2) >> 1


def _grown(array: np.ndarray, n: int) -> np.ndarray:
    """Return the array, or a longer copy where it has less than `n` items."""
    if n <= len(array):
        return array
    longer = np.zeros(max(n, 2 * len(array)), array.dtype)
    longer[: len(array)] = array
    return longer


def _state_hash() -> str:
    """Return a hash of the state's and the rows' fields: a checkpoint of other ones is refused."""
    descriptions = [each.descr for each in (MARK_STATE, POSITION_STATE, LOT, _IMAGE)]
    text = repr(descriptions).encode() + abi_hash(POSITION)
    return hashlib.blake2b(text, digest_size=8).hexdigest()


@cache
def _entries() -> tuple[int, int]:
    return entry_point(process_fills), entry_point(process_events)
