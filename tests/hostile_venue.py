"""A WebSocket server that breaks the protocol on purpose: byte for byte what a case says, then what the client sent back."""

import asyncio
import base64
import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

LIMIT_BYTES = 70_000
ALIVE = b"alive"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
ANSWER_TIMEOUT_S = 10.0

Reply = Callable[[bytes], Sequence[bytes]]


class Case(NamedTuple):
    """What the server sends on the first link, and what must come of it."""

    name: str
    chunks: Sequence[bytes]
    delivered: Sequence[bytes] = ()
    code: int | None = None
    """The code of the client's close frame; None: it sends none, the server ends the link."""
    pongs: Sequence[bytes] = ()
    reply: Reply | None = None
    """The answer to the client's handshake; None: a right one."""
    pause_s: float = 0.0
    """Between chunks."""
    resets: bool = False
    """The server ends the link by RST."""


def frame(
    opcode: int,
    payload: bytes = b"",
    fin: bool = True,
    rsv: int = 0,
    mask: bytes = b"",
    length: bytes | None = None,
) -> bytes:
    """Return one frame; `length` replaces the bytes that tell the payload's length."""
    n = len(payload)
    if length is None:
        length = (
            bytes([n])
            if n < 126
            else b"\x7e" + struct.pack(">H", n)
            if n < 65_536
            else b"\x7f" + struct.pack(">Q", n)
        )
    if mask:
        length = bytes([length[0] | 0x80]) + length[1:]
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([fin << 7 | rsv << 4 | opcode]) + length + mask + payload


def close(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return frame(CLOSE, struct.pack(">H", code) + reason)


def accept_of(request: bytes) -> bytes:
    """Return what a right answer to the handshake says."""
    lines = [line.partition(b":") for line in request.split(b"\r\n")]
    key = next(value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-key")
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


def switching(request: bytes, extra: bytes = b"", accept: bytes | None = None) -> bytes:
    """Return the right answer to a handshake, with more headers where they are given."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + (accept or accept_of(request)) + b"\r\n" + extra + b"\r\n"
    )


class HostileVenue:
    """Plays one case on the first link and says ALIVE on every later one; `code`, `pongs`: what the client sent."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.links = 0
        self.code: int | None = None
        self.pongs: list[bytes] = []
        self.first_is_over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one link."""
        self.links += 1
        try:
            if self.links == 1:
                await self._play(reader, writer)
            else:
                writer.write(switching(await reader.readuntil(b"\r\n\r\n")) + frame(TEXT, ALIVE))
                await self._read(reader)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.first_is_over.set()
            writer.transport.abort()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        case = self.case
        answer = case.reply(request) if case.reply else [switching(request)]
        reading = None
        if case.reply is None:
            reading = asyncio.create_task(self._read(reader))
        for chunk in [*answer, *case.chunks]:
            writer.write(chunk)
            await writer.drain()
            if case.pause_s:
                await asyncio.sleep(case.pause_s)
        if reading is None:
            await asyncio.wait_for(reader.read(), ANSWER_TIMEOUT_S)
            return
        if case.code is None and not case.pongs:
            await asyncio.sleep(0.05)  # what was sent is read before the end of the link
            reading.cancel()
            if not case.resets:
                writer.write_eof()
                await asyncio.wait_for(reader.read(), ANSWER_TIMEOUT_S)
            return
        await asyncio.wait_for(reading, ANSWER_TIMEOUT_S)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Read the client's frames up to its close frame, or to as many pongs as the case wants."""
        while True:
            first, second = await reader.readexactly(2)
            n = second & 0x7F
            if n == 126:
                (n,) = struct.unpack(">H", await reader.readexactly(2))
            elif n == 127:
                (n,) = struct.unpack(">Q", await reader.readexactly(8))
            assert second & 0x80, "a client's frames are masked"
            mask = await reader.readexactly(4)
            raw = await reader.readexactly(n)
            payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(raw))
            if first & 0xF == PONG and self.links == 1:
                self.pongs.append(payload)
                if self.case.code is None and len(self.pongs) == len(self.case.pongs):
                    return
            if first & 0xF == CLOSE:
                if self.links == 1:
                    self.code = struct.unpack(">H", payload[:2])[0] if n >= 2 else 1005
                return
