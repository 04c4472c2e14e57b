"""Jitted code calls the C core by symbol name and finds shared or private memory by address, and its cache knows when
any source changed.

**Why it is right** A call through the cffi module object makes numba's cache switch itself off silently; an
ExternalFunction is a name, which is resolved when cached machine code is loaded, so the library is loaded here,
before any kernel is. Numba's cache notices a change in the file of a kernel but not in the files that the kernel
calls into: its directory is therefore named by a hash of all of them (an own consumer's by `kept_apart`). An address is an
int64: a jitted call with a few integers costs 0.2 us, each array 0.1 us more, and there is one signature to warm up where
arrays have two (writable and read-only).

**Cost** A C call from jitted code: 2 ns. Importing this module imports numba (0.4 s).
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.event import Listener, register
from numba.extending import intrinsic as _numba_intrinsic

from shm import _native
from shm.kernel_cache import cache_dir

_numba: Any = numba
_cgutils: Any = cgutils
_numba.config.CACHE_DIR = str(cache_dir())
llvmlite.binding.load_library_permanently(_native.__file__)


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile in nopython mode, cached, without the GIL, x / 0 as in IEEE 754: `@jit` or `@jit(inline="always")`."""
    compiler = _numba.njit(cache=True, nogil=True, error_model="numpy", **options)
    return compiler if function is None else compiler(function)


@contextmanager
def kept_apart(sources: bytes) -> Iterator[None]:
    """Keep the kernels that are defined meanwhile in a directory of their own, named by `sources`, all that they depend on."""
    shared = _numba.config.CACHE_DIR
    name = hashlib.blake2b(sources, digest_size=10).hexdigest()
    _numba.config.CACHE_DIR = str(Path(shared) / name)
    try:
        yield
    finally:
        _numba.config.CACHE_DIR = shared


def entry_point(kernel: Any) -> int:
    """Return the address of a jitted function of four int64s that answers one, for `lib.tr_call_4`.

    A call that way takes 0.1 us from Python, through numba's own dispatcher 0.4 us. The kernel must not raise.
    """
    word: Any = types.int64
    compiled = _numba.cfunc(word(word, word, word, word), cache=True)(kernel.py_func)
    _kept.append(compiled)
    return int(compiled.address)


_kept: list[Any] = []


def intrinsic(function: Callable[..., Any]) -> Any:
    """Make an instruction of LLVM callable from jitted code; numba's decorator, without its misleading types."""
    return _numba_intrinsic(function)


def address_of(array: np.ndarray) -> int:
    """Return where an array's first byte lies. The array must outlive every use of the address."""
    return int(array.ctypes.data)


carray: Any = _numba.carray
_function: Any = types.ExternalFunction

_word: Any = types.int64
_address: Any = types.intp
_void: Any = types.void


def _external(name: str, *arguments: Any) -> Any:
    return _function(name, _word(*arguments))


# native/book_api.h; `book` is an address.
tr_book_init = _function("tr_book_init", _void(_address, _word))
tr_book_clear = _function("tr_book_clear", _void(_address))
tr_book_bytes = _external("tr_book_bytes", _word)
tr_book_apply = _external("tr_book_apply", _address, _word, _word, _word)
tr_book_apply_told = _external("tr_book_apply_told", _address, _word, _word, _word, _address)
tr_book_copy = _external("tr_book_copy", _address, _word, _address)
tr_book_top = _function("tr_book_top", _void(_address, _address))
tr_book_depth = _external("tr_book_depth", _address, _word, _word, _address)
tr_book_levels = _external("tr_book_levels", _address, _word)

# native/money_api.h; a wide number is the address of its two words.
tr_wide_add = _external("tr_wide_add", _address, _address)
tr_wide_subtract = _external("tr_wide_subtract", _address, _address)
tr_wide_multiply_add = _external("tr_wide_multiply_add", _address, _word, _word)
tr_wide_multiply = _external("tr_wide_multiply", _address, _word)
tr_wide_compare = _external("tr_wide_compare", _address, _address)
tr_wide_divide = _external("tr_wide_divide", _address, _address, _address)
tr_wide_share = _external("tr_wide_share", _address, _address, _word, _word)
tr_wide_convert = _external("tr_wide_convert", _address, _address, _word, _word, _word)
tr_wide_at = _external("tr_wide_at", _address, _word, _word, _address)

# native/mean_api.h.
tr_wide_mean = _function("tr_wide_mean", types.float64(_word, _word, _word))

# native/ring_api.h; readers, producers and records are addresses.
tr_publish = _external("tr_publish", _address, _address)
tr_publish_batch = _external("tr_publish_batch", _address, _address, _word)
tr_read = _external("tr_read", _address, _word, _address)
tr_poll_batch = _external("tr_poll_batch", _address, _address, _word)
tr_monotonic_ns = _external("tr_monotonic_ns")


@intrinsic
def as_pointer(_context: Any, address: Any) -> Any:
    """Turn an int64 address into what `numba.carray` takes: `carray(as_pointer(address), (n,), dtype)`."""
    if not isinstance(address, types.Integer):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), generate


@intrinsic
def load_word(_context: Any, address: Any) -> Any:
    """Return the int64 at an address of private memory (never of a ring: LLVM may hoist the load out of a loop)."""
    if not isinstance(address, types.Integer):
        return None

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load(pointer, align=8)

    return types.int64(types.int64), generate


@intrinsic
def prefetch(_context: Any, address: Any) -> Any:
    """Ask for the cache line at an address, for reading and writing; never faults, changes nothing."""
    if not isinstance(address, types.Integer):
        return None

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer_type = _cgutils.voidptr_t
        pointer = builder.inttoptr(arguments[0], pointer_type)
        i32 = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [pointer_type, i32, i32, i32])
        function = _cgutils.get_or_insert_function(
            builder.module, function_type, "llvm.prefetch.p0"
        )
        builder.call(function, [pointer, i32(1), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


_register: Any = register


class CompileCounter(Listener):
    """Counts compilations in this process from when it is made; loading from the cache is none."""

    def __init__(self) -> None:
        self.count = 0
        self.newest = ""
        """Name of the function compiled last."""
        _register("numba:compile", self)

    def on_start(self, event: Any) -> None:
        """Count one."""
        self.count += 1
        function = getattr((event.data or {}).get("dispatcher"), "py_func", None)
        self.newest = f"{function.__module__}.{function.__qualname__}" if function else "unknown"

    def on_end(self, _event: Any) -> None:
        """Nothing: it was counted when it began."""
