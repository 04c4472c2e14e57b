"""The cases of the hostile venue, after the groups of the Autobahn test suite (framing .. close, then the handshake)."""

from collections.abc import Iterator

from hostile_venue import (
    BINARY,
    CLOSE,
    CONTINUATION,
    LIMIT_BYTES,
    PING,
    PONG,
    TEXT,
    Case,
    accept_of,
    close,
    frame,
    switching,
)

NORMAL, PROTOCOL, BAD_TEXT, TOO_BIG = 1000, 1002, 1007, 1009
SIZES = (0, 1, 125, 126, 127, 128, 65_535, 65_536, LIMIT_BYTES - 1, LIMIT_BYTES)
HELLO = frame(TEXT, b"hello")


def _framing() -> Iterator[Case]:
    for opcode, kind in ((TEXT, "text"), (BINARY, "binary")):
        for n in SIZES:
            yield Case(f"{kind} of {n} bytes", [frame(opcode, b"x" * n)], [b"x" * n])
    for n in (LIMIT_BYTES + 1, 4 * LIMIT_BYTES):
        yield Case(f"text of {n} bytes", [frame(TEXT, b"x" * n)], code=TOO_BIG)
        yield Case(f"only the head of {n} bytes", [frame(TEXT, b"x" * n)[:10]], code=TOO_BIG)
    for power in (31, 32, 40, 62):
        length = b"\x7f" + (1 << power).to_bytes(8, "big")
        yield Case(f"a length of 2^{power}", [frame(TEXT, b"x", length=length)], code=TOO_BIG)
    top = b"\x7f" + (1 << 63).to_bytes(8, "big")
    yield Case("a length of 2^63", [frame(TEXT, b"x", length=top)], code=PROTOCOL)
    yield Case("5 bytes in 16 bits", [frame(TEXT, b"hello", length=b"\x7e\0\5")], code=PROTOCOL)
    long = b"\x7f" + (300).to_bytes(8, "big")
    yield Case("300 bytes in 64 bits", [frame(TEXT, b"x" * 300, length=long)], code=PROTOCOL)
    yield Case("a masked text", [frame(TEXT, b"hello", mask=b"abcd")], code=PROTOCOL)
    yield Case("a masked ping", [frame(PING, b"hello", mask=b"abcd")], code=PROTOCOL)


def _control() -> Iterator[Case]:
    for n in (0, 1, 124, 125):
        yield Case(f"ping of {n} bytes", [frame(PING, b"p" * n)], pongs=[b"p" * n])
    yield Case(
        "ten pings",
        [frame(PING, b"%d" % i) for i in range(10)],
        pongs=[b"%d" % i for i in range(10)],
    )
    slow = [bytes([byte]) for byte in frame(PING, b"slow")]
    yield Case("a ping byte by byte", slow, pongs=[b"slow"], pause_s=0.001)
    yield Case("pongs nobody asked for", [frame(PONG), frame(PONG, b"x" * 125), HELLO], [b"hello"])
    for opcode, kind in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
        yield Case(f"{kind} of 126 bytes", [frame(opcode, b"\3\xe8" + b"x" * 124)], code=PROTOCOL)
        yield Case(f"{kind} in fragments", [frame(opcode, b"\3\xe8", fin=False)], code=PROTOCOL)


def _reserved() -> Iterator[Case]:
    for rsv in range(1, 8):
        yield Case(
            f"reserved bits {rsv:03b} of a text", [frame(TEXT, b"x", rsv=rsv)], code=PROTOCOL
        )
    for opcode in (BINARY, PING, PONG, CLOSE):
        yield Case(
            f"reserved bit of opcode {opcode}", [frame(opcode, b"\3\xe8", rsv=4)], code=PROTOCOL
        )
    parts = [frame(TEXT, b"a", fin=False), frame(CONTINUATION, b"b", rsv=4)]
    yield Case("reserved bit of a continuation", parts, code=PROTOCOL)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield Case(f"reserved opcode {opcode}", [frame(opcode, b"x")], code=PROTOCOL)
    yield Case("an opcode after a text", [HELLO, frame(3)], [b"hello"], PROTOCOL, pause_s=0.02)


def _fragments() -> Iterator[Case]:
    start, end = frame(TEXT, b"al", fin=False), frame(CONTINUATION, b"l")
    middle = frame(CONTINUATION, b"", fin=False)
    yield Case("two fragments", [start, end], [b"all"])
    yield Case(
        "empty fragments", [frame(TEXT, fin=False), middle, middle, frame(CONTINUATION)], [b""]
    )
    many = [frame(CONTINUATION, b"x", fin=False)] * 998
    yield Case("a thousand fragments", [start, *many, end], [b"al" + b"x" * 998 + b"l"])
    yield Case("binary in fragments", [frame(BINARY, b"a", fin=False), end], [b"al"])
    yield Case("a ping between fragments", [start, frame(PING, b"?"), end], [b"all"], pongs=[b"?"])
    yield Case("a pong between fragments", [start, frame(PONG, b"?"), end], [b"all"])
    yield Case("fragments byte by byte", [bytes([b]) for b in start + end], [b"all"], pause_s=0.001)
    yield Case("two messages in fragments", [start, end, start, end], [b"all", b"all"])
    yield Case("a continuation of nothing", [end], code=PROTOCOL)
    yield Case("an open continuation of nothing", [middle], code=PROTOCOL)
    yield Case(
        "a continuation after a whole message", [start, end, end], [b"all"], PROTOCOL, pause_s=0.02
    )
    yield Case("a text between fragments", [start, HELLO, end], code=PROTOCOL)
    yield Case("a binary between fragments", [start, frame(BINARY, b"x"), end], code=PROTOCOL)
    yield Case("an open text between fragments", [start, start, end], code=PROTOCOL)
    half = b"x" * (LIMIT_BYTES // 2)
    first, last = frame(TEXT, half, fin=False), frame(CONTINUATION, half)
    yield Case("fragments of the limit", [first, last], [half + half])
    more = frame(CONTINUATION, half + b"x", fin=False)
    yield Case("fragments beyond the limit", [first, more], code=TOO_BIG)
    endless = [first, *[frame(CONTINUATION, half, fin=False)] * 8]
    yield Case("fragments without end", endless, code=TOO_BIG)
    yield Case("a close between fragments", [start, close(1000)], code=NORMAL)


_GOOD = (
    "é",
    "κόσμε",
    "€",
    "𝄞",
    "\U0010ffff",
    "\ufffd",
    "\uffff",
    "\ud7ff",
    "\ue000",
    "\x00",
    "\x7f",
)
_BAD = (
    b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff", b"\x80", b"\xbf\xbf", b"\xce",
    b"\xe2\x82", b"\xf0\x9d\x84", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
)  # fmt: skip
"""Overlong, surrogates, beyond U+10FFFF, foreign lead bytes, lone continuations, cut short."""


def _utf8() -> Iterator[Case]:
    for text in _GOOD:
        raw = b"a" + text.encode() + b"z"
        yield Case(f"UTF-8 {text!r}", [frame(TEXT, raw)], [raw])
    for text in ("κόσμε", "€", "𝄞"):
        raw = text.encode()
        parts = [frame(TEXT, raw[:1], fin=False)]
        parts += [
            frame(CONTINUATION, raw[i : i + 1], fin=i == len(raw) - 1) for i in range(1, len(raw))
        ]
        yield Case(f"UTF-8 {text!r} split within code points", parts, [raw])
        stream = [bytes([byte]) for byte in frame(TEXT, raw)]
        yield Case(f"UTF-8 {text!r} byte by byte", stream, [raw], pause_s=0.001)
    for raw in _BAD:
        yield Case(f"no UTF-8 {raw.hex()}", [frame(TEXT, raw)], code=BAD_TEXT)
    for raw in _BAD[:6]:
        parts = [frame(TEXT, b"ok" + raw[:1], fin=False), frame(CONTINUATION, raw[1:] + b"ok")]
        yield Case(f"no UTF-8 {raw.hex()} in fragments", parts, code=BAD_TEXT)
    yield Case("any bytes in a binary", [frame(BINARY, b"\xff\xfe")], [b"\xff\xfe"])


def _closing() -> Iterator[Case]:
    yield Case("close without a code", [frame(CLOSE)], code=NORMAL)
    yield Case("close of one byte", [frame(CLOSE, b"\3")], code=PROTOCOL)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case(f"close with {code}", [close(code)], code=NORMAL)
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999):
        yield Case(f"close with {code}, which nobody may send", [close(code)], code=PROTOCOL)
    yield Case("close with a reason of 123 bytes", [close(1001, b"x" * 123)], code=NORMAL)
    yield Case(
        "close with a reason that is no UTF-8", [close(1001, b"\xed\xa0\x80")], code=BAD_TEXT
    )
    yield Case("a text after the close", [close(1000) + HELLO], code=NORMAL)
    yield Case("a text, then the close", [HELLO + close(1000)], [b"hello"], NORMAL)


def _broken_off() -> Iterator[Case]:
    whole = frame(TEXT, b"x" * 1000)
    for resets in (False, True):
        how = "RST" if resets else "FIN"
        yield Case(f"{how} at once", [], resets=resets)
        for n in (1, 2, 3, 4, 500, len(whole) - 1):
            yield Case(f"{how} after {n} bytes of a frame", [whole[:n]], resets=resets)
        part = frame(TEXT, b"x", fin=False)
        yield Case(f"{how} between fragments", [part], resets=resets)
        yield Case(f"{how} after a text", [HELLO], [b"hello"], resets=resets)


def _handshakes() -> Iterator[Case]:
    replies = {
        "garbage": [b"\x00\xff\x13garbage\r\n\r\n"],
        "a frame instead of HTTP": [HELLO * 10 + b"\r\n\r\n"],
        "400": [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"],
        "403 with a page": [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\n<html"],
        "429": [b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"],
        "503": [b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"],
        "200": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
        "no status": [b"HTTP/1.1\r\n\r\n"],
        "a status that is no number": [b"HTTP/1.1 abc Switching\r\n\r\n"],
        "only a line end": [b"\r\n\r\n"],
        "a header without colon": [
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade websocket\r\n\r\n"
        ],
        "101 without headers": [b"HTTP/1.1 101 Switching Protocols\r\n\r\n"],
        "101 with a foreign accept": None,
        "a header line of 200,000 bytes": [
            b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 200_000
        ],
        "20,000 headers": [b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 20_000],
    }
    for name, chunks in replies.items():
        if chunks is None:
            foreign = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            yield Case(
                f"handshake: {name}", [], reply=lambda r, a=foreign: [switching(r, accept=a)]
            )
        else:
            yield Case(f"handshake: {name}", [], reply=lambda r, c=chunks: c)
    for name, old in (
        ("upgrade", b"Upgrade: websocket\r\n"),
        ("connection", b"Connection: Upgrade\r\n"),
    ):
        yield Case(
            f"handshake: 101 without {name}",
            [],
            reply=lambda r, old=old: [switching(r).replace(old, b"")],
        )
    yield Case(
        "handshake: 101 without accept",
        [],
        reply=lambda r: [
            switching(r).replace(b"Sec-WebSocket-Accept: " + accept_of(r) + b"\r\n", b"")
        ],
    )


CASES: list[Case] = [
    case
    for group in (
        _framing,
        _control,
        _reserved,
        _fragments,
        _utf8,
        _closing,
        _broken_off,
        _handshakes,
    )
    for case in group()
]
