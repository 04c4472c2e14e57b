"""Value at risk of positions from the returns of their prices: historical, and parametric by the normal distribution.

**Why it is right** Definitions are those of layouts.exposure. Historical: an order statistic, no interpolation, so it
is a loss that did occur. Parametric: v' S v is the variance of the positions' joint gain; S is never inverted, so that
any number of returns above one will do.

**Cost** n returns of m instruments: O(n m) and O(n m^2).
"""

import math
from statistics import NormalDist

import numpy as np


def returns_of(prices: np.ndarray) -> np.ndarray:
    """Return simple returns (n - 1, instruments) of prices (n, instruments) above 0, in order of time."""
    returns: np.ndarray = prices[1:] / prices[:-1] - 1.0
    return returns


def historical(values: np.ndarray, returns: np.ndarray, confidence: float) -> float:
    """Return the least loss L such that at least `confidence` of the losses of all intervals are <= L.

    Args:
        values: of the positions, in one currency; below 0: short.
        returns: (intervals, positions).
        confidence: above 0, below 1.
    """
    losses = -(returns @ values)
    return float(np.quantile(losses, confidence, method="inverted_cdf"))


def parametric(values: np.ndarray, returns: np.ndarray, confidence: float) -> float:
    """Return z x sqrt(values' S values), S the sample covariance of `returns` (intervals >= 2, positions)."""
    centred = returns - returns.mean(axis=0)
    covariance = centred.T @ centred / (len(returns) - 1)
    variance = float(values @ covariance @ values)
    return NormalDist().inv_cdf(confidence) * math.sqrt(max(variance, 0.0))
