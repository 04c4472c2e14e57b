"""Binance USD-M futures: as spot, but diffs chain by `pu` and straddle the snapshot by another rule.

**Layout** As in `collectors.binance_spot`; depthUpdate has "pu" (last id of the diff before) and "T" beside "E",
bookTicker has an event name, trade has "X" (MARKET, or INSURANCE_FUND, ADL, NA with price or quantity 0). COIN-M is
the same protocol at another address.

**Choices** As documented: diffs with `u` < lastUpdateId are dropped, the first must hold lastUpdateId itself, then each
`pu` is the `u` before it. (With spot's rule three of four recorded pairs would never synchronise.) Trades that are no
market trades are left out: they have no taker.
"""

from typing import ClassVar

from collectors.allowance import Rate
from collectors.binance_spot import AggregateTrade, BinanceSpot, Trade
from collectors.diff_decoder import Diff
from shm.forms import Form, FormKind, FormRule


class BinanceUsdM(BinanceSpot):
    """Binance USD-M, channels `book`, `trade` and `ticker` (bookTicker)."""

    url: str = "wss://fstream.binance.com/stream"
    rest_url: str = "https://fapi.binance.com/fapi/v1"
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            b'{"stream":"%_@trade","data":{"e":"trade","E":%n,"T":%t,"s":"%S","t":%i,"p":%p,"q":%q,'
            b'"X":"MARKET","m":%m}}',
            FormKind.TRADE,
            FormRule.ALLOWED,
        ),
        Form(
            b'{"stream":"%_@depth@%nms","data":{"e":"depthUpdate","E":%t,"T":%n,"s":"%S","U":%f,"u":%l,'
            b'"pu":%v,"b":%b,"a":%a}}',
            FormKind.ROWS,
            FormRule.PREVIOUS,
        ),
    )
    rest_levels: ClassVar[int] = 1000
    rest_rate: ClassVar[Rate] = Rate(per_s=1.5, burst=10.0)
    """A snapshot weighs 20 of the 2,400 that a minute has."""

    def steps_urls(self) -> list[str]:
        """Return where the rules of all symbols are: futures cannot be asked for some."""
        return [f"{self.rest_url}/exchangeInfo"]

    def _is_stale(self, diff: Diff, seq: int) -> bool:
        return diff.last < seq

    def _straddles(self, diff: Diff, seq: int) -> bool:
        return diff.first <= seq <= diff.last or diff.previous == seq

    def _follows(self, diff: Diff, seq: int) -> bool:
        return diff.previous == seq

    def _trade(self, data: Trade | AggregateTrade, ts: int) -> int:
        if type(data) is Trade and data.X not in ("MARKET", ""):
            return self._decoded()
        return super()._trade(data, ts)
