"""Every order id and client's id is on file before its record is in the ring, so that neither is ever used for another order.

**Layout** `<state_dir>/orders/orders.jsonl` (0600): one JSON line per order, and one `{"order_id", "burned"}` for an id whose
record never came into the ring.

**Protocol** Line, then record. Killed between: the id is burned at the next start, the client's id is free again.
**Failure** A line that a crash cut is left out with what follows it. Synced twice a second: a power cut may take that much.
"""

import os
from pathlib import Path

import msgspec


class Logged(msgspec.Struct, omit_defaults=True):
    """One line."""

    order_id: int
    account: str = ""
    client_order_id: str = ""
    burned: bool = False


class OrderLog:
    """The file, and what it says."""

    def __init__(self, state_dir: str | Path) -> None:
        folder = Path(state_dir) / "orders"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(
            folder / "orders.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self.last_id = 0
        self.of_client: dict[tuple[str, str], int] = {}
        self._newest: Logged | None = None
        self._is_dirty = False
        self._read()

    def add(self, account: str, client_order_id: str) -> int:
        """Give the next id to an order and write it down."""
        line = Logged(self.last_id + 1, account, client_order_id)
        self._write(line)
        self._take(line)
        return line.order_id

    def burn_after(self, published: int) -> int:
        """Free the client's id of the newest line where its record is not in the ring (`published`: newest there).

        Only the newest can lack its record; returns the id burned, 0 for none.
        """
        newest = self._newest
        if newest is None or newest.burned or newest.order_id <= published:
            return 0
        line = Logged(newest.order_id, newest.account, newest.client_order_id, burned=True)
        self._write(line)
        self._take(line)
        return line.order_id

    def sync(self) -> None:
        """Bring what was written to the disk."""
        if self._is_dirty:
            self._is_dirty = False
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        os.close(self._fd)

    def _write(self, line: Logged) -> None:
        os.write(self._fd, msgspec.json.encode(line) + b"\n")
        self._is_dirty = True

    def _take(self, line: Logged) -> None:
        self.last_id = max(self.last_id, line.order_id)
        self._newest = line
        key = (line.account, line.client_order_id)
        if line.burned:
            self.of_client.pop(key, None)
        else:
            self.of_client[key] = line.order_id

    def _read(self) -> None:
        text = bytearray()
        while piece := os.pread(self._fd, 1 << 20, len(text)):
            text += piece
        whole = 0
        for line in bytes(text).splitlines(keepends=True):
            try:
                found = msgspec.json.decode(line, type=Logged)
            except (msgspec.DecodeError, msgspec.ValidationError):
                break
            if not line.endswith(b"\n"):
                break
            self._take(found)
            whole += len(line)
        if whole < len(text):
            os.ftruncate(self._fd, whole)
