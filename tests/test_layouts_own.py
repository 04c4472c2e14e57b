"""The layout of an own consumer's rows is one that every reader can name, decode and query."""

import numpy as np
import pytest

from consumers.own import output_layout
from layouts import BAR, EVENT, FEATURES, UNKNOWN, describe, layout_name
from layouts.abi import AbiError
from layouts.own import is_own
from shm.header import dtype_of


def test_an_output_layout_is_checked() -> None:
    """Whole cache lines; a misaligned, doubled or treacherous field is refused."""
    layout = output_layout("X", ("a", "<f8"), ("b", "<i4"))
    assert layout.itemsize == 128
    assert output_layout("X", ("a", "<f8")).itemsize == 64
    with pytest.raises(AbiError, match="aligned"):
        output_layout("X", ("a", "<i4"), ("b", "<f8"))
    with pytest.raises(AbiError, match="attribute"):
        output_layout("X", ("size", "<f8"))
    for twice in (("marks", "<f8"), ("Marks", "<f8")):
        with pytest.raises(AbiError, match="twice"):
            output_layout("X", twice)
    with pytest.raises(AbiError, match="readers add"):
        output_layout("X", ("symbol", "S8"))
    with pytest.raises(AbiError, match="no name"):
        output_layout("X", ("my price", "<f8"))
    parts = [("pnl_low", "<i8"), ("pnl_high", "<i8"), ("money_scale", "<i8")]
    assert "pnl_high" in (output_layout("X", *parts).names or ())
    with pytest.raises(AbiError, match="_low and _high"):
        output_layout("X", *parts, ("pnl", "<i8"))


def test_a_description_alone_names_the_layout() -> None:
    """By the ring's name and by what it opens with; a layout of the project keeps its own name everywhere."""
    layout = dtype_of(describe(output_layout("X", ("a", "<f8"), ("b", "(3,)<i8"), ("c", "S5"))))
    assert layout.names is not None
    assert [layout[name].str for name in layout.names[-4:-1]] == ["<f8", "|V24", "|S5"]
    assert layout_name(layout, "vwap.rows") == "vwap"
    assert layout_name(layout, "vwap.events") == UNKNOWN
    assert layout_name(EVENT, "vwap.rows") == "event"
    assert layout_name(FEATURES, "features.features") == "features"


@pytest.mark.parametrize("changed", [0, 4, 7, 10])
def test_rows_that_open_otherwise_are_nobodys(changed: int) -> None:
    """One field of the header or of the cause renamed, or of another type."""
    fields = output_layout("X", ("a", "<f8")).descr
    assert is_own(np.dtype(fields), "x.rows")
    name, code = fields[changed][:2]
    for wrong in ((f"{name}x", code), (name, code.replace("<i", "<f").replace("u", "i"))):
        assert not is_own(np.dtype([*fields[:changed], wrong, *fields[changed + 1 :]]), "x.rows")
    assert not is_own(np.dtype(fields[:-1])[list(np.dtype(fields).names or ())[:5]], "x.rows")
    assert not is_own(np.dtype("<i8"), "x.rows")
    assert not is_own(BAR.base["stamp"], "x.rows")
