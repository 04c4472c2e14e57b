"""The supervisor has finished captures looked after, by one process at a time that it starts when there is something to do,
and once more at its own end.

**Failure** A run that fails or is killed is told in the supervisor's log and repeated at the next look; `status` shows what
the last one could not do.
"""

import subprocess
import sys
from pathlib import Path

import msgspec
import structlog

from ops.child import child_environment, write_private
from ops.plan import Plan
from ops.wslog_keeper import KeeperSpec, has_work
from shm.clock import monotonic_ns

LOOK_S = 60.0
"""How often finished files are looked for."""
RETAIN_S = 3600.0
"""How often age and size are looked at where nothing else is to do."""


FINISH_S = 20.0
"""How long `down` waits for what its collectors have ended."""


class Keeping:
    """Starts the keeper. `step` costs nothing between two looks."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None
        self._look_at_s = 0.0
        self._retain_at_s = 0.0
        self._log = structlog.get_logger().bind(instance=plan.instance)

    def step(self) -> None:
        """Note the end of a run; start the next where one is due."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            if self._process.returncode:
                self._log.error("keeping captured files failed", log=str(self._log_file))
            self._process = None
        now = monotonic_ns() / 1e9
        spec = self._plan.keeper
        if spec is None or now < self._look_at_s or not Path(spec.folder).is_dir():
            return
        self._look_at_s = now + LOOK_S
        retains = bool(spec.keep_days or spec.keep_bytes) and now >= self._retain_at_s
        try:
            is_due = retains or has_work(spec)
        except OSError as error:
            self._log.error("captured files cannot be looked at", error=str(error))
            return
        if is_due:
            self._retain_at_s = now + RETAIN_S
            self._start(spec)

    def finish(self) -> None:
        """Have the files that the collectors have just ended looked after too, within FINISH_S; what is not done by then
        waits for the next `up`.
        """
        self._stop()
        spec = self._plan.keeper
        try:
            is_due = spec is not None and Path(spec.folder).is_dir() and has_work(spec)
        except OSError as error:
            self._log.error("captured files cannot be looked at", error=str(error))
            return
        if spec is None or not is_due:
            return
        self._start(spec)
        assert self._process is not None
        try:
            self._process.wait(FINISH_S)
        except subprocess.TimeoutExpired:
            self._log.warning("captured files wait for the next start", after_s=FINISH_S)
        self._stop()

    def _stop(self) -> None:
        """End a run: the next one goes on from there."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    @property
    def _log_file(self) -> Path:
        return self._plan.log_dir / "keeper.log"

    def _start(self, keeper: KeeperSpec) -> None:
        spec = self._plan.run_dir / "keeper.json"
        write_private(spec, msgspec.json.encode(keeper))
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ops.wslog_keeper", str(spec)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=child_environment(),
            )
