"""The difference of two versions with an interval: for one look at the end, or for a look at any time.

**Fixed**: the normal interval, ``difference +- z * error``. It holds for one look at a size that was
chosen beforehand. Who looks again and again and stops at the first success is wrong far more often.

**Sequential**: an asymptotic confidence sequence, which holds at all looks together. With t
records of both versions, variance s2 of the difference times t, and r2 the mixture's variance:

    s * sqrt(2 * (t * r2 + 1) / (t * t * r2) * log(sqrt(t * r2 + 1) / alpha))

(Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory and asymptotic
confidence sequences, 2021, theorem 2.2; the normal mixture is Robbins', and the same as in the mSPRT
of Johari, Pekelis and Walsh, 2015.) r2 makes it narrowest at the size that is planned for:

    r2 = (-2 * log(alpha) + log(-2 * log(alpha)) + 1) / planned
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from tidewaiter_runtime.ab.metrics import Estimate

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Difference:
    """B minus A: the difference, and the interval that holds it with the confidence asked for."""

    value: float
    lower: float
    upper: float


def fixed(a: Estimate, b: Estimate, alpha: float) -> Difference:
    """For one look at a size that was chosen beforehand."""
    radius = _NORMAL.inv_cdf(1 - alpha / 2) * math.sqrt(a.squared_error + b.squared_error)
    return Difference(b.value - a.value, b.value - a.value - radius, b.value - a.value + radius)


def sequential(a: Estimate, b: Estimate, alpha: float, planned: int) -> Difference:
    """For a look at any time; ``planned`` is how many records of both versions together are expected."""
    radius = sequential_radius(a.squared_error + b.squared_error, a.count + b.count, alpha, planned)
    return Difference(b.value - a.value, b.value - a.value - radius, b.value - a.value + radius)


def sequential_radius(squared_error: float, count: int, alpha: float, planned: int) -> float:
    """Half of the interval's width; ``squared_error`` is the variance of the difference."""
    mixture = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / planned
    grown = count * mixture + 1
    return math.sqrt(squared_error * count * 2 * grown / (count * count * mixture) * math.log(math.sqrt(grown) / alpha))


def p_value(a: Estimate, b: Estimate) -> float:
    """Of the fixed test that both are the same, two-sided."""
    error = math.sqrt(a.squared_error + b.squared_error)
    if not error:
        return 1.0 if a.value == b.value else 0.0
    return 2 * _NORMAL.cdf(-abs(b.value - a.value) / error)
