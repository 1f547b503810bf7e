"""What metrics tell of exceptions and of decisions on our own objects."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from admission.policy_exception import PolicyException
from tests.governance.objects import entry, review_of, version_of
from webhook.access_review import AccessQuestion
from webhook.governance.review import GovernanceReviewer
from webhook.governance.settings import GovernanceSettings
from webhook.metrics import Metrics

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def _exception(days: float) -> PolicyException:
    return PolicyException(f"in-{days}", ("image-pinned",), ("vision",), NOW + timedelta(days=days))


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_exceptions_are_counted_as_they_hold_and_end_at_each_scrape() -> None:
    held = [_exception(days) for days in (-1, 0.5, 5, 7, 20, 90)]
    now = [NOW]
    metrics = Metrics()
    metrics.follow_exceptions(lambda: tuple(held), lambda: now[0])

    def told() -> list[float | None]:
        soon = [_value(metrics, "tidewaiter_exceptions_expiring", days=days) for days in ("1", "7", "30")]
        return [_value(metrics, "tidewaiter_exceptions"), *soon]

    assert told() == [5, 1, 3, 4]
    now[0] += timedelta(days=6)
    assert told() == [3, 1, 1, 2]
    held.clear()
    assert told() == [0, 0, 0, 0]


async def _yes(_question: AccessQuestion) -> bool | None:
    return True


@pytest.mark.parametrize(
    ("body", "counted"),
    [
        (review_of(version_of(), "mia", operation="CREATE"), ("ModelVersion", "create", "allowed")),
        (review_of(version_of(proposer="ada"), "mia", operation="CREATE"), ("ModelVersion", "create", "denied")),
        (
            review_of(version_of("resnet50", "3", entry("moon", "ada")), old=version_of(), subresource="status"),
            ("ModelVersion", "status", "denied"),
        ),
        (review_of(version_of(), old=version_of(), subresource="scale"), ("ModelVersion", "other", "error")),
        (review_of({"kind": "Surprise-71"}), ("other", "update", "error")),
        (review_of(version_of(), operation="EXPLODE"), None),
        (b"{", ("other", "other", "error")),
    ],
    ids=["allowed", "denied", "status", "subresource", "kind", "operation", "no JSON"],
)
def test_a_decision_is_counted_in_few_words(body: bytes, counted: tuple[str, str, str] | None) -> None:
    metrics = Metrics()
    made: dict[str, Any] = {"clock": lambda: NOW, "count": metrics.count_governance}
    reviewer = GovernanceReviewer(GovernanceSettings(), ("staging",), "tidewaiter", _yes, **made)

    asyncio.run(reviewer.validate(body))

    found = [
        sample.labels
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "tidewaiter_governance_decisions_total" and sample.value == 1
    ]
    assert len(found) == 1
    if counted is not None:
        assert tuple(found[0][key] for key in ("kind", "what", "verdict")) == counted
    assert "EXPLODE" not in json.dumps(found)
    assert "Surprise-71" not in json.dumps(found)
