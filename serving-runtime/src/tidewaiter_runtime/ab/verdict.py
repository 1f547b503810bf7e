"""What is said about version B, and how it is written down for people and for ``tidewaiter gate``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidewaiter_runtime.ab.inference import Difference, fixed, p_value, sequential
from tidewaiter_runtime.ab.metrics import METRICS, Estimate, Metric, estimate, pairs_of
from tidewaiter_runtime.ab.records import Record
from tidewaiter_runtime.refusals import BadInput

LEAST_RECORDS = 100
"""Of each version; the intervals are of large samples."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the versions are compared. ``planned`` is the size of both together; None is the fixed test."""

    metrics: Sequence[str]
    alpha: float = 0.05
    planned: int | None = None
    margins: Mapping[str, float] | None = None
    positive: str = "1"


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of both versions. ``no_worse``: B is not worse than A by more than the margin."""

    metric: Metric
    a: Estimate
    b: Estimate
    difference: Difference
    p_value: float
    margin: float

    @property
    def no_worse(self) -> bool:
        """Whether it is shown, with the confidence asked for."""
        if self.metric.lower_is_better:
            return self.difference.upper <= self.margin
        return self.difference.lower >= -self.margin

    @property
    def verdict(self) -> str:
        """In a word."""
        lower, upper = self.difference.lower, self.difference.upper
        if self.metric.lower_is_better:
            lower, upper = -upper, -lower
        if lower > 0:
            return "better"
        if upper < -self.margin:
            return "worse"
        return "no worse" if self.no_worse else "undecided"


def compare(a: Sequence[Record], b: Sequence[Record], plan: Plan) -> list[Compared]:
    """Each metric of the plan; raises BadInput where the records do not say enough."""
    return [_compare(a, b, METRICS[name], plan) for name in plan.metrics]


def _compare(a: Sequence[Record], b: Sequence[Record], metric: Metric, plan: Plan) -> Compared:
    estimates = []
    for name, records in (("A", a), ("B", b)):
        pairs = pairs_of(records, metric, plan.positive)
        if len(pairs) < LEAST_RECORDS:
            raise BadInput(
                f"{metric.name} of version {name}: found {len(pairs)} records that have it;"
                f" expected at least {LEAST_RECORDS}"
            )
        estimates.append(estimate(pairs, f"{metric.name} of version {name}", share=not metric.lower_is_better))
    one, other = estimates
    difference = (
        fixed(one, other, plan.alpha) if plan.planned is None else sequential(one, other, plan.alpha, plan.planned)
    )
    return Compared(metric, one, other, difference, p_value(one, other), (plan.margins or {}).get(metric.name, 0.0))


def passed(compared: Sequence[Compared]) -> bool:
    """All metrics are no worse. As every one of them must hold, testing several needs no correction."""
    return all(one.no_worse for one in compared)


def as_metrics(compared: Sequence[Compared]) -> dict[str, float]:
    """One flat object of numbers, which ``tidewaiter gate`` reads as metrics. Latency is in milliseconds."""
    found: dict[str, float] = {"ab_passed": float(passed(compared))}
    for one in compared:
        name = f"ab_{one.metric.name}"
        log = one.metric.lower_is_better
        found |= {
            f"{name}_a": math.exp(one.a.value) if log else one.a.value,
            f"{name}_b": math.exp(one.b.value) if log else one.b.value,
            f"{name}_difference": math.expm1(one.difference.value) if log else one.difference.value,
            f"{name}_lower": math.expm1(one.difference.lower) if log else one.difference.lower,
            f"{name}_upper": math.expm1(one.difference.upper) if log else one.difference.upper,
            f"{name}_no_worse": float(one.no_worse),
            f"{name}_records_a": float(one.a.count),
            f"{name}_records_b": float(one.b.count),
        }
    return found


def as_text(compared: Sequence[Compared]) -> str:
    """For people."""
    lines = []
    metrics = as_metrics(compared)
    for one in compared:
        name = f"ab_{one.metric.name}"
        a, b, difference, lower, upper = (
            metrics[f"{name}_{part}"] for part in ("a", "b", "difference", "lower", "upper")
        )
        lines.append(
            f"{one.metric.name}: {one.verdict}: A {a:.6g} ({one.a.count} records), B {b:.6g} ({one.b.count}); "
            f"difference {difference:+.4g}, from {lower:+.4g} to {upper:+.4g}"
        )
    lines.append("passed: B is no worse" if passed(compared) else "not passed: it is not shown that B is no worse")
    return "\n".join(lines) + "\n"
