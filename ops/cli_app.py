"""What all verbs share: the application, the options that mean the same everywhere, the exit statuses."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

OK, UNWELL, REFUSED, NOT_RUNNING, RUNS_ALREADY, INTERRUPTED = 0, 1, 2, 3, 4, 130

_HELP = """Market data through shared-memory rings on one host: start it, look at it, replay, audit.

Exit status: 0 well or done; 1 degraded, not ready, or the books do not close; 2 the command line or the configuration
is at fault, or there is no room; 3 the instance is not running; 4 it runs already; 130 interrupted.
Data is on stdout, words for the operator are on stderr; --json gives one JSON document (`ring tail`, `ring hz`: one a line)."""

app = App(
    name="tickring",
    help=_HELP,
    help_format="plaintext",
    help_formatter="default" if sys.stdout.isatty() else "plain",
    version="0.1.0",
)
ring = App(name="ring", help="Look at rings.", help_format="plaintext")
bench = App(name="bench", help="Measure this host.", help_format="plaintext")
config = App(name="config", help="Look at the configuration.", help_format="plaintext")
app.command(ring)
app.command(config)
app.command(bench)

Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON document on stdout.")]
InstanceName = Annotated[
    str, Parameter(name=["--instance", "-i"], env_var="TICKRING_INSTANCE", help="Which instance.")
]
OptionalInstance = Annotated[
    str | None,
    Parameter(
        name=["--instance", "-i"], env_var="TICKRING_INSTANCE", help="Another name than the TOML's."
    ),
]
ConfigFile = Annotated[
    Path | None,
    Parameter(name=["--config", "-c"], help="TOML with overrides of ops/tickring.toml."),
]
Flag = Parameter(negative="")
