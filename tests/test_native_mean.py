"""The mean of a 128-bit sum is the nearest double, for every size of sum and count."""

from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from shm._native import lib

WORD = 1 << 64


def words(value: int) -> tuple[int, int]:
    """Give low and high words of a 128-bit integer, both signed."""
    low = value % WORD
    return low - WORD if low >= WORD // 2 else low, value // WORD


@given(
    st.one_of(st.integers(-(2**127) + 1, 2**127 - 1), st.integers(-(2**70), 2**70)),
    st.one_of(st.integers(1, 2**63 - 1), st.integers(1, 1000)),
)
@example(0, 1)
@example(1, 2**63 - 1)
@example(-1, 3)
@example(2**127 - 1, 1)
@example(-(2**127) + 1, 2**63 - 1)
@example(2**53 + 1, 1)
@example((2**53 + 1) * 3 + 1, 3)
@example((2**54 + 2) * 5 + 1, 5)
@settings(max_examples=2000, deadline=None)
def test_the_mean_is_rounded_once(total: int, count: int) -> None:
    """Python divides integers exactly and rounds half to even."""
    assert lib.tr_wide_mean(*words(total), count) == float(Fraction(total, count))
