"""Requests to Coinbase Advanced Trade are signed with a key from a file that only its owner can read; it goes nowhere else.

**Layout** The file is what the venue gives when a key is made: {"name": "organizations/../apiKeys/..", "privateKey": PEM of an
EC P-256 key}. A signed request carries "jwt" (docs.cdp.coinbase.com, WebSocket authentication): ES256 over {"iss": "cdp",
"sub": name, "nbf": now, "exp": now + 120 s}, with the name as `kid` and a nonce in the header. Each request gets its own.

**Failure** A file that others may read, or that holds no such key, ends the collector with status 2. No error, log, counter,
spec or command line holds a key or a token: messages name the file and what is wrong with it, never what it says.
**Cost** PyJWT and cryptography (the extra `coinbase`) are imported only where a key is configured.
"""

import os
import secrets
import stat
from typing import Any

import msgspec

from shm import clock
from shm.errors import ConfigurationError

LIFETIME_S = 120
_LONGEST_BYTES = 16_384


class _File(msgspec.Struct):
    name: str
    private_key: str = msgspec.field(name="privateKey")


class SigningKey:
    """A key that signs requests.

    Args:
        path: the key file.

    Raises:
        ConfigurationError: it is not ours alone (0600), or not a key; or PyJWT is not installed.
    """

    def __init__(self, path: str) -> None:
        try:
            import jwt
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives.asymmetric.ec import (
                SECP256R1,
                EllipticCurvePrivateKey,
            )
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        except ImportError:
            raise ConfigurationError(
                f"key_file {path}: signing needs PyJWT and cryptography; pip install 'tickring[coinbase]'"
            ) from None
        text = _read_private(path)
        try:
            file = msgspec.json.decode(text, type=_File)
            key = load_pem_private_key(file.private_key.encode(), password=None)
        except (msgspec.DecodeError, ValueError, TypeError, UnsupportedAlgorithm):
            key = None  # what these libraries say may quote the file
        if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
            raise ConfigurationError(
                f"key_file {path}: no Coinbase key; "
                'JSON with "name" and "privateKey", an EC P-256 key in PEM, expected'
            )
        self._encode: Any = jwt.encode
        self._name, self._key = file.name, key

    def __repr__(self) -> str:
        return "SigningKey(..)"

    def sign(self, frame: bytes) -> bytes:
        """Return a request, a JSON object, with a token of its own."""
        request = msgspec.json.decode(frame, type=dict[str, msgspec.Raw])
        return msgspec.json.encode(request | {"jwt": self._token()})

    def _token(self) -> str:
        now_s = clock.now_ns() // 1_000_000_000
        claims = {"iss": "cdp", "sub": self._name, "nbf": now_s, "exp": now_s + LIFETIME_S}
        headers = {"kid": self._name, "nonce": secrets.token_hex(16)}
        token: str = self._encode(claims, self._key, algorithm="ES256", headers=headers)
        return token


def _read_private(path: str) -> bytes:
    """Return the text of a regular file that nobody but its owner, who is this user, may read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"key_file {path}: {error.strerror}") from None
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LONGEST_BYTES:
            raise ConfigurationError(
                f"key_file {path}: a regular file of at most {_LONGEST_BYTES} bytes expected"
            )
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            raise ConfigurationError(
                f"key_file {path}: mode {stat.S_IMODE(facts.st_mode):04o}, owner {facts.st_uid}; it must be 0600 and "
                f"belong to user {os.geteuid()}: chmod 600 {path}"
            )
        return os.read(fd, _LONGEST_BYTES)
    finally:
        os.close(fd)
