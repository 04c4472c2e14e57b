"""Every venue tells over REST which steps its numbers have; each decoder knows where to ask and takes what it is told."""

from urllib.parse import parse_qs, urlsplit

import pytest
from decoding import Pipeline

from collectors.addresses import check_url
from collectors.collector_spec import CollectorSpec
from collectors.decoder import Subscription
from collectors.venues import DECODERS
from shm.errors import ConfigurationError

ANSWERS = {
    "binance_spot": (
        "BTCUSDT",
        (
            b'{"symbols":[{"symbol":"BTCUSDT","status":"TRADING","filters":['
            b'{"filterType":"PRICE_FILTER","minPrice":"0.01","tickSize":"0.01"},'
            b'{"filterType":"LOT_SIZE","stepSize":"0.00001"},{"filterType":"NOTIONAL"}]}]}'
        ),
        ("0.01", "0.00001"),
    ),
    "binance_usdm": (
        "BTCUSDT",
        (
            b'{"symbols":[{"symbol":"BTCUSDT","filters":[{"filterType":"PRICE_FILTER","tickSize":"0.10"},'
            b'{"filterType":"LOT_SIZE","stepSize":"0.001"}]}]}'
        ),
        ("0.10", "0.001"),
    ),
    "bitstamp": (
        "btcusd",
        b'[{"name":"BTC/USD","url_symbol":"btcusd","base_decimals":8,"counter_decimals":0}]',
        ("1e-0", "1e-8"),
    ),
    "bybit": (
        "BTCUSDT",
        (
            b'{"retCode":0,"result":{"category":"spot","list":[{"symbol":"BTCUSDT",'
            b'"lotSizeFilter":{"basePrecision":"0.000001"},"priceFilter":{"tickSize":"0.01"}}]}}'
        ),
        ("0.01", "0.000001"),
    ),
    "coinbase_advanced": (
        "BTC-USD",
        (
            b'{"products":[{"product_id":"BTC-USD","price":"1","base_increment":"0.00000001",'
            b'"price_increment":"0.01"}],"num_products":1}'
        ),
        ("0.01", "0.00000001"),
    ),
    "coinbase_exchange": (
        "BTC-USD",
        b'[{"id":"BTC-USD","base_increment":"0.00000001","quote_increment":"0.01"}]',
        ("0.01", "0.00000001"),
    ),
    "deribit": (
        "BTC-PERPETUAL",
        (
            b'{"jsonrpc":"2.0","result":{"instrument_name":"BTC-PERPETUAL","tick_size":0.5,'
            b'"min_trade_amount":10.0,"contract_size":10.0}}'
        ),
        ("0.5", "10.0"),
    ),
    "kraken_futures": (
        "PI_XBTUSD",
        (
            b'{"result":"success","instruments":[{"symbol":"PI_XBTUSD","tickSize":0.5,'
            b'"contractValueTradePrecision":0},{"symbol":"in_xbtusd"}]}'
        ),
        ("0.5", "1e0"),
    ),
    "kraken_v1": (
        "XBT/USD",
        (
            b'{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","pair_decimals":1,"lot_decimals":8,'
            b'"tick_size":"0.1"}}}'
        ),
        ("0.1", "1e-8"),
    ),
    "kraken_v2": (
        "BTC/USD",
        (
            b'{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","pair_decimals":1,"lot_decimals":8,'
            b'"tick_size":"0.1"}}}'
        ),
        ("0.1", "1e-8"),
    ),
    "okx": (
        "BTC-USDT",
        b'{"code":"0","data":[{"instId":"BTC-USDT","instType":"SPOT","lotSz":"0.00000001","tickSz":"0.1"}]}',
        ("0.1", "0.00000001"),
    ),
}


def _pipeline(venue: str, *symbols: str) -> Pipeline:
    return Pipeline(venue, [Subscription("book", symbols)], accept_any=False)


@pytest.mark.parametrize("venue", sorted(DECODERS))
def test_ticks_and_lots_are_asked_for_and_taken(venue: str) -> None:
    """The answer that the venue documents for the address that the decoder names tells tick and lot of the symbol."""
    symbol, body, steps = ANSWERS[venue]
    pipeline = _pipeline(venue, symbol)
    (url,) = pipeline.decoder.steps_urls()
    assert check_url(url, "http").startswith("https://")
    assert pipeline.decoder.rest_response(url, body, 1)
    instrument = pipeline.decoder.instruments[symbol].instrument
    assert (instrument.tick, instrument.lot) == steps
    assert not pipeline.decoder.rest_response(url, b"<html>maintenance</html>", 1)
    assert not pipeline.decoder.rest_response(url, body[:-3], 1)
    assert pipeline.decoder.notices
    pipeline.close()


@pytest.mark.parametrize("venue", sorted(DECODERS))
def test_the_public_address_is_the_default(venue: str) -> None:
    """A collector that names no address connects to the venue's own over TLS, for REST as well."""
    spec = _spec(venue)
    assert spec.url == DECODERS[venue].url
    assert spec.url.startswith("wss://")
    assert spec.rest_url.startswith("https://")


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [
        ("BTC-USDT", "SPOT"),
        ("BTC-USDT-SWAP", "SWAP"),
        ("BTC-USD-261225", "FUTURES"),
        ("BTC-USD-261225-100000-C", "OPTION"),
    ],
)
def test_okx_is_asked_for_the_type_that_a_name_has(symbol: str, kind: str) -> None:
    """Spot, swap, future and option names ask in their own list."""
    pipeline = _pipeline("okx", symbol)
    asked = parse_qs(urlsplit(pipeline.decoder.steps_urls()[0]).query)
    assert (asked["instType"], asked["instId"]) == ([kind], [symbol])
    assert asked.get("uly") == (["BTC-USD"] if kind == "OPTION" else None)
    pipeline.close()


def test_bybit_is_asked_in_the_category_of_its_connection() -> None:
    """The rules of a linear contract are not those of the spot pair of the same name."""
    pipeline = _pipeline("bybit", "BTCUSDT")
    pipeline.decoder.url = "wss://stream.bybit.com/v5/public/linear"
    assert "category=linear&symbol=BTCUSDT" in pipeline.decoder.steps_urls()[0]
    pipeline.close()


def test_many_symbols_are_saved_once(tmp_path, monkeypatch) -> None:
    """A list of a hundred instruments is one write to disk, not a hundred."""
    symbols = [f"A{n}/USD" for n in range(100)]
    pairs = ",".join(
        f'"{n}":{{"wsname":"{symbol}","pair_decimals":1,"lot_decimals":8}}'
        for n, symbol in enumerate(symbols)
    )
    pipeline = Pipeline(
        "kraken_v2", [Subscription("book", tuple(symbols))], accept_any=False, state_dir=tmp_path
    )
    saved = []
    real = pipeline.table._save
    monkeypatch.setattr(pipeline.table, "_save", lambda: (saved.append(1), real()))
    (url,) = pipeline.decoder.steps_urls()
    assert pipeline.decoder.rest_response(url, b'{"result":{%b}}' % pairs.encode(), 1)
    assert len(saved) == 1
    assert {line.instrument.lot for line in pipeline.decoder.instruments.values()} == {"1e-8"}
    pipeline.close()


def test_a_venue_on_this_host_has_no_rest_side_of_its_own() -> None:
    """A local server is not asked where the public one would be; books that need a snapshot say what is missing."""
    assert _spec("kraken_v2", url="ws://127.0.0.1:1/").rest_url == ""
    assert _spec("bitstamp", url="ws://127.0.0.1:1/", rest_url="http://127.0.0.1:1").rest_url
    with pytest.raises(ConfigurationError, match="give rest_url"):
        _spec("binance_spot", url="ws://127.0.0.1:1/")
    with pytest.raises(ConfigurationError, match="not encrypted"):
        _spec("binance_spot", rest_url="http://api.binance.com")


def _spec(venue: str, **given: str) -> CollectorSpec:
    return CollectorSpec(
        instance="i",
        worker="w",
        state_dir="s",
        venue=venue,
        subscriptions=(),
        first_instrument_id=1,
        **given,
    )
