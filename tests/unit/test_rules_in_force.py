from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from admission.context import ReviewContext
from admission.decision import Purpose
from admission.finding import Action, Finding
from admission.namespace import Mode
from admission.pipeline import RuleSet, review
from admission.pod import ModelPod
from admission.rules_in_force import rules_in_force
from admission.validator import Applicability, RuleSettings, Scope, Validator
from admission.workload import WorkloadClass
from tests.kernel import NOW, context, request, rules

TODAY = NOW.date()


def _complain(_pod: ModelPod, _context: ReviewContext, _settings: RuleSettings) -> Iterable[Finding]:
    yield Finding("a-rule", "spec", "found", "remedy")


def _one(applies: Applicability, **settings: Any) -> RuleSet:
    rule = Validator("a-rule", _complain, RuleSettings, applies)
    return RuleSet(validators=((rule, RuleSettings.model_validate(settings)),))


def _actions(of: RuleSet, about: ReviewContext) -> list[Action]:
    obj = {"metadata": {"labels": {"tidewaiter.dev/model": "m"}}, "spec": {"containers": [{"name": "c"}]}}
    return [one.action for one in review(request(obj), Purpose.VALIDATE, about, of).findings]


def test_a_rule_set_denies_from_its_day_on_and_not_a_day_before() -> None:
    of = _one(Applicability(), action="warn", denyAfter=TODAY.isoformat())
    about = context()
    days = (NOW - timedelta(days=1), NOW, NOW + timedelta(days=1), NOW - timedelta(days=1))
    assert [_actions(of, replace(about, now=day)) for day in days] == [
        [Action.WARN],
        [Action.DENY],
        [Action.DENY],
        [Action.WARN],
    ]


def test_one_rule_set_acts_in_each_namespace_as_its_own_settings_say() -> None:
    of = _one(Applicability())
    loose, strict = (context(namespace={"settings": {"actions": {"a-rule": action}}}) for action in ("audit", "deny"))
    assert [_actions(of, about) for about in (loose, strict, loose)] == [[Action.AUDIT], [Action.DENY], [Action.AUDIT]]


@pytest.mark.parametrize(
    ("applies", "environment", "judged"),
    [
        (Applicability(workloads=frozenset({WorkloadClass.BATCH})), "production", {WorkloadClass.BATCH}),
        (Applicability(), "production", set(WorkloadClass)),
        (Applicability(Scope.EVERY_POD), "production", {None, *WorkloadClass}),
        (Applicability(Scope.EVERY_POD), "", set(WorkloadClass)),
    ],
)
def test_a_rule_is_in_force_for_the_classes_of_pods_that_it_judges(
    applies: Applicability, environment: str, judged: set[WorkloadClass | None]
) -> None:
    of = _one(applies)
    found = rules_in_force((), of.validators, {}, context(environment=environment).namespace, TODAY)
    assert {pod for pod, judging in found.judging.items() if judging.validators} == judged


def test_what_is_off_is_not_in_force() -> None:
    of = rules(settings={"cost-labels": {"mode": "off"}, "image-pinned": {"action": "off"}})
    found = of.in_force(context().namespace, TODAY)
    assert "cost-labels" not in found.settings
    assert [one[0].id for one in found.mutators] == list(found.settings)
    assert Mode.OFF not in {one[2] for one in found.mutators}
    assert all("image-pinned" not in {one[0].id for one in judging.validators} for judging in found.judging.values())


def test_a_rule_set_keeps_nothing_of_a_namespace_that_is_gone() -> None:
    of, about = rules(), context()
    of.in_force(about.namespace, TODAY)
    gone = weakref.ref(about.namespace)
    del about
    gc.collect()
    assert gone() is None
