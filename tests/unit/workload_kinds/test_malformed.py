"""Whatever stands in place of a field: the pods are well formed, or a sentence says which field is not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from admission.pod_schema import MalformedObjectError, check_shape
from admission.workload_kinds.kinds import workload_kind
from admission.workload_kinds.workload_pod import WorkloadFacts
from tests.unit.workload_kinds.author_paths import examples, facts

_EXAMPLES = examples()
_KEYS = st.sampled_from(["name", "containers", "labels", "spec", "template", "env", "image", "a.b/c", "", "0", "[x]"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-1, 1) | st.sampled_from(["", "x", "{{.Name}}", "a: b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a JSON document."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(members):
        yield value, key
        yield from _places(one)


def _pods(obj: Any, known: WorkloadFacts, example: dict[str, Any]) -> list[Any]:
    written = example["object"]
    kind = workload_kind(written["apiVersion"].rpartition("/")[0], written["kind"])
    assert kind is not None
    return list(kind.pods(obj, "models", known))


def _check(obj: Any, known: WorkloadFacts, example: dict[str, Any]) -> None:
    before = copy.deepcopy(obj)
    try:
        pods = _pods(obj, known, example)
    except MalformedObjectError as error:
        assert "found" in str(error)
        return
    finally:
        assert obj == before
    for pod in pods:
        check_shape(pod.pod)
        for path in ("", "metadata.labels[x]", "spec.containers[0].image", "spec.containers[0].env[0]", "spec.x"):
            assert isinstance(pod.authored(path), str)


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_field_of_the_object_may_be_anything(data: st.DataObject) -> None:
    example = data.draw(st.sampled_from(_EXAMPLES))
    obj = copy.deepcopy(example["object"])
    places = list(_places(obj))
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = data.draw(st.sampled_from(places))
        holder[key] = data.draw(_JSON)
    _check(obj, facts(example), example)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_field_of_a_runtime_may_be_anything(data: st.DataObject) -> None:
    example = copy.deepcopy(data.draw(st.sampled_from([one for one in _EXAMPLES if one.get("runtimes")])))
    holder, key = data.draw(st.sampled_from(list(_places(example["runtimes"]))))
    holder[key] = data.draw(_JSON)
    if all(isinstance(one, str) for one in example["runtimes"]):
        _check(example["object"], facts(example), example)


@pytest.mark.parametrize("obj", [None, [], "x", 1, {}, {"spec": None}, {"metadata": None, "spec": {}}])
def test_an_object_may_be_empty_or_none_at_all(obj: Any) -> None:
    for example in _EXAMPLES:
        _check(obj, WorkloadFacts(), example)


@pytest.mark.parametrize(
    ("kind", "obj", "sentence"),
    [
        (
            ("apps", "Deployment"),
            {"spec": {"template": []}},
            "spec.template: should be an object, found a list; see `kubectl explain deployment.spec.template`",
        ),
        (
            ("apps", "Deployment"),
            {"spec": {"template": {"spec": {"containers": [{"image": 5}]}}}},
            "spec.template.spec.containers[0].image: Input should be a valid string, found a number",
        ),
        (
            ("serving.kserve.io", "InferenceService"),
            {"spec": {"predictor": {"model": {"args": "--a"}}}},
            "spec.predictor.model.args: should be a list, found a string",
        ),
        (
            ("serving.kserve.io", "InferenceService"),
            {"metadata": {"labels": {"a.b/c": 1}}, "spec": {"predictor": {"model": {}}}},
            "metadata.labels[a.b/c]: should be a string, found a number; see `kubectl explain inferenceservice.metadata.labels`",
        ),
        (
            ("jobset.x-k8s.io", "JobSet"),
            {"spec": {"replicatedJobs": {"a": 1}}},
            "spec.replicatedJobs: should be a list, found an object; see `kubectl explain jobset.spec.replicatedJobs`",
        ),
        (
            ("kubeflow.org", "PyTorchJob"),
            {"spec": {"pytorchReplicaSpecs": {"Worker": 5}}},
            "spec.pytorchReplicaSpecs.Worker: should be an object, found a number",
        ),
        (
            ("machinelearning.seldon.io", "SeldonDeployment"),
            {
                "spec": {
                    "predictors": [{"graph": {"children": [{"modelUri": True, "name": "a", "implementation": "B"}]}}]
                }
            },
            "spec.predictors[0].graph.children[0].modelUri: should be a string, found a boolean",
        ),
        (
            ("apps.nvidia.com", "NIMService"),
            {"spec": {"groupID": True}},
            "spec.groupID: should be a whole number, found a boolean",
        ),
        (
            ("apps.nvidia.com", "NIMService"),
            {"spec": {"userID": "0"}},
            "spec.userID: should be a whole number, found a string",
        ),
    ],
)
def test_the_sentence_names_the_author_s_field(kind: tuple[str, str], obj: dict[str, Any], sentence: str) -> None:
    known = workload_kind(*kind)
    assert known is not None
    with pytest.raises(MalformedObjectError) as caught:
        known.pods(obj, "models", WorkloadFacts())
    assert str(caught.value).startswith(sentence)


def test_a_runtime_of_the_wrong_shape_is_named() -> None:
    known = workload_kind("serving.kserve.io", "InferenceService")
    assert known is not None
    obj = {"spec": {"predictor": {"model": {"modelFormat": {"name": "a"}, "runtime": "odd"}}}}
    broken = WorkloadFacts({("", "odd"): {"spec": {"containers": {}}}})
    with pytest.raises(MalformedObjectError, match=r"^clusterservingruntime odd: spec.containers: should be a list"):
        known.pods(obj, "models", broken)


def test_nesting_as_deep_as_a_review_may_have_is_read() -> None:
    example = next(one for one in _EXAMPLES if one["name"].startswith("the runtime that is asked for"))
    deep: Any = "{{.Name}}"
    for _ in range(240):
        deep = {"x": deep}
    obj = copy.deepcopy(example["object"])
    obj["spec"]["predictor"]["model"]["livenessProbe"] = deep
    assert len(_pods(obj, facts(example), example)) == 1
