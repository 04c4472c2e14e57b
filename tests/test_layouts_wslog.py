"""The tables that document a .wslog are the bytes: each line of them is a field, and each field a line."""

import re
from pathlib import Path

import numpy as np
import pytest

import layouts.wslog
from layouts import WSLOG_ENTRY, WSLOG_FILE, Entry
from layouts.wslog import ENTRY_MAGIC

ROW = re.compile(r"(?m)^    (\d+)\s+(\w+)\s+([Siu]\d+)(?: x(\d+))?(?: |$)")
KINDS = {"i": "<i8", "u": "<u"}


def documented(text: str) -> list[list[tuple[str, int, str]]]:
    """Return the tables of a docstring: (field, offset, dtype text), a new table at each offset 0."""
    tables: list[list[tuple[str, int, str]]] = []
    for offset, name, kind, count in ROW.findall(text):
        if int(offset) == 0:
            tables.append([])
        letter, digits = kind[0], int(kind[1:])
        base = f"S{digits}" if letter == "S" else f"{letter}{digits // 8}"
        dtype = np.dtype((base, (int(count),)) if count else base)
        tables[-1].append((name, int(offset), str(dtype)))
    return tables


def actual(dtype: np.dtype) -> list[tuple[str, int, str]]:
    return [(name, dtype.fields[name][1], str(dtype.fields[name][0])) for name in dtype.names]


def test_the_documented_bytes_are_the_bytes() -> None:
    """Both headers, field by field."""
    assert documented(layouts.wslog.__doc__) == [actual(WSLOG_FILE), actual(WSLOG_ENTRY)]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("40   first_seq ", "44   first_seq "),
        ("52   connection        u32", "52   connection        u16"),
        ("records           u32", "records_n         u32"),
    ],
)
def test_a_table_that_lies_is_found(line: str, wrong: str) -> None:
    """Another offset, length or name is another table."""
    text = layouts.wslog.__doc__
    assert line in text
    assert documented(text.replace(line, wrong)) != documented(text)


def test_every_kind_of_entry_is_told() -> None:
    """The meaning of each stands beside the numbers."""
    for entry in Entry:
        assert re.search(rf"\b{entry.name}\b", Entry.__doc__ or ""), entry.name
    assert ENTRY_MAGIC.to_bytes(4, "little") == b"WSE1"
    assert Path(layouts.wslog.__file__).name == "wslog.py"
