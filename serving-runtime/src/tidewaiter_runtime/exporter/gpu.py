"""GPU use and memory: from NVML in the server's container, or from DCGM's exporter, which also sees into MIG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tidewaiter_runtime.exporter.prometheus_text import Sample

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU or MIG instance. ``utilization`` from 0 to 1, None where the driver does not tell."""

    uuid: str
    name: str
    instance: str
    utilization: float | None
    used_bytes: float
    total_bytes: float


def from_nvml(nvml: Any) -> list[Gpu]:
    """The GPUs that this process sees; ``nvml`` is the module ``pynvml``. Raises nvml.NVMLError."""
    nvml.nvmlInit()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        return [gpu for handle in handles for gpu in _with_instances(nvml, handle)]
    finally:
        nvml.nvmlShutdown()


def _with_instances(nvml: Any, handle: Any) -> Iterable[Gpu]:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:
        current = 0
    if not current:
        yield _gpu(nvml, handle, "")
        return
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError:
            continue
        yield _gpu(nvml, instance, str(number))


def _gpu(nvml: Any, handle: Any, instance: str) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        utilization = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
    except nvml.NVMLError:
        utilization = None
    return Gpu(
        _text(nvml.nvmlDeviceGetUUID(handle)),
        _text(nvml.nvmlDeviceGetName(handle)),
        instance,
        utilization,
        float(memory.used),
        float(memory.total),
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def from_dcgm(samples: Iterable[Sample]) -> list[Gpu]:
    """The GPUs and MIG instances of ``dcgm-exporter``'s metrics.

    Of a MIG instance the use is ``DCGM_FI_PROF_GR_ENGINE_ACTIVE``: DCGM_FI_DEV_GPU_UTIL does not exist there.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    names: dict[tuple[str, str], Mapping[str, str]] = {}
    for sample in samples:
        if sample.name.startswith("DCGM_FI_"):
            key = sample.labels.get("UUID", ""), sample.labels.get("GPU_I_ID", "")
            found.setdefault(key, {})[sample.name] = sample.value
            names[key] = sample.labels
    gpus = []
    for key, values in sorted(found.items()):
        used, free = values.get("DCGM_FI_DEV_FB_USED"), values.get("DCGM_FI_DEV_FB_FREE")
        if used is None or free is None:
            continue
        total = (used + free + values.get("DCGM_FI_DEV_FB_RESERVED", 0)) * _MEBIBYTE
        name = names[key].get("modelName", "")
        gpus.append(Gpu(key[0], name, key[1], _dcgm_use(values), used * _MEBIBYTE, total))
    return gpus


def _dcgm_use(values: Mapping[str, float]) -> float | None:
    active = values.get("DCGM_FI_PROF_GR_ENGINE_ACTIVE")
    if active is not None:
        return active
    percent = values.get("DCGM_FI_DEV_GPU_UTIL")
    return None if percent is None else percent / 100
