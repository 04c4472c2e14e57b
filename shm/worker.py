"""What every worker process is given and owes: a spec, a counters region, a heartbeat, a clean end on SIGTERM.

**Protocol** The supervisor starts `python -m <module> <spec.json>`. The worker makes its counters (state STARTING), opens its
rings, goes READY, beats at least twice a second, and on SIGTERM drains (DRAINING), says STOPPED and exits 0. Exit status
2 means that the configuration is at fault: a restart would not help.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from shm.errors import ConfigurationError

EXIT_CONFIGURATION = 2


class WorkerSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The part of a worker's spec that all workers share; each worker's own Struct derives from it."""

    instance: str
    worker: str
    state_dir: str
    cpu: int = -1
    """Core to run on; -1: any."""
    reader_group: int = -1
    consumer_group: int = -1


class StopFlag:
    """True once SIGTERM or SIGINT has arrived."""

    def __init__(self) -> None:
        self.is_set = False
        signal.signal(signal.SIGTERM, self._set)
        signal.signal(signal.SIGINT, self._set)

    def _set(self, *_: object) -> None:
        self.is_set = True


SpecT = TypeVar("SpecT", bound=WorkerSpec)


def run_worker(spec_type: type[SpecT], main: Callable[[SpecT], int]) -> None:
    """Read the spec named on the command line, pin the process, run `main(spec)` and exit with its status."""
    configure_logs()
    log = structlog.get_logger()
    if len(sys.argv) != 2:
        log.error("one argument expected: the worker's spec file", given=sys.argv[1:])
        sys.exit(EXIT_CONFIGURATION)
    try:
        spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=spec_type)
        pin(spec.cpu)
        structlog.contextvars.bind_contextvars(worker=spec.worker)
        status = main(spec)
    except (
        ConfigurationError,
        msgspec.ValidationError,
        msgspec.DecodeError,
        FileNotFoundError,
    ) as error:
        log.error("the configuration is at fault", error=str(error))
        sys.exit(EXIT_CONFIGURATION)
    sys.exit(status)


def pin(cpu: int) -> bool:
    """Run this process on one core; False where that core does not exist or is not ours to use."""
    if cpu < 0 or cpu not in os.sched_getaffinity(0):
        return False
    os.sched_setaffinity(0, {cpu})
    return True


def configure_logs() -> None:
    """Send structured logs to stderr: for people on a terminal, JSON lines elsewhere."""
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
