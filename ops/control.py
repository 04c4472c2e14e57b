"""Verbs reach the supervisor through a Unix socket beside the rings: one JSON line there, one JSON line back.

**Protocol** `{"verb": "up" | "down" | "restart" | "ping" | "subscribe" | "unsubscribe" | "reload", "names": [...], ..}`, or
`{"verb": "halt" | "reduce" | "resume" | "limit" | "rate", "details": {...}}`; the answer is
`{"ok": bool, "error": str, "names": [...], "notes": [...], "seq": int}`.
The socket is 0600 and goes with the instance. A client has one second to send its line: none can hold the supervisor up.
"""

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from shm.errors import TickringError
from shm.region import PREFIX, SHM_DIRECTORY

TIMEOUT_S = 1.0
_LINE_BYTES = 4 << 20


class Request(msgspec.Struct):
    """What is asked of a supervisor."""

    verb: str
    names: list[str] = []
    channel: str = ""
    symbols: list[str] = []
    depth: int = 0
    config: dict[str, Any] = {}
    """The resolved configuration, for "reload"."""
    details: dict[str, Any] = {}
    """Of the verbs halt, reduce, resume, limit and rate: `ops.trading.Order`."""


class Answer(msgspec.Struct):
    """What it says."""

    ok: bool = True
    error: str = ""
    names: list[str] = []
    notes: list[str] = []
    seq: int = 0
    """Of what was ordered, in control.control."""


class NoSupervisor(TickringError):
    """Nobody answers."""


def socket_path(instance: str) -> Path:
    """Return where an instance's supervisor listens."""
    return Path(SHM_DIRECTORY) / f"{PREFIX}.{instance}.control.sock"


def listen(instance: str) -> socket.socket:
    """Return a listening socket; one that a dead supervisor left is replaced (the caller holds the instance's lock)."""
    path = socket_path(instance)
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        server.bind(str(path))
    finally:
        os.umask(before)
    server.listen(16)
    server.setblocking(False)
    return server


def ask(instance: str, verb: str, names: list[str], timeout_s: float = 10.0, **more: Any) -> Answer:
    """Send one request and return the answer.

    Raises:
        NoSupervisor: no supervisor answers within `timeout_s`.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout_s)
            client.connect(str(socket_path(instance)))
            client.sendall(msgspec.json.encode(Request(verb, names, **more)) + b"\n")
            return msgspec.json.decode(_line(client), type=Answer)
    except (OSError, msgspec.DecodeError) as error:
        raise NoSupervisor(
            f"the supervisor of instance {instance!r} does not answer ({error}); see `tickring status`, "
            "or start one with `tickring up`"
        ) from error


def receive(server: socket.socket) -> tuple[socket.socket, Request] | None:
    """Accept one client and read its request; None when there was none, or it made no sense."""
    try:
        client, _ = server.accept()
    except OSError:
        return None
    client.settimeout(TIMEOUT_S)
    try:
        return client, msgspec.json.decode(_line(client), type=Request)
    except (OSError, msgspec.DecodeError) as error:
        reply(client, Answer(ok=False, error=f"the request cannot be read: {error}"))
        return None


def reply(client: socket.socket, answer: Answer) -> None:
    """Answer and hang up; a client that has gone away is no matter."""
    with contextlib.suppress(OSError), client:
        client.sendall(msgspec.json.encode(answer) + b"\n")


def _line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < _LINE_BYTES:
        piece = connection.recv(4096)
        if not piece:
            break
        line += piece
    return line
