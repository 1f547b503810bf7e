"""From what was declared and what the GPUs are to ``config.pbtxt``, with a reason for every choice.

Pure: the inventory and the sizes of files come from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidewaiter_runtime.refusals import BadInput, listed
from tidewaiter_runtime.triton.gpu import Gpu, GpuInventory
from tidewaiter_runtime.triton.model_repository_spec import Acceleration, Model, Queue, RepositorySpec, Tensor
from tidewaiter_runtime.triton.triton_schema import schema

_MIB = 1 << 20
_FILES_FACTOR = 1.5
"""GPU memory of an instance over the size of its files: weights, and half as much for what is calculated."""
_CONTEXT_MIB = 500
"""What a CUDA context with its libraries takes, of each process that uses a GPU."""
_FP16_FROM, _INT8_FROM, _GRAPHS_FROM = (7, 0), (7, 5), (7, 0)
"""Compute capabilities from which tensor cores calculate so; CUDA graphs are held to Volta as well."""
_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan", "pytorch": "pytorch_libtorch"}


@dataclass(frozen=True)
class Choice:
    """One thing that was chosen or declared, and why it is so."""

    model: str
    setting: str
    value: str
    reason: str


@dataclass(frozen=True)
class PlannedModel:
    """A ``ModelConfig`` with its reasons."""

    name: str
    config: Any
    choices: tuple[Choice, ...]


@dataclass
class _Room:
    """What is left of each GPU."""

    gpus: tuple[Gpu, ...]
    left: dict[int, int]
    reserve_percent: int

    @classmethod
    def of(cls, inventory: GpuInventory, reserve_percent: int) -> _Room:
        left = {
            gpu.index: min(gpu.free, gpu.memory * (100 - reserve_percent) // 100) - _CONTEXT_MIB * _MIB
            for gpu in inventory.gpus
        }
        return cls(inventory.gpus, left, reserve_percent)

    def take(self, amount: int) -> int | None:
        """The GPU with most room, where that is enough."""
        index = max(self.left, key=lambda one: (self.left[one], -one), default=None)
        if index is None or self.left[index] < amount:
            return None
        self.left[index] -= amount
        return index

    def take_more(self, index: int, amount: int) -> bool:
        """More of a GPU that was chosen already."""
        if self.left[index] < amount:
            return False
        self.left[index] -= amount
        return True


@dataclass
class _Placement:
    gpu: int | None
    count: int
    reasons: list[tuple[str, str, str]] = field(default_factory=list)


def plan_repository(
    spec: RepositorySpec, inventory: GpuInventory, file_sizes: Mapping[str, int]
) -> tuple[PlannedModel, ...]:
    """One configuration per model, in the order declared. ``file_sizes``: bytes of a model's files, by name.

    Raises BadInput where the GPU cannot do what was declared, with everything that is wrong.
    """
    problems = [one for model in spec.models for one in _impossible(model, inventory)]
    placements = _place(spec, inventory, file_sizes, problems)
    if problems:
        raise BadInput(listed(problems))
    return tuple(_planned(model, spec, placements.get(model.name), inventory) for model in spec.models)


def _wants_gpu(model: Model, inventory: GpuInventory) -> bool:
    if model.device != "auto":
        return model.device == "gpu"
    return bool(inventory.gpus) and model.backend not in ("python", "ensemble")


def _impossible(model: Model, inventory: GpuInventory) -> Iterator[str]:
    wants, why_none = _wants_gpu(model, inventory), inventory.missing or "there is none"
    if model.backend == "tensorrt" and not wants:
        yield f"model {model.name!r}: an engine of TensorRT runs on a GPU only, and here {why_none}"
    elif model.device == "gpu" and not inventory.gpus:
        yield f"model {model.name!r}: device is gpu, and {why_none}; give it a GPU or device: cpu"
    if model.acceleration is not None and not wants:
        yield f"model {model.name!r}: acceleration needs a GPU, and this model runs on the CPU ({why_none})"
    elif model.acceleration is not None:
        yield from _too_slow(model, model.acceleration, inventory)


def _too_slow(model: Model, speed: Acceleration, inventory: GpuInventory) -> Iterator[str]:
    runs_onnx = model.backend == "onnxruntime"
    if runs_onnx and speed.precision == "int8" and speed.tensorrt and not speed.calibration_table:
        yield (
            f"model {model.name!r}: int8 needs calibrationTable, the ranges of its tensors; "
            "a model that was quantized already (Q/DQ nodes) keeps precision fp32 here"
        )
    if runs_onnx and speed.precision != "fp32" and not speed.tensorrt:
        yield f"model {model.name!r}: {speed.precision} in ONNX Runtime goes through TensorRT; give tensorrt: true"
    if speed.cuda_graphs and any(-1 in tensor.dims for tensor in (*model.inputs, *model.outputs)):
        yield f"model {model.name!r}: cudaGraphs repeats one shape, and a dimension here is -1; give it a size"
    needed = {"fp16": _FP16_FROM, "int8": _INT8_FROM}.get(speed.precision, (0, 0))
    for wanted, least in ((speed.precision, needed), ("CUDA graphs", _GRAPHS_FROM if speed.cuda_graphs else (0, 0))):
        for gpu in inventory.gpus:
            if gpu.compute_capability < least:
                yield f"model {model.name!r}: {wanted} needs compute {least[0]}.{least[1]} or later, found {gpu.shown}"


def _memory(model: Model, file_sizes: Mapping[str, int]) -> tuple[int, str]:
    if model.memory_megabytes:
        return model.memory_megabytes * _MIB, f"{model.memory_megabytes} MiB each, as declared"
    files = file_sizes.get(model.name, 0)
    amount = int(files * _FILES_FACTOR)
    return amount, f"{amount // _MIB} MiB each, estimated as {_FILES_FACTOR} times its {files // _MIB} MiB of files"


def _place(
    spec: RepositorySpec, inventory: GpuInventory, file_sizes: Mapping[str, int], problems: list[str]
) -> dict[str, _Placement]:
    """The largest first, each on the GPU with most room; then second instances where they fit."""
    room = _Room.of(inventory, spec.reserve_percent)
    placements: dict[str, _Placement] = {}
    on_gpu = [model for model in spec.models if model.backend != "ensemble" and _wants_gpu(model, inventory)]
    on_gpu.sort(key=lambda model: -_memory(model, file_sizes)[0] * max(1, model.instances))
    for model in on_gpu if inventory.gpus else ():
        amount, how = _memory(model, file_sizes)
        count = model.instances or 1
        index = room.take(amount * count)
        if index is None:
            left = ", ".join(f"GPU {one}: {max(0, free) // _MIB} MiB" for one, free in room.left.items())
            problems.append(
                f"model {model.name!r}: {count} x {amount // _MIB} MiB fit on no GPU any more ({left} left after the "
                f"models before it, {spec.reserve_percent} % in reserve and {_CONTEXT_MIB} MiB for CUDA); {how}"
            )
            continue
        reason = f"the GPU with most room; {how}"
        placements[model.name] = _Placement(index, count, [("gpus", f"[{index}]", reason)])
    for model in on_gpu:
        placement = placements.get(model.name)
        if placement is not None and placement.gpu is not None:
            _second_instance(model, placement, room, _memory(model, file_sizes)[0])
    return placements


def _second_instance(model: Model, placement: _Placement, room: _Room, amount: int) -> None:
    assert placement.gpu is not None  # noqa: S101  # only placed models come here
    if model.instances:
        reason = "as declared"
    elif not amount:
        reason = "how much memory it needs is not known; declare memoryMegabytes"
    elif room.take_more(placement.gpu, amount):
        placement.count = 2
        reason = "a second one copies its tensors while the first calculates, and there is memory for both"
    else:
        reason = "there is no memory for a second one"
    placement.reasons.append(("instances", str(placement.count), reason))


def _planned(model: Model, spec: RepositorySpec, placement: _Placement | None, inventory: GpuInventory) -> PlannedModel:
    choices: list[tuple[str, str, str]] = []
    config = schema().ModelConfig(name=model.name, max_batch_size=model.max_batch_size)
    if model.backend == "ensemble":
        config.platform = "ensemble"
    else:
        config.backend = model.backend
        if model.backend in _PLATFORMS:
            config.platform = _PLATFORMS[model.backend]
    _tensors(config, model)
    _versions(config, model, choices)
    if model.backend == "ensemble":
        _steps(config, model, choices)
    else:
        _instances(config, model, placement, inventory, choices)
        _batching(config, model, choices)
        _warmup(config, model, choices)
        _acceleration(config, model, placement, choices)
    if model.response_cache:
        config.response_cache.enable = True
        where = "Redis" if spec.cache and spec.cache.redis else "the server's memory"
        choices.append(
            ("responseCache", "on", f"as declared, in {where}; Triton then gives no latency summaries of this model")
        )
    for key in sorted(model.parameters):
        config.parameters[key].string_value = model.parameters[key]
    if model.calls:
        choices.append(("calls", ", ".join(model.calls), "called by this model itself; all are loaded with it"))
    return PlannedModel(model.name, config, tuple(Choice(model.name, *one) for one in choices))


def _tensors(config: Any, model: Model) -> None:
    types = schema().DataType
    for given in model.inputs:
        config.input.add(
            name=given.name,
            data_type=types.Value(f"TYPE_{given.type}"),
            dims=given.dims,
            optional=given.optional,
        )
    for given in model.outputs:
        config.output.add(name=given.name, data_type=types.Value(f"TYPE_{given.type}"), dims=given.dims)


def _versions(config: Any, model: Model, choices: list[tuple[str, str, str]]) -> None:
    policy = model.versions
    if policy is None:
        config.version_policy.latest.num_versions = 1
        choices.append(("versions", "the latest one", "two would need memory twice; declare versions for a canary"))
    elif policy.latest is not None:
        config.version_policy.latest.num_versions = policy.latest
        choices.append(("versions", f"latest {policy.latest}", "as declared"))
    elif policy.specific:
        config.version_policy.specific.versions.extend(policy.specific)
        choices.append(("versions", ", ".join(map(str, policy.specific)), "as declared"))
    else:
        config.version_policy.all.SetInParent()
        choices.append(("versions", "all", "as declared"))


def _steps(config: Any, model: Model, choices: list[tuple[str, str, str]]) -> None:
    for given in model.steps:
        step = config.ensemble_scheduling.step.add(model_name=given.model, model_version=given.version)
        for name in sorted(given.inputs):
            step.input_map[name] = given.inputs[name]
        for name in sorted(given.outputs):
            step.output_map[name] = given.outputs[name]
    order = ", ".join(step.model for step in model.steps)
    choices.append(("steps", order, "run by the server; no tensor leaves it between them"))


def _instances(
    config: Any,
    model: Model,
    placement: _Placement | None,
    inventory: GpuInventory,
    choices: list[tuple[str, str, str]],
) -> None:
    group = config.instance_group.add()
    kinds = schema().ModelInstanceGroup.Kind
    if placement is not None:
        gpu = inventory.gpus[placement.gpu or 0]
        group.kind, group.count = kinds.Value("KIND_GPU"), placement.count
        group.gpus.append(gpu.index)
        choices.append(("device", "gpu", f"{gpu.shown}{_sharing(gpu, inventory)}"))
        choices.extend(placement.reasons)
    else:
        group.kind, group.count = kinds.Value("KIND_CPU"), model.instances or 1
        choices.append(("device", "cpu", _why_cpu(model, inventory)))
        reason = "as declared" if model.instances else "each one more takes CPUs from the others; declare instances"
        choices.append(("instances", str(group.count), reason))
    if model.rate_limiter:
        group.rate_limiter.priority = model.rate_limiter.priority
        for given in model.rate_limiter.resources:
            resource = group.rate_limiter.resources.add(name=given.name, count=given.count)
            setattr(resource, "global", given.shared_by_devices)
        taken = ", ".join(f"{one.count} {one.name}" for one in model.rate_limiter.resources) or "nothing"
        choices.append(
            ("rateLimiter", f"{taken}, priority {model.rate_limiter.priority}", "as declared; the server counts runs")
        )


def _sharing(gpu: Gpu, inventory: GpuInventory) -> str:
    said = ""
    if gpu.mig:
        said += "; MIG: this slice is ours alone, and NVML tells no use of it"
    if inventory.hidden_instances:
        said += f"; one process uses one MIG instance, so {inventory.hidden_instances} more here are left unused"
    if inventory.mps:
        said += "; shared through MPS, whose daemon sets limits that NVML does not show"
    return said


def _why_cpu(model: Model, inventory: GpuInventory) -> str:
    if model.device == "cpu":
        return "as declared"
    if not inventory.gpus:
        return inventory.missing
    return "a Python model uses the GPU only where its own code does; declare device: gpu if it does"


def _batching(config: Any, model: Model, choices: list[tuple[str, str, str]]) -> None:
    given = model.batching
    if not model.max_batch_size:
        choices.append(("batching", "off", "maxBatchSize is 0"))
        return
    if given is None:
        config.dynamic_batching.SetInParent()
        choices.append(("batching", "on, without delay", "what waits already is run together, and nobody waits longer"))
        return
    batching = config.dynamic_batching
    batching.SetInParent()
    batching.max_queue_delay_microseconds = given.delay_microseconds
    batching.preferred_batch_size.extend(given.preferred_sizes)
    batching.preserve_ordering = given.preserve_ordering
    batching.priority_levels = given.priority_levels
    batching.default_priority_level = given.default_priority
    if given.queue:
        _queue(batching.default_queue_policy, given.queue)
    for level in sorted(given.priority_queues):
        _queue(batching.priority_queue_policy[level], given.priority_queues[level])
    choices.append(("batching", f"on, up to {given.delay_microseconds} µs delay", "as declared"))
    if given.queue is None:
        choices.append(("queue", "without limit", "declare queue to refuse requests instead of letting them wait"))


def _queue(policy: Any, given: Queue) -> None:
    actions = schema().ModelQueuePolicy.TimeoutAction
    policy.timeout_action = actions.Value(given.on_timeout.upper())
    policy.default_timeout_microseconds = given.timeout_microseconds
    policy.allow_timeout_override = given.allow_override
    policy.max_queue_size = given.size


def _warmup(config: Any, model: Model, choices: list[tuple[str, str, str]]) -> None:
    if model.calls:
        # Models are loaded at the same time, and a warm-up that fails keeps the server from starting.
        choices.append(("warmup", "off", "the models that it calls may not be loaded yet when it would run"))
        return
    open_ended = [one.name for one in model.inputs if -1 in one.dims and not one.sample]
    if model.warmup is False:
        choices.append(("warmup", "off", "as declared; the first request pays for it"))
        return
    if open_ended:
        missing = f"the dimensions of {', '.join(open_ended)} vary; declare sample"
        if model.warmup:
            raise BadInput(f"model {model.name!r}: warmup is on, and {missing}")
        choices.append(("warmup", "off", missing))
        return
    sizes: Sequence[int] = sorted({1, model.max_batch_size}) if model.max_batch_size else (0,)
    for size in sizes:
        warmup = config.model_warmup.add(name=f"zeros_{size}", batch_size=size, count=1)
        for tensor in model.inputs:
            entry = warmup.inputs[tensor.name]
            entry.data_type = schema().DataType.Value(f"TYPE_{tensor.type}")
            entry.dims.extend(_sample(tensor))
            entry.zero_data = True
    shown = " and ".join(map(str, sizes)) if model.max_batch_size else "one request"
    why = "not ready before it ran once, so that no request pays for what is made lazily"
    choices.append(("warmup", f"zeros, batches of {shown}" if model.max_batch_size else f"zeros, {shown}", why))


def _sample(tensor: Tensor) -> tuple[int, ...]:
    return tensor.sample or tensor.dims


def _acceleration(config: Any, model: Model, placement: _Placement | None, choices: list[tuple[str, str, str]]) -> None:
    given = model.acceleration
    if given is None or placement is None:
        return
    if model.backend == "tensorrt":
        if given.cuda_graphs:
            config.optimization.cuda.graphs = True
            choices.append(("cudaGraphs", "on", "as declared; all dimensions are fixed"))
        if given.precision != "fp32":
            choices.append(
                ("precision", given.precision, "checked only: an engine has the precision it was built with")
            )
        return
    if given.tensorrt:
        accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
        accelerator.parameters["precision_mode"] = given.precision.upper()
        accelerator.parameters["max_workspace_size_bytes"] = str(given.workspace_megabytes * _MIB)
        if given.calibration_table:
            accelerator.parameters["int8_calibration_table_name"] = given.calibration_table
        if given.cuda_graphs:
            accelerator.parameters["trt_cuda_graph_enable"] = "true"
        choices.append(("precision", f"{given.precision} through TensorRT", "as declared; this GPU calculates so"))
    elif given.cuda_graphs:
        accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="cuda")
        accelerator.parameters["enable_cuda_graph"] = "1"
    if given.cuda_graphs:
        choices.append(("cudaGraphs", "on", "as declared; all dimensions are fixed"))
