"""The scope of the webhooks: what is asked about, where, and what happens while nobody answers."""

from __future__ import annotations

from typing import Any

import pytest

from admission.frameworks import FRAMEWORKS, OUR_LABELS
from admission.namespace import NamespaceSettings
from webhook.settings import ServerSettings, Settings
from webhook.webhook_configuration import webhook_configurations

MAX_CONDITIONS = 64


def webhooks(settings: Settings | None = None) -> dict[str, dict[str, Any]]:
    """All webhooks of both configurations, by name."""
    configurations = webhook_configurations(settings or Settings(), "Q0E=")
    return {one["name"]: one for configuration in configurations for one in configuration["webhooks"]}


@pytest.fixture
def mapped() -> dict[str, dict[str, Any]]:
    """Of settings that give namespace `search` an environment by name."""
    return webhooks(Settings(namespaces={"search": NamespaceSettings(environment="production")}))


def test_only_the_check_of_pods_in_opted_in_namespaces_fails_closed(mapped: dict[str, dict[str, Any]]) -> None:
    failing = {name for name, one in mapped.items() if one["failurePolicy"] == "Fail"}
    assert failing == {"pods.tidewaiter.dev", "mapped.pods.tidewaiter.dev"}


def test_exempt_namespaces_and_the_service_s_own_are_never_asked_about() -> None:
    settings = Settings(exempt_namespaces=("kube-system", "storage"), server=ServerSettings(namespace="gatehouse"))
    for name, one in webhooks(settings).items():
        excluded = [
            each["values"]
            for each in one["namespaceSelector"]["matchExpressions"]
            if (each["key"], each["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
        ]
        assert ["kube-system", "storage", "gatehouse"] in excluded, name


def test_an_exempt_namespace_that_the_settings_name_is_not_opted_in() -> None:
    settings = Settings(
        exempt_namespaces=("search",), namespaces={"search": NamespaceSettings(environment="production")}
    )
    assert not [name for name in webhooks(settings) if name.startswith("mapped.")]


@pytest.mark.parametrize(
    ("labels", "name", "expected"),
    [
        ({"tidewaiter.dev/environment": "production"}, "models", {"pods", "workloads"}),
        ({"tidewaiter.dev/environment": "production"}, "search", {"pods", "workloads"}),
        ({}, "search", {"mapped.pods", "mapped.workloads"}),
        ({}, "web", {"other.pods", "other.workloads", "other.custom-workloads"}),
        ({"tidewaiter.dev/environment": "production"}, "kube-system", set()),
    ],
)
def test_a_namespace_is_judged_by_one_set_of_webhooks(
    mapped: dict[str, dict[str, Any]], labels: dict[str, str], name: str, expected: set[str]
) -> None:
    metadata = {"kubernetes.io/metadata.name": name, **labels}
    chosen = {
        webhook.removesuffix(".tidewaiter.dev")
        for webhook, one in mapped.items()
        if all(_holds(each, metadata) for each in one["namespaceSelector"]["matchExpressions"])
    }
    assert chosen - {"mutate.pods"} == expected
    assert ("mutate.pods" in chosen) is bool(expected)


def test_the_pod_check_sees_the_subresources_that_bring_containers_and_resources() -> None:
    seen = {
        (resource, operation)
        for rule in webhooks()["pods.tidewaiter.dev"]["rules"]
        for resource in rule["resources"]
        for operation in rule["operations"]
    }
    assert {
        ("pods", "CREATE"),
        ("pods", "UPDATE"),
        ("pods/ephemeralcontainers", "UPDATE"),
        ("pods/resize", "UPDATE"),
    } == seen


def test_only_new_pods_are_mutated() -> None:
    (rule,) = webhooks()["mutate.pods.tidewaiter.dev"]["rules"]
    assert (rule["resources"], rule["operations"]) == (["pods"], ["CREATE"])


@pytest.mark.parametrize("scope", ["workloads", "other.workloads"])
def test_the_workloads_of_kubernetes_are_asked_about(scope: str) -> None:
    seen = {
        (group, resource)
        for name, one in webhooks().items()
        if name.startswith(scope)
        for rule in one["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if {"CREATE", "UPDATE"} <= set(rule["operations"])
    }
    apps = {("apps", one) for one in ("deployments", "statefulsets", "daemonsets", "replicasets")}
    assert seen >= apps | {("batch", "jobs"), ("batch", "cronjobs")}


def test_the_match_condition_knows_every_label_and_image_of_the_table() -> None:
    (condition,) = webhooks()["mutate.pods.tidewaiter.dev"]["matchConditions"]
    words = [
        *OUR_LABELS,
        *(key for one in FRAMEWORKS for key, _ in one.labels),
        *(part for one in FRAMEWORKS for part in one.images),
    ]
    assert [word for word in words if f'"{word}"' not in condition["expression"]] == []


def test_every_webhook_is_bounded_in_time_and_free_of_side_effects(mapped: dict[str, dict[str, Any]]) -> None:
    for one in mapped.values():
        assert one["sideEffects"] == "None"
        assert 0 < one["timeoutSeconds"] <= 10
        assert len(one.get("matchConditions", ())) <= MAX_CONDITIONS
        assert one["clientConfig"]["service"]["path"] in ("/mutate", "/validate")


def _holds(requirement: dict[str, Any], labels: dict[str, str]) -> bool:
    """One requirement of a label selector, as the API server has it."""
    value = labels.get(requirement["key"])
    return {
        "In": lambda: value in requirement["values"],
        "NotIn": lambda: value not in requirement["values"],
        "Exists": lambda: value is not None,
        "DoesNotExist": lambda: value is None,
    }[requirement["operator"]]()


def test_a_kind_without_a_namespace_is_asked_about_once() -> None:
    asked = [
        name
        for name, one in webhooks().items()
        for rule in one["rules"]
        if "clusterservingruntimes" in rule["resources"]
    ]
    assert asked == ["other.custom-workloads.tidewaiter.dev"]


@pytest.mark.parametrize(
    ("rule", "closed"),
    [
        ({}, False),
        ({"by": "subject-access-review"}, True),
        ({"roles": {"ops": ["ops"]}, "allowed": {"production": ["ops"]}}, True),
    ],
)
def test_people_s_workloads_fail_closed_where_a_person_needs_leave_to_deploy(
    rule: dict[str, Any], closed: bool
) -> None:
    """Nothing stands behind the answer about a person: the pods are their controller's."""
    settings = Settings.model_validate({"rules": {"deploy-permission": rule}})
    _, validating = webhook_configurations(settings, "")
    by_name = {one["name"]: one for one in validating["webhooks"]}

    assert ("deployers.tidewaiter.dev" in by_name) is closed
    if closed:
        assert by_name["deployers.tidewaiter.dev"]["failurePolicy"] == "Fail"
        (condition,) = by_name["deployers.tidewaiter.dev"]["matchConditions"]
        assert "kube-system" in condition["expression"]
    assert by_name["workloads.tidewaiter.dev"]["failurePolicy"] == "Ignore"
    assert by_name["other.workloads.tidewaiter.dev"]["failurePolicy"] == "Ignore"
