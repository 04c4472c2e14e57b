"""Digits become integers exactly or are refused: decimal.Decimal, zlib and datetime are the oracles."""

import random
import zlib
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shm._native import ffi, lib
from shm.outlet import Reject

LIMIT = 10**18
NUMBER = st.from_regex(r"-?[0-9]{1,22}(\.[0-9]{0,24})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
PLAIN = st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,10})?", fullmatch=True)


def parse(text: str, scale: int) -> int | Reject:
    """Return the integer, or the reason why there is none."""
    out = ffi.new("int64_t *")
    raw = text.encode()
    status = lib.tr_decimal_parse(raw, len(raw), scale, out)
    return Reject(status) if status else int(out[0])


def expected(text: str, scale: int) -> int | Reject:
    """Say with decimal.Decimal what the rules of native/decimal.h make of a number."""
    with localcontext() as context:
        context.prec = 2000
        value = Decimal(text)
        digits = "".join(map(str, value.as_tuple().digits)).lstrip("0")
        if "." in text:
            written = text.lower().partition("e")[0].lstrip("-")
            fraction = written.partition(".")[2].rstrip("0")
            digits = (written.partition(".")[0] + fraction).lstrip("0")
        scaled = value.scaleb(scale)
        if len(digits) > 18 or scaled != scaled.to_integral_value() or abs(scaled) >= LIMIT:
            return Reject.TOO_MANY_DIGITS
        return int(scaled)


@given(NUMBER, st.integers(0, 18))
@settings(max_examples=500)
@example("1e-05", 5)
@example("0.00000000000000000000000", 0)
@example("1.00000000000000000000000", 8)
@example("0000000000000000000000000000012.5", 1)
@example("999999999999999999", 0)
@example("1000000000000000000", 0)
@example("-0", 3)
@example("0e999", 0)
@example("5e17", 0)
def test_every_number_equals_decimal(text, scale) -> None:
    """Any sign, zeros, dot and exponent: the integer is Decimal's, or the refusal is the rules'."""
    assert parse(text, scale) == expected(text, scale)


def test_a_hundred_thousand_random_numbers_equal_decimal() -> None:
    """Volume where the grammar is plain: digits, a dot somewhere, every scale."""
    chooser = random.Random(20261120)
    for _ in range(100_000):
        digits = str(chooser.randrange(10 ** chooser.randrange(1, 19)))
        dot = chooser.randrange(len(digits) + 1)
        text = f"{digits[:dot] or 0}.{digits[dot:] or 0}"
        fraction = digits[dot:].rstrip("0")
        scale = chooser.randrange(13)
        value = int(digits[:dot] or 0) * 10**scale
        value += int(fraction.ljust(scale, "0") or 0)
        fits = len(fraction) <= scale and value < LIMIT
        assert parse(text, scale) == (value if fits else Reject.TOO_MANY_DIGITS), (text, scale)


@given(PLAIN, st.integers(0, 12))
@settings(max_examples=200)
def test_quoted_and_bare_numbers_are_the_same(text, scale) -> None:
    """A number in quotes is the number."""
    assert parse(f'"{text}"', scale) == parse(text, scale) == expected(text, scale)


@pytest.mark.parametrize("n", range(1, 20))
def test_each_length_around_the_eight_digit_steps(n) -> None:
    """Every split of 1 to 19 digits by a dot is read exactly."""
    digits = "1234567890123456789"[:n]
    for dot in range(n + 1):
        text = f"{digits[:dot]}.{digits[dot:]}" if dot else f".{digits}"
        assert parse(text, n - dot) == (int(digits) if n <= 18 else Reject.TOO_MANY_DIGITS)


@pytest.mark.parametrize(
    "text",
    [
        ".",
        "-",
        "+1",
        "1.2.3",
        "1e",
        "1e+",
        "e5",
        "0x10",
        "1_000",
        "nan",
        "Infinity",
        "1;2",
        "--1",
        "1-",
        "1,5",
        '"1',
        '"1"2',
        '""',
        "\u0661",
        "null",
        "true",
        "/1",
        ":1",
        "1/",
    ],
)
def test_what_is_no_number_is_refused(text) -> None:
    """Nothing that JSON or a venue does not mean as a number is taken for one."""
    assert parse(text, 8) is Reject.NOT_A_NUMBER


@pytest.mark.parametrize("text", ["[1]", "{}", ""])
def test_an_array_or_nothing_is_the_wrong_shape_or_no_number(text) -> None:
    """A nested value is a matter of shape."""
    assert parse(text, 8) in (Reject.UNEXPECTED_SHAPE, Reject.NOT_A_NUMBER)


def test_excess_zero_digits_are_accepted_and_others_refused() -> None:
    """At scale 2: 1.500 is 150, 1.505 is refused, 1.50 is the bound."""
    assert parse("1.50", 2) == 150
    assert parse("1.500", 2) == 150
    assert parse("1.505", 2) is Reject.TOO_MANY_DIGITS


def test_each_byte_is_judged_inside_an_eight_digit_step() -> None:
    """Any byte that is neither digit nor part of a number's grammar, at any of eight places, is refused."""
    grammar = set(b'0123456789.+-eE" \t\r\n')
    for place in range(8):
        for byte in range(256):
            raw = bytearray(b"12345678")
            raw[place] = byte
            status = lib.tr_decimal_parse(bytes(raw), 8, 7, ffi.new("int64_t *"))
            if byte in b"0123456789":
                assert status == 0
            elif byte not in grammar:
                assert status in (Reject.NOT_A_NUMBER, Reject.UNEXPECTED_SHAPE), bytes(raw)


@given(st.integers(0, LIMIT * 10 - 1))
@settings(max_examples=300)
@example(0)
@example(99)
@example(100)
@example(LIMIT * 10 - 1)
def test_integers_are_written_as_python_writes_them(value) -> None:
    """No leading zero, no sign, up to 19 digits."""
    if value >= 2**63:
        return
    out = ffi.new("char[24]")
    n = lib.tr_decimal_format(value, out)
    assert ffi.buffer(out, n)[:] == str(value).encode()


@given(st.binary(max_size=600), st.binary(max_size=40))
@settings(max_examples=150)
def test_the_crc_is_zlib_s(text, more) -> None:
    """One piece, and a second piece that goes on from the first."""
    crc = lib.tr_crc32(0, text, len(text))
    assert crc == zlib.crc32(text)
    assert lib.tr_crc32(crc, more, len(more)) == zlib.crc32(text + more)
    if len(text) >= 4:
        assert lib.tr_crc32_folded(text, len(text)) == crc


@pytest.mark.parametrize("n", range(140))
def test_the_crc_at_every_length(n) -> None:
    """Each remainder of the wide steps, at each alignment."""
    text = bytes((7 * i + n) % 251 for i in range(n + 16))
    for start in range(16):
        piece = text[start : start + n]
        assert lib.tr_crc32(0, piece, n) == zlib.crc32(piece)
        assert lib.tr_crc32_folded(piece, n) == (zlib.crc32(piece) if n >= 4 else -1)


def time_of(text: str) -> int:
    raw = text.encode()
    return int(lib.tr_time_parse(raw, len(raw)))


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2261, 12, 30)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
@settings(max_examples=300)
@example(datetime(2000, 2, 29), 0)
@example(datetime(2100, 3, 1), 0)
def test_rfc3339_equals_datetime(moment, offset_minutes) -> None:
    """Every date of the calendar, with any offset, to the microsecond and on to the nanosecond."""
    zone = timezone(timedelta(minutes=offset_minutes))
    moment = moment.replace(tzinfo=zone)
    ns = (moment - EPOCH) // timedelta(microseconds=1) * 1000
    if ns < 0:
        return
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
    assert time_of(f"{text}{sign}{hours:02}:{minutes:02}") == ns
    assert time_of(f'"{text}789{sign}{hours:02}:{minutes:02}"') == ns + 789


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:60Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.1234567891Z",
        "2026-01-01T00-00-00Z",
        "1969-12-31T23:59:59Z",
        "2262-01-01T00:00:00Z",
        "2026-01-01T00:00:00+24:00",
        "20260101T000000Z",
        "1970-01-01T00:00:00+00:01",
        "2026-1-01T00:00:00Z",
        "2026-01-01T00:00:00Zz",
        '"',
        '""',
    ],
)
def test_what_is_no_instant_is_refused(text) -> None:
    """No date of the calendar, no offset, more than nanoseconds, before 1970: each is refused."""
    assert time_of(text) == -1


@given(st.integers(1, 2**63 - 1))
@settings(max_examples=200)
def test_seconds_with_decimals_are_exact(ns) -> None:
    """Seconds and up to nine decimals; what would not fit 18 digits is refused, not rounded."""
    text = f"{ns // 10**9}.{ns % 10**9:09}"
    needed = len(text.replace(".", "").strip("0").lstrip("0"))
    got = time_of(text)
    assert got == ns or (got == -1 and len(text.rstrip("0").replace(".", "").lstrip("0")) > 18)
    assert needed > 0
    micros = ns // 1000
    assert time_of(f"{micros // 10**6}.{micros % 10**6:06}") == micros * 1000 or micros == 0


@pytest.mark.parametrize("text", ["0", "-1", "1.0000000001", "9223372037", "1e3x", "1e99"])
def test_what_is_no_second_is_refused(text) -> None:
    """Zero, negative, beyond nanoseconds, beyond 2262, text."""
    assert time_of(text) == -1
