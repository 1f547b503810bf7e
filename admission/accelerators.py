"""Accelerators that a container asks for: extended resources and DRA claims.

Source: the device plugins' own resource names (NVIDIA k8s-device-plugin with MIG
and sharing, ROCm k8s-device-plugin, Habana, GKE TPU, Intel device plugins) and
KEP-4381/KEP-5004 for dynamic resource allocation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from admission.quantity import parse_quantity

NVIDIA_GPU = "nvidia.com/gpu"

ACCELERATOR_RESOURCES: tuple[str, ...] = (
    "nvidia.com/gpu",
    "nvidia.com/gpu.shared",
    "amd.com/gpu",
    "habana.ai/gaudi",
    "google.com/tpu",
    "gpu.intel.com/i915",
    "gpu.intel.com/xe",
)
"""Extended resources that are an accelerator, by their whole name."""

ACCELERATOR_PREFIXES: tuple[str, ...] = (
    "nvidia.com/mig-",
    "deviceclass.resource.kubernetes.io/",
)
"""Extended resources that are an accelerator, by how their name begins.

The second is DRAExtendedResource: a DeviceClass asked for without a claim.
"""

GPU_NODE_KEYS: tuple[str, ...] = (
    *ACCELERATOR_RESOURCES,
    "nvidia.com/gpu.present",
    "nvidia.com/gpu.product",
    "nvidia.com/gpu.count",
    "nvidia.com/gpu.deploy.device-plugin",
    "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-gpu",
    "cloud.google.com/gke-tpu-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "karpenter.k8s.aws/instance-gpu-count",
    "k8s.amazonaws.com/accelerator",
    "kubernetes.azure.com/accelerator",
)
"""Taints and labels of nodes with accelerators, as their makers' operators and the clouds write them."""

_NAMES = frozenset(ACCELERATOR_RESOURCES)
_GPU_NODE_KEYS = frozenset(GPU_NODE_KEYS)
_NONE = (0, "0")


@lru_cache(maxsize=1024)
def is_accelerator(resource: str) -> bool:
    """Whether an extended resource is an accelerator."""
    return resource in _NAMES or resource.startswith(ACCELERATOR_PREFIXES)


def is_gpu_node_key(key: str) -> bool:
    """Whether a taint or label says that a node has an accelerator."""
    return key in _GPU_NODE_KEYS


def requested_accelerators(container: Mapping[str, Any]) -> dict[str, Any]:
    """Accelerators that one container asks for, by resource name.

    Limits win over requests, since the API server defaults the one from the other.
    """
    resources = container.get("resources")
    if not resources:
        return {}
    found: dict[str, Any] = {}
    for section in ("requests", "limits"):
        for name, quantity in (resources.get(section) or {}).items():
            if is_accelerator(name) and quantity not in _NONE:
                found[name] = quantity
    return found


def total_accelerators(init: Iterable[Mapping[str, Any]], main: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """What the scheduler reserves for a pod, by resource name.

    Main containers and sidecars run together; an init container before them, beside the
    sidecars that stand in front of it. Source: KEP-753.
    """
    running: dict[str, int] = {}
    largest: dict[str, int] = {}
    for container in init:
        own = _numbers(container)
        if container.get("restartPolicy") == "Always":
            _add(running, own)
        else:
            for name, number in own.items():
                largest[name] = max(largest.get(name, 0), running.get(name, 0) + number)
    for container in main:
        _add(running, _numbers(container))
    return {name: max(largest.get(name, 0), running.get(name, 0)) for name in (*largest, *running)}


def _numbers(container: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(parse_quantity(value) or 0) for name, value in requested_accelerators(container).items()}


def _add(total: dict[str, int], own: Mapping[str, int]) -> None:
    for name, number in own.items():
        total[name] = total.get(name, 0) + number


def uses_claims(container: Mapping[str, Any]) -> bool:
    """Whether a container uses a DRA claim of its pod."""
    return bool((container.get("resources") or {}).get("claims"))
