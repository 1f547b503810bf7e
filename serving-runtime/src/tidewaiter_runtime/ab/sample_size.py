"""How many records of each version show a difference of a wanted size.

For shares (accuracy, precision, recall) the normal approximation with both variances,

    n = (z(alpha/2) * sqrt(2 * p * (1 - p)) + z(beta) * sqrt(a * (1 - a) + b * (1 - b)))**2 / (b - a)**2

with p the mean of a and b (Fleiss, Statistical Methods for Rates and Proportions). From a pilot
with variance v of one record: ``n = (z(alpha/2) + z(beta))**2 * 2 * v / effect**2``.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from tidewaiter_runtime.ab.inference import sequential_radius

_NORMAL = NormalDist()
_MOST = 1 << 50


def of_shares(baseline: float, effect: float, alpha: float, power: float) -> int:
    """Records that count, of each version, for a share that goes from ``baseline`` to ``baseline + effect``."""
    changed = baseline + effect
    mean = (baseline + changed) / 2
    least = _NORMAL.inv_cdf(1 - alpha / 2) * math.sqrt(2 * mean * (1 - mean))
    more = _NORMAL.inv_cdf(power) * math.sqrt(baseline * (1 - baseline) + changed * (1 - changed))
    return math.ceil(((least + more) / effect) ** 2)


def of_variance(variance: float, effect: float, alpha: float, power: float) -> int:
    """Records of each version, where one record has this variance in both."""
    sum_of = _NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(power)
    return max(1, math.ceil(2 * variance * (sum_of / effect) ** 2))


def of_sequence(variance: float, effect: float, alpha: float, power: float) -> int:
    """Records of each version by which a sequential test planned for just that size has decided with this power.

    This is the look at the end alone; earlier looks only add to the power.
    """
    beta = _NORMAL.inv_cdf(power)
    low, high = 1, 2
    while not _decides(high, variance, effect, alpha, beta) and high < _MOST:
        high *= 2
    while low < high:
        middle = (low + high) // 2
        if _decides(middle, variance, effect, alpha, beta):
            high = middle
        else:
            low = middle + 1
    return low


def _decides(count: int, variance: float, effect: float, alpha: float, beta: float) -> bool:
    squared_error = 2 * variance / count
    return sequential_radius(squared_error, 2 * count, alpha, 2 * count) + beta * math.sqrt(squared_error) <= abs(
        effect
    )
