"""`tickring`: data on stdout, words for the operator on stderr, and an exit status that a script can trust.

Verbs are thin: each finds its instance, calls the module that does the work, and shows the result as a table, plain
columns or JSON.
"""

import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from ops import (
    cli_look,
    cli_pnl,
    cli_ring,
    cli_run,
    cli_trade,
    cli_verify,
    cli_wslog,
    control,
    show,
)
from ops.cli_app import INTERRUPTED, NOT_RUNNING, OK, REFUSED, RUNS_ALREADY, UNWELL, app
from ops.supervisor import AlreadyRuns
from shm.errors import ConfigurationError, NoRing, NoSpace, TickringError

__all__ = [
    "app",
    "cli_look",
    "cli_pnl",
    "cli_ring",
    "cli_run",
    "cli_trade",
    "cli_verify",
    "cli_wslog",
    "main",
    "run_verb",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit with its status."""
    sys.exit(run_verb(arguments))


def run_verb(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status; every error that we raise on purpose is one clear text on stderr."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        show.complain(f"{error}\nsee `tickring --help`")
        return REFUSED
    except AlreadyRuns as error:
        show.complain(str(error))
        return RUNS_ALREADY
    except (NoRing, control.NoSupervisor) as error:
        show.complain(str(error))
        return NOT_RUNNING
    except (ConfigurationError, NoSpace) as error:
        show.complain(str(error))
        return REFUSED
    except TickringError as error:
        show.complain(str(error))
        return UNWELL
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return OK
    return int(status) if isinstance(status, int) else OK
