"""Lets a pod that asks for an accelerator onto the nodes that have it.

Fields: ``spec.tolerations``, ``spec.affinity.nodeAffinity`` (required terms).

What it adds, in order:

* for each extended resource that a container asks for, the toleration that the
  ExtendedResourceToleration plugin would add (off by default on most managed
  clusters, AKS #1449); for shares and MIG slices of NVIDIA GPUs, and for DRA claims,
  that of ``nvidia.com/gpu`` too;
* the taints of the pools that the pod's workload class may use, and a requirement for
  those pools' labels in *every* existing node selector term (terms are ORed, so a
  term of its own would widen the choice).

A pool counts only if the cluster has a node of it, or the pool is ``autoscaled``; spot
pools only where the class may be preempted. What the author chose stays: if it leads
to none of the pools, the pod is not placed and a warning says so. DaemonSets, and pods
with a node name, are placed already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from admission.context import ReviewContext
from admission.mutator import Change, Mutator, MutatorSettings
from admission.pod import ModelPod, child, items
from admission.pools import Pool, Sharing, TaintEffect, tolerates
from admission.workload import WorkloadClass

_NVIDIA = "nvidia.com/"
_NVIDIA_GPU = "nvidia.com/gpu"
_HOST_NAME = "kubernetes.io/hostname"
_Requirement = dict[str, Any]


class GpuSchedulingSettings(MutatorSettings):
    """Settings of gpu-scheduling."""

    preemptible: tuple[WorkloadClass, ...] = (WorkloadClass.TRAINING, WorkloadClass.BATCH)
    """Workload classes that may run on nodes that the cloud takes back."""


def mutate(pod: ModelPod, context: ReviewContext, settings: GpuSchedulingSettings) -> Iterable[Change]:
    """Add tolerations and pool affinity."""
    if not pod.uses_accelerator:
        return
    resources = sorted(pod.accelerators) or [_NVIDIA_GPU]
    yield from _tolerate_resources(pod, resources)
    usable = _usable_pools(resources, context, settings)
    if not usable or pod.owner_kind == "DaemonSet" or pod.spec.get("nodeName"):
        return
    chosen = {name: pool for name, pool in usable.items() if _reachable(pod, pool, context)}
    if not chosen:
        yield Change(
            f"place it on a pool of workload class {context.workload.value} ({', '.join(usable)}), "
            "but the pod's own node selector leads to none of them",
            applied=False,
        )
        return
    yield from _tolerate_pools(pod, chosen)
    if _require(pod, list(chosen.values())):
        yield Change(f"place it on pool {' or '.join(chosen)} (workload class {context.workload.value})")


def _tolerate_resources(pod: ModelPod, resources: Sequence[str]) -> Iterator[Change]:
    keys = list(resources)
    if any(name.startswith(_NVIDIA) for name in resources) and _NVIDIA_GPU not in keys:
        keys.append(_NVIDIA_GPU)
    for key in keys:
        if not any(
            one.get("operator") == "Exists" and one.get("key") in (key, None, "") and _covers_no_schedule(one)
            for one in pod.spec.get("tolerations") or ()
        ):
            items(pod.spec, "tolerations").append({"effect": "NoSchedule", "key": key, "operator": "Exists"})
            yield Change(f"tolerate the taint {key}")


def _covers_no_schedule(toleration: Mapping[str, Any]) -> bool:
    return toleration.get("effect") in (None, "", TaintEffect.NO_SCHEDULE.value)


def _usable_pools(resources: Sequence[str], context: ReviewContext, settings: GpuSchedulingSettings) -> dict[str, Pool]:
    """Pools that exist, offer the resources, and are open to the workload class."""
    return {
        name: pool
        for name, pool in context.pools.items()
        if context.workload in pool.workloads
        and (not pool.spot or context.workload in settings.preemptible)
        and all(_offers(pool, resource) for resource in resources)
        and (pool.autoscaled or _nodes(pool, context))
    }


def _offers(pool: Pool, resource: str) -> bool:
    if not resource.startswith(pool.resources):
        return False
    if resource.startswith("nvidia.com/mig-"):
        return pool.sharing is Sharing.MIG
    if resource == "nvidia.com/gpu.shared":
        return pool.sharing in (Sharing.MPS, Sharing.TIME_SLICING)
    return True


def _nodes(pool: Pool, context: ReviewContext) -> list[Mapping[str, str]]:
    wanted = pool.node_labels.items()
    return [labels for labels in context.cluster.nodes if all(labels.get(key) == value for key, value in wanted)]


def _reachable(pod: ModelPod, pool: Pool, context: ReviewContext) -> bool:
    """Whether a node of the pool fits what the author asked of nodes."""
    selector = pod.spec.get("nodeSelector") or {}
    terms = _terms(pod)
    nodes = _nodes(pool, context)
    if not nodes:
        # Scaled to zero: only a contradiction with the pool's own labels is known.
        return all(pool.node_labels.get(key, value) == value for key, value in selector.items())
    return any(
        all(key == _HOST_NAME or labels.get(key) == value for key, value in selector.items())
        and (not terms or any(_fits(term, labels) for term in terms))
        for labels in nodes
    )


def _terms(pod: ModelPod) -> list[dict[str, Any]]:
    node_affinity = (pod.spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return required.get("nodeSelectorTerms") or []


def _fits(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a node with ``labels`` fits one term; unknown operators and fields fit."""
    for requirement in term.get("matchExpressions") or ():
        key, operator = requirement.get("key"), requirement.get("operator")
        values, value = requirement.get("values") or (), labels.get(key or "")
        if key == _HOST_NAME:
            continue
        if operator == "In" and value not in values:
            return False
        if operator == "NotIn" and value in values:
            return False
        if operator == "Exists" and value is None:
            return False
        if operator == "DoesNotExist" and value is not None:
            return False
    return True


def _tolerate_pools(pod: ModelPod, pools: Mapping[str, Pool]) -> Iterator[Change]:
    for name, pool in pools.items():
        for taint in pool.taints:
            tolerations = pod.spec.get("tolerations") or ()
            if tolerates(tolerations, taint.key, taint.value, taint.effect.value):
                continue
            toleration = {"effect": taint.effect.value, "key": taint.key, "operator": "Equal", "value": taint.value}
            if not taint.value:
                toleration = {"effect": taint.effect.value, "key": taint.key, "operator": "Exists"}
            items(pod.spec, "tolerations").append(toleration)
            shown = f"{taint.key}={taint.value}" if taint.value else taint.key
            yield Change(f"tolerate the taint {shown} of pool {name}")


def _require(pod: ModelPod, pools: Sequence[Pool]) -> bool:
    """Put a requirement for the pools into every term; False where each has one."""
    selector = pod.spec.get("nodeSelector") or {}
    if any(all(selector.get(key) == value for key, value in pool.node_labels.items()) for pool in pools):
        return False
    alternatives = _alternatives(pools)
    terms = _terms(pod)
    if terms:
        result: list[dict[str, Any]] = []
        for term in terms:
            if _empty(term) or _implies(term, pools):
                # An empty term matches no node: filling it would widen the choice.
                result.append(term)
            else:
                result.extend(_joined(term, requirements) for requirements in alternatives)
        if result == terms:
            return False
    else:
        result = [{"matchExpressions": requirements} for requirements in alternatives]
    node_affinity = child(child(pod.spec, "affinity"), "nodeAffinity")
    child(node_affinity, "requiredDuringSchedulingIgnoredDuringExecution")["nodeSelectorTerms"] = result
    return True


def _alternatives(pools: Sequence[Pool]) -> list[list[_Requirement]]:
    """Requirements, any list of which leads to one of the pools."""
    keys = {tuple(sorted(pool.node_labels)) for pool in pools}
    if len(keys) == 1 and len(only := keys.pop()) == 1:
        key = only[0]
        values = sorted({pool.node_labels[key] for pool in pools})
        return [[{"key": key, "operator": "In", "values": values}]]
    return [
        [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(pool.node_labels.items())]
        for pool in pools
    ]


def _joined(term: Mapping[str, Any], requirements: list[_Requirement]) -> dict[str, Any]:
    return {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *requirements]}


def _empty(term: Mapping[str, Any]) -> bool:
    return not term.get("matchExpressions") and not term.get("matchFields")


def _implies(term: Mapping[str, Any], pools: Sequence[Pool]) -> bool:
    """Whether the term already leads to nothing but nodes of the pools (or to none at all)."""
    demanded: dict[str, set[str]] = {}
    for requirement in term.get("matchExpressions") or ():
        if requirement.get("operator") == "In":
            # Requirements of one term are ANDed.
            values = set(requirement.get("values") or ())
            demanded[requirement.get("key") or ""] = values & demanded.get(requirement.get("key") or "", values)
    if not all(demanded.values()):
        return True
    shared = {tuple(sorted(pool.node_labels)) for pool in pools}
    if len(shared) == 1 and len(only := next(iter(shared))) == 1:
        allowed = {pool.node_labels[only[0]] for pool in pools}
        return bool(demanded.get(only[0])) and demanded[only[0]] <= allowed
    return any(all(demanded.get(key) == {value} for key, value in pool.node_labels.items()) for pool in pools)


MUTATOR = Mutator(id="gpu-scheduling", order=10, mutate=mutate, settings=GpuSchedulingSettings)
