"""PSI and the Kolmogorov-Smirnov test, and from how many samples on they mean something.

PSI is the sum over the bins of ``(r - c) * ln(r / c)`` for the shares r of the reference and c of
now. An empty bin has the share 0.0001 instead, or a millionth of the smallest share where that
is 0.0001 or less: both as Evidently does, so that the figures can be compared.

Without any drift, PSI is about ``(1/n + 1/m) * chi2(bins - 1)`` for n and m values (B. Yurdakul,
Statistical Properties of Population Stability Index, 2018). Few samples alone make a PSI that
looks like drift; ``psi_by_chance`` is what one of twenty such windows exceeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats  # type: ignore[import-untyped]  # ships no types

Numbers = npt.NDArray[np.float64]
CONFIDENCE = 0.95


def psi(reference: Sequence[int], current: Sequence[int]) -> float:
    """The population stability index of counts in the same bins; not-a-number without any count."""
    if not sum(reference) or not sum(current):
        return math.nan
    expected, found = _shares(reference), _shares(current)
    return float(np.sum((expected - found) * np.log(expected / found)))


def _shares(counts: Sequence[int]) -> Numbers:
    shares = np.asarray(counts, dtype=np.float64) / sum(counts)
    least = shares[shares > 0].min()
    shares[shares == 0] = least / 1e6 if least <= 0.0001 else 0.0001
    return shares


def psi_by_chance(bins: int, reference: int, current: int) -> float:
    """What PSI exceeds in 5 % of windows without any drift."""
    if bins < 2 or not current:
        return math.nan
    return float(stats.chi2.ppf(CONFIDENCE, bins - 1)) * (1 / reference + 1 / current)


def psi_samples_needed(bins: int, reference: int, threshold: float) -> float:
    """From how many samples on a PSI of ``threshold`` is no chance; infinite where the reference is too small."""
    if bins < 2:
        return math.inf
    left = threshold / float(stats.chi2.ppf(CONFIDENCE, bins - 1)) - 1 / reference
    return math.ceil(1 / left) if left > 0 else math.inf


def ks(reference: Sequence[float], current: Sequence[float]) -> tuple[float, float]:
    """The two-sample statistic and its p-value; not-a-number without values."""
    if not len(reference) or not len(current):
        return math.nan, math.nan
    found = stats.ks_2samp(reference, current, method="asymp")
    return float(found.statistic), float(found.pvalue)
