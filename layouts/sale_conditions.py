"""Which prints of a consolidated equity tape move open, high, low and last, which count for volume: one table of each code set.

**Sources** `SALE_CONDITIONS`: the sale condition matrices of the CTA "CTS Multicast Output Specification" (tapes A and B)
and of the "UTP Data Feed Services Specification" (tape C), columns "consolidated processing": high/low, last, volume, as
the glossaries of Massive (formerly Polygon: conditions and indicators) and dxFeed (sale conditions) print them. Where the two
give one letter different meanings (B, E) the tape decides. `VENDOR_BITS`: the flags of AlgoSeek's tick
files, as QuantConnect's LEAN stores them; which of them its minute bars leave out of prices was measured on a recorded day
(451 of 453 bars: `tickring bars verify`).

**Why it is right** A print is classed once, by the strictest of its codes, and a record's two marks hold every class: none
(all), LATE (high, low and volume of its own time, not last: a bar that is open now has no place for it, and counts it as
late), VOLUME_ONLY, both (nothing: it repeats a print that was told).
"""

from enum import IntEnum
from typing import NamedTuple

from layouts.header import Mark


class Effect(IntEnum):
    """What a print updates; a higher one is stricter."""

    ALL = 0
    NOT_LAST = 1
    """High, low and volume; last only where it is the day's only print."""
    VOLUME = 2
    NOTHING = 3


class Condition(NamedTuple):
    """One code: its meaning and effect on tapes A and B (CTA), and on tape C (UTP)."""

    meaning: str
    cta: Effect
    utp: Effect


_ALL, _NOT_LAST, _VOLUME, _NOTHING = Effect

SALE_CONDITIONS: dict[str, Condition] = {
    "@": Condition("regular sale", _ALL, _ALL),
    " ": Condition("regular sale", _ALL, _ALL),
    "A": Condition("acquisition", _ALL, _ALL),
    "B": Condition("average price (CTA); bunched (UTP)", _VOLUME, _ALL),
    "C": Condition("cash sale", _VOLUME, _VOLUME),
    "D": Condition("distribution", _ALL, _ALL),
    "E": Condition("automatic execution (CTA); placeholder (UTP)", _ALL, _VOLUME),
    "F": Condition("intermarket sweep", _ALL, _ALL),
    "G": Condition("bunched sold, out of sequence", _NOT_LAST, _NOT_LAST),
    "H": Condition("price variation", _VOLUME, _VOLUME),
    "I": Condition("odd lot", _VOLUME, _VOLUME),
    "K": Condition("rule 127 (CTA), rule 155 (UTP)", _ALL, _ALL),
    "L": Condition("sold last", _ALL, _ALL),
    "M": Condition("market centre's official close", _NOTHING, _NOTHING),
    "N": Condition("next day", _VOLUME, _VOLUME),
    "O": Condition("market centre's opening", _ALL, _ALL),
    "P": Condition("prior reference price", _NOT_LAST, _NOT_LAST),
    "Q": Condition("market centre's official open", _NOTHING, _NOTHING),
    "R": Condition("seller", _NOT_LAST, _NOT_LAST),
    "S": Condition("split", _ALL, _ALL),
    "T": Condition("extended hours", _VOLUME, _VOLUME),
    "U": Condition("extended hours, sold out of sequence", _VOLUME, _VOLUME),
    "V": Condition("contingent", _VOLUME, _VOLUME),
    "W": Condition("average price (UTP)", _VOLUME, _VOLUME),
    "X": Condition("cross", _ALL, _ALL),
    "Y": Condition("yellow flag", _ALL, _ALL),
    "Z": Condition("sold, out of sequence", _NOT_LAST, _NOT_LAST),
    "1": Condition("stopped stock", _ALL, _ALL),
    "4": Condition("derivatively priced", _NOT_LAST, _NOT_LAST),
    "5": Condition("market centre's reopening", _ALL, _ALL),
    "6": Condition("market centre's closing", _ALL, _ALL),
    "7": Condition("qualified contingent", _VOLUME, _VOLUME),
    "8": Condition("placeholder", _ALL, _ALL),
    "9": Condition("corrected consolidated close", _NOTHING, _NOTHING),
}
"""By letter. "9" does set the close of a day, which a bar of prints does not have."""


class VendorBit(NamedTuple):
    """One flag of a vendor's condition word, and what it does unless the print is one of extended hours."""

    bit: int
    meaning: str
    effect: Effect


EXTENDED_HOURS = 0x2000
"""Prints with this flag set prices whatever else they carry: the vendor's bars go from 4:00 to 20:00."""

VENDOR_BITS: tuple[VendorBit, ...] = (
    VendorBit(0x20, "intermarket sweep", _VOLUME),
    VendorBit(0x4_0000, "stock option", _VOLUME),
    VendorBit(0x10_0000, "average price", _VOLUME),
    VendorBit(0x100_0000, "official close", _NOTHING),
    VendorBit(0x400_0000, "official open", _NOTHING),
)
"""What is not here sets prices and counts for volume."""

_MARKS = {
    Effect.ALL: 0,
    Effect.NOT_LAST: int(Mark.LATE),
    Effect.VOLUME: int(Mark.VOLUME_ONLY),
    Effect.NOTHING: int(Mark.LATE | Mark.VOLUME_ONLY),
}


def marks_of_sale(codes: str, tape: str) -> int:
    """Return the marks of a print with these sale conditions (letters) on tape "A", "B" or "C".

    A code that the table does not have counts for volume alone: no price is taken from what is not understood.
    """
    if tape not in ("A", "B", "C"):
        raise ValueError(f'tape {tape!r}: "A", "B" or "C" expected')
    effect = Effect.ALL
    for code in codes:
        found = SALE_CONDITIONS.get(code)
        told = Effect.VOLUME if found is None else found.utp if tape == "C" else found.cta
        effect = max(effect, told)
    return _MARKS[effect]


def marks_of_vendor(word: int) -> int:
    """Return the marks of a print with a vendor's condition word."""
    if word & EXTENDED_HOURS:
        return 0
    effects = [each.effect for each in VENDOR_BITS if word & each.bit]
    return _MARKS[max(effects, default=Effect.ALL)]
