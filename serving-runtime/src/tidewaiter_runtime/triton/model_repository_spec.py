"""What a person declares of a Triton model repository; ``configure`` chooses the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_CLOSED = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
# fmt: off
DataType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "STRING", "BF16",
]
# fmt: on
Backend = Literal["python", "onnxruntime", "tensorrt", "pytorch", "ensemble"]


class Tensor(BaseModel):
    """An input or output, without the dimension of the batch."""

    model_config = _CLOSED

    name: str = Field(min_length=1)
    """Its name in the model."""
    type: DataType
    """Data type, as Triton names it without TYPE_."""
    dims: tuple[Annotated[int, Field(ge=-1)], ...] = Field(min_length=1)
    """Dimensions; -1 for one that varies."""
    optional: bool = False
    """Whether a request may leave it out; inputs only."""
    sample: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Dimensions for the warm-up, where dims has -1."""

    @model_validator(mode="after")
    def _sample_fits(self) -> Tensor:
        if self.sample and not (
            len(self.sample) == len(self.dims)
            and all(dim in (-1, one) for dim, one in zip(self.dims, self.sample, strict=True))
        ):
            raise ValueError(f"sample {list(self.sample)} is no example of dims {list(self.dims)}")
        return self


class Queue(BaseModel):
    """How long and how many requests wait."""

    model_config = _CLOSED

    timeout_microseconds: int = Field(default=0, ge=0, alias="timeoutMicroseconds")
    """How long a request waits at most; 0: as long as it takes."""
    on_timeout: Literal["reject", "delay"] = Field(default="reject", alias="onTimeout")
    """delay: it is taken after all that did not wait too long."""
    allow_override: bool = Field(default=False, alias="allowOverride")
    """Whether a request may ask for a shorter time."""
    size: int = Field(default=0, ge=0)
    """How many requests wait at most, further ones are rejected; 0: any number."""


class Batching(BaseModel):
    """Dynamic batching: requests that wait are run together."""

    model_config = _CLOSED

    delay_microseconds: int = Field(default=0, ge=0, le=10_000_000, alias="delayMicroseconds")
    """How long a request is held for others to come."""
    preferred_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(), alias="preferredSizes")
    """Sizes that are run at once; for TensorRT, those of its profiles."""
    preserve_ordering: bool = Field(default=False, alias="preserveOrdering")
    """Answer in the order of the requests."""
    priority_levels: int = Field(default=0, ge=0, le=100, alias="priorityLevels")
    """1 is the first to be run; 0: no priorities."""
    default_priority: int = Field(default=0, ge=0, alias="defaultPriority")
    """Of requests that ask for none."""
    queue: Queue | None = None
    """For all priorities."""
    priority_queues: dict[int, Queue] = Field(default={}, alias="priorityQueues")
    """For some priorities, by level."""

    @model_validator(mode="after")
    def _levels_exist(self) -> Batching:
        for level in (self.default_priority, *self.priority_queues):
            if level > self.priority_levels or (level < 1 and level != self.default_priority):
                raise ValueError(f"priority {level} does not exist; priorityLevels is {self.priority_levels}")
        if self.priority_levels and not self.default_priority:
            raise ValueError(f"priorityLevels needs defaultPriority; give one from 1 to {self.priority_levels}")
        return self


class Resource(BaseModel):
    """Something that a model's run takes and gives back; the server counts it."""

    model_config = _CLOSED

    name: Name
    """Any word; models that share it take turns."""
    count: int = Field(ge=1)
    """How many one run takes."""
    shared_by_devices: bool = Field(default=False, alias="sharedByDevices")
    """Counted once for all GPUs instead of for each."""


class RateLimiter(BaseModel):
    """Who may run when, across models."""

    model_config = _CLOSED

    resources: tuple[Resource, ...] = ()
    """What a run takes."""
    priority: int = Field(default=1, ge=1)
    """An instance of priority 2 is chosen half as often as one of 1."""


class Versions(BaseModel):
    """Which versions are served: one of the three."""

    model_config = _CLOSED

    latest: int | None = Field(default=None, ge=1)
    """So many, counted from the highest."""
    all: Literal[True] | None = None
    """Every one."""
    specific: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """These."""

    @model_validator(mode="after")
    def _one(self) -> Versions:
        if sum((self.latest is not None, self.all is not None, bool(self.specific))) != 1:
            raise ValueError("give one of latest, all and specific")
        return self


class Step(BaseModel):
    """A model in an ensemble."""

    model_config = _CLOSED

    model: Name
    """Which one; it is declared too."""
    version: int = Field(default=-1, ge=-1)
    """-1: the latest."""
    inputs: dict[str, str] = Field(min_length=1)
    """Tensor of the ensemble, by input of the model."""
    outputs: dict[str, str] = Field(min_length=1)
    """Tensor of the ensemble, by output of the model."""


class Acceleration(BaseModel):
    """What TensorRT and ONNX Runtime can do on a GPU."""

    model_config = _CLOSED

    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """onnxruntime with TensorRT: what it may calculate with. An engine of TensorRT has its own."""
    tensorrt: bool = False
    """onnxruntime: run through TensorRT where it can."""
    workspace_megabytes: int = Field(default=1024, ge=1, alias="workspaceMegabytes")
    """Memory that TensorRT may use to build its engine."""
    calibration_table: str = Field(default="", alias="calibrationTable")
    """For int8: file with the ranges, relative to the version's folder."""
    cuda_graphs: bool = Field(default=False, alias="cudaGraphs")
    """Record launches of kernels and repeat them; shapes must not vary."""


class Model(BaseModel):
    """One model of the repository."""

    model_config = _CLOSED

    name: Name
    """Its folder, and its name in requests."""
    backend: Backend
    """What runs it; ensemble: the server itself, by steps."""
    max_batch_size: int = Field(default=0, ge=0, le=65536, alias="maxBatchSize")
    """Rows in one run at most; 0: requests have no dimension of the batch."""
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    """What a request gives."""
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    """What it gets."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """auto: the GPU where there is one and the backend uses it; a Python model only where it says gpu."""
    instances: int = Field(default=0, ge=0, le=64)
    """How many run side by side, on each GPU where there are several; 0: chosen."""
    memory_megabytes: int = Field(default=0, ge=0, alias="memoryMegabytes")
    """GPU memory of one instance, measured; 0: estimated from the size of its files."""
    batching: Batching | None = None
    """Unset: chosen."""
    warmup: bool | None = None
    """Whether it runs once before the server is ready; unset: chosen."""
    response_cache: bool = Field(default=False, alias="responseCache")
    """Answer the same request from the cache; only for a model that always gives the same answer."""
    rate_limiter: RateLimiter | None = Field(default=None, alias="rateLimiter")
    """Take turns with other models."""
    versions: Versions | None = None
    """Unset: the latest one."""
    steps: tuple[Step, ...] = ()
    """Of an ensemble, in any order."""
    calls: tuple[Name, ...] = ()
    """Models that a Python model calls itself (business logic scripting)."""
    acceleration: Acceleration | None = None
    """For onnxruntime and tensorrt."""
    parameters: dict[str, str] = {}
    """For the backend, as they are."""

    @model_validator(mode="after")
    def _agrees(self) -> Model:
        problem = next(self._problems(), None)
        if problem:
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        if bool(self.steps) != (self.backend == "ensemble"):
            yield "steps belong to backend ensemble, and an ensemble needs them"
        if self.calls and self.backend != "python":
            yield "calls belongs to backend python"
        if self.calls and self.warmup:
            yield "a model with calls has no warmup: the models that it calls may not be loaded yet"
        if self.acceleration and self.backend not in ("onnxruntime", "tensorrt"):
            yield "acceleration belongs to backend onnxruntime or tensorrt"
        if self.batching and not self.max_batch_size:
            yield "batching needs maxBatchSize of 1 or more"
        if self.batching and any(size > self.max_batch_size for size in self.batching.preferred_sizes):
            yield f"preferredSizes has a size above maxBatchSize, which is {self.max_batch_size}"
        if self.backend == "ensemble" and (self.batching or self.instances or self.rate_limiter or self.warmup):
            yield "an ensemble has no batching, instances, rateLimiter or warmup; its steps have them"
        names = [one.name for one in (*self.inputs, *self.outputs)]
        if len(set(names)) != len(names):
            yield "two inputs or outputs have the same name"


class LocalCache(BaseModel):
    """In the server's memory."""

    model_config = _CLOSED

    megabytes: int = Field(ge=1)
    """How large it is."""


class RedisCache(BaseModel):
    """In Redis; credentials come by TRITONCACHE_REDIS_USERNAME and TRITONCACHE_REDIS_PASSWORD only."""

    model_config = _CLOSED

    host: str = Field(min_length=1, pattern=r"^[A-Za-z0-9.:_-]+$")
    """Name or address."""
    port: int = Field(default=6379, ge=1, le=65535)
    """Port."""
    timeout_milliseconds: int = Field(default=200, ge=1, alias="timeoutMilliseconds")
    """For connecting and for each answer; Triton's own default waits for ever."""
    connections: int = Field(default=8, ge=1, le=256)
    """Kept open; Triton's own default is 1."""


class Cache(BaseModel):
    """Where answers of models with responseCache are kept: one of the two."""

    model_config = _CLOSED

    local: LocalCache | None = None
    """In the server."""
    redis: RedisCache | None = None
    """Shared by servers."""

    @model_validator(mode="after")
    def _one(self) -> Cache:
        if (self.local is None) == (self.redis is None):
            raise ValueError("give one of local and redis")
        return self


class RepositorySpec(BaseModel):
    """A Triton model repository, and what of the server depends on it."""

    model_config = _CLOSED

    models: tuple[Model, ...] = Field(min_length=1)
    """All of them."""
    cache: Cache | None = None
    """Needed where a model has responseCache."""
    resources: dict[Name, Annotated[int, Field(ge=1)]] = {}
    """How many of a rate limiter's resources there are; unset: as many as the largest taker takes."""
    reserve_percent: int = Field(default=10, ge=0, le=90, alias="reservePercent")
    """Of GPU memory that is left to CUDA and to requests."""

    @model_validator(mode="after")
    def _agrees(self) -> RepositorySpec:
        problem = next(self._problems(), None)
        if problem:
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            yield "two models have the same name"
        for model in self.models:
            yield from self._problems_of(model, set(names))
        taken = {one.name for model in self.models if model.rate_limiter for one in model.rate_limiter.resources}
        for name in sorted(set(self.resources) - taken):
            yield f"resources has {name!r}, which no model takes"

    def _problems_of(self, model: Model, names: set[str]) -> Iterator[str]:
        for called in (*(step.model for step in model.steps), *model.calls):
            if called not in names or called == model.name:
                yield f"model {model.name!r} uses {called!r}, which is not declared; declared are {sorted(names)}"
        if model.response_cache and self.cache is None:
            yield f"model {model.name!r} has responseCache; declare cache too"
        for step in model.steps:
            used = next(one for one in self.models if one.name == step.model)
            for given, has, what in ((step.inputs, used.inputs, "input"), (step.outputs, used.outputs, "output")):
                for name in given:
                    if name not in {one.name for one in has}:
                        known = ", ".join(one.name for one in has)
                        yield f"model {model.name!r}: {used.name!r} has no {what} {name!r}; it has {known}"
