"""Nothing is lost without being counted: both ledgers are added up, and what they claim is counted again from the outside.

**Ledgers** (1) Per collector: frames in = decoded + rejected{reason} + abandoned. (2) Per ring and consumer: records
published = delivered + lost (range known) + in flight. What does not add up is `unaccounted`; so is every record
that an independent count misses: feature rows against the trades and quotes of their source, Redis entries against
trades and rows, Parquet ranges and hashes against the rings.

**Protocol** Live: consumers are read before producers, so that what happens in between is in flight and never missing. At
`down` the supervisor closes the books after the last reader has ended; the result is `audit.json` in the state directory,
which `tickring audit` reads again later, with the files verified anew.
"""

from pathlib import Path
from typing import Any

import msgspec

from ops import show
from ops.audit_checks import checks_of
from ops.audit_ledgers import FrameRow, RecordRow, counters_of, frame_rows, record_rows
from ops.audit_store import Check, file_checks
from ops.child import write_private
from ops.options import Topology
from ops.topology import topology_of
from shm.clock import now_ns
from shm.errors import NoMagic, NoRing
from shm.registry import read_instance

AUDIT_FILE = "audit.json"


class Audit(msgspec.Struct, kw_only=True):
    """The books of an instance at `ts` (ns); `closing`: of a drained one."""

    instance: str
    ts: int
    closing: bool
    unaccounted: int = 0
    frames: list[FrameRow] = []
    records: list[RecordRow] = []
    checks: list[Check] = []
    counters: dict[str, dict[str, int]] = {}
    """Every worker's counters as they were then."""

    def add_up(self) -> None:
        """Sum what is missing, wherever it is."""
        self.unaccounted = (
            sum(abs(row.unaccounted) for row in self.frames)
            + sum(abs(row.unaccounted) for row in self.records)
            + sum(check.unaccounted for check in self.checks)
        )


def audit(instance: str, closing: bool = False, state_path: Path | None = None) -> Audit:
    """Close the books of a running instance, or open those that `down` closed.

    Args:
        instance: its name.
        closing: it has just been drained; write the result.
        state_path: where closed books are; None: where the instance ran last.

    Raises:
        NoRing: it does not run and no closed books are there.
    """
    try:
        found = read_instance(instance)
    except NoRing:
        return closed_books(state_path or topology_of(instance).state_path)
    topology = msgspec.convert(found.config, Topology)
    return close_books(topology, Path(found.state_dir), closing)


def close_books(topology: Topology, state_path: Path, closing: bool) -> Audit:
    """Read everything once and add it up; `closing` also writes the result."""
    result = Audit(instance=topology.instance, ts=now_ns(), closing=closing)
    result.records = record_rows(topology, closing)
    result.checks = checks_of(topology, closing)
    result.frames = frame_rows(topology)
    result.counters = {
        name: facts.values
        for name in topology.workers()
        if (facts := counters_of(topology.instance, name)) is not None
    }
    result.add_up()
    if closing:
        state_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        book = {"audit": result, "data_dir": str(topology.data_path)}
        write_private(state_path / AUDIT_FILE, msgspec.json.format(msgspec.json.encode(book)))
    return result


def closed_books(state_path: Path) -> Audit:
    """Return what `down` wrote, with the stored files verified again."""
    path = state_path / AUDIT_FILE
    try:
        book: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise NoRing(
            f"the instance does not run and has no closed books ({path}); start it with `tickring up`"
        ) from None
    except msgspec.DecodeError as error:
        raise NoMagic(f"{path} cannot be read ({error}); remove it") from None
    result = msgspec.convert(book["audit"], Audit)
    result.checks = [check for check in result.checks if not check.name.startswith("files")]
    result.checks += file_checks(Path(book["data_dir"]))
    result.add_up()
    return result


def show_result(result: Audit) -> None:
    """Print the books for a person; the last line is `unaccounted N`."""
    if result.frames:
        rows = [
            (r.worker, r.frames_in, r.decoded, _reasons(r.rejected), r.abandoned, r.unaccounted)
            for r in result.frames
        ]
        columns = ["collector", "frames in", "decoded", "rejected", "abandoned", "unaccounted"]
        show.table(columns, rows)
        show.say()
    if result.records:
        records = [
            (r.ring, r.consumer, r.published, r.delivered, r.lost, r.in_flight, r.unaccounted)
            for r in result.records
        ]
        columns = ["ring", "consumer", "published", "delivered", "lost", "in flight", "unaccounted"]
        show.table(columns, records)
        show.say()
    show.table(
        ["check", "expected", "found", "unaccounted", ""],
        [(c.name, c.expected, c.found, c.unaccounted, c.note) for c in result.checks],
    )
    show.say()
    show.say(f"unaccounted {result.unaccounted}")


def _reasons(rejected: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in rejected.items()) or "0"
