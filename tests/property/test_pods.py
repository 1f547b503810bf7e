"""What holds for every pod, with every mutator and rule that there is."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonpatch
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from admission.decision import Decision, Purpose
from admission.finding import JudgedFinding
from admission.frameworks import KSERVE_SOURCE_URI
from admission.pipeline import RuleSet, review
from admission.pod_schema import MalformedObjectError, check_shape
from tests.kernel import DIGEST, REPLICASET_CONTROLLER, context, request, rules
from tests.property.pods import CLEAN_PODS, GPU_PODS, NODE_LABELS, PODS, SOURCE, broken_pods
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.sources import FolderSource, built_in_policies

OURS = ("tidewaiter-preload", "tidewaiter-verify")
COST_LABELS = {"team", "project", "model", "environment", "env"}
PRELOADER = f"acme/preloader@{DIGEST}"
CLASSES = {"tidewaiter-inference-production": 2000, "tidewaiter-training": 100, "global": 10, "mine": 1}
ONE_KEY = {
    "inference": {"nodeLabels": {"pool": "inference"}, "workloads": ["inference"], "taints": [{"key": "nvidia.com/gpu", "value": "present"}]},
    "training": {"nodeLabels": {"pool": "training"}, "workloads": ["training", "inference"], "taints": [{"key": "spot"}]},
}  # fmt: skip
TWO_KEYS = {
    "serving": {"nodeLabels": {"pool": "inference", "tier": "serving"}, "workloads": ["inference"]},
    "zero": {"nodeLabels": {"pool": "training", "tier": "batch"}, "workloads": ["inference", "training"], "autoscaled": True, "readOnlyRoot": False},
}  # fmt: skip
NODES = [dict(zip(NODE_LABELS, values, strict=True)) for values in itertools.product(*NODE_LABELS.values())]
POLICIES = EmbeddedEngine(FolderSource(built_in_policies()).read())


class World:
    """Facts and settings; pools differ, and so does what happens to images that nobody knows."""

    def __init__(self, pools: Mapping[str, Any], unknown_images: str, global_default: str) -> None:
        self.global_default = global_default
        facts = {
            "nodes": [node for node in NODES if node["pool"] != "training" or "zero" not in pools],
            "priorityClasses": CLASSES,
            "globalDefault": global_default,
            "selectors": [{"kind": "Service", "name": "s", "matchLabels": {"env": "production"}}],
            "claimTemplates": {"gpu": ["gpu.nvidia.com"], "nic": ["rdma.example.com"]},
        }
        self.context = context(
            pools=pools,
            cluster_facts=facts,
            namespace={"labels": {"team": "search"}},
            approvals=[{"model": "m", "version": "1", "source": SOURCE, "digest": DIGEST}],
        )
        own = {"preload": {"image": PRELOADER}, "security-context": {"unknownImages": unknown_images}}
        self.rules: RuleSet = rules(settings=own, policies=POLICIES.rules)

    def decide(self, purpose: Purpose, pod: Any, **more: Any) -> Decision:
        return review(request(pod, **more), purpose, self.context, self.rules, POLICIES.evaluate_now)

    def mutated(self, pod: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """The pod with the patch applied by a library that is not ours."""
        before = json.dumps(pod)
        patch = self.decide(Purpose.MUTATE, pod, **more).patch
        assert json.dumps(pod) == before
        result: dict[str, Any] = jsonpatch.apply_patch(copy.deepcopy(dict(pod)), list(patch))
        return result

    def stamped(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        """What the API server's own plugins make of a pod before a webhook sees it."""
        result = copy.deepcopy(dict(pod))
        spec = result["spec"]
        name = spec.get("priorityClassName") or self.global_default
        if name:
            spec["priorityClassName"] = name
        spec.setdefault("priority", CLASSES.get(name, 0))
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
        if spec.get("automountServiceAccountToken") is None and not any(
            one.get("name") == "kube-api-access-x" for one in spec.get("volumes") or ()
        ):
            spec["volumes"] = [*(spec.get("volumes") or ()), {"name": "kube-api-access-x", "projected": {}}]
            for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
                mount = {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
                container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
        return result


WORLDS = [
    World(ONE_KEY, "preview", ""),
    World(TWO_KEYS, "apply", ""),
    World(ONE_KEY, "apply", "global"),
    World({}, "off", ""),
]
IN_A_WORLD = st.sampled_from(WORLDS)
many = settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def container_lists(pod: Mapping[str, Any], *, ours: bool = True) -> Iterator[list[dict[str, Any]]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield [one for one in pod["spec"].get(kind) or () if ours or one.get("name") not in OURS]


def pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each container of the author's, before and after."""
    for old, new in zip(container_lists(before), container_lists(after, ours=False), strict=True):
        yield from zip(old, new, strict=True)


def without_null(value: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: inner for key, inner in (value or {}).items() if inner is not None}


@many
@given(PODS | GPU_PODS, IN_A_WORLD)
def test_a_second_run_changes_nothing_and_misses_nothing(pod: Any, world: World) -> None:
    for start in (pod, world.stamped(pod)):
        once = world.mutated(start)
        for again in (once, world.stamped(once)):
            decision = world.decide(Purpose.MUTATE, again)
            assert decision.patch == ()
            assert not [one for one in decision.injections if not one.preview]
            assert world.decide(Purpose.VALIDATE, again).missing == ()
            if again["spec"].get("automountServiceAccountToken") is False:
                assert "kube-api-access-x" not in json.dumps(again)


@many
@given(PODS, IN_A_WORLD)
def test_what_the_author_set_is_never_weakened(pod: Any, world: World) -> None:
    after = world.mutated(pod)
    contexts = [(pod["spec"], after["spec"]), *pairs(pod, after)]
    for old, new in (
        (without_null(one.get("securityContext")), other.get("securityContext") or {}) for one, other in contexts
    ):
        capabilities, now = without_null(old.pop("capabilities", None)), new.get("capabilities") or {}
        assert {key: new.get(key) for key in old if key != "sysctls"} == {
            key: old[key] for key in old if key != "sysctls"
        }
        assert (new.get("sysctls") or [])[: len(old.get("sysctls", ()))] == old.get("sysctls", [])
        assert set(now.get("drop") or ()) >= set(capabilities.get("drop", ()))
        assert {key: now.get(key) for key in capabilities if key != "drop"} == {
            key: capabilities[key] for key in capabilities if key != "drop"
        }
    tolerations = pod["spec"].get("tolerations") or []
    assert (after["spec"].get("tolerations") or [])[: len(tolerations)] == tolerations
    if pod["spec"].get("automountServiceAccountToken") is not None:
        assert after["spec"]["automountServiceAccountToken"] is pod["spec"]["automountServiceAccountToken"]
    named = pod["spec"].get("priorityClassName")
    if named and named != world.global_default:
        assert {key: after["spec"].get(key) for key in PRIORITY} == {key: pod["spec"].get(key) for key in PRIORITY}


PRIORITY = ("priorityClassName", "priority", "preemptionPolicy")


@many
@given(PODS | GPU_PODS, IN_A_WORLD)
def test_no_pod_gets_a_node_that_its_author_ruled_out(pod: Any, world: World) -> None:
    after = world.mutated(pod)
    assert after["spec"].get("nodeSelector") == pod["spec"].get("nodeSelector")
    for node in NODES:
        assert admits(pod, node) or not admits(after, node)


@many
@given(GPU_PODS, st.sampled_from([world for world in WORLDS if "zero" not in world.context.pools]))
def test_a_pod_is_pinned_only_where_a_node_has_what_it_asks_for(pod: Any, world: World) -> None:
    after = world.mutated(pod)
    if without_null(after["spec"]).get("affinity") == without_null(pod["spec"]).get("affinity"):
        return
    count = pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    wanted = pod["metadata"]["labels"].get("tidewaiter.dev/gpu")
    admitted = [node for node in NODES if admits(after, node)]
    assert any(int(node["nvidia.com/gpu.count"]) >= count for node in admitted)
    assert wanted != "A100" or all("A100" in node["nvidia.com/gpu.product"] for node in admitted)
    assert wanted != "H100"


def admits(pod: Mapping[str, Any], node: Mapping[str, str]) -> bool:
    """Whether the required node affinity lets the pod onto a node, as the scheduler has it."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms")
    if not terms:
        return True
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(meets(one, node) for one in term.get("matchExpressions") or ())
        for term in terms
    )


def meets(requirement: Mapping[str, Any], node: Mapping[str, str]) -> bool:
    value, values = node.get(requirement.get("key") or ""), requirement.get("values") or ()
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }.get(requirement.get("operator") or "", True)


def left(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The pod without what is ours to write: what is left must not change."""
    rest = copy.deepcopy(dict(obj))
    metadata, spec = rest.get("metadata") or {}, rest["spec"]
    rest["metadata"] = without_null(metadata)
    rest["metadata"]["labels"] = {
        key: value for key, value in (metadata.get("labels") or {}).items() if key not in COST_LABELS
    }
    rest["metadata"]["annotations"] = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if not key.startswith("tidewaiter.dev/full-")
    }
    for key in ("tolerations", "automountServiceAccountToken", *PRIORITY):
        spec.pop(key, None)
    affinity = without_null(spec.pop("affinity", None))
    node_affinity = without_null(affinity.pop("nodeAffinity", None))
    required = without_null(node_affinity.pop("requiredDuringSchedulingIgnoredDuringExecution", None))
    required.pop("nodeSelectorTerms", None)
    spec["placement"] = [affinity, node_affinity, required]
    for holder in (spec, *itertools.chain(*container_lists(rest))):
        security = without_null(holder.pop("securityContext", None))
        capabilities = without_null(security.pop("capabilities", None))
        holder["unknown"] = [security.get("unknownField"), capabilities.get("unknownField")]
    spec["volumes"] = [one for one in spec.get("volumes") or () if one not in OUR_VOLUMES]
    for kind, containers in zip(
        ("initContainers", "containers", "ephemeralContainers"), container_lists(rest, ours=False), strict=True
    ):
        spec[kind] = [author_part(one) for one in containers]
    return rest


OUR_VOLUMES = (
    {"name": "tidewaiter-tmp", "emptyDir": {}},
    {"name": "tidewaiter-tmp-2", "emptyDir": {}},
    {"name": "tidewaiter-model", "emptyDir": {"sizeLimit": "50Gi"}},
    {"name": "tidewaiter-source", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
)


def author_part(container: dict[str, Any]) -> dict[str, Any]:
    """A container without the mounts and variables of ours, and with its model argument as it was."""
    part = without_null(container)
    for key in ("volumeMounts", "env", "command", "args"):
        part.pop(key, None)
    return part


@many
@given(PODS, IN_A_WORLD)
def test_only_fields_of_ours_change_and_unknown_fields_survive(pod: Any, world: World) -> None:
    after = world.mutated(pod)
    assert left(after) == left(pod)
    for old, new in pairs(pod, after):
        for key in ("volumeMounts", "env"):
            kept = (new.get(key) or [])[: len(old.get(key) or ())]
            assert [{**one, "value": "/"} if one.get("value") == SOURCE else one for one in old.get(key) or ()] == [
                {**entry, "value": "/"} if one.get("value") == SOURCE else entry
                for one, entry in zip(old.get(key) or (), kept, strict=True)
            ]
        for key in ("command", "args"):
            words, now = old.get(key) or [], new.get(key) or []
            assert len(now) - len(words) in (0, 1)
            assert all(one == other or SOURCE in one for one, other in zip(words, now, strict=False))
    labels = (pod.get("metadata") or {}).get("labels") or {}
    assert ((after.get("metadata") or {}).get("labels") or {}).items() >= labels.items()


@many
@given(CLEAN_PODS, IN_A_WORLD)
def test_a_plain_pod_of_a_known_system_runs_safely_with_nothing_added(pod: Any, world: World) -> None:
    after = world.stamped(world.mutated(world.stamped(pod)))
    decision = world.decide(Purpose.VALIDATE, after)
    wrong = [
        one.finding.text() for one in decision.findings if one.finding.rule in ("security-posture", "injection-missing")
    ]
    assert not wrong
    as_workload = world.decide(Purpose.VALIDATE, {"spec": {"template": pod}}, kind="Deployment")
    assert not [one for one in as_workload.findings if one.finding.rule == "security-posture"]


@settings(max_examples=2000, suppress_health_check=list(HealthCheck))
@given(broken_pods(), IN_A_WORLD)
def test_what_has_the_right_shape_is_judged_without_an_error(pod: Any, world: World) -> None:
    try:
        check_shape(pod)
    except MalformedObjectError as refusal:
        assert "\n" not in str(refusal)
        for purpose in Purpose:
            with pytest.raises(MalformedObjectError):
                world.decide(purpose, pod)
        return
    before = json.dumps(pod)
    mutation = world.decide(Purpose.MUTATE, pod)
    jsonpatch.apply_patch(copy.deepcopy(pod), list(mutation.patch))
    for decision in (
        mutation,
        world.decide(Purpose.VALIDATE, pod),
        world.decide(Purpose.VALIDATE, pod, old=pod),
        world.decide(Purpose.VALIDATE, {"spec": {"template": pod}}, kind="Deployment"),
    ):
        assert decision.allowed or decision.denial()
        assert all(decision.warnings())
    assert world.decide(Purpose.VALIDATE, pod, old=pod).findings == ()
    assert json.dumps(pod) == before


@many
@given(PODS, IN_A_WORLD)
def test_a_workload_is_told_what_its_pod_is_told(pod: Any, world: World) -> None:
    """Findings of a template, at the author's fields, are those of the pod that its controller makes."""
    assume(not pod["spec"].get("ephemeralContainers"))
    # KServe's webhook is not here: of a template its annotation is believed, and the pod lacks what it makes of it.
    assume(KSERVE_SOURCE_URI not in ((pod.get("metadata") or {}).get("annotations") or {}))
    controller = {"userInfo": {"username": REPLICASET_CONTROLLER}}
    owner = {"ownerReferences": [{"kind": "ReplicaSet", "controller": True}]}
    child = {**pod, "metadata": {**pod["metadata"], **owner}}
    template = world.decide(Purpose.VALIDATE, {"spec": {"template": pod}}, kind="ReplicaSet")
    made = world.decide(Purpose.VALIDATE, world.mutated(child, **controller), **controller)
    assert {told(one) for one in template.findings} == {told(one) for one in made.findings}


def told(judged: JudgedFinding) -> tuple[str, str, str]:
    finding = judged.finding
    return finding.rule, finding.path.removeprefix("spec.template."), finding.message
