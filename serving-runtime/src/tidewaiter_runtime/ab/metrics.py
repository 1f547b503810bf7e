"""What two versions are compared by. Each metric is a ratio of two means, so that one variance serves them all.

A record gives the pair (u, v), and the metric is sum(u) / sum(v): for precision u is 1 for a true
positive and v is 1 for every positive prediction; for F1 u is 2 for a true positive and v is
2 TP + FP + FN. Its variance is that of the influence values (u - metric * v) / mean(v), the delta
method. Latency is compared as the mean of its logarithm: a difference of 0.05 is 5 % slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidewaiter_runtime.ab.records import Record
from tidewaiter_runtime.refusals import BadInput

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """``pair`` of a record and the positive class; None where the record says nothing about the metric."""

    name: str
    pair: Callable[[Record, str], Pair | None]
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """The value of a metric, the variance of one record's influence on it, and the number of records."""

    value: float
    variance: float
    count: int

    @property
    def squared_error(self) -> float:
        """Of the value: its variance."""
        return self.variance / self.count


def estimate(pairs: Sequence[Pair], what: str, *, share: bool) -> Estimate:
    """The metric of these pairs; raises BadInput where it has no value.

    A ``share`` that was 1 (or 0) in every record has no variance to be seen, and is not certain for that: its
    variance is at least that of one more success and one more failure (Laplace's rule of succession).
    """
    count = len(pairs)
    total_v = math.fsum(v for _, v in pairs)
    if not count or not total_v:
        raise BadInput(f"{what} has no value: no record counts for it")
    value = math.fsum(u for u, _ in pairs) / total_v
    mean_v = total_v / count
    variance = math.fsum(((u - value * v) / mean_v) ** 2 for u, v in pairs) / count
    if share:
        likely = (total_v + 1) / (total_v + 2)
        variance = max(variance, likely * (1 - likely) / mean_v)
    return Estimate(value, variance, count)


def pairs_of(records: Sequence[Record], metric: Metric, positive: str) -> list[Pair]:
    """The pairs of those records that say something about the metric."""
    return [pair for record in records if (pair := metric.pair(record, positive)) is not None]


def _accuracy(record: Record, _positive: str) -> Pair | None:
    if record.label is None or record.prediction is None:
        return None
    return float(record.label == record.prediction), 1.0


def _counts(record: Record, positive: str) -> tuple[float, float, float] | None:
    """True positive, false positive, false negative."""
    if record.label is None or record.prediction is None:
        return None
    said, is_so = record.prediction == positive, record.label == positive
    return float(said and is_so), float(said and not is_so), float(is_so and not said)


def _precision(record: Record, positive: str) -> Pair | None:
    counts = _counts(record, positive)
    return None if counts is None else (counts[0], counts[0] + counts[1])


def _recall(record: Record, positive: str) -> Pair | None:
    counts = _counts(record, positive)
    return None if counts is None else (counts[0], counts[0] + counts[2])


def _f1(record: Record, positive: str) -> Pair | None:
    counts = _counts(record, positive)
    return None if counts is None else (2 * counts[0], 2 * counts[0] + counts[1] + counts[2])


def _latency(record: Record, _positive: str) -> Pair | None:
    return None if record.latency_ms is None else (math.log(record.latency_ms), 1.0)


METRICS = {
    one.name: one
    for one in (
        Metric("accuracy", _accuracy),
        Metric("precision", _precision),
        Metric("recall", _recall),
        Metric("f1", _f1),
        Metric("latency", _latency, lower_is_better=True),
    )
}
