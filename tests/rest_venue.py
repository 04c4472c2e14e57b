"""A venue of its own process-wide thread: diffs over a WebSocket, snapshots and rules over REST, with misbehaviour by script.

It speaks Binance (spot and USD-M) and Bitstamp, for as many symbols as are asked for; its books are kept in Decimal, apart from
everything that is tested.
"""

import asyncio
import json
import random
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import WSMsgType, web

PACE_S = 0.01
HUGE_BYTES = 3_000_000


class Market:
    """One symbol's book: prices around 1000.00, quantities of three decimals; every step is one diff."""

    def __init__(self, symbol: str, venue: str, seed: int) -> None:
        self.symbol, self.venue = symbol, venue
        self.random = random.Random(seed)
        self.bids = {100_000 - i: self.random.randint(1, 9_999) for i in range(1, 60)}
        self.asks = {100_000 + i: self.random.randint(1, 9_999) for i in range(1, 60)}
        self.last = 1_000_000
        self.trade_id = 0

    def step(self) -> list[dict]:
        """Change a few levels that stay apart; return the messages that tell it."""
        first, before = self.last + 1, self.last
        changed: tuple[list, list] = ([], [])
        for _ in range(self.random.randint(1, 4)):
            side = self.random.randint(0, 1)
            book, sign = ((self.bids, -1), (self.asks, 1))[side]
            price = 100_000 + sign * self.random.randint(1, 80)
            qty = self.random.choice([0, self.random.randint(1, 9_999)]) if len(book) > 9 else 5
            book[price] = qty
            if qty == 0:
                del book[price]
            changed[side].append(row(price, qty))
            self.last += 1
        now = 1_700_000_000_000 + self.last
        if self.venue == "bitstamp":
            levels = {"microtimestamp": str(now * 1000), "bids": changed[0], "asks": changed[1]}
            return [self._bitstamp("data", "diff_order_book", levels)]
        diff = {"e": "depthUpdate", "E": now, "s": self.symbol, "U": first, "u": self.last}
        diff |= {"pu": before, "b": changed[0], "a": changed[1]}
        bid, ask = max(self.bids), min(self.asks)
        top = {"e": "bookTicker", "u": self.last, "s": self.symbol}
        if self.venue == "binance_spot":
            del top["e"], diff["pu"]
        top |= dict(zip("bBaA", row(bid, self.bids[bid]) + row(ask, self.asks[ask]), strict=True))
        name = self.symbol.lower()
        return [
            {"stream": f"{name}@bookTicker", "data": top},
            {"stream": f"{name}@depth@100ms", "data": diff},
        ]

    def snapshot(self) -> dict:
        """Return the REST book."""
        bids, asks = ([row(*level) for level in book.items()] for book in (self.bids, self.asks))
        if self.venue == "bitstamp":
            now = 1_700_000_000_000 + self.last
            return {"microtimestamp": str(now * 1000), "bids": bids, "asks": asks}
        return {"lastUpdateId": self.last, "bids": bids, "asks": asks}

    def _bitstamp(self, event: str, channel: str, data: dict) -> dict:
        return {"event": event, "channel": f"{channel}_{self.symbol}", "data": data}


class RestVenue:
    """The server; `script[symbol]` holds what its next snapshot requests get: "429", "503", "404", "cut", "huge", "hang"."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self.markets: dict[str, Market] = {}
        self.script: dict[str, deque[str]] = {}
        self.asked: Counter[str] = Counter()
        """Requests by symbol, "rules" for those of ticks and lots."""
        self.port = 0
        self.close_codes: list[int | None] = []
        """Of the links that collectors have closed."""
        self._sockets: dict[web.WebSocketResponse, set[str]] = {}
        self._stop = threading.Event()
        self._cut = threading.Event()
        self._texts: deque[str] = deque()

    @property
    def rest_url(self) -> str:
        base = f"http://127.0.0.1:{self.port}"
        return base + {"binance_spot": "/api/v3", "binance_usdm": "/fapi/v1"}.get(
            self.venue, "/api/v2"
        )

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/stream"

    async def serve(self, ready: threading.Event) -> None:
        app = web.Application()
        app.router.add_get("/stream", self._stream)
        for prefix in ("/api/v3", "/fapi/v1"):
            app.router.add_get(prefix + "/depth", self._depth)
            app.router.add_get(prefix + "/exchangeInfo", self._rules)
        app.router.add_get("/api/v2/order_book/{symbol}/", self._depth)
        app.router.add_get("/api/v2/trading-pairs-info/", self._rules)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        ready.set()
        while not self._stop.is_set():
            await self._play()
            await asyncio.sleep(PACE_S)
        await runner.cleanup()

    def stop(self) -> None:
        self._stop.set()

    def cut_links(self) -> None:
        """Close every WebSocket; callable from any thread."""
        self._cut.set()

    def say(self, text: str) -> None:
        """Send a text over every WebSocket; callable from any thread."""
        self._texts.append(text)

    async def _play(self) -> None:
        while self._texts:
            text = self._texts.popleft()
            for socket in list(self._sockets):
                await socket.send_str(text)
        if self._cut.is_set():
            self._cut.clear()
            for socket in list(self._sockets):
                await socket.close()
        for market in self.markets.values():
            texts = [json.dumps(message) for message in market.step()]
            for socket, symbols in list(self._sockets.items()):
                if market.symbol in symbols and not socket.closed:
                    for text in texts:
                        await socket.send_str(text)

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[socket] = set()
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                self._subscribe(json.loads(message.data), self._sockets[socket])
        del self._sockets[socket]
        self.close_codes.append(socket.close_code)
        return socket

    def _subscribe(self, asked: dict, symbols: set[str]) -> None:
        names = asked.get("params", []) if "method" in asked else [asked["data"]["channel"]]
        for name in names:
            symbol = name.partition("@")[0].upper() if "@" in name else name.rpartition("_")[2]
            self.markets.setdefault(symbol, Market(symbol, self.venue, len(self.markets)))
            symbols.add(symbol)

    async def _depth(self, request: web.Request) -> web.StreamResponse:
        symbol = request.query.get("symbol") or request.match_info["symbol"]
        self.asked[symbol] += 1
        script = self.script.get(symbol)
        behaviour = script.popleft() if script else "ok"
        if behaviour == "429":
            return web.Response(status=429, headers={"Retry-After": "1"})
        if behaviour == "503":
            return web.Response(status=503)
        if behaviour == "404":
            return web.Response(status=404)
        if behaviour == "garbage":
            return web.Response(text="<html>maintenance</html>")
        if behaviour == "huge":
            return web.Response(text="[" + " " * HUGE_BYTES + "]")
        if behaviour == "hang":
            await asyncio.sleep(3600)
        if behaviour == "cut":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"lastUpdateId":')
            assert request.transport
            request.transport.abort()
            return response
        return web.json_response(self.markets[symbol].snapshot())

    async def _rules(self, request: web.Request) -> web.Response:
        self.asked["rules"] += 1
        if self.venue == "bitstamp":
            pairs = [
                {"url_symbol": symbol, "base_decimals": 3, "counter_decimals": 2}
                for symbol in self.markets
            ]
            return web.json_response(pairs)
        filters = [
            {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
            {"filterType": "LOT_SIZE", "stepSize": "0.00100000"},
        ]
        symbols = [{"symbol": symbol, "filters": filters} for symbol in self.markets]
        return web.json_response({"symbols": symbols})


def row(price: int, qty: int) -> list[str]:
    """Return a level as the venues write it."""
    return [f"{price // 100}.{price % 100:02}", f"{qty // 1000}.{qty % 1000:03}"]


@contextmanager
def running(venue: str) -> Iterator[RestVenue]:
    """Run a venue in a thread of its own."""
    made = RestVenue(venue)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(made.serve(ready)), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield made
    made.stop()
    thread.join(10)
    assert not thread.is_alive()
