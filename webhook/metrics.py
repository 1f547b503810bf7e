"""Prometheus metrics. Labels have few values: nothing a pod's author writes becomes one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from admission.decision import Decision
from admission.policy_exception import PolicyException
from webhook.rego.policy_store import PolicyStore

_BUCKETS = (0.0001, 0.0002, 0.0003, 0.0004, 0.0006, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5)
"""Seconds, closest around the budget of 400 microseconds for one review."""


_EXPIRING_DAYS = (1, 7, 30)


def _now() -> datetime:
    return datetime.now(UTC)


class Metrics:
    """The process's metrics, in a registry of its own so that tests can have many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reviews = Counter(
            "tidewaiter_reviews", "Reviews by webhook and verdict", ["webhook", "verdict"], registry=self.registry
        )
        self._seconds = Histogram(
            "tidewaiter_review_seconds", "Time of one review", ["webhook"], buckets=_BUCKETS, registry=self.registry
        )
        self._findings = Counter(
            "tidewaiter_findings", "Findings by rule and action", ["rule", "action"], registry=self.registry
        )
        self._injections = Counter(
            "tidewaiter_injections", "Pods that a mutator changed", ["mutator"], registry=self.registry
        )
        self._errors = Counter(
            "tidewaiter_errors",
            "Reviews that went wrong, by webhook and cause",
            ["webhook", "cause"],
            registry=self.registry,
        )
        # Looking a child up by its labels takes a lock and as long as counting does.
        self._review = cache(self._reviews.labels)
        self._second = cache(self._seconds.labels)
        self._finding = cache(self._findings.labels)
        self._injection = cache(self._injections.labels)
        self.in_flight = Gauge("tidewaiter_requests_in_flight", "Requests being answered", registry=self.registry)
        self.records_dropped = Counter(
            "tidewaiter_records_dropped", "Decision records that could not be written", registry=self.registry
        )
        self._policy_failures = Counter(
            "tidewaiter_policy_failures",
            "Rego rules that could not be evaluated, by rule (none: the whole engine) and cause",
            ["rule", "cause"],
            registry=self.registry,
        )
        self._policies_refused = Gauge(
            "tidewaiter_policies_refused",
            "1 while a source holds policies that are not in force",
            ["source"],
            registry=self.registry,
        )
        self._exceptions = Counter(
            "tidewaiter_exceptions_used", "Findings that a policy exception excused", ["rule"], registry=self.registry
        )
        self._recreations = Counter(
            "tidewaiter_recreations",
            "Pods that a controller made again although their approval lapsed",
            registry=self.registry,
        )
        self.events_dropped = Counter(
            "tidewaiter_events_dropped", "Events that could not be written to the cluster", registry=self.registry
        )
        self._registry_refused = Gauge(
            "tidewaiter_registry_refused",
            "1 while a registry holds what cannot be used",
            ["registry"],
            registry=self.registry,
        )
        self._registries = Counter(
            "tidewaiter_registry_questions",
            "Questions to registries, by registry and what came of them",
            ["registry", "result"],
            registry=self.registry,
        )

        self._governance = Counter(
            "tidewaiter_governance_decisions",
            "Decisions on our own objects, by kind, what was done (create, update, status, delete) and verdict",
            ["kind", "what", "verdict"],
            registry=self.registry,
        )

    def count(self, decision: Decision, seconds: float) -> None:
        """Count one decision."""
        purpose = decision.purpose.value
        self._review(purpose, decision.verdict.value).inc()
        self._second(purpose).observe(seconds)
        for judged in decision.findings:
            self._finding(judged.finding.rule, judged.action.value).inc()
            if judged.exception:
                self._exceptions.labels(judged.finding.rule).inc()
        if decision.recreated:
            self._recreations.inc()
        for injection in decision.injections:
            if not injection.preview:
                self._injection(injection.mutator).inc()

    def count_error(self, purpose: str, cause: str) -> None:
        """Count one error; ``cause`` is a class of errors, not its text."""
        self._errors.labels(purpose, cause).inc()

    def registry_refused(self, registry: str, *, refused: bool) -> None:
        """Whether a registry holds what cannot be used."""
        self._registry_refused.labels(registry).set(refused)

    def count_registry(self, registry: str, result: str) -> None:
        """Count what came of one question to a registry."""
        self._registries.labels(registry, result).inc()

    def count_governance(self, kind: str, what: str, verdict: str) -> None:
        """Count one decision on one of our own objects."""
        self._governance.labels(kind, what, verdict).inc()

    def follow_exceptions(
        self, current: Callable[[], tuple[PolicyException, ...]], clock: Callable[[], datetime] = _now
    ) -> None:
        """Tell at each scrape how many exceptions hold, and how many of them end soon."""

        def holding(within: timedelta | None) -> float:
            now = clock()
            return sum(now < one.expires and (within is None or one.expires <= now + within) for one in current())

        held = Gauge("tidewaiter_exceptions", "Approved policy exceptions that hold now", registry=self.registry)
        held.set_function(partial(holding, None))
        expiring = Gauge(
            "tidewaiter_exceptions_expiring",
            "Policy exceptions that hold now and end within so many days",
            ["days"],
            registry=self.registry,
        )
        for days in _EXPIRING_DAYS:
            expiring.labels(str(days)).set_function(partial(holding, timedelta(days=days)))

    def count_policy_failure(self, rule: str, cause: str) -> None:
        """Count a rule that could not be evaluated."""
        self._policy_failures.labels(rule or "none", cause).inc()

    def policies_changed(self, store: PolicyStore) -> None:
        """Policies were read again: well, or not."""
        self._policies_refused.labels(store.source).set(bool(store.problem))

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
