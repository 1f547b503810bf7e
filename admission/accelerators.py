"""Accelerators that a container asks for: extended resources and DRA claims.

Source: the device plugins' own resource names (NVIDIA k8s-device-plugin with MIG
and sharing, ROCm k8s-device-plugin, Habana, GKE TPU, Intel device plugins) and
KEP-4381/KEP-5004 for dynamic resource allocation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

_NAMES = frozenset(ACCELERATOR_RESOURCES)
_NONE = (0, "0")


def is_accelerator(resource: str) -> bool:
    """Whether an extended resource is an accelerator."""
    return resource in _NAMES or resource.startswith(ACCELERATOR_PREFIXES)


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


def uses_claims(container: Mapping[str, Any]) -> bool:
    """Whether a container uses a DRA claim of its pod."""
    return bool((container.get("resources") or {}).get("claims"))
