"""Every column of FEATURES, computed slowly from its formula: whole numbers, fractions, 50-digit logarithms, no running sum.

It shares nothing with the kernels but the layouts: each row is worked out anew from all rows before it.
"""

import heapq
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np

from layouts import Kind, Mark

DAY_NS = 86_400_000_000_000


@cache
def log_ratio(a: int, b: int) -> Decimal:
    """Give ln(a / b) to 50 digits."""
    with localcontext() as context:
        context.prec = 50
        return (Decimal(a) / Decimal(b)).ln()


class Row(NamedTuple):
    """What a row's windows look back on."""

    ts: int
    is_trade: bool
    volume: int
    signed: int
    mid: int
    spread: int
    ofi: int


class Instrument:
    """One instrument, as the table of layouts.features tells it."""

    def __init__(self, price_scale: int, qty_scale: int) -> None:
        self.price_unit, self.qty_unit = 10**price_scale, 10**qty_scale
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.rows: list[Row] = []
        self.first_mid: int | None = None
        self.trades: list[int] = []
        self.price: int | None = None
        self.before: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        self.mid = self.spread = 0

    def best(self, n: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Give the n best levels of both sides."""
        return heapq.nlargest(n, self.bids.items()), heapq.nsmallest(n, self.asks.items())

    def level(self, is_bid: bool, price: int, qty: int) -> None:
        """Apply a LEVEL."""
        side = self.bids if is_bid else self.asks
        if qty:
            side[price] = qty
        else:
            side.pop(price, None)

    def row(self, ts: int, trade: tuple[int, int, int, bool] | None) -> dict[str, float]:
        """Make a row; `trade`: price, qty, side, late. Gives the columns that are ready."""
        volume = signed = 0
        if trade:
            price, volume, side, late = trade
            signed = side * volume
            self.trades.append(signed)
            if not late:
                self.price = price
        bids, asks = self.best(50)
        both = bool(bids) and bool(asks) and bids[0][0] + asks[0][0] > 0
        k = len(self.rows)
        ofi = levels_ofi = 0
        if both:
            self.mid, self.spread = bids[0][0] + asks[0][0], asks[0][0] - bids[0][0]
            if self.first_mid is None:
                self.first_mid = k
            else:
                ofi = self._ofi(0, bids, asks)
                levels_ofi = sum(self._ofi(i, bids, asks) for i in range(5))
            self.before = bids, asks
        self.rows.append(Row(ts, trade is not None, volume, signed, self.mid, self.spread, ofi))
        columns = self._by_rows(k)
        if self.first_mid is not None:
            columns |= self._by_mids(k, k - self.first_mid)
            if k > self.first_mid:
                columns["multi_level_ofi"] = float(Fraction(levels_ofi, self.qty_unit))
        if both:
            columns |= self._of_book(bids, asks)
        return columns

    def _ofi(self, i: int, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> int:
        def at(levels: list[tuple[int, int]], absent: float) -> tuple[float, int]:
            return levels[i] if i < len(levels) else (absent, 0)

        (b, qb), (a, qa) = at(bids, -math.inf), at(asks, math.inf)
        (b_, qb_), (a_, qa_) = at(self.before[0], -math.inf), at(self.before[1], math.inf)
        return (b >= b_) * qb - (b <= b_) * qb_ - (a <= a_) * qa + (a >= a_) * qa_

    def _by_rows(self, k: int) -> dict[str, float]:
        volumes = [row.volume for row in self.rows]
        columns = {"volume": volumes[k] / self.qty_unit}
        if k >= 19:
            total = sum(volumes[-20:])
            columns["volume_ma_ratio"] = float(Fraction(20 * volumes[k], total)) if total else 0.0
        if k >= 59:
            columns["volume_zscore"] = zscore(volumes[-60:])
        if k >= 60:
            trades = sum(row.is_trade for row in self.rows[-60:])
            span_ns = max(self.rows[k].ts - self.rows[k - 60].ts, 1_000_000)
            columns["trade_intensity"] = float(Fraction(trades * 10**9, span_ns))
        if len(self.trades) >= 60:
            last = self.trades[-60:]
            sided = sum(abs(each) for each in last)
            columns["volume_imbalance"] = float(Fraction(abs(sum(last)), sided)) if sided else 0.0
        if self.price is not None:
            columns["price"] = self.price / self.price_unit
        return columns

    def _by_mids(self, k: int, h: int) -> dict[str, float]:
        rows = self.rows
        columns: dict[str, float] = {}
        for n in (1, 5, 20, 60):
            if h >= n:
                columns[f"return_{n}"] = float(log_ratio(rows[k].mid, rows[k - n].mid))
        if h >= 20:
            columns["vol_20"] = self._volatility(k, 20)
            drift = log_ratio(rows[k].mid, rows[k - 5].mid) / 5
            columns["momentum_divergence"] = float(
                drift - log_ratio(rows[k].mid, rows[k - 20].mid) / 20
            )
            columns["ofi_mean"] = float(
                Fraction(sum(row.ofi for row in rows[-20:]), 20 * self.qty_unit)
            )
        if h >= 60:
            columns["vol_60"] = self._volatility(k, 60)
            still = columns["vol_60"] == 0
            columns["vol_ratio"] = 1.0 if still else columns["vol_20"] / columns["vol_60"]
            columns["kyle_lambda"] = self._kyle(k)
        if h >= 19:
            mids = sum(row.mid for row in rows[-20:])
            columns["price_deviation"] = float(Fraction(20 * rows[k].mid, mids) - 1)
            spreads = sum(row.spread for row in rows[-20:])
            columns["spread_ma_ratio"] = (
                float(Fraction(20 * rows[k].spread, spreads)) if spreads else 1.0
            )
        if h >= 59:
            columns["spread_zscore"] = zscore([row.spread for row in rows[-60:]])
        if h >= 14:
            columns["rsi"] = self._rsi(k, k - h)
        if h >= 1:
            columns["ofi"] = rows[k].ofi / self.qty_unit
            columns["ofi_cumulative"] = float(Fraction(self._ofi_of_day(k), self.qty_unit))
        return columns

    def _ofi_of_day(self, k: int) -> int:
        total, day = 0, self.rows[k].ts // DAY_NS
        for row in reversed(self.rows):
            if row.ts // DAY_NS != day:
                break
            total += row.ofi
        return total

    def _volatility(self, k: int, n: int) -> float:
        returns = [
            log_ratio(self.rows[j].mid, self.rows[j - 1].mid) for j in range(k - n + 1, k + 1)
        ]
        with localcontext() as context:
            context.prec = 50
            mean = sum(returns) / n
            return float((sum((r - mean) ** 2 for r in returns) / (n - 1)).sqrt())

    def _kyle(self, k: int) -> float:
        changes = [self.rows[j].mid - self.rows[j - 1].mid for j in range(k - 59, k + 1)]
        signed = [row.signed for row in self.rows[-60:]]
        # 60 times each distance from the mean, so that whole numbers stay whole.
        moved = [60 * each - sum(changes) for each in changes]
        flowed = [60 * each - sum(signed) for each in signed]
        variance = sum(each**2 for each in flowed)
        if not variance:
            return 0.0
        covariance = sum(c * w for c, w in zip(moved, flowed, strict=True))
        return float(Fraction(covariance * self.qty_unit, variance * 2 * self.price_unit))

    def _rsi(self, k: int, first: int) -> float:
        changes = [self.rows[j].mid - self.rows[j - 1].mid for j in range(first + 1, k + 1)]
        gains = Decimal(sum(max(each, 0) for each in changes[:14])) / 14
        losses = Decimal(sum(max(-each, 0) for each in changes[:14])) / 14
        for each in changes[14:]:
            gains = (gains * 13 + max(each, 0)) / 14
            losses = (losses * 13 + max(-each, 0)) / 14
        return float(100 * gains / (gains + losses)) if gains + losses else 50.0

    def _of_book(
        self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]
    ) -> dict[str, float]:
        (b, qb), (a, qa) = bids[0], asks[0]
        unit, mid = self.price_unit, Fraction(a + b, 2)
        micro = Fraction(a * qb + b * qa, qb + qa)
        columns: dict[str, float] = {
            "spread": float(Fraction(a - b, unit)),
            "imbalance": float(Fraction(qb - qa, qb + qa)),
            "log_pressure": float(log_ratio(qb, qa)),
            "microprice": float(micro / unit),
            "microprice_deviation": float(micro / mid - 1),
            "mid": float(mid / unit),
            "bid": float(Fraction(b, unit)),
            "ask": float(Fraction(a, unit)),
            "spread_bps": float(10_000 * (a - b) / mid),
            "queue_imbalance": float(Fraction(qb, qb + qa)),
        }
        for n in (5, 10, 20, 50):
            columns[f"depth_imbalance_{n}"] = share(bids[:n], asks[:n], lambda _i: 1)
        columns["book_pressure"] = share(bids[:10], asks[:10], lambda i: Fraction(1, i + 1))
        slopes = [self._slope(levels[:10], mid) for levels in (bids, asks)]
        columns["book_slope"] = float(sum(slopes) / 2)
        return columns

    def _slope(self, levels: list[tuple[int, int]], mid: Fraction) -> Fraction:
        distance_bp = 10_000 * abs(levels[-1][0] - mid) / mid
        qty = Fraction(sum(qty for _, qty in levels), self.qty_unit)
        return qty / distance_bp if distance_bp else Fraction(0)


def share(
    bids: list[tuple[int, int]],
    asks: list[tuple[int, int]],
    weight: Callable[[int], Fraction | int],
) -> float:
    """Give (bids - asks) / (bids + asks) of weighted quantities."""
    left, right = (sum(weight(i) * qty for i, (_, qty) in enumerate(side)) for side in (bids, asks))
    return float(Fraction(left - right) / Fraction(left + right))


def zscore(values: list[int]) -> float:
    """Give (last - mean) / std, 0 where all are equal."""
    n, total = len(values), sum(values)
    # n times each distance from the mean, so that whole numbers stay whole.
    distances = [n * each - total for each in values]
    squares = sum(each**2 for each in distances)
    if not squares:
        return 0.0
    with localcontext() as context:
        context.prec = 50
        return float(Decimal(distances[-1]) / (Decimal(squares) / (n - 1)).sqrt())


def reference_rows(
    records: np.ndarray, scales: Callable[[int], tuple[int, int]]
) -> list[tuple[int, dict[str, float]]]:
    """Give (instrument_id, the columns that are ready) for each row that these EVENT records cause."""
    instruments: dict[int, Instrument] = {}
    made = []
    for record in records:
        each, kind, marks = int(record["instrument_id"]), record["kind"], int(record["marks"])
        if not each:
            continue
        if each not in instruments:
            instruments[each] = Instrument(*scales(each))
        instrument = instruments[each]
        words = [int(record[f"word_{i}"]) for i in range(4)]
        side = {Mark.BUY: 1, Mark.SELL: -1}.get(Mark(marks & Mark.SIDE_MASK), 0)
        if kind == Kind.SNAPSHOT_BEGIN:
            instrument.bids.clear()
            instrument.asks.clear()
        elif kind == Kind.LEVEL:
            instrument.level(side == 1, words[0], words[1])
        elif kind == Kind.TRADE:
            trade = (words[0], words[1], side, bool(marks & Mark.LATE))
            made.append((each, instrument.row(int(record["ts_event"]), trade)))
        elif kind == Kind.QUOTE:
            made.append((each, instrument.row(int(record["ts_event"]), None)))
    return made
