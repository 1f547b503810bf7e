from __future__ import annotations

from typing import Any

import pytest

from admission.pod_schema import MalformedObjectError, check_shape


@pytest.mark.parametrize(
    ("pod", "sentence"),
    [
        ([], "object: Input should be a valid dictionary, found a list; see `kubectl explain pod`"),
        ("x", "object: "),
        ({"metadata": 1}, "metadata: Input should be a valid dictionary, found a number"),
        ({"metadata": {"labels": []}}, "metadata.labels: "),
        ({"metadata": {"labels": {"a.b/c": 1}}}, "metadata.labels[a.b/c]: Input should be a valid string, found a number; see `kubectl explain pod.metadata.labels`"),
        ({"metadata": {"annotations": {"str": None}}}, "metadata.annotations[str]: Input should be a valid string, found null"),
        ({"metadata": {"ownerReferences": {}}}, "metadata.ownerReferences: "),
        ({"metadata": {"ownerReferences": [{"controller": "yes"}]}}, "metadata.ownerReferences[0].controller: "),
        ({"spec": []}, "spec: "),
        ({"spec": {"containers": {}}}, "spec.containers: Input should be a valid list, found an object"),
        ({"spec": {"containers": [{}, None]}}, "spec.containers[1]: Input should be a valid dictionary, found null"),
        ({"spec": {"containers": [{"image": 5}]}}, "spec.containers[0].image: Input should be a valid string, found a number; see `kubectl explain pod.spec.containers.image`"),
        ({"spec": {"containers": [{"args": [1]}]}}, "spec.containers[0].args[0]: "),
        ({"spec": {"containers": [{"args": "--model"}]}}, "spec.containers[0].args: "),
        ({"spec": {"containers": [{"env": [{"name": "A", "value": 8080}]}]}}, "spec.containers[0].env[0].value: "),
        ({"spec": {"containers": [{"env": {"A": "b"}}]}}, "spec.containers[0].env: "),
        ({"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}}, "spec.containers[0].ports[0].containerPort: Input should be a valid integer, found a string"),
        ({"spec": {"containers": [{"ports": [{"hostPort": True}]}]}}, "spec.containers[0].ports[0].hostPort: "),
        ({"spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": []}}}]}}, "spec.containers[0].resources.limits[nvidia.com/gpu]: Input should be a valid string, found a list; see `kubectl explain pod.spec.containers.resources.limits`"),
        ({"spec": {"containers": [{"securityContext": {"runAsUser": "0"}}]}}, "spec.containers[0].securityContext.runAsUser: "),
        ({"spec": {"containers": [{"securityContext": {"privileged": 1}}]}}, "spec.containers[0].securityContext.privileged: "),
        ({"spec": {"containers": [{"securityContext": {"capabilities": {"drop": "ALL"}}}]}}, "capabilities.drop: "),
        ({"spec": {"containers": [{"lifecycle": {"preStop": "sleep"}}]}}, "spec.containers[0].lifecycle.preStop: "),
        ({"spec": {"containers": [{"livenessProbe": []}]}}, "spec.containers[0].livenessProbe: "),
        ({"spec": {"ephemeralContainers": [5]}}, "spec.ephemeralContainers[0]: "),
        ({"spec": {"volumes": [{"persistentVolumeClaim": "data"}]}}, "spec.volumes[0].persistentVolumeClaim: "),
        ({"spec": {"volumes": [{"hostPath": "/"}]}}, "spec.volumes[0].hostPath: "),
        ({"spec": {"volumes": [{"name": []}]}}, "spec.volumes[0].name: "),
        ({"spec": {"resourceClaims": [{"resourceClaimTemplateName": []}]}}, "spec.resourceClaims[0].resourceClaimTemplateName: "),
        ({"spec": {"tolerations": [{"key": 1}]}}, "spec.tolerations[0].key: "),
        ({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}}}, "requiredDuringSchedulingIgnoredDuringExecution: "),
        ({"spec": {"nodeSelector": {"zone": 1}}}, "spec.nodeSelector[zone]: "),
        ({"spec": {"hostNetwork": "true"}}, "spec.hostNetwork: "),
        ({"spec": {"os": "linux"}}, "spec.os: "),
        ({"spec": {"securityContext": {"sysctls": {}}}}, "spec.securityContext.sysctls: "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["", "spec.jobTemplate.spec.template"])
def test_a_malformed_pod_gives_one_sentence_with_the_authors_path(pod: Any, sentence: str, path: str) -> None:
    with pytest.raises(MalformedObjectError) as refusal:
        check_shape(pod, path)
    text = str(refusal.value)
    assert "\n" not in text
    assert (sentence if not path else sentence.removeprefix("object: ")) in text
    assert text.startswith(path)


NULLS = dict.fromkeys(
    ["initContainers", "containers", "ephemeralContainers", "volumes", "tolerations", "affinity", "nodeSelector", "nodeName",
     "priorityClassName", "serviceAccountName", "automountServiceAccountToken", "resourceClaims", "securityContext", "os"]
)  # fmt: skip


@pytest.mark.parametrize(
    "pod",
    [
        {},
        {"metadata": None, "spec": None},
        {"metadata": {"labels": None, "annotations": None, "ownerReferences": None}, "spec": NULLS},
        {
            "spec": {
                "containers": [{"env": None, "args": None, "ports": None, "resources": None, "securityContext": None}]
            }
        },
        {"spec": {"containers": [{"resources": {"limits": {"cpu": 1, "memory": "1Gi", "x": 1.5}, "requests": None}}]}},
        {"spec": {"containers": [{"securityContext": {"capabilities": {"add": None, "drop": None}}}]}},
        {"spec": {"unknown": [{}], "containers": [{"unknown": 1}]}, "status": "anything"},
        {"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": None}}}},
    ],
)
def test_null_is_absent_and_unknown_fields_are_not_looked_at(pod: Any) -> None:
    check_shape(pod)
