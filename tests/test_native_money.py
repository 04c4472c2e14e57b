"""128-bit money equals Python's integers on both sides of every bound, without undefined behaviour, and each slip shows."""

import subprocess
import sys
from pathlib import Path

import money_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from money_cases import EXPECTED, Money
from native_build import Defect
from tidy import ROOT

from shm import _native, njit
from shm.njit import address_of, jit

UBSAN = ("-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=all")
wides = st.one_of(
    st.sampled_from(cases.WIDE_EDGES),
    st.integers(cases.WIDE_MIN, cases.WIDE_MAX),
    st.integers(-99, 99),
)
ints = st.one_of(st.sampled_from(cases.INT_EDGES), st.integers(cases.INT_MIN, cases.INT_MAX))

DEFECTS = {
    "an overflowing sum wraps": Defect(
        "money.c",
        "if (__builtin_add_overflow(tr_wide_read(sum), (tr_wide)a * b, &result))",
        "if (result = (tr_wide)((tr_wide_bits)tr_wide_read(sum) + (tr_wide_bits)((tr_wide)a * b)), 0)",
    ),
    "a product of 64 bits": Defect("money.c", "(tr_wide)a * b", "(tr_wide)(int64_t)((uint64_t)a * (uint64_t)b)"),
    "halves go up": Defect("money.h", "(remainder == missing && (quotient & 1))", "remainder == missing"),
    "halves go down": Defect("money.h", " || (remainder == missing && (quotient & 1))", ""),
    "the low word is signed": Defect("money.h", "| (uint64_t)words[0]", "| (tr_wide_bits)words[0]"),
    "a share forgets its rest": Defect("money.c", "each * parts + rest / divisor", "each * parts"),
    "a share is rounded by the part": Defect("money.c", "rest % divisor, divisor)", "rest % divisor, parts)"),
    "the least number has a positive twin": Defect("money.c", "limit - !negative", "limit"),
    "a conversion is rounded down only": Defect("money.c", "(up != 0 && part % unit != 0)", "0"),
    "a conversion is rounded up only": Defect("money.c", "(up != 0 && part", "(part"),
    "a whole conversion is rounded": Defect("money.c", "(up != 0 && part % unit != 0)", "(up != 0)"),
    "a conversion truncates": Defect("money.c", "    if (rest < 0) {", "    if (0) {"),
    "int64 is not checked": Defect("money.c", "if (value != (int64_t)value)", "if (0)"),
    "38 digits are too many": Defect("money.h", "TR_WIDE_DIGITS_MAX 38", "TR_WIDE_DIGITS_MAX 37"),
}  # fmt: skip


def build(folder: Path, flags: tuple[str, ...], defect: Defect | None = None) -> Path:
    """Make a library of money.c alone."""
    for name in ("money.c", "money.h", "money_api.h"):
        text = (ROOT / "native" / name).read_text()
        if defect is not None and defect.file == name:
            assert text.count(defect.text) == 1, f"{name}: {defect.text!r} is not there once"
            text = text.replace(defect.text, defect.instead)
        (folder / name).write_text(text)
    library = folder / "money.so"
    command = ["gcc", "-std=c11", "-shared", "-fPIC", *flags, "-o", str(library)]
    done = subprocess.run(
        [*command, str(folder / "money.c")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return library


def check(library: Path) -> subprocess.CompletedProcess[str]:
    """Compare a library with Python's integers, in a process of its own."""
    command = [sys.executable, cases.__file__, str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_every_case_agrees_without_undefined_behaviour(tmp_path: Path) -> None:
    """Edges against edges, numbers of every length, under UBSan: any report ends the program."""
    done = check(build(tmp_path, UBSAN))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", DEFECTS)
def test_each_slip_is_found(tmp_path: Path, name: str) -> None:
    """The same cases fail once the code is wrong."""
    done = check(build(tmp_path, ("-O1",), DEFECTS[name]))
    assert done.returncode == 1, done.stdout


@settings(max_examples=300)
@given(name=st.sampled_from(sorted(EXPECTED)), data=st.data())
def test_the_built_core_answers_as_integers_do(name: str, data: st.DataObject) -> None:
    """Any arguments: the same result, or refused on both sides."""
    n = cases.WIDES[name]
    of = {"add": 2, "subtract": 2, "multiply_add": 3, "multiply": 2, "divide": 2, "convert": 5}.get(
        name, 3
    )
    digits = st.integers(-1, 39) if name == "at" else ints
    arguments = [data.draw(wides if i < n else digits) for i in range(of)]
    assert Money(_native.__file__).call(name, *arguments) == EXPECTED[name](*arguments)


@given(amount=wides, whole=st.integers(1, cases.INT_MAX), data=st.data())
def test_shares_are_symmetric_and_between_nothing_and_all(
    amount: int, whole: int, data: st.DataObject
) -> None:
    """A share of the negative is the negative share; none of it is 0, all of it the amount."""
    part = data.draw(st.integers(0, whole))
    money = Money(_native.__file__)
    taken = money.call("share", amount, part, whole).result
    assert taken is not None and 0 <= taken * (1 if amount >= 0 else -1) <= abs(amount)
    if amount != cases.WIDE_MIN:
        assert money.call("share", -amount, part, whole).result == -taken
    assert money.call("share", amount, 0, whole).result == 0
    assert money.call("share", amount, whole, whole).result == amount


@jit
def _cost_kernel(total: int, price: int, qty: int, out: int) -> int:
    if njit.tr_wide_multiply_add(total, price, qty):
        return -1
    return njit.tr_wide_at(total, 10, 2, out)  # type: ignore[no-any-return]


def test_jitted_code_calls_it_by_name() -> None:
    """The words are the caller's memory; a refusal leaves them alone."""
    words, out = np.zeros(2, np.int64), np.zeros(1, np.int64)
    assert _cost_kernel(address_of(words), 10**18, 10**8, address_of(out)) == 0
    assert cases.from_words(words) == 10**26 and out[0] == 10**18
    assert _cost_kernel(address_of(words), 10**18, 10**12, address_of(out)) == 1
    assert cases.from_words(words) == 10**30 + 10**26 and out[0] == 10**18
