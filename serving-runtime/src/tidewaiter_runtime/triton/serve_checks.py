"""What must be right before a model server is started: each a sentence, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidewaiter_runtime.refusals import BadInput
from tidewaiter_runtime.triton.gpu import GpuInventory
from tidewaiter_runtime.triton.model_repository import CONFIG, read_config, versions
from tidewaiter_runtime.triton.triton_schema import parse_config, schema

_MIB = 1 << 20
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where POSIX shared memory lies; nothing of ours is written there
_SHM_PER_INSTANCE = 64 << 20
"""A region of each instance begins with 1 MiB (seen) and grows with the tensors in flight; this is room for them."""


@dataclass(frozen=True)
class Container:
    """What this process may do and has."""

    uid: int
    root_read_only: bool
    shm_bytes: int
    """Size of /dev/shm; 0 where there is none."""
    tmp_writable: bool


def look_around() -> Container:
    """Ask the kernel."""
    try:
        shm = os.statvfs(SHARED_MEMORY)
        shm_bytes = shm.f_blocks * shm.f_frsize
    except OSError:
        shm_bytes = 0
    read_only = bool(os.statvfs("/").f_flag & os.ST_RDONLY)
    return Container(os.getuid(), read_only, shm_bytes, os.access("/tmp", os.W_OK))  # noqa: S108  # asked for, not used


def container_problems(container: Container, allowed: Sequence[str], python_instances: int) -> Iterator[str]:
    """Sentences; ``allowed`` names of what may be otherwise: root, writable-root, small-shm."""
    if container.uid == 0 and "root" not in allowed:
        yield "this process runs as root; set runAsNonRoot and a runAsUser, or give --allow root"
    if not container.root_read_only and "writable-root" not in allowed:
        yield "the root file system is writable; set readOnlyRootFilesystem, or give --allow writable-root"
    if not container.tmp_writable:
        yield "/tmp is not writable, and Triton unpacks there; mount an emptyDir at /tmp"  # noqa: S108  # a message
    needed = python_instances * _SHM_PER_INSTANCE
    if container.shm_bytes < needed and "small-shm" not in allowed:
        yield (
            f"{SHARED_MEMORY} has {container.shm_bytes // _MIB} MiB, and {python_instances} instances of the Python "
            f"backend want {needed // _MIB} MiB; mount an emptyDir of medium Memory there, or give --allow small-shm"
        )


def read_repository(repository: Path, only: Sequence[str]) -> dict[str, Any]:
    """The ``ModelConfig`` of each model that is to be served, by name. Raises BadInput with everything wrong."""
    if not repository.is_dir():
        raise BadInput(f"{repository} is no folder; expected the model repository, with a folder for each model")
    found = {one.name: one for one in sorted(repository.iterdir()) if (one / CONFIG).is_file()}
    if unknown := sorted(set(only) - set(found)):
        raise BadInput(
            f"{repository} has no {CONFIG} of {', '.join(unknown)}; it has {', '.join(found) or 'none at all'}"
        )
    configs = {
        name: parse_config(read_config(folder / CONFIG), str(folder / CONFIG))
        for name, folder in found.items()
        if not only or name in only
    }
    if not configs:
        raise BadInput(f"{repository} has no model; expected folders with {CONFIG}, which configure writes")
    for name, config in configs.items():
        if not versions(found[name]):
            raise BadInput(f"{found[name]} has no version; expected a folder named by a number")
        if config.name and config.name != name:
            raise BadInput(f"{found[name] / CONFIG} names the model {config.name!r}; expected {name!r}, its folder")
    return configs


def python_instances(configs: dict[str, Any]) -> int:
    """How many processes the Python backend will start."""
    return sum(
        sum(max(1, group.count) for group in config.instance_group) or 1
        for config in configs.values()
        if config.backend == "python"
    )


def gpu_problems(configs: dict[str, Any], inventory: GpuInventory) -> Iterator[str]:
    """A sentence for each model that wants a GPU which is not here."""
    on_gpu = schema().ModelInstanceGroup.Kind.Value("KIND_GPU")
    here = {gpu.index for gpu in inventory.gpus}
    for name, config in configs.items():
        for group in config.instance_group:
            if group.kind != on_gpu:
                continue
            if not here:
                yield f"model {name!r} runs on a GPU, and {inventory.missing}"
            elif missing := sorted(set(group.gpus) - here):
                yield f"model {name!r} runs on GPU {', '.join(map(str, missing))}, and here are {sorted(here)}"
