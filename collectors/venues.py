"""Every venue that can be collected or replayed, by the name that the topology and `tickring replay --venue` use."""

from collectors.binance_spot import BinanceSpot
from collectors.binance_usdm import BinanceUsdM
from collectors.bitstamp import Bitstamp
from collectors.bybit import Bybit
from collectors.coinbase_advanced import CoinbaseAdvanced
from collectors.coinbase_exchange import CoinbaseExchange
from collectors.decoder import Decoder
from collectors.deribit import Deribit
from collectors.kraken_futures import KrakenFutures
from collectors.kraken_v1 import KrakenV1
from collectors.kraken_v2 import KrakenV2
from collectors.okx import Okx

DECODERS: dict[str, type[Decoder]] = {
    "binance_spot": BinanceSpot,
    "binance_usdm": BinanceUsdM,
    "bitstamp": Bitstamp,
    "bybit": Bybit,
    "coinbase_advanced": CoinbaseAdvanced,
    "coinbase_exchange": CoinbaseExchange,
    "deribit": Deribit,
    "kraken_futures": KrakenFutures,
    "kraken_v1": KrakenV1,
    "kraken_v2": KrakenV2,
    "okx": Okx,
}
