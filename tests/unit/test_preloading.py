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


@pytest.mark.parametrize("own_volume", [True, False])
def test_a_claim_that_is_brought_passes_and_is_brought_once(own_volume: bool) -> None:
    source = "pvc://models/m/1"
    about = context(approvals=[{"model": "m", "version": "1", "source": source, "digest": DIGEST}])
    pod = copy.deepcopy(POD)
    pod["metadata"]["annotations"] = {"tidewaiter.dev/model-uri": source}
    if own_volume:
        pod["spec"]["volumes"] = [{"name": "mine", "persistentVolumeClaim": {"claimName": "models"}}]
    made = jsonpatch.apply_patch(pod, list(review(request(pod), Purpose.MUTATE, about, RULES).patch))

    assert review(request(made), Purpose.MUTATE, about, RULES).patch == ()
    decision = review(request(made), Purpose.VALIDATE, about, RULES)

    assert (decision.allowed, decision.missing, decision.findings) == (True, (), ())
    ours = made["spec"]["initContainers"][0]
    assert "--source=file:///run/tidewaiter/source/m/1" in ours["args"]
    assert [one["name"] for one in made["spec"]["volumes"] if "persistentVolumeClaim" in one] == [
        "mine" if own_volume else "tidewaiter-source"
    ]


@pytest.mark.parametrize("folder", ["/var/run/secrets/identity", "/usr/lib/python3", "/run", "/run/tidewaiter/source"])
def test_a_credential_from_wherever_reaches_the_preloader_and_passes(folder: str) -> None:
    pod = copy.deepcopy(POD)
    pod["spec"]["volumes"] = [{"name": "key", "secret": {"secretName": "key"}}]
    pod["spec"]["containers"][0] |= {
        "env": [{"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": f"{folder}/key.json"}],
        "volumeMounts": [{"name": "key", "mountPath": folder, "readOnly": True}],
    }
    made = mutated(pod)

    ours = made["spec"]["initContainers"][0]
    named = ours["env"][0]["value"]
    mounted = next(one for one in ours["volumeMounts"] if one["name"] == "key")
    assert named == f"{mounted['mountPath']}/key.json"
    assert mounted["readOnly"] is True
    assert decide(Purpose.MUTATE, made).patch == ()
    decision = decide(Purpose.VALIDATE, made)
    assert (decision.allowed, decision.missing, decision.findings) == (True, (), ())


def test_a_folder_that_a_server_mounts_passes_and_is_brought_once() -> None:
    about = context(approvals=[{"model": "m", "version": "1", "source": "file:///share/m", "digest": DIGEST}])
    pod = copy.deepcopy(POD)
    pod["spec"]["volumes"] = [{"name": "share", "persistentVolumeClaim": {"claimName": "share"}}]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "share", "mountPath": "/share"}]
    made = jsonpatch.apply_patch(pod, list(review(request(pod), Purpose.MUTATE, about, RULES).patch))

    assert "--source=file:///run/tidewaiter/source/m" in made["spec"]["initContainers"][0]["args"]
    assert review(request(made), Purpose.MUTATE, about, RULES).patch == ()
    decision = review(request(made), Purpose.VALIDATE, about, RULES)
    assert (decision.allowed, decision.missing, decision.findings) == (True, (), ())
