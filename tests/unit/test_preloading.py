"""What ``/mutate`` preloads, ``/validate`` knows again by its content, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jsonpatch
import pytest

from admission.decision import Decision, Purpose
from admission.pipeline import review
from tests.kernel import DIGEST, context, request, rules

SOURCE = "s3://models/m/1"
ABOUT = context(approvals=[{"model": "m", "version": "1", "source": SOURCE, "digest": DIGEST}])
RULES = rules(settings={"preload": {"image": f"acme/preloader@{DIGEST}"}})
POD: dict[str, Any] = {
    "metadata": {"labels": {"tidewaiter.dev/model": "m", "tidewaiter.dev/model-version": "1", "team": "search"}},
    "spec": {
        "containers": [
            {
                "name": "server",
                "image": f"nvcr.io/nvidia/tritonserver@{DIGEST}",
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
            }
        ]
    },
}


def decide(purpose: Purpose, pod: dict[str, Any]) -> Decision:
    return review(request(pod), purpose, ABOUT, RULES)


def mutated(pod: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = jsonpatch.apply_patch(copy.deepcopy(pod), list(decide(Purpose.MUTATE, pod).patch))
    return result


def defaults(container: dict[str, Any]) -> None:
    container.update(
        terminationMessagePath="/dev/termination-log", imagePullPolicy="IfNotPresent", restartPolicyRules=None
    )


def variable(container: dict[str, Any]) -> None:
    container.setdefault("env", []).append({"name": "CLUSTER", "value": "eu"})


def mount(container: dict[str, Any]) -> None:
    container.setdefault("volumeMounts", []).append({"name": "identity", "mountPath": "/var/run/secrets/identity"})


@pytest.mark.parametrize("added", [defaults, variable, mount])
def test_what_is_added_to_every_container_makes_the_second_review_find_and_change_nothing(
    added: Callable[[dict[str, Any]], None],
) -> None:
    pod = mutated(POD)
    for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
        added(container)
    assert decide(Purpose.MUTATE, pod).patch == ()
    decision = decide(Purpose.VALIDATE, pod)
    assert (decision.allowed, decision.missing, decision.findings) == (True, (), ())


@pytest.mark.parametrize(
    "forged",
    [
        {"image": "busybox"},
        {"args": ["preload"]},
        {"command": ["true"]},
        {"restartPolicy": "Always"},
        {"volumeMounts": []},
        {"env": [{"name": "LD_PRELOAD", "value": "/x"}]},
    ],
)
def test_a_forged_preloader_is_refused_and_not_doubled(forged: dict[str, Any]) -> None:
    pod = copy.deepcopy(POD)
    pod["spec"]["initContainers"] = [{**mutated(POD)["spec"]["initContainers"][0], **forged}]
    made = mutated(pod)
    assert [one["name"] for one in made["spec"]["initContainers"]] == ["tidewaiter-preload"]
    decision = decide(Purpose.VALIDATE, made)
    assert not decision.allowed
    assert "preload-altered" in {one.finding.rule for one in decision.findings}


def test_a_workload_that_brings_a_forged_preloader_is_told_at_apply_time() -> None:
    template = copy.deepcopy(POD)
    template["spec"]["initContainers"] = [{"name": "tidewaiter-preload", "image": "busybox"}]
    decision = review(request({"spec": {"template": template}}, kind="Deployment"), Purpose.VALIDATE, ABOUT, RULES)
    found = [one.finding.path for one in decision.findings if one.finding.rule == "preload-altered"]
    assert "spec.template.spec.initContainers[0].image" in found
