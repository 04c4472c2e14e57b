"""A table of options becomes a typed struct, or every mistake in it is told at once, each with its key.

**Why it is right** msgspec stops at the first mistake; an operator wants them all. So a struct is walked field by
field, an unknown key is answered with the nearest known one, and each value alone is given to msgspec.
"""

import difflib
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from shm.errors import ConfigurationError


class Mistakes(ConfigurationError):
    """One or more mistakes of one configuration; `found` holds a line for each."""

    def __init__(self, source: str, found: list[str]) -> None:
        self.found = found
        count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
        lines = "\n".join(f"  {line}" for line in found)
        super().__init__(f"{source}: {count}\n{lines}\n`tickring config explain KEY` tells a key")


def convert(table: Mapping[str, Any], kind: type[Any], found: list[str], path: str = "") -> Any:
    """Return `table` as the Struct `kind`, or None; what is wrong is appended to `found`, its default taken instead."""
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in table.items():
        at = f"{path}.{key}" if path else key
        if key not in hints:
            found.append(f"{at}: unknown key{_nearest(key, path, list(hints))}")
            continue
        converted = _value(value, hints[key], found, at)
        if converted is not None:
            values[key] = converted
    required = [
        field.name
        for field in msgspec.structs.fields(kind)
        if field.required and field.name not in table
    ]
    found.extend(f"{path}.{name}: missing, and it has no default" for name in required)
    if any(field.required and field.name not in values for field in msgspec.structs.fields(kind)):
        return None
    try:
        return kind(**values)
    except ValueError as error:
        found.append(f"{path}: {error}" if path else str(error))
        return None


def keys_of(kind: type[Any], path: str = "") -> list[str]:
    """Return every key that a struct knows, dotted; a table of tables stands as `name.<NAME>`."""
    keys = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        at = f"{path}.{name}" if path else name
        inner = _struct_in(hint)
        if inner is None:
            keys.append(at)
        elif get_origin(hint) is dict:
            keys += keys_of(inner, f"{at}.<NAME>")
        elif get_origin(hint) is list:
            keys += [at, *keys_of(inner, f"{at}[]")]
        else:
            keys += keys_of(inner, at)
    return keys


def _value(value: Any, hint: Any, found: list[str], at: str) -> Any:
    inner = _struct_in(hint)
    origin = get_origin(hint)
    if inner is not None and origin is dict and isinstance(value, Mapping):
        entries = {
            name: _value(entry, inner, found, f"{at}.{name}") for name, entry in value.items()
        }
        return {name: entry for name, entry in entries.items() if entry is not None}
    if inner is not None and origin is list and isinstance(value, list):
        listed = [_value(entry, inner, found, f"{at}[{i}]") for i, entry in enumerate(value)]
        return [entry for entry in listed if entry is not None]
    if inner is not None and isinstance(value, Mapping):
        return convert(value, inner, found, at)
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        found.append(f"{at} = {value!r}: {str(error).partition(' - at ')[0]}")
        return None


def _struct_in(hint: Any) -> type[msgspec.Struct] | None:
    """Return the Struct that a hint is, or holds as a value of a dict or list."""
    origin = get_origin(hint)
    arguments = get_args(hint)
    if origin in (dict, list):
        return _struct_in(arguments[-1])
    if origin in (Union, UnionType):
        return next((s for s in map(_struct_in, arguments) if s is not None), None)
    return hint if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else None


def _nearest(key: str, path: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, 1, 0.5)
    if close:
        return f"; did you mean {path + '.' if path else ''}{close[0]}?"
    return f"; {path or 'the top'} knows " + ", ".join(known)
