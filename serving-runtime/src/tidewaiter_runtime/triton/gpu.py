"""What GPUs this container has, as NVML tells it.

Read through ``pynvml`` (the package ``nvidia-ml-py``), which loads the driver's ``libnvidia-ml.so.1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MIB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One device as CUDA counts it: a whole GPU, or under MIG an instance of one."""

    index: int
    name: str
    uuid: str
    memory: int
    """Bytes in all."""
    free: int
    """Bytes that nobody uses now."""
    compute_capability: tuple[int, int]
    mig: bool = False

    @property
    def shown(self) -> str:
        """For messages."""
        major, minor = self.compute_capability
        slice_of = "MIG instance of " if self.mig else ""
        return f"GPU {self.index} ({slice_of}{self.name}, {self.memory // _MIB} MiB, compute {major}.{minor})"


@dataclass(frozen=True)
class GpuInventory:
    """All devices; where there is none, ``missing`` says why."""

    gpus: tuple[Gpu, ...]
    missing: str = ""
    mps: bool = False
    """Whether CUDA's Multi-Process Service shares them, as its device plugin says through the environment."""
    hidden_instances: int = 0
    """MIG instances that one process cannot use beside the first."""


def read_gpus(environ: Mapping[str, str]) -> GpuInventory:
    """Ask NVML; never raises for what a machine does not have."""
    mps = bool(environ.get("CUDA_MPS_PIPE_DIRECTORY"))
    try:
        import pynvml  # type: ignore[import-untyped]  # it ships no types
    except ImportError:
        return GpuInventory((), "nvidia-ml-py is not installed; install tidewaiter-runtime[triton]", mps)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuInventory((), _why_none(pynvml, error), mps)
    try:
        return _inventory(pynvml, mps)
    except pynvml.NVMLError as error:
        return GpuInventory((), f"NVML answers {error}", mps)
    finally:
        pynvml.nvmlShutdown()


def _why_none(nvml: Any, error: Any) -> str:
    if error.value == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return "libnvidia-ml.so.1 is not in this container, so no GPU was given to it"
    if error.value == nvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return "the NVIDIA driver is not loaded on this node"
    return f"NVML answers {error}"


def _inventory(nvml: Any, mps: bool) -> GpuInventory:
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    instances = [(parent, instance) for parent in handles for instance in _instances(nvml, parent)]
    if instances:
        # CUDA gives a process one MIG instance, whatever NVML lists.
        parent, instance = instances[0]
        return GpuInventory((_gpu(nvml, 0, instance, parent),), "", mps, len(instances) - 1)
    gpus = tuple(_gpu(nvml, index, handle) for index, handle in enumerate(handles) if not _is_mig(nvml, handle))
    return GpuInventory(gpus, "" if gpus else "NVML lists no GPU that this container may use", mps)


def _is_mig(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:
        return False  # not a GPU with MIG


def _instances(nvml: Any, parent: Any) -> list[Any]:
    if not _is_mig(nvml, parent):
        return []
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(parent)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, index))
        except nvml.NVMLError_NotFound:
            continue  # a slot without an instance, or one of another container
    return found


def _gpu(nvml: Any, index: int, handle: Any, parent: Any = None) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle if parent is None else parent)
    return Gpu(
        index=index,
        name=nvml.nvmlDeviceGetName(handle if parent is None else parent),
        uuid=nvml.nvmlDeviceGetUUID(handle),
        memory=int(memory.total),
        free=int(memory.free),
        compute_capability=(int(major), int(minor)),
        mig=parent is not None,
    )
