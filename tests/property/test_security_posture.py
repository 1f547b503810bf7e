"""What holds of rule security-posture on every pod, the ones that no API server would take included."""

from __future__ import annotations

import copy
import functools
import re
from typing import Any

import pytest

from admission.finding import Finding
from admission.pod import ModelPod
from tests.kernel import context
from tests.property import restricted_pods
from tests.property.restricted_pods import ABSENT, Pod, good_context, put
from validators.security_posture import VALIDATOR, SecurityPostureSettings

NO_EXCEPTIONS = SecurityPostureSettings(allowedCapabilities=(), exemptImages=())
STRICTEST = SecurityPostureSettings(allowedCapabilities=(), exemptImages=(), rootInUserNamespace=False)
SEED, MIXTURES = 7, 1500
Told = set[tuple[str, str, str]]


@pytest.fixture(scope="module")
def pods() -> list[Pod]:
    return [
        *restricted_pods.one_off(),
        *restricted_pods.outranked(),
        *restricted_pods.on_windows(),
        *restricted_pods.mixed(SEED, MIXTURES),
    ]


def told(pod: Pod, settings: SecurityPostureSettings = NO_EXCEPTIONS) -> Told:
    found = VALIDATOR.check(ModelPod(copy.deepcopy(pod)), context(), settings)
    return {(one.path, one.message, one.container) for one in found}


def test_null_is_absent(pods: list[Pod]) -> None:
    for pod in pods:
        assert told(without_null(pod)) == told(pod), pod


def test_the_rule_leaves_the_pod_as_it_is(pods: list[Pod]) -> None:
    for pod in pods:
        before = copy.deepcopy(pod)
        list(VALIDATOR.check(ModelPod(pod), context(), STRICTEST))
        assert pod == before


def test_a_container_is_judged_the_same_wherever_it_stands(pods: list[Pod]) -> None:
    for pod in pods:
        spec = pod["spec"]
        here = told({**pod, "spec": {**spec, "initContainers": []}})
        for kind in ("initContainers", "ephemeralContainers"):
            moved = {**pod, "spec": {**spec, "containers": [], "initContainers": [], kind: spec["containers"]}}
            there = {(path.replace(f"spec.{kind}[", "spec.containers["), *rest) for path, *rest in told(moved)}
            assert there == here, pod


def test_a_container_more_takes_no_finding_away(pods: list[Pod]) -> None:
    more = {"name": "more", "image": "acme/more:1", "securityContext": good_context()}
    for pod in pods:
        spec = pod["spec"]
        with_more = {**pod, "spec": {**spec, "containers": [*spec["containers"], more]}}
        assert told(with_more) == told(pod), pod


def test_settings_only_excuse(pods: list[Pod]) -> None:
    for pod in pods:
        places = {path for path, *_ in told(pod, STRICTEST)}
        for settings in (NO_EXCEPTIONS, SecurityPostureSettings()):
            assert {path for path, *_ in told(pod, settings)} <= places, pod


def test_without_its_excuse_a_user_namespace_changes_nothing(pods: list[Pod]) -> None:
    for pod in pods:
        among_the_nodes_users = {**pod, "spec": {**pod["spec"], "hostUsers": True}}
        assert told(pod, STRICTEST) == told(among_the_nodes_users, STRICTEST), pod


@pytest.mark.parametrize("settings", [NO_EXCEPTIONS, STRICTEST, SecurityPostureSettings()])
def test_doing_what_the_findings_say_is_enough(pods: list[Pod], settings: SecurityPostureSettings) -> None:
    for pod in pods:
        mended = copy.deepcopy(pod)
        for finding in list(VALIDATOR.check(ModelPod(mended), context(), settings)):
            mend(mended, finding)
        assert told(mended, settings) == set(), pod


MENDED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities.drop": ["ALL"],
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
    "appArmorProfile": {"type": "RuntimeDefault"},
}
"""What the remedies say to set; all else is to be removed."""


def mend(pod: Pod, finding: Finding) -> None:
    """Do at the finding's path what its remedy says."""
    if finding.path.startswith("metadata.annotations["):
        del pod["metadata"]["annotations"][finding.path.removeprefix("metadata.annotations[").removesuffix("]")]
        return
    fields = [int(one) if one.isdigit() else one for one in re.findall(r"[^.\[\]]+", finding.path)]
    below = max((number + 1 for number, one in enumerate(fields) if isinstance(one, int)), default=0)
    holder: Any = functools.reduce(lambda value, one: value[one], fields[:below], pod)
    path = tuple(map(str, fields[below:]))
    if not path:
        # The one finding about an entry of a list is that about a volume of a foreign type.
        name = holder["name"]
        holder.clear()
        holder |= {"name": name, "emptyDir": {}}
        return
    put(holder, path, next((value for key, value in MENDED.items() if ".".join(path).endswith(key)), ABSENT))


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_null(inner) for key, inner in value.items() if inner is not None}
    return [without_null(one) for one in value] if isinstance(value, list) else value
