"""The shipped example is the manual of the configuration: a key's meaning, unit and default are read from there.

**Invariants** (1) Every key of the typed options stands in `tickring.toml` with a comment above it. (2) The values there are
the defaults of the types: tests hold both.
"""

import difflib
import os
import re
import tomllib
from typing import Any

import msgspec

from ops import capacity, mem
from ops.options import Topology
from ops.topology import SHIPPED
from shm.errors import ConfigurationError

_KEY = re.compile(r"([a-z_]+) = (.+)")
_TABLE = re.compile(r"\[([a-z_0-9.]+)\]")
_NAMED = (
    re.compile(r"^(collectors|consumers|bars\.sessions)\.[^.]+"),
    re.compile(r"^(collectors\.<NAME>\.sessions)\.[^.]+"),
)
"""Tables whose last word is the user's."""
_INACTIVE = re.compile(r"#(?=\[|[a-z_]+ = )")
"""A table of the example that is no default: `#[consumers.vwap]`, without a blank, where a comment has one."""
_WORKER_KEYS = ("enabled", "cpu", "restart", "group", "max_restarts", "window_s", "backoff_s")
_COMMON = (*_WORKER_KEYS, "backoff_max_s", "depends_on")


class Explanation(msgspec.Struct):
    """One key: `default` as TOML, `text` what it means, with its unit."""

    key: str
    default: str
    text: str


def manual() -> dict[str, Explanation]:
    """Return every key of the shipped example; of several collectors the first one tells."""
    found: dict[str, Explanation] = {}
    table, comment = "", [""]
    for line in (_INACTIVE.sub("", each, count=1) for each in SHIPPED.read_text().splitlines()):
        if match := _TABLE.fullmatch(line):
            table, comment = _general(match[1]), []
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif match := _KEY.fullmatch(line):
            key = f"{table}.{match[1]}" if table else match[1]
            found.setdefault(key, Explanation(key, match[2], " ".join(comment)))
            comment = []
        else:
            comment = []
    for worker in (
        "venue",
        "features",
        "orders",
        "risk",
        "pnl",
        "exposure",
        "bars",
        "fanout",
        "recorder",
        "collectors.<NAME>",
        "consumers.<NAME>",
    ):
        for key in _COMMON:
            told = found[f"redis.{key}"]
            its = f"{worker}.{key}"
            found.setdefault(its, Explanation(its, told.default, told.text))
            if not found[its].text:
                found[its].text = told.text
    return found


def explain(key: str) -> Explanation:
    """Return what a key means; the name of a collector, consumer or session may stand for <NAME>.

    Raises:
        ConfigurationError: no such key; the nearest one is named.
    """
    known = manual()
    general = _general(key)
    if general in known:
        return msgspec.structs.replace(known[general], key=key)
    within = [name for name in known if name.startswith(f"{key}.")]
    if within:
        raise ConfigurationError(f"{key} is a table; its keys: {', '.join(within)}")
    ends = [name for name in known if name.rpartition(".")[2] == key]
    close = ends or difflib.get_close_matches(general, list(known), 3, 0.5)
    hint = f"; did you mean {', '.join(close)}?" if close else "; see `tickring config show`"
    raise ConfigurationError(f"unknown key {key!r}{hint}")


def _general(key: str) -> str:
    """Return a dotted key with <NAME> for each word that the user chooses."""
    for pattern in _NAMED:
        key = pattern.sub(r"\1.<NAME>", key)
    return key


def warnings_of(topology: Topology) -> list[str]:
    """Return what is allowed and yet worth a look on this host."""
    found = []
    cores = os.sched_getaffinity(0)
    for name, options in topology.workers().items():
        if options.cpu >= 0 and options.cpu not in cores:
            found.append(f"{name}.cpu = {options.cpu}: not a core of this host; it will run on any")
    total = sum(row.n_bytes for row in mem.ring_rows(topology))
    if total > mem.LIMIT_BYTES:
        found.append(
            f"the rings take {total / 2**20:.1f} MiB; many containers give /dev/shm only 64 MiB"
        )
    found += [need.advice for need in capacity.needs(topology) if not need.is_enough]
    return found


def as_toml(table: dict[str, Any]) -> str:
    """Return nested tables as TOML text."""
    lines: list[str] = []
    _write(table, "", lines)
    return "\n".join(lines).lstrip("\n")


def shipped() -> dict[str, Any]:
    """Return the shipped example, parsed."""
    return tomllib.loads(SHIPPED.read_text())


def _write(table: dict[str, Any], path: str, lines: list[str]) -> None:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict) or not value}
    if path and plain:
        lines += ["", f"[{path}]"]
    lines += [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, dict) and value:
            _write(value, f"{path}.{_name(key)}" if path else _name(key), lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inner = ", ".join(f"{_name(key)} = {_toml(entry)}" for key, entry in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return repr(value)


def _name(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else msgspec.json.encode(key).decode()
