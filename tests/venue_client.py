"""What tests of the venue share: a client that trusts nothing, a clock of our own, short recordings."""

import asyncio
import contextlib
import gzip
import heapq
import json
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from collectors.venue_dialect import Stream
from collectors.venue_library import capture_tapes
from collectors.venue_market import Market
from collectors.venue_server import COUNTERS, VenueServer, VenueServerSpec, build_markets

V1_BOOK = "kraken_v1_book_10pairs.jsonl.gz"
V1_TRADE = "kraken_v1_trade_10pairs.jsonl.gz"
V2_BTC = "kraken_v2_btcusd_resubscribes.jsonl.gz"
V2_ETH = "kraken_v2_ethusd.jsonl.gz"
PAIRS = "kraken_asset_pairs.jsonl.gz"
WAIT_S = 20.0


class CheckedBooks:
    """Books kept from frames alone, by strings, with the venue's checksum done over them."""

    def __init__(self, depths: dict[str, int]) -> None:
        self.depths = depths
        self.books: dict[str, dict[str, dict[str, str]]] = {}
        self.right = 0
        self.wrong = 0

    def take(self, data: bytes) -> None:
        """Apply one frame of either protocol; others change nothing."""
        text = data.decode()
        message = json.loads(text, parse_float=str, parse_int=str)
        if isinstance(message, dict) and message.get("channel") == "book":
            (book,) = message["data"]
            rows = {
                side: [(level["price"], level["qty"]) for level in book[side]]
                for side in ("bids", "asks")
            }
            snapshot = message["type"] == "snapshot"
            self._apply(book["symbol"], rows, book["checksum"], is_snapshot=snapshot)
        elif isinstance(message, list) and message[-2].startswith("book-"):
            parts = {key: value for part in message[1:-2] for key, value in part.items()}
            rows = {
                "bids": [row[:2] for row in parts.get("b", []) + parts.get("bs", [])],
                "asks": [row[:2] for row in parts.get("a", []) + parts.get("as", [])],
            }
            self._apply(message[-1], rows, parts.get("c", ""), is_snapshot="as" in parts)

    def _apply(
        self, symbol: str, rows: dict[str, list], checksum: str, *, is_snapshot: bool
    ) -> None:
        if is_snapshot:
            self.books[symbol] = {"bids": {}, "asks": {}}
        book = self.books[symbol]
        for side, levels in rows.items():
            for price, qty in levels:
                book[side][price] = qty
                if float(qty) == 0:
                    del book[side][price]
            while len(book[side]) > self.depths[symbol]:
                del book[side][(min if side == "bids" else max)(book[side], key=float)]
        if checksum:
            is_right = int(checksum) == self.checksum(symbol)
            self.right += is_right
            self.wrong += not is_right

    def checksum(self, symbol: str) -> int:
        """Asks low to high, then bids high to low, ten of each."""
        book = self.books[symbol]
        text = ""
        for side in ("asks", "bids"):
            best_ten = heapq.nlargest if side == "bids" else heapq.nsmallest
            for price in best_ten(10, book[side], key=float):
                for number in (price, book[side][price]):
                    text += str(int(number.replace(".", "")))
        return zlib.crc32(text.encode())


class Client(WSListener):
    """Collects the text frames of one connection."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[bytes] = []
        self.close_code: int | None = None
        self.more = asyncio.Event()
        self.transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.texts.append(frame.get_payload_as_bytes())
            self.more.set()
        elif frame.msg_type == WSMsgType.CLOSE:
            self.close_code = frame.get_close_code()
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def send(self, message: dict | bytes) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.transport.send(WSMsgType.TEXT, data)

    async def until(self, is_enough: Callable[[list[bytes]], bool]) -> list[bytes]:
        """Wait for more text until it is enough; fail after WAIT_S."""
        deadline = asyncio.get_running_loop().time() + WAIT_S
        while not is_enough(self.texts):
            self.more.clear()
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait_for(self.more.wait(), left)
        return self.texts

    async def replies(self, count: int) -> list[dict]:
        """Wait for so many frames, and give the last of them read."""
        texts = await self.until(lambda texts: len(texts) >= count)
        return [json.loads(text) for text in texts[:count]]


@contextlib.asynccontextmanager
async def connected(server: VenueServer, path: str) -> AsyncIterator[Client]:
    url = f"ws://127.0.0.1:{server.port}/{path}"
    transport, client = await ws_connect(Client, url, max_frame_size=1 << 27)
    try:
        yield client
    finally:
        transport.disconnect(graceful=False)
        await transport.wait_disconnected()


class PlainCounters:
    """Counters of a server that runs inside the test."""

    def __init__(self) -> None:
        self.values = dict.fromkeys(COUNTERS, 0)
        self.state = ""

    def add(self, name: str, amount: int = 1) -> None:
        self.values[name] += amount

    def set(self, name: str, value: int) -> None:
        assert name in self.values
        self.values[name] = value

    def get(self, name: str) -> int:
        return self.values[name]

    def heartbeat(self) -> None:
        pass

    def set_state(self, state: str) -> None:
        self.state = state


@contextlib.asynccontextmanager
async def serving(**fields: object) -> AsyncIterator[tuple[VenueServer, dict[str, int]]]:
    fields.setdefault("speed", "max")
    spec = VenueServerSpec(instance="t", worker="venue", state_dir="", **fields)
    counters = PlainCounters()
    server = VenueServer(build_markets(spec), spec.port, counters)
    running = asyncio.create_task(server.run())
    while counters.state != "READY":
        await asyncio.sleep(0)
        assert not running.done(), running.exception()
    try:
        yield server, counters.values
    finally:
        server.stop()
        await running


async def eventually(is_true: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while not is_true():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


def sub_v2(channel: str, symbols: list[str], method: str = "subscribe", **more: object) -> dict:
    return {"method": method, "params": {"channel": channel, "symbol": symbols, **more}}


def sub_v1(name: str, pairs: list[str], event: str = "subscribe", **more: object) -> dict:
    return {"event": event, "pair": pairs, "subscription": {"name": name, **more}}


def data_frames(*files: Path) -> list[bytes]:
    """What a recording holds of the market, read without the code under test."""
    moments = []
    for file in files:
        for line in gzip.decompress(file.read_bytes()).splitlines():
            moment = json.loads(line)
            data = moment["data"]
            if moment["kind"] == "recv" and is_data(data.encode()):
                moments.append((moment["ts"], data.encode()))
    return [data for _, data in sorted(moments, key=lambda moment: moment[0])]


def is_data(text: bytes) -> bool:
    """A frame of the market, not of the session."""
    return text.startswith((b"[", b'{"channel":"book"', b'{"channel":"trade"'))


def count_data(texts: list[bytes]) -> int:
    return sum(map(is_data, texts))


def pairs_of(captures: Path) -> list[str]:
    return sorted({json.loads(frame)[-1] for frame in data_frames(captures / V1_BOOK)})


def slow_tape(captures: Path) -> tuple[str, ...]:
    return (str(captures / V2_BTC), str(captures / V2_ETH))


class FakeTiming:
    """Time that passes only when everybody waits."""

    def __init__(self) -> None:
        self.now = 0
        self.sleeps = 0

    def now_ns(self) -> int:
        return self.now

    async def sleep(self, duration_s: float) -> None:
        self.sleeps += 1
        wake = self.now + round(duration_s * 1e9)
        await asyncio.sleep(0)
        self.now = max(self.now, wake)


class FakeListener:
    """A connection that notes what it is sent, and when."""

    def __init__(self, timing: FakeTiming) -> None:
        self.streams: set[Stream] = set()
        self.is_stuck = False
        self.sent: list[tuple[int, bytes]] = []
        self.is_cut = False
        self.waits: list[float] = []
        self._timing = timing

    def send(self, data: bytes) -> None:
        self.sent.append((self._timing.now, data))

    async def until(self, count: int) -> None:
        """Give the others turns until so many frames are here."""
        for _ in range(100_000):
            if len(self.sent) >= count:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"{len(self.sent)} of {count} frames came")

    async def unstuck(self, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        await asyncio.sleep(0)
        return False

    def cut(self, *, is_abrupt: bool) -> None:
        assert is_abrupt
        self.is_cut = True


def recording(folder: Path, *moments: tuple[int, str], name: str = "tape.jsonl") -> Path:
    path = folder / name
    lines = [
        json.dumps({"ts": ts, "kind": "recv", "url": "", "data": data}) for ts, data in moments
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def trade_v1(number: int, pair: str = "XBT/USD") -> str:
    return json.dumps([7, [["1.0", "2.0", f"{number}.0", "b", "l", ""]], "trade", pair])


MS = 1_000_000


def market_of(path: Path, timing: FakeTiming, **more: object) -> Market:
    ((dialect, tape),) = capture_tapes([path])
    return Market(dialect, tape, timing, **more)
