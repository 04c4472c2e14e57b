"""`tickring bars verify`: the engine's bars of a recorded day are the vendor's, and a wrong one is found."""

import json
import zipfile
from pathlib import Path

import pytest

from layouts import sale_conditions
from ops import bars_verify
from ops.cli import run_verb

PRINTS = """34200000,1000000,100,P,0,0
34201000,1010000,50,P,20,0
34202000,1005000,200,P,1000000,0
34259999,1002000,10,P,0,0
34320000,1007000,30,P,0,0
"""
BARS = """34200000,1000000,1002000,1000000,1002000,160
34320000,1007000,1007000,1007000,1007000,30
"""


def zipped(folder: Path, name: str, text: str) -> Path:
    """Write a zip file of one CSV."""
    path = folder / f"{name}_20131007.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("day.csv", text)
    return path


@pytest.fixture
def equities(captures: Path) -> Path:
    """The folder of the recorded day."""
    folder = captures / "equities"
    if not folder.is_dir():
        pytest.skip("the equities of the recordings are not here")
    return folder


def test_451_of_the_vendors_453_minute_bars_are_made_of_its_prints(equities: Path) -> None:
    """The other two: the vendor opens with the listing exchange's auction, and puts the closing auction before the close."""
    report = bars_verify.verify(
        equities / "ibm_tick_20131007_trade.zip", equities / "ibm_minute_20131007_trade.zip"
    )
    assert (report.prints, report.bars) == (24_293, 453)
    assert (report.prices_equal, report.volume_equal, report.equal) == (451, 451, 450)
    assert (report.missing, report.more) == (0, 0)
    assert [row["ms"] for row in report.differing] == [34_200_000, 57_540_000, 57_660_000]


def test_every_second_bar_of_the_vendor_has_our_prices(equities: Path) -> None:
    """5,123 bars, whose volume leaves out what sets no price."""
    report = bars_verify.verify(
        equities / "ibm_tick_20131007_trade.zip", equities / "ibm_second_20131007_trade.zip", "1s"
    )
    assert (report.bars, report.prices_equal, report.missing) == (5_123, 5_123, 0)


def test_a_table_without_its_largest_class_loses_bars(
    equities: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sweeps that set prices: only 257 bars would be left."""
    kept = tuple(each for each in sale_conditions.VENDOR_BITS if each.bit != 0x20)
    monkeypatch.setattr(sale_conditions, "VENDOR_BITS", kept)
    report = bars_verify.verify(
        equities / "ibm_tick_20131007_trade.zip", equities / "ibm_minute_20131007_trade.zip"
    )
    assert report.prices_equal == 257


def test_the_command_tells_what_differs(tmp_path: Path, capsys) -> None:
    """All equal: 0; a price, a bar too few, a bar too many: 1, with the first named."""
    prints = zipped(tmp_path, "prints", PRINTS)
    good = zipped(tmp_path, "good", BARS)
    assert run_verb(["bars", "verify", str(prints), str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["equal"] == 2
    for text in (
        BARS.replace("1002000,160", "1002100,160"),
        BARS + "34380000,1,1,1,1,1\n",
        BARS.splitlines()[0],
    ):
        bad = zipped(tmp_path, "bad", text)
        assert run_verb(["bars", "verify", str(prints), str(bad)]) == 1
    shown = capsys.readouterr().out
    assert "ms 34200000, close_vendor 1002100, close_own 1002000" in shown
    assert run_verb(["bars", "verify", str(prints), str(good), "--least", "1"]) == 0


def test_what_is_no_recorded_day_is_refused(tmp_path: Path, capsys) -> None:
    """No zip file, no day in the name, no prints in it but quotes, or bars of quotes."""
    good = zipped(tmp_path, "good", BARS)
    broken = tmp_path / "x_20131007.zip"
    broken.write_bytes(b"none")
    nameless = zipped(tmp_path, "n", PRINTS).rename(tmp_path / "prints.zip")
    other = zipped(tmp_path, "o", "a,b,c\n")
    quotes = zipped(tmp_path, "q", "34200000,100,1,101,1,P,0,0\n")
    words = zipped(tmp_path, "w", "a,b,c,d,e,f\n")
    for path, told in (
        (broken, "a zip file"),
        (nameless, "no day"),
        (other, "3 columns; rows of prints"),
        (quotes, "8 columns; rows of prints"),
        (words, "rows of prints"),
    ):
        assert run_verb(["bars", "verify", str(path), str(good)]) == 2
        assert told in capsys.readouterr().err
    prints = zipped(tmp_path, "p", PRINTS)
    quote_bars = zipped(tmp_path, "b", ",".join("1" * 11) + "\n")
    assert run_verb(["bars", "verify", str(prints), str(quote_bars)]) == 2
    assert "11 columns; rows of bars" in capsys.readouterr().err
