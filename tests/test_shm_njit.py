"""Jitted code reaches the C core and memory by address, is cached, and its cache knows every source."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from tidy import ROOT

from layouts import EVENT
from shm import kernel_cache, njit
from shm._native import lib
from shm.book import BID, Book
from shm.errors import ConfigurationError
from shm.njit import CompileCounter, address_of, as_pointer, carray, jit, load_word, prefetch


@jit
def _apply_kernel(book: int, price: int) -> int:
    return njit_apply(book, 1, price, 7)  # type: ignore[no-any-return]


njit_apply = njit.tr_book_apply


@jit
def _sum_kernel(address: int, n: int) -> int:
    records = carray(as_pointer(address), (n,), EVENT)
    total = 0
    for i in range(n):
        prefetch(address + 64 * i)
        total += records[i].word_0 + load_word(address + 64 * i + 40)
        records[i].word_2 = total
    return total


@jit
def _divide_kernel(a: float, b: float) -> float:
    return a / b


def test_a_native_function_is_called_by_its_name() -> None:
    """The book that C changed is the one that Python sees."""
    book = Book(4)
    assert _apply_kernel(book.address, 100) == 2
    assert book.depth(BID, 1) == [(100, 7)]


def test_memory_is_reached_by_address() -> None:
    """Records are read and written in place; single words too."""
    records = np.zeros(5, EVENT)
    records["word_0"], records["word_1"] = np.arange(5), 10
    assert _sum_kernel(address_of(records), 5) == 60
    assert records["word_2"].tolist() == [10, 21, 33, 46, 60]


def test_division_by_zero_is_that_of_floats() -> None:
    """No exception leaves a kernel in the middle of a batch."""
    assert _divide_kernel(1.0, 0.0) == np.inf


def test_compilations_are_counted_and_calls_are_not() -> None:
    """One for a new signature, none for the next call of it."""
    compiles = CompileCounter()

    @njit.numba.njit
    def fresh(x: float) -> float:
        return x + 1

    fresh(1.0)
    counted = compiles.count
    assert counted >= 1
    fresh(2.0)
    assert compiles.count == counted


_MODULE = """
    from shm.kernel_cache import cache_dir
    from shm.njit import CompileCounter, jit, tr_book_apply
    from shm.book import Book

    @jit
    def kernel(book: int) -> int:
        return tr_book_apply(book, 1, 5, 6)

    if __name__ == "__main__":
        compiles = CompileCounter()
        book = Book(4)
        print(kernel(book.address), compiles.count, cache_dir())
"""


def run(folder: Path) -> tuple[int, str]:
    """Run a kernel in a new process; give compilations and cache directory."""
    (folder / "module.py").write_text(textwrap.dedent(_MODULE))
    made = subprocess.run(
        [sys.executable, str(folder / "module.py")],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    answer, count, path = made.stdout.split()
    assert answer == "2"
    return int(count), path


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    """The kernels that call C by name are cached like any other."""
    first, path = run(tmp_path)
    second, same = run(tmp_path)
    assert first > 0
    assert second == 0
    assert path == same
    assert Path(path).parent == tmp_path


@pytest.mark.parametrize(
    "name", ["layouts/event.py", "shm/njit.py", "consumers/rolling.py", "consumers/feature_book.py"]
)
def test_a_change_in_any_source_names_another_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba itself looks at the file of the kernel alone."""
    for folder in ("layouts", "shm", "consumers"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    before = kernel_cache.source_hash()
    monkeypatch.setattr(kernel_cache, "_ROOT", tmp_path)
    assert kernel_cache.source_hash() == before
    folder, _, file = name.partition("/")
    (tmp_path / folder).unlink()
    (tmp_path / folder).mkdir()
    for path in (ROOT / folder).glob("*.py"):
        text = path.read_text()
        (tmp_path / folder / path.name).write_text(text + "# \n" if path.name == file else text)
    assert kernel_cache.source_hash() != before


def test_a_cache_that_cannot_be_made_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the directory and what to set."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match="NUMBA_CACHE_DIR"):
        kernel_cache.cache_dir()


def test_the_cache_is_under_the_xdg_directory_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written into the project's own folders."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernel_cache.cache_dir() == tmp_path / "tickring" / "numba" / kernel_cache.source_hash()


@jit
def _four_kernel(a: int, b: int, c: int, d: int) -> int:
    return a + 10 * b + 100 * c + 1000 * d


def test_a_kernel_is_called_through_its_address() -> None:
    """All four words arrive, and the answer comes back."""
    address = njit.entry_point(_four_kernel)
    assert lib.tr_call_4(address, 1, 2, 3, -4) == -3679
