"""Coinbase's requests carry a signature that its public key confirms, and the key shows up nowhere."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import jwt
import psutil
import pytest
from aiohttp import WSMsgType, web
from collector_processes import Bench
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from collectors.coinbase_key import LIFETIME_S, SigningKey
from collectors.collector_spec import CollectorSpec
from shm import clock
from shm.errors import ConfigurationError

NAME = "organizations/11111111-2222/apiKeys/33333333-4444"
NOW_S = 1_790_000_000


@pytest.fixture
def bench(instance) -> Iterator[Bench]:
    made = Bench(instance)
    yield made
    made.close()


def _write(path: Path, key: object, mode: int = 0o600) -> Path:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    path.write_text(json.dumps({"name": NAME, "privateKey": pem}))
    path.chmod(mode)
    return path


def test_each_request_is_signed_on_its_own(tmp_path) -> None:
    """ES256, verified with the public key; name, times and a fresh nonce as the venue documents; the request is unchanged."""
    private = ec.generate_private_key(ec.SECP256R1())
    key = SigningKey(str(_write(tmp_path / "key.json", private)))
    request = {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "level2"}
    with clock.replaced(wall=lambda: NOW_S * 1_000_000_000):
        signed = [json.loads(key.sign(json.dumps(request).encode())) for _ in range(2)]
    tokens = [text.pop("jwt") for text in signed]
    assert signed == [request, request]
    nonces = set()
    for token in tokens:
        claims = jwt.decode(
            token,
            private.public_key(),
            algorithms=["ES256"],
            options={"verify_exp": False, "verify_nbf": False},
        )
        assert claims == {"iss": "cdp", "sub": NAME, "nbf": NOW_S, "exp": NOW_S + LIFETIME_S}
        header = jwt.get_unverified_header(token)
        assert (header["alg"], header["kid"]) == ("ES256", NAME)
        nonces.add(header["nonce"])
    assert len(nonces) == 2
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(tokens[0], other, algorithms=["ES256"], options={"verify_exp": False})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601, 0o660, 0o644])
def test_a_key_that_others_may_touch_is_refused(tmp_path, mode: int) -> None:
    """Any right of group or others; the error says what to do."""
    path = _write(tmp_path / "key.json", ec.generate_private_key(ec.SECP256R1()), mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        SigningKey(str(path))


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_of_ones_own_is_taken(tmp_path, mode: int) -> None:
    """Read-write or read-only for its owner alone; nothing of it in its repr."""
    path = _write(tmp_path / "key.json", ec.generate_private_key(ec.SECP256R1()), mode)
    assert repr(SigningKey(str(path))) == "SigningKey(..)"


def test_what_is_no_key_is_refused_without_quoting_it(tmp_path) -> None:
    """Broken JSON, a missing member, no PEM, another curve, another kind: one sentence, none of the content."""
    secret = "c4n4ry"
    texts = [
        secret,
        json.dumps({"name": secret}),
        json.dumps({"name": NAME, "privateKey": secret}),
    ]
    for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        texts.append(_write(tmp_path / "other.json", key).read_text())
    for text in texts:
        path = tmp_path / "key.json"
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(ConfigurationError, match="no Coinbase key") as told:
            SigningKey(str(path))
        assert secret not in str(told.value)
        assert "PRIVATE" not in str(told.value)
        assert told.value.__cause__ is None


def test_a_path_that_is_no_file_is_refused(tmp_path) -> None:
    """Nothing there, a directory, a link, a pipe, a huge file."""
    (tmp_path / "link").symlink_to(tmp_path / "key.json")
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "huge").write_bytes(b" " * 16_385)
    (tmp_path / "huge").chmod(0o600)
    for name in ("absent", ".", "link", "pipe", "huge"):
        with pytest.raises(ConfigurationError, match="key_file"):
            SigningKey(str(tmp_path / name))


def test_no_other_venue_takes_a_key() -> None:
    """A key that would not be used is a mistake, not an ornament."""
    with pytest.raises(ConfigurationError, match="key_file"):
        CollectorSpec(
            instance="i",
            worker="w",
            state_dir="s",
            venue="kraken_v2",
            subscriptions=(),
            first_instrument_id=1,
            key_file="key.json",
        )


def test_a_collector_with_a_key_tells_it_to_nobody(bench: Bench, tmp_path) -> None:
    """Over a real socket every request verifies; log, command line, environment, counters, rings and files hold no secret."""
    private = ec.generate_private_key(ec.SECP256R1())
    path = _write(tmp_path / "key.json", private)
    pem = json.loads(path.read_text())["privateKey"]
    with Listening() as (port, heard):
        wanted = [{"channel": "book", "symbols": ["BTC-USD"]}]
        process = bench.start_collector(
            0,
            venue="coinbase_advanced",
            url=f"ws://127.0.0.1:{port}/",
            subscriptions=wanted,
            key_file=str(path),
        )
        bench.until("kraken", lambda f: f.values["connected"] == 1 and len(heard) >= 2)
        seen = psutil.Process(process.pid)
        told = " ".join(seen.cmdline()) + json.dumps(seen.environ())
        process.terminate()
        _, log = process.communicate(timeout=10)
        del bench.processes["kraken"]
    assert process.returncode == 0
    tokens = [json.loads(text)["jwt"] for text in heard]
    for token in tokens:
        jwt.decode(token, private.public_key(), algorithms=["ES256"])
    secrets = [line for line in pem.splitlines() if "KEY" not in line] + tokens + [NAME]
    files = [f for f in Path("/dev/shm").glob(f"*.{bench.instance}.*") if f.is_file()]
    files += [f for f in bench.state_dir.rglob("*") if f.is_file() and f != path]
    assert files
    haystacks = [told.encode(), log.encode(), *(f.read_bytes() for f in files)]
    for secret in secrets:
        assert not any(secret.encode() in haystack for haystack in haystacks)
    assert any(str(path).encode() in haystack for haystack in haystacks), (
        "the search finds what is there"
    )


class Listening:
    """A WebSocket server in a thread that keeps what it is sent."""

    def __enter__(self) -> tuple[int, list[str]]:
        self.heard: list[str] = []
        self.stop, ready = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self.thread.start()
        assert ready.wait(10)
        return self.port, self.heard

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(10)

    async def _serve(self, ready: threading.Event) -> None:
        app = web.Application()
        app.router.add_get("/", self._stream)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        ready.set()
        while not self.stop.is_set():
            await asyncio.sleep(0.02)
        await runner.cleanup()

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                self.heard.append(message.data)
        return socket
