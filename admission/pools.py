"""Pools of GPU nodes, and what a toleration covers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from admission.workload import WorkloadClass


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Sharing(StrEnum):
    """How the GPUs of a pool are shared."""

    EXCLUSIVE = "exclusive"
    MIG = "mig"
    MPS = "mps"
    TIME_SLICING = "time-slicing"


class Taint(BaseModel):
    """A taint that the nodes of a pool carry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(min_length=1, description="Taint key, for example nvidia.com/gpu")
    value: str = Field(default="", description="Taint value; empty for a taint without one")
    effect: TaintEffect = TaintEffect.NO_SCHEDULE


SPOT_NODES: dict[tuple[str, str], Taint | None] = {
    ("cloud.google.com/gke-spot", "true"): Taint(key="cloud.google.com/gke-spot", value="true"),
    ("kubernetes.azure.com/scalesetpriority", "spot"): Taint(key="kubernetes.azure.com/scalesetpriority", value="spot"),
    ("karpenter.sh/capacity-type", "spot"): None,
    ("eks.amazonaws.com/capacityType", "SPOT"): None,
}
"""Labels of nodes that a cloud may take back, and the taint that it gives them by itself.

Source: the clouds' own pages on spot nodes; Karpenter and EKS taint none.
"""


class Pool(BaseModel):
    """A named group of GPU nodes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    node_labels: dict[str, str] = Field(alias="nodeLabels", min_length=1)
    """Labels that every node of the pool carries; at least one."""
    taints: tuple[Taint, ...] = ()
    """Taints that the nodes carry; pods placed here tolerate them."""
    workloads: tuple[WorkloadClass, ...] = Field(min_length=1)
    """Workload classes that may use the pool."""
    products: tuple[str, ...] = ()
    """GPU products (label nvidia.com/gpu.product) that its nodes have, where their own labels do not say it."""
    gpus_per_node: int | None = Field(default=None, ge=1, alias="gpusPerNode")
    """Accelerators that one node offers (shares and slices counted), where its own labels do not say it:
    pods that ask for more go elsewhere."""
    resources: tuple[str, ...] = ("nvidia.com/",)
    """How the names of the accelerator resources begin that the nodes offer."""
    sharing: Sharing = Sharing.EXCLUSIVE
    """How the pool's GPUs are shared."""
    spot: bool = False
    """Nodes that the cloud may take back: only preemptible classes are placed here."""
    autoscaled: bool = False
    """The pool may have no node at the moment: place pods there all the same."""
    read_only_root: bool = Field(default=True, alias="readOnlyRoot")
    """False where nvidia-cdi-hook needs a writable root (nvidia-container-toolkit #2026)."""


def tolerates(tolerations: Iterable[Mapping[str, Any]], key: str, value: str, effect: str) -> bool:
    """Whether any toleration covers the taint. Source: k8s.io/api/core/v1/toleration.go."""
    for toleration in tolerations:
        if toleration.get("effect") not in (None, "", effect):
            continue
        if toleration.get("key") not in (None, "", key):
            continue
        if not toleration.get("key") and toleration.get("operator") != "Exists":
            continue
        if toleration.get("operator") == "Exists" or (toleration.get("value") or "") == value:
            return True
    return False
