"""Both ends of a session without a collector: a handler that keeps what it was told, a server side that plays a script."""

from collections.abc import Iterable

import picows

from layouts import GapReason

LIMIT_BYTES = 10_000


class Recorder:
    """A handler that keeps what it was told."""

    probes = False

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.closes: list[GapReason] = []
        self.too_large: list[int] = []

    def on_open(self, ts_recv: int) -> Iterable[bytes]:
        return [b"subscribe"]

    def on_frame(self, frame: bytes, ts_recv: int) -> Iterable[bytes]:
        assert ts_recv > 0
        self.frames.append(frame)
        return [b"answer"] if frame == b"question" else []

    def probe(self) -> Iterable[bytes]:
        return [b"are you there"] if self.probes else []

    def on_too_large(self, n_bytes: int, ts_recv: int) -> None:
        self.too_large.append(n_bytes)

    def on_close(self, reason: GapReason, ts_recv: int) -> None:
        self.closes.append(reason)


class Venue(picows.WSListener):
    """A server side that plays a script on each subscribe."""

    def __init__(
        self, script, heard: list[bytes], transports: list | None = None, answers: bool = False
    ) -> None:
        self.script = script
        self.answers = answers
        self.heard = heard
        self.transports = [] if transports is None else transports

    def on_ws_connected(self, transport) -> None:
        self.transports.append(transport)

    def on_ws_frame(self, transport, frame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
            text = frame.get_payload_as_bytes()
            self.heard.append(text)
            if text == b"subscribe":
                self.script(transport)
            elif self.answers:
                transport.send(picows.WSMsgType.TEXT, b"here")


def send(*texts: bytes):
    """Return a script that sends texts."""

    def script(transport) -> None:
        for text in texts:
            transport.send(picows.WSMsgType.TEXT, text)

    return script
