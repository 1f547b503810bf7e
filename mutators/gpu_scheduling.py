"""Lets a pod that asks for an accelerator onto the nodes that have it.

Fields: ``spec.tolerations``, ``spec.affinity.nodeAffinity`` (required terms).

What it adds, in order:

* for each extended resource that a container asks for, the toleration that the
  ExtendedResourceToleration plugin would add (off by default on most managed
  clusters, AKS #1449); for shares and MIG slices of NVIDIA GPUs, and for DRA claims,
  that of ``nvidia.com/gpu`` too;
* where the pod's own node selector asks for spot nodes, the taint that the cloud gives
  them, if the workload class may be preempted;
* the taints of the pools that the pod's workload class may use, and a requirement for
  those pools' labels in *every* existing node selector term.

A pool counts only if the cluster has a node of it, or the pool is ``autoscaled``; if a
node of it has as many accelerators, and the MIG profile, that the pod asks for, as far as
node labels (or the pool's ``gpusPerNode`` and ``products``) say; spot pools only where the
class may be preempted. The label ``tidewaiter.dev/gpu`` narrows the choice to a product or
a part of its name (``A100``, ``A100-80GB``) or to GPUs with at least so much memory
(``40Gi``), and ``tidewaiter.dev/mig-profile`` to slices that nodes offer as
``nvidia.com/gpu``. If no pool fits, the pod is not placed and a warning says why.

So a first installation is harmless: the default pools are nodes with the label
``tidewaiter.dev/pool``, and as long as no node has it, pods get tolerations of their
resources' taints and are pinned to nothing. Label the nodes of a GPU node pool, or name the
cloud's own labels under ``pools``, and its pods are placed there.

What the author chose stays: if it leads to none of the pools, the pod is not placed and a
warning says so. DaemonSets, and pods with a node name, are placed already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from admission.accelerators import NVIDIA_GPU, total_accelerators
from admission.context import ReviewContext
from admission.gpu_nodes import GpuRequest, NodeLabels, PoolFit, pool_fit
from admission.mutator import Change, Mutator, MutatorSettings
from admission.node_affinity import Alternative, contradicts, may_lead_to, require_one_of
from admission.pod import ModelPod, items
from admission.pools import SPOT_NODES, Pool, Sharing, Taint, TaintEffect, tolerates
from admission.workload import WorkloadClass

GPU_KEY = "tidewaiter.dev/gpu"
MIG_PROFILE_KEY = "tidewaiter.dev/mig-profile"
_NVIDIA = "nvidia.com/"
_MIG = "nvidia.com/mig-"


class GpuSchedulingSettings(MutatorSettings):
    """Settings of gpu-scheduling."""

    preemptible: tuple[WorkloadClass, ...] = (WorkloadClass.TRAINING, WorkloadClass.BATCH)
    """Workload classes that may run on nodes that the cloud takes back."""


def mutate(pod: ModelPod, context: ReviewContext, settings: GpuSchedulingSettings) -> Iterable[Change]:
    """Add tolerations and pool affinity."""
    if not pod.uses_accelerator:
        yield from _asks_for_nothing(pod)
        return
    resources = sorted(pod.accelerators) or [NVIDIA_GPU]
    yield from _tolerate_resources(pod, resources)
    yield from _tolerate_spot(pod, context, settings)
    request = _request(pod)
    yield from _disagreement(pod, resources)
    if pod.owner_kind == "DaemonSet" or pod.spec.get("nodeName"):
        return
    usable = _usable_pools(resources, context, settings)
    if not usable:
        return
    fits = {name: pool_fit(pool, nodes, request) for name, (pool, nodes) in usable.items()}
    fitting = {name: usable[name][0] for name, fit in fits.items() if not fit.misfit}
    if not fitting:
        misfits = "; ".join(f"pool {name} {fit.misfit}" for name, fit in fits.items())
        yield Change(
            f"place it on a pool of workload class {context.workload.value}, but it fits none of them: {misfits}",
            applied=False,
        )
        return
    yield from _place(pod, fitting, fits, context)


def _place(
    pod: ModelPod, fitting: Mapping[str, Pool], fits: Mapping[str, PoolFit], context: ReviewContext
) -> Iterator[Change]:
    chosen = {name: pool for name, pool in fitting.items() if _reachable(pod, pool, fits[name].nodes)}
    if not chosen:
        yield Change(
            f"place it on {_named(fitting)} (workload class {context.workload.value}), "
            "but the pod's own node selector or affinity does not lead there",
            applied=False,
        )
        return
    yield from _tolerate_pools(pod, chosen)
    if require_one_of(pod.spec, [_alternative(pool, fits[name]) for name, pool in chosen.items()]):
        yield Change(f"place it on {_named(chosen)} (workload class {context.workload.value})")


def _named(pools: Iterable[str]) -> str:
    names = list(pools)
    return f"pool {names[0]}" if len(names) == 1 else f"pools {', '.join(names[:-1])} or {names[-1]}"


def _asks_for_nothing(pod: ModelPod) -> Iterator[Change]:
    for key in (GPU_KEY, MIG_PROFILE_KEY):
        if pod.labels.get(key):
            yield Change(
                f"place it by its label {key}, but no container asks for a GPU: "
                f"set resources.limits[{NVIDIA_GPU}] in the one that needs it",
                applied=False,
            )


def _request(pod: ModelPod) -> GpuRequest:
    init, main = (pod.spec.get(kind) or () for kind in ("initContainers", "containers"))
    slices = any(resource.startswith(_MIG) for resource in pod.accelerators)
    profile = "" if slices else pod.labels.get(MIG_PROFILE_KEY) or ""
    return GpuRequest(total_accelerators(init, main), pod.labels.get(GPU_KEY) or "", profile)


def _disagreement(pod: ModelPod, resources: Iterable[str]) -> Iterator[Change]:
    profile = pod.labels.get(MIG_PROFILE_KEY)
    slices = [resource for resource in resources if resource.startswith(_MIG)]
    if profile and slices and f"{_MIG}{profile}" not in slices:
        yield Change(
            f"place it by its label {MIG_PROFILE_KEY} {profile}, but its containers ask for {', '.join(slices)}: "
            "let both say the same",
            applied=False,
        )


def _tolerate_resources(pod: ModelPod, resources: Sequence[str]) -> Iterator[Change]:
    keys = list(resources)
    if any(name.startswith(_NVIDIA) for name in resources) and NVIDIA_GPU not in keys:
        keys.append(NVIDIA_GPU)
    tolerated = {
        one.get("key") or ""
        for one in pod.spec.get("tolerations") or ()
        if one.get("operator") == "Exists" and _covers_no_schedule(one)
    }
    for key in keys:
        if key not in tolerated and "" not in tolerated:
            items(pod.spec, "tolerations").append({"effect": "NoSchedule", "key": key, "operator": "Exists"})
            yield Change(f"tolerate the taint {key}")


def _covers_no_schedule(toleration: Mapping[str, Any]) -> bool:
    return toleration.get("effect") in (None, "", TaintEffect.NO_SCHEDULE.value)


def _tolerate_spot(pod: ModelPod, context: ReviewContext, settings: GpuSchedulingSettings) -> Iterator[Change]:
    """The node selector asks for nodes that the cloud takes back: they are tainted."""
    selector = pod.spec.get("nodeSelector") or {}
    for (label, value), taint in SPOT_NODES.items():
        if selector.get(label) != value or (taint is not None and _tolerated(pod, taint)):
            continue
        if context.workload in settings.preemptible:
            if taint is not None:
                yield from _tolerate(pod, taint, "of spot nodes")
        else:
            yield Change(
                f"run it on spot nodes, which nodeSelector[{label}] asks for, but workload class "
                f"{context.workload.value} may not be preempted: take the selector out, or name the class in the "
                "settings (mutators.gpu-scheduling.preemptible)",
                applied=False,
            )


def _usable_pools(
    resources: Sequence[str], context: ReviewContext, settings: GpuSchedulingSettings
) -> dict[str, tuple[Pool, list[NodeLabels]]]:
    """Pools that exist, offer the resources, and are open to the workload class, with their nodes."""
    open_to_it = {
        name: (pool, _nodes(pool, context))
        for name, pool in context.pools.items()
        if context.workload in pool.workloads
        and (not pool.spot or context.workload in settings.preemptible)
        and all(_offers(pool, resource) for resource in resources)
    }
    return {name: found for name, found in open_to_it.items() if found[0].autoscaled or found[1]}


def _offers(pool: Pool, resource: str) -> bool:
    if not resource.startswith(pool.resources):
        return False
    if resource.startswith(_MIG):
        return pool.sharing is Sharing.MIG
    if resource == "nvidia.com/gpu.shared":
        return pool.sharing in (Sharing.MPS, Sharing.TIME_SLICING)
    return True


def _nodes(pool: Pool, context: ReviewContext) -> list[NodeLabels]:
    wanted = pool.node_labels.items()
    return [labels for labels in context.cluster.nodes if wanted <= labels.items()]


def _reachable(pod: ModelPod, pool: Pool, nodes: Sequence[NodeLabels]) -> bool:
    """Whether one of the pool's nodes fits what the author asked of nodes."""
    if not nodes:
        # Scaled to zero: only a contradiction with the pool's own labels is known.
        return not contradicts(pod.spec, pool.node_labels)
    return any(may_lead_to(pod.spec, labels) for labels in nodes)


def _alternative(pool: Pool, fit: PoolFit) -> Alternative:
    labels: dict[str, tuple[str, ...]] = {key: (value,) for key, value in pool.node_labels.items()}
    if fit.requirement is not None and fit.requirement[0] not in labels:
        labels[fit.requirement[0]] = fit.requirement[1]
    return labels


def _tolerate_pools(pod: ModelPod, pools: Mapping[str, Pool]) -> Iterator[Change]:
    for name, pool in pools.items():
        for taint in pool.taints:
            if not _tolerated(pod, taint):
                yield from _tolerate(pod, taint, f"of pool {name}")


def _tolerated(pod: ModelPod, taint: Taint) -> bool:
    return tolerates(pod.spec.get("tolerations") or (), taint.key, taint.value, taint.effect.value)


def _tolerate(pod: ModelPod, taint: Taint, of: str) -> Iterator[Change]:
    toleration = {"effect": taint.effect.value, "key": taint.key, "operator": "Equal", "value": taint.value}
    if not taint.value:
        toleration = {"effect": taint.effect.value, "key": taint.key, "operator": "Exists"}
    items(pod.spec, "tolerations").append(toleration)
    shown = f"{taint.key}={taint.value}" if taint.value else taint.key
    yield Change(f"tolerate the taint {shown} {of}")


MUTATOR = Mutator(id="gpu-scheduling", order=10, mutate=mutate, settings=GpuSchedulingSettings)
