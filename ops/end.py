"""`down` ends an instance whatever state it is in: supervised, orphaned or only its regions left.

**Protocol** A living supervisor is asked by SIGTERM and waited for. A dead one is replaced by us: we take its lock, adopt what
runs, drain it in order and remove what is left, exactly as it would have done.
"""

import os
import select
import signal

from ops.plan import make_plan
from ops.supervisor import AlreadyRuns, Supervisor
from ops.topology import topology_of
from shm.errors import AttachError, NoMagic, TickringError
from shm.process import is_alive
from shm.registry import Instance, files_of, read_instance

DOWN_TIMEOUT_S = 300.0
_TRIES = 3


class DoesNotEnd(TickringError):
    """The supervisor drains for longer than any drain may take."""


def bring_down(instance: str) -> bool:
    """End an instance; False when there was nothing to end.

    Raises:
        DoesNotEnd: its supervisor does not end.
    """
    for _ in range(_TRIES):
        found = _find(instance)
        if found is None and not files_of(instance):
            return False
        if found is not None and found.alive:
            _end_supervisor(found)
            return True
        try:
            _drain_orphans(instance)
        except AlreadyRuns:
            continue  # a supervisor came up in between, or another `down` is at it
        return True
    raise DoesNotEnd(f"instance {instance!r}: another `up` or `down` is at it; try again")


def _find(instance: str) -> Instance | None:
    try:
        return read_instance(instance)
    except NoMagic:
        raise
    except AttachError:
        return None


def _end_supervisor(found: Instance) -> None:
    fd = os.pidfd_open(found.pid)
    try:
        if not is_alive(found.pid, found.start_time):
            return
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(DOWN_TIMEOUT_S * 1000):
            raise DoesNotEnd(
                f"the supervisor (pid {found.pid}) has not ended within {DOWN_TIMEOUT_S:g} s; "
                "see `tickring logs supervisor`"
            )
    finally:
        os.close(fd)


def _drain_orphans(instance: str) -> None:
    """Do what a supervisor would have done."""
    supervisor = Supervisor(make_plan(topology_of(instance)))
    supervisor.open()
    supervisor.drain()
    supervisor.run()
