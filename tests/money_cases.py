"""What the calls of native/money_api.h have to answer, in Python's own integers, and a check of any build against it.

Run as a program with the path of a library: exits 0 when every case agrees, 1 with the first that does not.
"""

import ctypes
import itertools
import random
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

WORD = 1 << 64
WIDE_MIN, WIDE_MAX = -(1 << 127), (1 << 127) - 1
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
DONE, TOO_WIDE, NOT_DEFINED = 0, 1, 2

WIDE_EDGES = sorted(
    {
        sign * (edge + step)
        for edge in (0, 1 << 31, 1 << 63, 1 << 64, 10**18, 1 << 96, 10**38, 1 << 126, 1 << 127)
        for step in (-1, 0, 1)
        for sign in (-1, 1)
    }
)
WIDE_EDGES = [edge for edge in WIDE_EDGES if WIDE_MIN <= edge <= WIDE_MAX]
INT_EDGES = [INT_MIN, INT_MIN + 1, -10, -3, -2, -1, 0, 1, 2, 3, 10, 1 << 32, INT_MAX - 1, INT_MAX]


class Answer(NamedTuple):
    """The status, and the result where it is DONE."""

    status: int
    result: int | None = None


def within(value: int, low: int = WIDE_MIN, high: int = WIDE_MAX) -> Answer:
    """Give the value where it fits."""
    return Answer(DONE, value) if low <= value <= high else Answer(TOO_WIDE)


def half_even(numerator: int, denominator: int) -> int:
    """Divide, a half to the even neighbour."""
    if denominator < 0:
        numerator, denominator = -numerator, -denominator
    floor, rest = divmod(numerator, denominator)
    return floor + (2 * rest > denominator or (2 * rest == denominator and floor % 2 == 1))


def divide(a: int, b: int) -> Answer:
    return within(half_even(a, b)) if b else Answer(NOT_DEFINED)


def share(amount: int, part: int, whole: int) -> Answer:
    if not (whole > 0 and 0 <= part <= whole):
        return Answer(NOT_DEFINED)
    return within(half_even(amount * part, whole))


def at(wide: int, digits: int, wanted: int) -> Answer:
    if not (0 <= digits <= 38 and 0 <= wanted <= 38):
        return Answer(NOT_DEFINED)
    return within(half_even(wide * 10**wanted, 10**digits), INT_MIN, INT_MAX)


def convert(total: int, amount: int, price: int, unit: int, up: int) -> Answer:
    if price <= 0 or unit <= 0:
        return Answer(NOT_DEFINED)
    if not WIDE_MIN <= amount // unit * price <= WIDE_MAX:
        return Answer(TOO_WIDE)
    exact = amount * price
    rounded = -(-exact // unit) if up else exact // unit
    return within(total + rounded) if WIDE_MIN <= rounded <= WIDE_MAX else Answer(TOO_WIDE)


EXPECTED: dict[str, Callable[..., Answer]] = {
    "add": lambda a, b: within(a + b),
    "subtract": lambda a, b: within(a - b),
    "multiply_add": lambda total, a, b: within(total + a * b),
    "multiply": lambda wide, factor: within(wide * factor),
    "divide": divide,
    "share": share,
    "convert": convert,
    "at": at,
}
WIDES = {
    "add": 2,
    "subtract": 2,
    "multiply_add": 1,
    "multiply": 1,
    "divide": 2,
    "share": 1,
    "convert": 2,
    "at": 1,
}
"""How many of the arguments are wide; the rest are int64."""


class Money:
    """The calls of one build, taking and answering Python's integers."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)

    def call(self, name: str, *arguments: int) -> Answer:
        """Call one; nothing may have been written unless it is DONE."""
        n = WIDES[name]
        words = [to_words(value) for value in arguments[:n]]
        rest: list[Any] = [ctypes.c_int64(value) for value in arguments[n:]]
        into = name in ("add", "subtract", "multiply_add", "multiply", "convert")
        out = words[0] if into else (ctypes.c_int64 * 2)(77, 77)
        given: list[Any] = [*words, *rest]
        if name in ("divide", "share"):
            given.insert(0, out)
        elif name == "at":
            given.append(out)
        before = list(out)
        status = int(getattr(self._library, f"tr_wide_{name}")(*given))
        if status != DONE:
            assert list(out) == before, f"{name}{arguments}: written although refused"
            return Answer(status)
        return Answer(DONE, int(out[0]) if name == "at" else from_words(out))

    def compare(self, a: int, b: int) -> int:
        """Call tr_wide_compare."""
        self._library.tr_wide_compare.restype = ctypes.c_int64
        return int(self._library.tr_wide_compare(to_words(a), to_words(b)))


def to_words(value: int) -> Any:
    """Give the two words of a wide number."""
    low, high = value % WORD, value >> 64
    return (ctypes.c_int64 * 2)(low - WORD if low > INT_MAX else low, high)


def from_words(words: Any) -> int:
    """Give the number of two words."""
    return (int(words[1]) << 64) + int(words[0]) % WORD


def cases(seed: int = 1) -> Any:
    """Yield (name, arguments): all pairs of edges, and numbers of every length."""
    chance = random.Random(seed)
    wides, ints = [*WIDE_EDGES], [*INT_EDGES]
    for bits in range(1, 127, 7):
        wides += [chance.getrandbits(bits), -chance.getrandbits(bits)]
        ints += [chance.getrandbits(bits % 63), -chance.getrandbits(bits % 63)]
    for a, b in itertools.product(wides, wides):
        yield from (("add", (a, b)), ("subtract", (a, b)), ("divide", (a, b)))
    for wide, number in itertools.product(wides, ints):
        yield "multiply", (wide, number)
        yield "multiply_add", (wide, number, chance.choice(ints))
        yield "share", (wide, chance.choice(ints), number)
        amount = chance.choice((wide % 10**30, -(wide % 10**30), wide))
        yield (
            "convert",
            (chance.choice(wides), amount, chance.choice(ints), number, chance.getrandbits(1)),
        )
        if number > 0:
            yield (
                "convert",
                (chance.choice(wides), wide % 10**36, chance.randrange(1, 10**6), number, 1),
            )
            yield (
                "convert",
                (0, -(wide % 10**36), chance.randrange(1, 10**6), number, chance.getrandbits(1)),
            )
            yield "share", (wide, chance.randrange(number + 1), number)
            yield "share", (wide, number // 2, number)
    for wide in [*wides, *(half * 10**n // 2 for n in range(20) for half in (-5, -3, -1, 1, 3, 5))]:
        for digits, wanted in itertools.product((-1, 0, 1, 8, 18, 37, 38, 39), repeat=2):
            yield "at", (wide, digits, wanted)


def main(library: str) -> int:
    """Compare a library with what is expected."""
    money = Money(library)
    for name, arguments in cases():
        found, wanted = money.call(name, *arguments), EXPECTED[name](*arguments)
        if found != wanted:
            sys.stdout.write(f"{name}{arguments}: {found}, {wanted} expected\n")
            return 1
    for a, b in itertools.product(WIDE_EDGES, repeat=2):
        if money.compare(a, b) != (a > b) - (a < b):
            sys.stdout.write(f"compare({a}, {b}) = {money.compare(a, b)}\n")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
