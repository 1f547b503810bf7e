"""What the labels of a GPU node say of its GPUs, and whether a pod fits there.

A label that is missing says nothing, and nothing is held against the node. Memory goes by
the product's nominal size: ``nvidia.com/gpu.memory`` is what the driver reports, which is
less (81559 MiB of an H100 with 80 GB).

Sources: labels of NVIDIA's GPU feature discovery (with MIG strategy ``mixed``:
``nvidia.com/mig-<profile>.count``; with ``single`` the product ends in ``-MIG-<profile>``),
GKE's ``cloud.google.com/gke-accelerator``, ``-accelerator-count`` and
``gke-gpu-partition-size``, Karpenter's ``karpenter.k8s.aws/instance-gpu-{name,count}``;
sizes and MIG profiles from NVIDIA's data sheets and MIG guide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from admission.pools import Pool

NodeLabels = Mapping[str, str]

_GPU = "nvidia.com/gpu"
_SHARED = "nvidia.com/gpu.shared"
_MIG = "nvidia.com/mig-"
_PARTITION_LABEL = "cloud.google.com/gke-gpu-partition-size"
_GKE_SHARING_LABEL = "cloud.google.com/gke-max-shared-clients-per-gpu"
_GKE_COUNT_LABEL = "cloud.google.com/gke-accelerator-count"
_PRODUCT_LABELS = ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "karpenter.k8s.aws/instance-gpu-name")
_MAKER = ("nvidia", "tesla")
_AT_LEAST = re.compile(r"([1-9]\d*)(?:Gi|GB)")
_SIZE = re.compile(r"(\d+)gb")
_SLICE = re.compile(r"-MIG-(.+)$")

# The smallest that is sold under the name, in GB, where the name does not say it.
_MEMORY = {
    "k80": 12, "p4": 8, "p100": 16, "v100": 16, "t4": 16, "a2": 16, "a10": 24, "a10g": 24, "a16": 16, "a30": 24,
    "a40": 48, "a100": 40, "l4": 24, "l40": 48, "l40s": 48, "h100": 80, "h200": 141, "b200": 180,
}  # fmt: skip
_WITHOUT_MIG = frozenset({"k80", "p4", "p100", "v100", "t4", "a2", "a10", "a10g", "a16", "a40", "l4", "l40", "l40s"})
_MIG_PROFILES = {
    ("a100", 40): frozenset({"1g.5gb", "1g.5gb.me", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"}),
    ("a100", 80): (
        _OF_80GB := frozenset({"1g.10gb", "1g.10gb.me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"})
    ),
    ("h100", 80): _OF_80GB,
}


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """What one pod asks of a node.

    ``counts`` are numbers by resource. ``gpu`` is a product, or a part of its name
    (``A100``, ``A100-80GB``), or the least memory of one GPU (``40Gi``). ``mig_profile`` is
    a slice that the node offers as ``nvidia.com/gpu``.
    """

    counts: Mapping[str, int]
    gpu: str = ""
    mig_profile: str = ""

    @property
    def names_hardware(self) -> bool:
        """Whether it asks for a GPU of some kind, which no resource name says."""
        return bool(self.gpu or self.mig_profile)


@dataclass(frozen=True, slots=True)
class PoolFit:
    """The nodes of a pool that a request fits; ``misfit`` says why there are none.

    ``requirement`` are the label and its values that tell them from other nodes of the pool.
    A pool without nodes fits by what its settings say.
    """

    nodes: tuple[NodeLabels, ...] = ()
    misfit: str = ""
    requirement: tuple[str, tuple[str, ...]] | None = None


def pool_fit(pool: Pool, nodes: Sequence[NodeLabels], request: GpuRequest) -> PoolFit:
    """Where in the pool the request fits. ``nodes`` are those of the pool that exist."""
    roomy = tuple(node for node in nodes if not _too_small(pool, node, request))
    if not roomy and (nodes or _too_small(pool, {}, request)):
        return PoolFit(misfit=_too_few(pool, nodes or ({},), request))
    if not request.names_hardware:
        return PoolFit(roomy)
    fitting = tuple(node for node in roomy if _is_asked_for(pool, node, request))
    if not fitting and (nodes or not _is_asked_for(pool, {}, request)):
        return PoolFit(misfit=_lacking(request))
    return PoolFit(fitting, requirement=_requirement(fitting, request))


def _too_small(pool: Pool, node: NodeLabels, request: GpuRequest) -> bool:
    return any(
        (offered := _offered(pool, node, resource)) is not None and offered < count
        for resource, count in request.counts.items()
    )


def _too_few(pool: Pool, nodes: Iterable[NodeLabels], request: GpuRequest) -> str:
    for resource, count in request.counts.items():
        offered = [_offered(pool, node, resource) for node in nodes]
        known = [one for one in offered if one is not None]
        if known and len(known) == len(offered) and max(known) < count:
            if not max(known):
                return f"offers no {resource}"
            return f"has at most {max(known)} {resource} on a node, and the pod asks for {count}"
    return "has no node with everything that the pod asks for"


def _offered(pool: Pool, node: NodeLabels, resource: str) -> int | None:
    """How many of a resource a node of the pool has; None where nobody says."""
    if resource.startswith(_MIG):
        return _offered_slices(pool, node, resource)
    if resource not in (_GPU, _SHARED):
        return pool.gpus_per_node
    count = _count(node)
    if count is None:
        return pool.gpus_per_node
    if resource == _SHARED and node.get("nvidia.com/gpu.sharing-strategy") == "none":
        return 0
    return count * max(1, _number(node.get("nvidia.com/gpu.replicas")) or 1)


def _offered_slices(pool: Pool, node: NodeLabels, resource: str) -> int | None:
    if any(label.startswith(_MIG) and label.endswith(".count") for label in node):
        replicas = _number(node.get(f"{resource}.replicas")) or 1
        return (_number(node.get(f"{resource}.count")) or 0) * max(1, replicas)
    if node.get("nvidia.com/mig.capable") == "false" or node.get("nvidia.com/mig.strategy") in ("single", "none"):
        return 0
    profile = resource.removeprefix(_MIG)
    products = _products(node) or pool.products
    return 0 if products and all(_has_profile(product, profile) is False for product in products) else None


def _count(node: NodeLabels) -> int | None:
    found = _number(node.get("nvidia.com/gpu.count"))
    if found is None:
        found = _number(node.get("karpenter.k8s.aws/instance-gpu-count"))
    if found is None and _PARTITION_LABEL not in node and _GKE_SHARING_LABEL not in node:
        found = _number(node.get(_GKE_COUNT_LABEL))
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _products(node: NodeLabels) -> tuple[str, ...]:
    return tuple(node[label] for label in _PRODUCT_LABELS if label in node)


def _is_asked_for(pool: Pool, node: NodeLabels, request: GpuRequest) -> bool:
    """Whether the node's GPUs are of the kind; where it does not say, all that the pool may have are."""
    if _PARTITION_LABEL in node:
        if request.mig_profile:
            return node[_PARTITION_LABEL] == request.mig_profile and _is_of_pool(pool, node, request)
        return False
    return _is_of_pool(pool, node, request)


def _is_of_pool(pool: Pool, node: NodeLabels, request: GpuRequest) -> bool:
    products = _products(node)
    if products:
        return any(_is_product(product, request, sliced=_PARTITION_LABEL in node) for product in products)
    return bool(pool.products) and all(_is_product(product, request) for product in pool.products)


def _is_product(product: str, request: GpuRequest, *, sliced: bool = False) -> bool:
    slice_ = _SLICE.search(product.removesuffix("-SHARED"))
    if not sliced and (slice_[1] if slice_ else "") != request.mig_profile:
        return False
    if not request.gpu:
        return True
    least = _AT_LEAST.fullmatch(request.gpu)
    if least is None:
        return _words(request.gpu) <= _words(product)
    memory = _memory(request.mig_profile) if request.mig_profile else _memory(product)
    return memory is not None and memory >= int(least[1])


@lru_cache(maxsize=256)
def _words(product: str) -> frozenset[str]:
    return frozenset(word for word in re.split(r"[-_. ]", product.lower()) if word not in _MAKER)


@lru_cache(maxsize=256)
def _memory(product: str) -> int | None:
    """Nominal GB of one GPU or slice. The size in the name of a GH200 is its host memory."""
    name = product.lower()
    if "gh200" in name:
        return None
    size = _SIZE.search(name)
    if size is not None:
        return int(size[1])
    if "h100-nvl" in name:
        return 94
    return next((_MEMORY[word] for word in _words(product) if word in _MEMORY), None)


def _has_profile(product: str, profile: str) -> bool | None:
    words = _words(product)
    if words & _WITHOUT_MIG:
        return False
    memory = _memory(product)
    known = next((found for (name, size), found in _MIG_PROFILES.items() if name in words and size == memory), None)
    return None if known is None else profile in known


def _requirement(nodes: Iterable[NodeLabels], request: GpuRequest) -> tuple[str, tuple[str, ...]] | None:
    nodes = tuple(nodes)
    labels = (_PARTITION_LABEL, *_PRODUCT_LABELS) if request.mig_profile else _PRODUCT_LABELS
    for label in labels:
        values = {node[label] for node in nodes if label in node}
        if values:
            return label, tuple(sorted(values))
    return None


def _lacking(request: GpuRequest) -> str:
    gpu = f"GPU of at least {request.gpu}" if _AT_LEAST.fullmatch(request.gpu) else f"GPU {request.gpu}".strip()
    return f"has no {gpu} with MIG profile {request.mig_profile}" if request.mig_profile else f"has no {gpu}"
