"""The orders worker: the one producer of `orders.orders`, which puts what clients ask for into exact records of one order.

`python -m collectors.orders spec.json`, the spec being an `OrdersSpec`. Clients talk to `tickring.<instance>.orders.sock`
beside the rings (0600: only the user that runs the instance) as `collectors.order_requests` says.

**Protocol** counters, log of ids, journal, ring, what the journal has more than the ring (the OPENINGs of a new run), RESTART
when an earlier process was here, READY, then requests. Per request:
requests_in first, then exactly one of accepted, repeated, refused.<reason>. An accepted request is in the ring when it is
answered; what risk decides of it is in `risk.decisions`.

**Failure** kill -9: a client that got no answer asks again with the same client_order_id and gets the order that is there, or a
new one. What stands is taken up again from the journal; one that is damaged ends the worker (exit 2) before it takes orders.

**Threads and processes** One thread, one event loop. **Cost** numba and pyarrow are never loaded here.
"""

import asyncio
import contextlib
import os

import msgspec
import structlog

from collectors.order_desk import REFUSALS, OrderDesk
from collectors.order_journal import OrderJournal
from collectors.order_log import OrderLog
from collectors.order_requests import LINE_BYTES, Answer, AnyRequest, Refused, socket_path
from layouts import ORDER
from shm.counters import Counters
from shm.producer import open_ring
from shm.region import ring_name
from shm.worker import StopFlag, WorkerSpec, run_worker

RING = "orders"
BEAT_S = 0.25
COUNTERS = (
    "requests_in",
    "accepted",
    "repeated",
    *(f"refused.{reason}" for reason in REFUSALS),
    "orders_open",
    "clients",
    "ids_burned",
    "records_published",
)
log = structlog.get_logger()


class OrdersSpec(WorkerSpec, kw_only=True):
    """Who may trade, and how large the ring is."""

    accounts: dict[str, int]
    """Number of each account by its name."""
    slots: int = 16_384
    test_fills: bool = False
    """Take fills from clients."""


class Server:
    """Reads requests line by line and answers them in order."""

    def __init__(self, desk: OrderDesk, counters: Counters) -> None:
        self._desk, self._counters = desk, counters
        self._decoder = msgspec.json.Decoder(AnyRequest)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it hangs up."""
        self._counters.add("clients")
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(self.answer(line)) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as error:
            if isinstance(error, ValueError):  # a line beyond the limit
                self._refuse("line", str(error))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def answer(self, line: bytes) -> Answer:
        """Do what one line asks."""
        self._counters.add("requests_in")
        try:
            request = self._decoder.decode(line)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            return self._refuse("line", f"the request cannot be read: {error}")
        try:
            answer = self._desk.do(request)
        except Refused as refused:
            return self._refuse(*refused.args)
        self._counters.add("repeated" if answer.repeated else "accepted")
        return answer

    def _refuse(self, reason: str, why: str) -> Answer:
        self._counters.add(f"refused.{reason}")
        return Answer(ok=False, error=why)


async def _serve(server: Server, desk: OrderDesk, spec: OrdersSpec, stop: StopFlag) -> None:
    path = socket_path(spec.instance)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listener = await asyncio.start_unix_server(server.serve, str(path), limit=LINE_BYTES)
    finally:
        os.umask(before)
    desk.counters.set_state("READY")
    async with listener:
        while not stop.is_set:
            desk.beat()
            await asyncio.sleep(BEAT_S)
    path.unlink(missing_ok=True)


def main(spec: OrdersSpec) -> int:
    """Take orders until SIGTERM; returns the exit status."""
    stop = StopFlag()
    counters = Counters.create(spec.instance, spec.worker, COUNTERS, spec.reader_group)
    ids = OrderLog(spec.state_dir)
    journal = OrderJournal(spec.state_dir, is_first=ids.last_id == 0)
    name = ring_name(spec.instance, spec.worker, RING)
    ring = open_ring(
        name,
        ORDER,
        spec.slots,
        spec.state_dir,
        reader_group=spec.reader_group,
        consumer_group=spec.consumer_group,
    )
    desk = OrderDesk(spec.instance, spec.accounts, spec.test_fills, ring, ids, journal, counters)
    desk.take_up(ring.facts().uuid)
    desk.tell_restart()
    if ring.is_restart:
        log.warning("restarted", epoch=ring.epoch)
    asyncio.run(_serve(Server(desk, counters), desk, spec, stop))
    counters.set_state("DRAINING")
    desk.close()
    ring.stop()
    ring.close()
    counters.set_state("STOPPED")
    return 0


if __name__ == "__main__":
    run_worker(OrdersSpec, main)
