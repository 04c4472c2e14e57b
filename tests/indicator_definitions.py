"""Each indicator from its definition, in plain Python: every window summed exactly and afresh, no running sum anywhere.

Slow, and written apart from the kernels. A series is a list of floats without NaN; a result is
a list with NaN where there is no value yet.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

NAN = math.nan
Series = Sequence[float]


def windows(values: Series, length: int, of: Callable[[Series], float]) -> list[float]:
    """Apply `of` to the last `length` rows, where there are so many."""
    return [
        of(values[row + 1 - length : row + 1]) if row + 1 >= length else NAN
        for row in range(len(values))
    ]


def mean(values: Series) -> float:
    """Give the exactly added mean."""
    return math.fsum(values) / len(values)


def sma(real: Series, timeperiod: int) -> list[float]:
    """Mean of each window."""
    return windows(real, timeperiod, mean)


def seeded(values: Series, length: int, weight: float) -> list[float]:
    """Recursion average += weight * (new - average), from the mean of the first `length` rows."""
    out = [NAN] * len(values)
    if len(values) >= length:
        average = mean(values[:length])
        out[length - 1] = average
        for row in range(length, len(values)):
            average += weight * (values[row] - average)
            out[row] = average
    return out


def ema(real: Series, timeperiod: int) -> list[float]:
    """Exponential average with weight 2 / (timeperiod + 1)."""
    return seeded(real, timeperiod, 2.0 / (timeperiod + 1))


def wilder(values: Series, length: int) -> list[float]:
    """Exponential average with weight 1 / length."""
    return seeded(values, length, 1.0 / length)


def later(values: Sequence[float], rows: int) -> list[float]:
    """Put NaN before a series."""
    return [NAN] * rows + list(values)


def macd(real: Series, fast: int, slow: int, signal: int) -> tuple[list[float], ...]:
    """Difference of two averages whose seeds end on the same row; its average; what is between."""
    lead = slow - fast
    quick = later(ema(real[lead:], fast), lead)
    line = [a - b for a, b in zip(quick, ema(real, slow), strict=True)]
    average = later(ema(line[slow - 1 :], signal), slow - 1)
    line = [NAN if math.isnan(b) else a for a, b in zip(line, average, strict=True)]
    return line, average, [a - b for a, b in zip(line, average, strict=True)]


def rsi(real: Series, timeperiod: int) -> list[float]:
    """Share of the rises in all movement."""
    moves = [new - old for old, new in pairwise(real)]
    gains = wilder([max(move, 0.0) for move in moves], timeperiod)
    losses = wilder([max(-move, 0.0) for move in moves], timeperiod)
    return [NAN] + [share(gain, loss) for gain, loss in zip(gains, losses, strict=True)]


def share(gain: float, loss: float) -> float:
    """Percentage of gain in both; 0 where there is neither."""
    return 0.0 if gain + loss == 0.0 else 100.0 * gain / (gain + loss)


def true_ranges(high: Series, low: Series, close: Series) -> list[float]:
    """True range of each row but the first."""
    return [
        max(h, before) - min(l_, before)
        for h, l_, before in zip(high[1:], low[1:], close, strict=False)
    ]


def atr(high: Series, low: Series, close: Series, timeperiod: int) -> list[float]:
    """Wilder's average of the true ranges."""
    return [NAN, *wilder(true_ranges(high, low, close), timeperiod)]


def adx(high: Series, low: Series, close: Series, timeperiod: int) -> list[float]:
    """Wilder's average of how far the directional movements differ."""
    ups = [new - old for old, new in pairwise(high)]
    downs = [old - new for old, new in pairwise(low)]
    pluses = [up if up > down and up > 0 else 0.0 for up, down in zip(ups, downs, strict=True)]
    minuses = [down if down > up and down > 0 else 0.0 for up, down in zip(ups, downs, strict=True)]
    ranges = true_ranges(high, low, close)
    out = [NAN] * len(high)
    plus, minus, reach = (math.fsum(moves[: timeperiod - 1]) for moves in (pluses, minuses, ranges))
    seeds, average = [], NAN
    for row in range(timeperiod, len(high)):
        keep = 1.0 - 1.0 / timeperiod
        plus = plus * keep + pluses[row - 1]
        minus = minus * keep + minuses[row - 1]
        reach = reach * keep + ranges[row - 1]
        directed = reach > 0 and plus + minus > 1e-16 * reach
        index = 100.0 * abs(plus - minus) / (plus + minus) if directed else None
        if row < 2 * timeperiod:
            seeds.append(index or 0.0)
            average = mean(seeds)
        elif index is not None:
            average = (average * (timeperiod - 1) + index) / timeperiod
        if row >= 2 * timeperiod - 1:
            out[row] = average
    return out


def deviation(values: Series) -> float:
    """Population standard deviation, from exactly added squares."""
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / len(values))


def rolling_std(real: Series, timeperiod: int, nbdev: float = 1.0) -> list[float]:
    """Deviation of each window."""
    return [nbdev * value for value in windows(real, timeperiod, deviation)]


def weighted(values: Series) -> float:
    """Mean that weighs the oldest 1, the next 2, ..."""
    weights = range(1, len(values) + 1)
    return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def triangular(values: Series) -> float:
    """Mean that weighs 1, 2, ... up to the middle and down again."""
    n = len(values)
    weights = [min(i + 1, n - i) for i in range(n)]
    return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def cascade(values: Series, timeperiod: int, deep: int) -> list[list[float]]:
    """EMA, EMA of it, ..., each of the rows in which the one before is there."""
    found = [ema(values, timeperiod)]
    for i in range(1, deep):
        lead = i * (timeperiod - 1)
        found.append(later(ema(found[-1][lead:], timeperiod), lead)[: len(values)])
    return found


def summed(parts: list[list[float]], factors: Sequence[float]) -> list[float]:
    """Add series, each times its factor."""
    rows = zip(*parts, strict=True)
    return [math.fsum(f * v for f, v in zip(factors, row, strict=True)) for row in rows]


def kama(values: Series, timeperiod: int) -> list[float]:
    """Kaufman: weight by how straight the way was, between those of EMAs over 30 and over 2 rows."""
    out, average = [NAN] * len(values), NAN
    for row in range(timeperiod, len(values)):
        if row == timeperiod:
            average = values[row - 1]
        window = values[row - timeperiod : row + 1]
        way = math.fsum(abs(b - a) for a, b in pairwise(window))
        straight = 1.0 if way == 0.0 else abs(window[-1] - window[0]) / way
        weight = straight * (2 / 3 - 2 / 31) + 2 / 31
        average += weight**2 * (values[row] - average)
        out[row] = average
    return out


def t3(values: Series, timeperiod: int, v: float = 0.7) -> list[float]:
    """Tillson: DEMA generalised by a factor v, GD(e) = (1 + v) EMA(e) - v EMA(EMA(e)), three times over."""
    ones = [1.0]
    for _ in range(3):  # as a polynomial in the EMA
        ones = [
            (1 + v) * (ones[i - 1] if 0 < i <= len(ones) else 0.0)
            - v * (ones[i - 2] if 1 < i < len(ones) + 2 else 0.0)
            for i in range(len(ones) + 2)
        ]
    return summed(cascade(values, timeperiod, 6), ones[1:])


def average(values: Series, timeperiod: int, matype: int) -> list[float]:
    """Moving average of the kind that TA-Lib gives this number."""
    if timeperiod == 1:
        return list(values)
    made: dict[int, Callable[[], list[float]]] = {
        0: lambda: sma(values, timeperiod),
        1: lambda: ema(values, timeperiod),
        2: lambda: windows(values, timeperiod, weighted),
        3: lambda: summed(cascade(values, timeperiod, 2), (2, -1)),
        4: lambda: summed(cascade(values, timeperiod, 3), (3, -3, 1)),
        5: lambda: windows(values, timeperiod, triangular),
        6: lambda: kama(values, timeperiod),
        8: lambda: t3(values, timeperiod),
    }
    return made[matype]()


def bollinger(
    real: Series, timeperiod: int, nbdevup: float, nbdevdn: float, matype: int = 0
) -> tuple[list[float], ...]:
    """Mean of each window, and so many deviations above and below."""
    middle, width = average(real, timeperiod, matype), rolling_std(real, timeperiod)
    upper = [m + nbdevup * w for m, w in zip(middle, width, strict=True)]
    lower = [m - nbdevdn * w for m, w in zip(middle, width, strict=True)]
    return upper, middle, lower


def percent_b(real: Series, *parameters: Any) -> list[float]:
    """Place between the bands."""
    upper, _, lower = bollinger(real, *parameters)
    return [
        (r - lo) / (hi - lo) if hi != lo else NAN
        for r, hi, lo in zip(real, upper, lower, strict=True)
    ]


def bandwidth(real: Series, *parameters: Any) -> list[float]:
    """Distance of the bands as a part of the middle."""
    bands = zip(*bollinger(real, *parameters), strict=True)
    return [(upper - lower) / middle for upper, middle, lower in bands]


def donchian(high: Series, low: Series, timeperiod: int) -> tuple[list[float], ...]:
    """Highest high, lowest low, and half way."""
    upper, lower = windows(high, timeperiod, max), windows(low, timeperiod, min)
    return upper, [(a + b) / 2 for a, b in zip(upper, lower, strict=True)], lower


def place(high: Series, low: Series, close: Series, timeperiod: int) -> list[float]:
    """Percentage of the way from the lowest low to the highest high; 0 where they are the same."""
    upper, _, lower = donchian(high, low, timeperiod)
    return [
        100.0 * (c - lo) / (hi - lo) if hi != lo else 0.0
        for c, hi, lo in zip(close, upper, lower, strict=True)
    ]


def williams_r(high: Series, low: Series, close: Series, timeperiod: int) -> list[float]:
    """The place, counted from the highest high."""
    upper, _, lower = donchian(high, low, timeperiod)
    return [
        -100.0 * (hi - c) / (hi - lo) if hi != lo else 0.0
        for c, hi, lo in zip(close, upper, lower, strict=True)
    ]


def stochastic(
    high: Series,
    low: Series,
    close: Series,
    fast: int,
    slow_k: int,
    k_kind: int,
    slow_d: int,
    d_kind: int,
) -> tuple[list[float], ...]:
    """The place, averaged once and twice; both from the row on in which both are there."""
    raw = place(high, low, close, fast)[fast - 1 :]
    k = average(raw, slow_k, k_kind)
    lead = sum(math.isnan(value) for value in k)
    k = k[lead:]
    d = average(k, slow_d, d_kind)
    lead += fast - 1
    k = [NAN if math.isnan(b) else a for a, b in zip(k, d, strict=True)]
    return later(k, lead)[: len(high)], later(d, lead)[: len(high)]


def typical(high: Series, low: Series, close: Series) -> list[float]:
    """Mean of high, low and close."""
    return [(h + lo + c) / 3 for h, lo, c in zip(high, low, close, strict=True)]


def vwap(high: Series, low: Series, close: Series, volume: Series, timeperiod: int) -> list[float]:
    """Exactly added money by exactly added volume."""
    prices = typical(high, low, close)
    out = []
    for row in range(len(prices)):
        first = row + 1 - timeperiod if timeperiod else 0
        rows = range(max(first, 0), row + 1)
        traded = math.fsum(volume[r] for r in rows)
        money = math.fsum(prices[r] * volume[r] for r in rows)
        out.append(money / traded if first >= 0 and traded > 0 else NAN)
    return out


def obv(real: Series, volume: Series) -> list[float]:
    """Volume added after rises and subtracted after falls."""
    signs = [1] + [(new > old) - (new < old) for old, new in pairwise(real)]
    steps = [sign * v for sign, v in zip(signs, volume, strict=True)]
    return [math.fsum(steps[: row + 1]) for row in range(len(steps))]


def mfi(high: Series, low: Series, close: Series, volume: Series, timeperiod: int) -> list[float]:
    """Share of the money that flowed while the typical price rose."""
    prices = typical(high, low, close)

    def flow(old: float, new: float, traded: float) -> float:
        # What differs by the rounding of the typical price has not moved.
        moved = abs(new - old) > 1e-14 * (abs(new) + abs(old))
        return math.copysign(new * traded, new - old) if moved else 0.0

    flows = [flow(old, new, v) for (old, new), v in zip(pairwise(prices), volume[1:], strict=True)]

    def of(window: Series) -> float:
        return share(
            math.fsum(max(flow, 0.0) for flow in window),
            math.fsum(max(-flow, 0.0) for flow in window),
        )

    return [NAN, *windows(flows, timeperiod, of)]


def momentum(real: Series, timeperiod: int) -> list[float]:
    """Difference to the row so many before."""
    return later([b - a for a, b in zip(real, real[timeperiod:], strict=False)], timeperiod)


def log_returns(close: Series, timeperiod: int) -> list[float]:
    """Logarithm of the ratio to the row so many before."""
    return later(
        [math.log(b / a) for a, b in zip(close, close[timeperiod:], strict=False)], timeperiod
    )


def keltner(
    high: Series, low: Series, close: Series, timeperiod: int, multiplier: float
) -> tuple[list[float], ...]:
    """Exponential average of the close, and so many true ranges above and below."""
    reach = atr(high, low, close, timeperiod)
    middle = [
        NAN if math.isnan(r) else m for m, r in zip(ema(close, timeperiod), reach, strict=True)
    ]
    upper = [m + multiplier * r for m, r in zip(middle, reach, strict=True)]
    lower = [m - multiplier * r for m, r in zip(middle, reach, strict=True)]
    return upper, middle, lower


def cci(high: Series, low: Series, close: Series, timeperiod: int) -> list[float]:
    """Distance from the mean in units of the mean distance from it."""

    def of(window: Series) -> float:
        centre = mean(window)
        away = mean([abs(value - centre) for value in window])
        if abs(window[-1] - centre) <= 1e-14 * abs(centre) or away <= 1e-14 * abs(centre):
            return 0.0
        return (window[-1] - centre) / (0.015 * away)

    return windows(typical(high, low, close), timeperiod, of)
