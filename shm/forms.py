"""The frames that a venue sends most are taken in one call from bytes to ring; every other one is left to the decoder.

**Protocol** A decoder names its `Form`s: each is a frame's text with `%` and a letter where frames differ
(native/form_text.h lists the letters), what the frames are, and the rule by which one may follow. `Forms.enter` makes an
instrument's symbol known. Then `take_frame(handle, frame, bytes, number, ts_recv)` for every frame: NOT_TAKEN, 0, or
a number that TAKEN_STATUS, TAKEN_TRADES and TAKEN_PLACE split.

**Why it is right** A form matches byte for byte or not at all, only what is plain JSON, and calls what the decoder
would call with the same texts. Whatever is unexpected is left, untouched, to the decoder, which alone judges.
**Cost** bench_collector_venues_frame.
"""

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import NamedTuple

from shm._native import ffi, lib
from shm.outlet import LiveBook, Outlet

NOT_TAKEN = -1


class FormKind(IntEnum):
    """What a form's frames are: enum tr_form_kind."""

    LEVELS = 1
    ROWS = 2
    TRADE = 3
    TRADE_ROWS = 4
    LEVEL = 5


class FormRule(IntEnum):
    """When a frame may be taken: enum tr_form_rule."""

    NONE = 0
    SPANS = 1
    PREVIOUS = 2
    NEXT = 3
    CONNECTION = 4
    NEWER = 5
    NEXT_ID = 6
    ALLOWED = 7


class Form(NamedTuple):
    """One kind of frame as the venue writes it; `buy` and `sell` are the words of the taker's side."""

    text: bytes
    kind: FormKind
    rule: FormRule = FormRule.NONE
    flags: int = 0
    buy: str = ""
    sell: str = ""


TAKEN_STATUS = 15
TAKEN_TRADES = 16
TAKEN_PLACE = 5
"""What `take_frame` returns above 0: bits of the frame's status, one of trades, then the instrument's place + 1."""

take_frame: Callable[..., int] = lib.tr_forms_take
"""(forms, frame, bytes, number, ts_recv) -> NOT_TAKEN, 0, or more (TAKEN_STATUS); `number` is that of the connection."""


class Forms:
    """A decoder's forms and the instruments that they may name; `handle` is what `take_frame` takes.

    Raises:
        ValueError: a text is no form.
    """

    def __init__(self, outlet: Outlet, max_frame_bytes: int, forms: Iterable[Form]) -> None:
        handle = lib.tr_forms_new(outlet.handle, max_frame_bytes)
        if handle == ffi.NULL:
            raise MemoryError("no memory for a decoder's forms")
        self.handle = ffi.gc(handle, lib.tr_forms_free)
        self._keep: dict[int, tuple[Outlet, LiveBook]] = {}  # C memory that the handle points to
        self._outlet = outlet
        for form in forms:
            words = form.buy.encode(), form.sell.encode()
            rest = form.kind, form.rule, form.flags, *words
            if lib.tr_forms_add(self.handle, form.text, len(form.text), *rest):
                raise ValueError(
                    f"no form: {form.text!r}; native/form_text.h lists what may follow a %"
                )

    def enter(self, symbol: str, live: LiveBook) -> int:
        """Make a symbol known; returns its place."""
        text = symbol.encode()
        place = int(lib.tr_forms_enter(self.handle, text, len(text), live.handle))
        if place < 0:
            raise MemoryError(f"no memory for the symbol {symbol!r}, or it has more than 64 bytes")
        self._keep[place] = self._outlet, live
        return place

    def drop(self, place: int) -> None:
        """Forget a symbol: its frames are the decoder's."""
        lib.tr_forms_drop(self.handle, place)

    def allow(self, place: int, is_allowed: bool = True) -> None:
        """Let the instrument's frames of rule ALLOWED be taken."""
        lib.tr_forms_allow(self.handle, place, is_allowed)

    def watch(self, place: int, is_watched: bool = True) -> None:
        """Have `take_frame` tell each book update of the instrument, not only refused ones."""
        lib.tr_forms_watch(self.handle, place, is_watched)

    def keep(self, place: int, frame: bytes, time: bytes) -> None:
        """Set the frame and its time that rule NEWER holds the next one against."""
        lib.tr_forms_keep(self.handle, place, frame, len(frame), time, len(time))

    def kept(self, place: int) -> tuple[bytes, bytes]:
        """Return the last frame and its time's text, as `keep` or a taken frame has left them."""
        n = ffi.new("int64_t[2]")
        text = lib.tr_forms_kept(self.handle, place, n, n + 1)
        both = bytes(ffi.buffer(text, n[0] + n[1])) if n[0] else b""
        return both[: n[0]], both[n[0] :]

    @property
    def taken(self) -> int:
        """Frames taken so far."""
        return int(lib.tr_forms_taken(self.handle))
