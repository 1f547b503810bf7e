"""``WorkloadPod.authored``: the most specific place holds, and what was brought in has no parts."""

from __future__ import annotations

import pytest

from admission.workload_kinds.workload_pod import WorkloadPod

_POD = WorkloadPod(
    {},
    origins=(
        ("spec", "spec.predictor"),
        ("", "fallback"),
        ("spec.containers[0]", "spec.predictor.model"),
        ("spec.containers[0].args[1]", "spec.predictor.model.args[0]"),
    ),
    brought=(("spec.containers[0].args", "spec.runtime"), ("spec.volumes[1]", "")),
)


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("spec.nodeSelector[a.b]", "spec.predictor.nodeSelector[a.b]"),
        ("spec", "spec.predictor"),
        ("specific", "fallback.specific"),
        ("", "fallback"),
        ("metadata.labels[x]", "fallback.metadata.labels[x]"),
        ("spec.containers[0].image", "spec.predictor.model.image"),
        ("spec.containers[0]", "spec.predictor.model"),
        ("spec.containers[01].image", "spec.predictor.containers[01].image"),
        ("spec.containers[0].args", "spec.runtime"),
        ("spec.containers[0].args[0]", "spec.runtime"),
        ("spec.containers[0].args[1]", "spec.predictor.model.args[0]"),
        ("spec.containers[0].argsX", "spec.predictor.model.argsX"),
        ("spec.volumes[1].hostPath", ""),
    ],
)
def test_a_path_of_the_pod_is_one_of_the_author_s(path: str, where: str) -> None:
    assert _POD.authored(path) == where


def test_a_pod_of_its_own_is_where_it_stands() -> None:
    assert WorkloadPod({}).authored("spec.containers[0].image") == "spec.containers[0].image"
    assert WorkloadPod({}).authored("") == ""
