from __future__ import annotations

from datetime import date

import pytest

from admission.decision import Purpose
from admission.finding import Action
from admission.namespace import (
    EnvironmentSettings,
    Mode,
    Namespace,
    NamespacePolicy,
    NamespaceSettings,
    namespace_policy,
)
from admission.pipeline import review
from admission.workload import WorkloadClass
from tests.kernel import context, request, rules

ENVIRONMENTS = {
    "development": EnvironmentSettings(action=Action.AUDIT),
    "staging": EnvironmentSettings(action=Action.WARN),
    "production": EnvironmentSettings(action=Action.DENY, workloads=(WorkloadClass.INFERENCE,)),
}
ENVIRONMENT = "tidewaiter.dev/environment"
ENFORCEMENT = "tidewaiter.dev/enforcement"


def policy(labels: dict[str, str] | None = None, **settings: object) -> NamespacePolicy:
    own = {"models": NamespaceSettings.model_validate(settings)}
    return namespace_policy(Namespace("models", labels or {}), ENVIRONMENTS, own)


@pytest.mark.parametrize(
    ("labels", "settings", "environment", "action"),
    [
        ({}, {}, "", Action.WARN),
        ({ENVIRONMENT: "staging"}, {}, "staging", Action.WARN),
        ({}, {"environment": "production"}, "production", Action.DENY),
        ({ENVIRONMENT: "development"}, {"environment": "production"}, "development", Action.AUDIT),
        ({ENVIRONMENT: "prodction"}, {}, "prodction", Action.DENY),
        ({ENVIRONMENT: ""}, {}, "", Action.WARN),
    ],
)  # fmt: skip
def test_the_environment_is_the_namespaces(
    labels: dict[str, str], settings: dict[str, str], environment: str, action: Action
) -> None:
    found = policy(labels, **settings)
    assert (found.environment, found.opted_in) == (environment, bool(environment))
    assert found.action("some-rule", {}) is action


@pytest.mark.parametrize(
    ("by_environment", "action"),
    [
        ({}, Action.DENY),
        ({"production": Action.DENY, "*": Action.WARN}, Action.DENY),
        ({"production": Action.WARN, "*": Action.AUDIT}, Action.WARN),
        ({"production": Action.OFF, "staging": Action.AUDIT, "development": Action.OFF}, Action.AUDIT),
        ({"production": Action.OFF}, Action.WARN),
        ({"*": Action.OFF}, Action.OFF),
    ],
)
def test_a_mistyped_environment_is_held_to_the_strictest_action_of_any(
    by_environment: dict[str, Action], action: Action
) -> None:
    assert policy({ENVIRONMENT: "prodction"}).action("r", by_environment) is action
    assert policy({ENVIRONMENT: "prodction"}, actions={"r": "audit"}).action("r", by_environment) is Action.AUDIT


@pytest.mark.parametrize(
    ("by_environment", "mode"),
    [
        ({"production": Mode.APPLY, "*": Mode.OFF}, Mode.APPLY),
        ({"production": Mode.PREVIEW, "*": Mode.OFF}, Mode.PREVIEW),
        ({"production": Mode.OFF}, Mode.APPLY),
        ({"*": Mode.OFF}, Mode.OFF),
    ],
)
def test_a_mistyped_environment_gets_what_any_environment_gets(by_environment: dict[str, Mode], mode: Mode) -> None:
    assert policy({ENVIRONMENT: "prodction"}).mode("m", by_environment) is mode


def test_a_mistyped_environment_offers_only_what_every_environment_offers() -> None:
    notebooks = EnvironmentSettings(default_workload=WorkloadClass.DEVELOPMENT)
    environments = {"development": notebooks, "staging": EnvironmentSettings(workloads=("batch", "inference"))}
    found = namespace_policy(Namespace("models", {ENVIRONMENT: "devlopment"}), environments, {})
    assert (found.workloads, found.default_workload) == (("inference", "batch"), "inference")


def test_without_any_environment_the_first_installation_warns() -> None:
    found = namespace_policy(Namespace("models", {ENVIRONMENT: "x"}), {}, {})
    assert (found.action("r", {}), found.mode("m", {})) == (Action.WARN, Mode.APPLY)


@pytest.mark.parametrize("place", ["labels", "annotations"])
def test_a_pod_does_not_choose_its_environment(place: str) -> None:
    own = {"tidewaiter.dev/model": "m", ENVIRONMENT: "development", ENFORCEMENT: "off"}
    pod = {"metadata": {"labels": {"tidewaiter.dev/model": "m"}, place: own}, "spec": {"hostNetwork": True}}
    decision = review(request(pod), Purpose.VALIDATE, context(environment="production"), rules())
    assert (decision.environment, decision.allowed) == ("production", False)


@pytest.mark.parametrize("label", [*Action, "everything", ""])
@pytest.mark.parametrize("base", [Action.DENY, Action.WARN, Action.AUDIT])
def test_the_enforcement_label_tightens_and_never_loosens(label: str, base: Action) -> None:
    found = policy({ENVIRONMENT: "staging", ENFORCEMENT: label}).action("r", {"staging": base})
    assert found.strictness >= base.strictness
    assert found is (Action(label) if label in tuple(Action) and Action(label).strictness > base.strictness else base)


def test_a_rule_that_is_off_stays_off_under_the_enforcement_label() -> None:
    assert policy({ENVIRONMENT: "staging", ENFORCEMENT: "deny"}).action("r", {"*": Action.OFF}) is Action.OFF


def test_the_namespaces_settings_win_over_the_rules_those_over_the_environments() -> None:
    own = policy({ENVIRONMENT: "production"}, actions={"r": "audit"})
    assert own.action("r", {"production": Action.WARN}) is Action.AUDIT
    assert own.action("s", {"production": Action.WARN, "*": Action.OFF}) is Action.WARN
    assert own.action("s", {"staging": Action.WARN, "*": Action.OFF}) is Action.OFF
    assert own.action("s", {"staging": Action.WARN}) is Action.DENY


@pytest.mark.parametrize("action", list(Action))
def test_a_namespace_that_is_not_opted_in_is_warned_at_most(action: Action) -> None:
    for found in (policy(actions={"r": action}), policy({ENFORCEMENT: "deny"}, actions={"r": action})):
        assert found.action("r", {}) is (Action.WARN if action is Action.DENY else action)


@pytest.mark.parametrize(
    ("labels", "modes", "by_environment", "mode"),
    [
        ({ENVIRONMENT: "staging"}, {}, {}, Mode.APPLY),
        ({ENVIRONMENT: "staging"}, {}, {"staging": Mode.PREVIEW, "*": Mode.OFF}, Mode.PREVIEW),
        ({ENVIRONMENT: "staging"}, {}, {"*": Mode.OFF}, Mode.OFF),
        ({ENVIRONMENT: "staging"}, {"m": Mode.APPLY}, {"*": Mode.OFF}, Mode.APPLY),
        ({}, {}, {}, Mode.PREVIEW),
        ({}, {"m": Mode.APPLY}, {}, Mode.PREVIEW),
        ({}, {"m": Mode.OFF}, {}, Mode.OFF),
    ],
)
def test_a_mutator_applies_only_where_the_namespace_is_opted_in(
    labels: dict[str, str], modes: dict[str, Mode], by_environment: dict[str, Mode], mode: Mode
) -> None:
    assert policy(labels, modes=modes).mode("m", by_environment) is mode


def test_workload_classes_are_the_namespaces_else_the_environments() -> None:
    assert policy({ENVIRONMENT: "production"}).workloads == (WorkloadClass.INFERENCE,)
    own = policy({ENVIRONMENT: "production"}, workloads=["batch"], defaultWorkload="batch")
    assert (own.workloads, own.default_workload) == ((WorkloadClass.BATCH,), WorkloadClass.BATCH)


BEFORE, DAY, AFTER = date(2026, 11, 30), date(2026, 12, 1), date(2027, 1, 1)


@pytest.mark.parametrize(
    ("environment", "settings", "by_environment", "on", "expected"),
    [
        ("staging", {}, {"*": DAY}, BEFORE, (Action.WARN, DAY)),
        ("staging", {}, {"*": DAY}, DAY, (Action.DENY, None)),
        ("staging", {}, {"*": DAY}, AFTER, (Action.DENY, None)),
        ("staging", {}, {"development": DAY}, AFTER, (Action.WARN, None)),
        ("production", {}, {"*": DAY}, BEFORE, (Action.DENY, None)),
        ("staging", {"actions": {"a-rule": "audit"}}, {"*": DAY}, AFTER, (Action.AUDIT, None)),
        ("staging", {"denyAfter": {"a-rule": DAY}}, {}, DAY, (Action.DENY, None)),
        ("staging", {"denyAfter": {"a-rule": AFTER}}, {"*": DAY}, DAY, (Action.WARN, AFTER)),
        ("staging", {"actions": {"a-rule": "audit"}, "denyAfter": {"a-rule": DAY}}, {}, DAY, (Action.DENY, None)),
        ("staging", {"actions": {"a-rule": "off"}}, {"*": DAY}, AFTER, (Action.OFF, None)),
        ("", {"denyAfter": {"a-rule": DAY}}, {"*": DAY}, AFTER, (Action.WARN, None)),
        ("stagging", {}, {"production": AFTER, "staging": DAY}, BEFORE, (Action.DENY, None)),
    ],
)  # fmt: skip
def test_a_rule_denies_from_its_day_on(
    environment: str, settings: dict[str, object], by_environment: dict[str, date], on: date, expected: object
) -> None:
    labels = {ENVIRONMENT: environment} if environment else {}

    assert policy(labels, **settings).action_on(on, "a-rule", {}, by_environment) == expected


def test_a_warning_says_from_which_day_it_will_be_a_refusal() -> None:
    of = rules(
        only_mutators=(), only_validators=("image-pinned",), settings={"image-pinned": {"denyAfter": "2026-06-02"}}
    )
    unpinned = {
        "metadata": {"labels": {"tidewaiter.dev/model": "m"}},
        "spec": {"containers": [{"name": "a", "image": "b"}]},
    }

    decision = review(request(unpinned), Purpose.VALIDATE, context(environment="staging"), of)

    assert decision.allowed
    assert decision.warnings()[0].endswith("(rule image-pinned); refused from 2026-06-02 on")
