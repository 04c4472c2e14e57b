"""What the venue does wrong on demand, so that operators and tests see how the pipeline takes it.

Off unless the specification lists faults. Each happens once, at the first frame at or after its
number on which it can: a wrong checksum needs a frame that carries one. `drop`, `wrong_checksum`
and `excess_digits` change a frame of the tape; `malformed`, `unknown_symbol` and `oversize` put
one more in front of it, so that nothing else is lost; `disconnect` and `silence` come before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from collectors.venue_tape import Step

FaultKind = Literal[
    "malformed",
    "unknown_symbol",
    "oversize",
    "wrong_checksum",
    "excess_digits",
    "drop",
    "disconnect",
    "silence",
]

UNKNOWN_SYMBOL = b'"NO/SUCH"'
_CHECKSUM = re.compile(rb'("checksum":|"c":")(\d+)')
# The first price of a frame: a number in the second protocol, a string in the first.
_PRICE = re.compile(rb'("price":\d+\.\d+|\[\["\d+\.\d+)')


class Fault(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One thing to do wrong: on which path, at which frame of its tape (from 1), and what."""

    path: Literal["kraken_v1", "kraken_v2"]
    frame: int
    kind: FaultKind
    oversize_bytes: int = 0
    silence_s: float = 0.0

    def __post_init__(self) -> None:
        if self.frame < 1:
            raise ValueError(f"a fault at frame {self.frame}; frames count from 1")
        if (self.kind == "oversize") != (self.oversize_bytes > 0):
            raise ValueError("oversize_bytes > 0 belongs to an oversize fault, and to no other")
        if (self.kind == "silence") != (self.silence_s > 0):
            raise ValueError("silence_s > 0 belongs to a silence fault, and to no other")


class Faults:
    """The faults of one path that are still to come."""

    def __init__(self, path: str, faults: Sequence[Fault]) -> None:
        mine = sorted((fault for fault in faults if fault.path == path), key=lambda f: f.frame)
        self._of_session = [fault for fault in mine if fault.kind in ("disconnect", "silence")]
        self._of_frames = [fault for fault in mine if fault not in self._of_session]
        self.injected = 0

    def session_fault(self, frame_no: int) -> Fault | None:
        """Take the disconnect or silence that comes before this frame, if one is due."""
        if not self._of_session or self._of_session[0].frame > frame_no:
            return None
        self.injected += 1
        return self._of_session.pop(0)

    def frames(self, frame_no: int, step: Step) -> list[bytes]:
        """Make what is sent where `step` should have been: itself, unless a fault is due."""
        if not self._of_frames or self._of_frames[0].frame > frame_no:
            return [step.data]
        before: list[bytes] = []
        data: bytes | None = step.data
        waiting: list[Fault] = []
        for fault in self._of_frames:
            extra = _extra(fault, step) if fault.frame <= frame_no else None
            changed = _changed(fault, data) if extra is None and fault.frame <= frame_no else data
            if extra is not None:
                before.append(extra)
            elif changed != data:
                data = changed
            else:
                waiting.append(fault)
        self.injected += len(self._of_frames) - len(waiting)
        self._of_frames = waiting
        return before if data is None else [*before, data]


def _extra(fault: Fault, step: Step) -> bytes | None:
    """Make the frame to be put in front; None when this fault makes none here."""
    if fault.kind == "malformed":
        return step.data[: len(step.data) // 2]
    if fault.kind == "oversize":
        return b'{"padding":"%s"}' % (b"x" * max(fault.oversize_bytes - 14, 0))
    if fault.kind == "unknown_symbol":
        symbol = f'"{step.stream.symbol}"'.encode()
        return step.data.replace(symbol, UNKNOWN_SYMBOL) if symbol in step.data else None
    return None


def _changed(fault: Fault, data: bytes | None) -> bytes | None:
    """Make the frame that is sent instead (None: nothing); the same where it cannot be changed."""
    if data is None or fault.kind == "drop":
        return None
    if fault.kind == "wrong_checksum":
        return _CHECKSUM.sub(lambda found: b"%s%d" % (found[1], int(found[2]) ^ 1), data, count=1)
    if fault.kind == "excess_digits" and _CHECKSUM.search(data):
        return _PRICE.sub(rb"\g<1>1", data, count=1)
    return data
