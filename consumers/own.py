"""Your own consumer in twenty lines: a jitted function over (states, records, out), and a layout for its rows.

    import numpy as np                                                          # my_vwap.py
    from consumers.own import OwnConsumer, begin_row, jit, output_layout
    from layouts import Kind

    STATE = np.dtype([("value", "<f8"), ("qty", "<i8")])                        # one for each instrument, zeros at first
    OUT = output_layout("VWAP", ("vwap", "<f8"), ("qty", "<i8"))
    TRADE = int(Kind.TRADE)

    @jit
    def kernel(states, records, out):
        n = 0
        for record in records:
            if record.kind == TRADE:
                state = states[record.instrument_id]
                state.value += float(record.word_0) * float(record.word_1)      # layouts.event: price, qty
                state.qty += record.word_1
                begin_row(out[n], record, 0, 1)                                 # what caused it: its 1st row of 1
                out[n].vwap, out[n].qty = state.value / state.qty, state.qty
                n += 1
        return n

    VWAP = OwnConsumer(kernel, STATE, OUT)

and in the TOML beside it, which makes a ring `vwap.rows` of it:

    [consumers.vwap]
    consumer = "my_vwap:VWAP"                 # folder = "..." where the module is elsewhere, and not installed
    inputs = ["*.events"]

The ring is recorded like every other, and every reader finds the layout in it: `tickring ring tail vwap.rows`,
`shm.attach("vwap.rows").to_polars()`, `history.sql("select symbol, vwap / pow(10, price_scale) from vwap")`. 64-bit
integers in columns `price`, `qty`, `..._price`, `..._qty` stand at the instrument's scales and are shown as numbers;
what the kernel makes of them in floats, such as this `vwap`, is shown as it is.

Given: batches, the cursor, checkpoints, restart without a row twice or missing, heartbeat, counters, pinning. The
same `OwnComputation` runs over recorded records: `OwnComputation(VWAP).process(records)`.

**Invariants** The kernel reads no clock and keeps nothing outside `states`; it fills every field of a row that it
makes; it makes at most `rows_per_record` rows of a record, in order.
**Failure** A state, layout or source that changed, its own or that of a file beside it that it imports, is compiled anew
and refuses the old checkpoint: the rows are rebuilt from what the rings still hold. A ring of the old layout is refused with
the fields that differ until `tickring down` removes it; stored rows of both layouts are united by `history`.
Records lost to overwriting are counted in `in.<ring>.lost`.
"""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from consumers.runner import StatefulSpec, run_stateful
from layouts import EVENT, Kind, abi_hash
from layouts.own import OWN_RING, own_layout
from shm._native import ffi
from shm.counters import Counters
from shm.errors import ConfigurationError
from shm.kernel_cache import imported_sources
from shm.njit import jit, kept_apart
from shm.worker import run_worker

__all__ = ["OwnComputation", "OwnConsumer", "OwnSpec", "begin_row", "jit", "main", "output_layout"]

BATCH_RECORDS = 256
_IDS = 1 << 16
_KIND = int(Kind.OWN)


def output_layout(name: str, *fields: tuple[str, str]) -> np.dtype:
    """Return a record layout: the shared header, what caused the row, your fields, zeros up to a multiple of 64 bytes.

    Args:
        name: what errors call it.
        fields: (name, type) each; types are "<i8", "<f8", "<i4", ... or "S<n>", larger ones first.

    Raises:
        AbiError: a field is misaligned, twice there, or named like an attribute of arrays or a column that readers add.
    """
    return own_layout(name, fields)


class OwnConsumer(NamedTuple):
    """What makes a consumer."""

    kernel: Callable[[np.ndarray, np.ndarray, np.ndarray], int]
    """`@jit` function (states, records, out) -> number of rows; `states` is indexed by instrument_id."""
    state: np.dtype
    output: np.dtype
    rows_per_record: int = 1


@jit
def begin_row(row: Any, record: Any, index: int, count: int) -> None:
    """Fill the header of `row`: what `record` caused as its row `index` (from 0) of `count`."""
    row.stamp = 0
    row.ts_event = record.ts_event
    row.ts_recv = record.ts_recv
    row.instrument_id = record.instrument_id
    row.kind = _KIND
    row.marks = record.marks
    row.publish_delta_ns = 0
    row.source_seq = (record.stamp - 2) >> 1
    row.source_index = index
    row.source_count = count


class OwnComputation:
    """An own consumer as the loop drives it (consumers.computation.Computation)."""

    batch_records = BATCH_RECORDS
    unfinished = False

    def __init__(self, consumer: OwnConsumer) -> None:
        self._kernel, self.output = consumer.kernel, consumer.output
        self.rows = np.zeros(BATCH_RECORDS * consumer.rows_per_record, consumer.output)
        self.states = np.zeros(_IDS, consumer.state)
        """By instrument_id. Pages are taken when they are first written."""
        self.identity = _identity(consumer)
        self._rows_per_record = consumer.rows_per_record
        self._name = f"{consumer.kernel.__module__}.{consumer.kernel.__qualname__}"
        self._last_id = 0

    @property
    def counters(self) -> dict[str, int]:
        """An own consumer counts nothing beside what the loop does."""
        return {}

    def warm_up(self) -> None:
        """Compile the kernel for records that may be written and for records that may not.

        Raises:
            ConfigurationError: it is not jitted, does not compile, or answers no number.
        """
        if not hasattr(self._kernel, "py_func"):
            raise ConfigurationError(f"{self._name}: the kernel is not compiled; put @jit on it")
        code = self._kernel.py_func.__code__
        at = f"{code.co_filename}:{code.co_firstlineno}"
        for writable in (True, False):
            records = np.zeros(0, EVENT)
            records.flags.writeable = writable
            try:
                made = self._kernel(self.states, records, self.rows)
            except Exception as error:  # numba refuses with errors of many kinds
                raise ConfigurationError(
                    f"{self._name}: for (states, records, out) it does not compile: {_told(error, at)}"
                ) from error
            self._checked(made, 0)

    def process(self, records: np.ndarray, epoch: int = 1) -> np.ndarray:
        """Return a copy of the rows that these EVENT records cause."""
        parts = []
        for first in range(0, len(records), BATCH_RECORDS):
            made = self._take(records[first : first + BATCH_RECORDS], epoch)
            parts.append(self.rows[:made].copy())
        return np.concatenate(parts) if parts else self.rows[:0].copy()

    def apply(self, records: int, n: int, _source: int, epoch: int) -> int:
        """Apply `n` records at an address; return how many rows `rows` begins with."""
        buffer = ffi.buffer(ffi.cast("char *", records), n * EVENT.itemsize)
        return self._take(np.frombuffer(buffer, EVENT), epoch)

    def forget(self, source: int) -> None:
        """Lost records are counted; what they mean to the state is the kernel's own matter."""

    def wanting(self, _source: int) -> list[int]:
        """No snapshot is needed by one who keeps no book."""
        return []

    def idle(self) -> None:
        """Nothing is due."""

    def to_bytes(self) -> bytes:
        """Return the states up to the last instrument seen."""
        return self.states[: self._last_id + 1].tobytes()

    def load(self, image: bytes) -> None:
        """Take the states back."""
        if not image or len(image) % self.states.itemsize or len(image) > self.states.nbytes:
            raise ValueError(
                f"{len(image)} bytes are no states of {self.states.itemsize} bytes each"
            )
        found = np.frombuffer(image, self.states.dtype)
        self.states[: len(found)] = found
        self._last_id = len(found) - 1

    def _take(self, records: np.ndarray, epoch: int) -> int:
        self._last_id = max(self._last_id, int(records["instrument_id"].max(initial=0)))
        made = self._checked(self._kernel(self.states, records, self.rows), len(records))
        self.rows["source_epoch"][:made] = epoch
        return made

    def _checked(self, made: object, records: int) -> int:
        """Hold what the kernel answered against what it may: a row too many would be read from beyond `rows`."""
        limit = records * self._rows_per_record
        if not isinstance(made, int) or not 0 <= made <= limit:
            raise ConfigurationError(
                f"{self._name}: the kernel answered {made!r} for {records} records; the number of rows that it made "
                f"expected, 0 to {limit} (rows_per_record is {self._rows_per_record})"
            )
        return made


class OwnSpec(StatefulSpec, kw_only=True, forbid_unknown_fields=True):
    """What the worker of an own consumer is told."""

    consumer: str
    """`module:name` of an OwnConsumer."""
    folder: str = ""
    """Where the module is, when it is not installed."""


def find_consumer(where: str, folder: str = "") -> OwnConsumer:
    """Return the OwnConsumer that `module:name` names.

    Raises:
        ConfigurationError: there is no such module or name, or it is something else.
    """
    module_name, colon, name = where.partition(":")
    if not colon or not module_name or not name:
        raise ConfigurationError(f'consumer = "{where}": "module:name" expected')
    if folder and folder not in sys.path:
        sys.path.insert(0, str(Path(folder).expanduser()))
    try:
        with kept_apart(_sources(module_name)):
            module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module_name:
            told = (
                f"{error} in {folder or 'the environment'}; put it there, name its folder with "
                "`folder`, or install it"
            )
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            told = f"importing it failed: {_told(error, f'{frame.filename}:{frame.lineno}')}"
        raise ConfigurationError(f'consumer = "{where}": {told}') from error
    found = getattr(module, name, None)
    if found is None:
        raise ConfigurationError(
            f'consumer = "{where}": {module.__file__} has no {name}; an OwnConsumer of that name expected'
        )
    if not isinstance(found, OwnConsumer):
        raise ConfigurationError(
            f'consumer = "{where}" is a {type(found).__name__}; an OwnConsumer expected'
        )
    return found


def main(spec: OwnSpec) -> int:
    """Run the worker; return its exit status."""
    consumer = find_consumer(spec.consumer, spec.folder)

    def make(_counters: Counters) -> OwnComputation:
        computation = OwnComputation(consumer)
        computation.warm_up()
        return computation

    return run_stateful(spec, make, OWN_RING)


def _told(error: Exception, at: str) -> str:
    """Say in one line what went wrong in somebody's module, and where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])} ({at})"


def _sources(module: str) -> bytes:
    """Return the text of a module's file and of the files beside it that it imports, b"" where it has none."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except ValueError:  # __main__
        return b""
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return b""
    root = (
        Path(spec.origin).parent.parent
        if spec.submodule_search_locations
        else Path(spec.origin).parent
    )
    return b"\0".join(path.read_bytes() for path in imported_sources(module, root))


def _identity(consumer: OwnConsumer) -> str:
    """Name state, layout and source, so that a checkpoint of other ones is refused."""
    function = getattr(consumer.kernel, "py_func", consumer.kernel)
    source = _sources(function.__module__)
    if not source:  # typed into an interpreter: its code is all there is
        source = function.__code__.co_code + repr(function.__code__.co_consts).encode()
    text = repr(consumer.state.descr).encode() + abi_hash(consumer.output) + source
    digest = hashlib.blake2b(text, digest_size=8).hexdigest()
    return f"own {function.__module__}.{function.__qualname__} {digest}"


if __name__ == "__main__":
    # Under the name that the consumer's module imports it by: __main__ would be a second OwnConsumer.
    own = importlib.import_module("consumers.own")
    run_worker(own.OwnSpec, own.main)
