"""`tickring features verify`: published features are borne out by stored events, or by a recording.

**Why it is right** The comparison is `consumers.features_verify`'s; a recording goes through `ops.replay` as any replay
does.
"""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from consumers import history
from consumers.features_verify import VerifyReport, verify_day, verify_recording
from ops import replay, show
from ops.cli_app import OK, UNWELL
from shm.errors import ConfigurationError
from shm.registry import ring_names

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def verify(
    what: Sequence[str], venue: str, instance: str, data_dir: Path | None, run: str
) -> VerifyReport:
    """Return how published features compare with what they are made of.

    Args:
        what: one day, "2026-11-20", or recordings.
        venue: of the recordings; "": .wslog files say it.
        instance: whose features.
        data_dir: where they are stored; None: as the instance says.
        run: of the features ring that a recording is compared with; "": the newest.

    Raises:
        ConfigurationError: neither a day nor recordings that can be read.
    """
    days = [each for each in what if _DAY.fullmatch(each)]
    if not what or (days and len(what) > 1):
        raise ConfigurationError(
            f"features verify {' '.join(what)}: one day (2026-11-20) or recordings expected"
        )
    connection = history.connect(instance, data_dir)
    if days:
        return verify_day(connection, days[0], is_running=any(True for _ in ring_names(instance)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "replayed.parquet"
        replay.play([Path(each) for each in what], venue, file)
        return verify_recording(connection, str(file), run)


def run(
    what: Sequence[str], venue: str, instance: str, data_dir: Path | None, of_run: str, as_json: bool
) -> int:  # fmt: skip
    """Verify, print, and return the exit status."""
    report = verify(what, venue, instance, data_dir, of_run)
    if as_json:
        show.as_json(report)
    else:
        names = ("rows", "differing", "missing", "unfounded", "unverified", "unrecorded")
        show.table(names, [tuple(getattr(report, name) for name in names)])
        if report.first is not None:
            each = report.first
            column = f" {each.column}:" if each.column else ""
            show.say(
                f"first at {each.where}:{column} published {each.published}, recomputed {each.recomputed}"
            )
    for sentence in report.incomplete:
        show.complain(sentence)
    if report.rows == 0:
        show.complain("no rows to compare: nothing is proved")
    return OK if report.sound and report.rows else UNWELL
