"""A first installation, with the default settings on a cluster that nobody has labelled for us."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from admission.accelerators import total_accelerators
from admission.context import ClusterFacts
from admission.pod import ModelPod
from admission.workload import WorkloadClass
from tests.kernel import MUTATORS, context
from webhook.settings import Settings

GKE = {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-nodepool": "gpu"}
EKS = {"karpenter.k8s.aws/instance-gpu-name": "a10g", "karpenter.sh/capacity-type": "on-demand"}
AKS = {"kubernetes.azure.com/accelerator": "nvidia", "kubernetes.azure.com/agentpool": "gpu"}
POD: dict[str, Any] = {"spec": {"containers": [{"name": "server", "resources": {"limits": {"nvidia.com/gpu": 1}}}]}}


@pytest.mark.parametrize("workload", list(WorkloadClass))
@pytest.mark.parametrize("nodes", [(), (GKE,), (EKS,), (AKS,), ({},)], ids=["unknown", "GKE", "EKS", "AKS", "plain"])
def test_default_pools_pin_a_pod_to_no_label_that_no_node_has(
    nodes: tuple[dict[str, str], ...], workload: WorkloadClass
) -> None:
    pod = ModelPod(copy.deepcopy(POD))
    settings = Settings()
    about = replace(context(), pools=settings.pools, cluster=ClusterFacts(nodes=nodes), workload=workload)
    changes = list(MUTATORS["gpu-scheduling"].mutate(pod, about, settings.mutator("gpu-scheduling")))
    assert [one.summary for one in changes] == ["tolerate the taint nvidia.com/gpu"]
    assert pod.spec.get("affinity") is None
    assert pod.spec["tolerations"] == [{"effect": "NoSchedule", "key": "nvidia.com/gpu", "operator": "Exists"}]


def test_default_pools_place_a_pod_as_soon_as_a_node_has_their_label() -> None:
    pod = ModelPod(copy.deepcopy(POD))
    settings = Settings()
    nodes = ({**GKE, "tidewaiter.dev/pool": "inference"},)
    about = replace(context(), pools=settings.pools, cluster=ClusterFacts(nodes=nodes))
    changes = list(MUTATORS["gpu-scheduling"].mutate(pod, about, settings.mutator("gpu-scheduling")))
    assert changes[-1].summary == "place it on pool inference (workload class inference)"


def _asking(count: int, **more: str) -> dict[str, Any]:
    return {"resources": {"limits": {"nvidia.com/gpu": count}}, **more}


@pytest.mark.parametrize(
    ("init", "main", "total"),
    [
        ([], [_asking(1), _asking(2)], 3),
        ([_asking(4)], [_asking(1)], 4),
        ([_asking(1, restartPolicy="Always"), _asking(4)], [_asking(2)], 5),
        ([_asking(4), _asking(1, restartPolicy="Always")], [_asking(2)], 4),
        ([], [{"resources": {"requests": {"nvidia.com/gpu": "2"}}}], 2),
    ],
)
def test_a_pod_asks_for_what_the_scheduler_reserves(init: list[Any], main: list[Any], total: int) -> None:
    assert total_accelerators(init, main) == {"nvidia.com/gpu": total}
