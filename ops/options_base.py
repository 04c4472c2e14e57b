"""What the tables of the TOML have in common: unknown keys are refused, and every worker has the same keys."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=0)]


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A table of the TOML."""


class WorkerOptions(Options):
    """What every worker has: whether it runs, where, and what happens when it ends."""

    enabled: bool = True
    cpu: Annotated[int, Meta(ge=-1)] = -1
    restart: Literal["always", "on-failure", "never", "group"] = "always"
    group: str = ""
    max_restarts: Count = 5
    window_s: Positive = 30.0
    backoff_s: Positive = 0.1
    backoff_max_s: Positive = 30.0
    depends_on: list[str] = []
