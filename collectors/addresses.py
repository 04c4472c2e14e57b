"""An address is reached over TLS with verification, or it is on this host; nothing else is connected to."""

from urllib.parse import urlsplit

from shm.errors import ConfigurationError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(url: str) -> bool:
    """Tell whether an address is on this host."""
    return urlsplit(url).hostname in _LOOPBACK


def check_url(url: str, scheme: str = "ws") -> str:
    """Return `url` if it is `wss://host…`, or `ws://` to this host; `scheme` "http" asks the same of https and http.

    Raises:
        ConfigurationError: any other scheme, no host, or an unencrypted link to another host.
    """
    parts = urlsplit(url)
    if parts.scheme not in (scheme, f"{scheme}s") or not parts.hostname:
        raise ConfigurationError(
            f"url {url!r}: {scheme}s://host/path expected ({scheme}:// on this host only)"
        )
    if parts.scheme == scheme and not is_loopback(url):
        raise ConfigurationError(
            f"url {url!r}: {scheme}:// is not encrypted and allowed to 127.0.0.1 only; use {scheme}s://"
        )
    return url
