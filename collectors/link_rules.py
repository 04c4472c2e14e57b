"""What RFC 6455 demands of a venue's frames and the WebSocket library lets pass is refused here, with the close code it names.

**Why it is right** The library itself refuses unknown opcodes, masked frames, lengths that are not minimal or too large, and
control frames that are long or fragmented. It hands on reserved bits, fragments out of order, text that is no UTF-8, two
close codes that nobody may send, and whatever follows a close. tests/hostile_cases.py holds both halves to the RFC.
**Cost** Four attribute reads and one look for ASCII a frame.
"""

from typing import NoReturn

from picows import WSCloseCode, WSFrame, WSMsgType, WSProtocolError

TEXT, BINARY, CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
CLOSE, PING, PONG = WSMsgType.CLOSE, WSMsgType.PING, WSMsgType.PONG
"""Names of our own: looking an enumeration's member up takes as long as a rule."""

_NEVER_SENT = (0, 1006)
"""Close codes that the library takes for valid; RFC 6455, 7.4."""


class LinkRules:
    """The state of one link's frames."""

    def __init__(self) -> None:
        self.is_over = False
        """A close has come, or a rule was broken: nothing that follows counts."""
        self.is_text = False
        """The message in hand is text."""
        self._is_open = False

    def admits(self, frame: WSFrame, kind: WSMsgType) -> bool:
        """Tell whether a frame of a kind counts.

        Raises:
            WSProtocolError: it breaks a rule; the library closes the link with its code.
        """
        if self.is_over:
            return False
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._refuse(WSCloseCode.PROTOCOL_ERROR, "reserved bit without an extension")
        if kind in (TEXT, BINARY):
            if self._is_open:
                self._refuse(
                    WSCloseCode.PROTOCOL_ERROR, "a message between another one's fragments"
                )
            self._is_open = not frame.fin
            self.is_text = kind == TEXT
        elif kind == CONTINUATION:
            if not self._is_open:
                self._refuse(WSCloseCode.PROTOCOL_ERROR, "a continuation of nothing")
            self._is_open = not frame.fin
        elif kind == CLOSE:
            code = frame.get_payload_as_bytes()[:2]
            if code and int.from_bytes(code, "big") in _NEVER_SENT:
                self._refuse(WSCloseCode.PROTOCOL_ERROR, "a close code that nobody may send")
            self.is_over = True
        return True

    def whole(self, message: bytes) -> bytes:
        """Return a message that is whole.

        Raises:
            WSProtocolError: it was sent as text and is no UTF-8.
        """
        if self.is_text and not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError:
                self._refuse(WSCloseCode.INVALID_TEXT, "text that is no UTF-8")
        return message

    def _refuse(self, code: WSCloseCode, text: str) -> NoReturn:
        self.is_over = True
        raise WSProtocolError(code, text)
