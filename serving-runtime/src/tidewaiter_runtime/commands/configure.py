"""``tidewaiter-runtime configure``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tidewaiter_runtime.input_files import read_input
from tidewaiter_runtime.refusals import BadInput, ModelRefused, listed

if TYPE_CHECKING:
    from tidewaiter_runtime.triton.gpu import GpuInventory
    from tidewaiter_runtime.triton.model_repository_plan import PlannedModel
    from tidewaiter_runtime.triton.model_repository_spec import RepositorySpec

SUMMARY = "write or check the configurations of a Triton model repository"
_BACKENDS = Path("/opt/tritonserver/backends")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--spec", type=Path, help="YAML file that declares the models")
    parser.add_argument("--repository", type=Path, help="folder that the server mounts")
    parser.add_argument("--check", action="store_true", help="write nothing, end with 1 where anything would differ")
    parser.add_argument("--gpu", choices=("nvml", "none"), default="nvml", help="none: as if there were no GPU")
    parser.add_argument("--backend-directory", type=Path, default=_BACKENDS, help="which backends the server has")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how choices are printed")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of the spec, and do nothing else")
    parser.set_defaults(run=_configure)


def _configure(options: argparse.Namespace) -> None:
    require_packages()
    if options.schema:
        sys.stdout.write(spec_schema())
        return
    if options.spec is None or options.repository is None:
        raise BadInput("give --spec and --repository")
    _write_or_check(options)


def require_packages() -> None:
    """Say at once what is not installed; BadInput."""
    for module, package in (("google.protobuf", "protobuf"), ("pydantic", "pydantic"), ("yaml", "pyyaml")):
        try:
            importlib.import_module(module)
        except ImportError:
            raise BadInput(f"{package} is not installed; install tidewaiter-runtime[triton]") from None


def spec_schema() -> str:
    """The JSON Schema of the spec, as ``docs/reference`` has it."""
    from tidewaiter_runtime.triton.model_repository_spec import RepositorySpec

    return json.dumps(RepositorySpec.model_json_schema(by_alias=True), indent=2) + "\n"


def read_spec(path: Path) -> RepositorySpec:
    """The spec in a file; BadInput with file and line."""
    from tidewaiter_runtime.triton.declared_yaml import parse_declared
    from tidewaiter_runtime.triton.model_repository_spec import RepositorySpec

    try:
        text = read_input(path).decode()
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8") from None
    return parse_declared(text, RepositorySpec, str(path))


def _write_or_check(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.triton import model_repository
    from tidewaiter_runtime.triton.gpu import GpuInventory, read_gpus
    from tidewaiter_runtime.triton.model_repository_plan import plan_repository

    spec = read_spec(options.spec)
    repository: Path = options.repository
    if not repository.is_dir():
        raise BadInput(f"{repository} is no folder; expected the model repository, with a folder for each model")
    inventory = read_gpus(os.environ) if options.gpu == "nvml" else GpuInventory((), "--gpu=none was given")
    planned = plan_repository(spec, inventory, model_repository.file_sizes(repository, spec))
    _print(options, spec, inventory, planned)
    problems = model_repository.missing_files(repository, spec)
    if options.check:
        problems += model_repository.differences(repository, planned)
        problems += [
            f"{repository / name} is not declared, and a server of mode none would load it"
            for name in model_repository.undeclared(repository, spec)
        ]
    if problems:
        raise ModelRefused(listed(problems))
    if not options.check:
        ensembles = [model.name for model in spec.models if model.backend == "ensemble"]
        written = model_repository.write_plan(repository, planned, ensembles)
        print(f"tidewaiter-runtime configure: wrote {len(written)} of {len(planned)} files", file=sys.stderr)


def _print(
    options: argparse.Namespace, spec: RepositorySpec, inventory: GpuInventory, planned: tuple[PlannedModel, ...]
) -> None:
    backends = {model.name: model.backend for model in spec.models}
    only_checked = {name: _only_checked(backend, options.backend_directory) for name, backend in backends.items()}
    if options.format == "json":
        document = {
            "gpus": [gpu.shown for gpu in inventory.gpus],
            "noGpu": inventory.missing,
            "models": [
                {
                    "name": model.name,
                    "onlyCheckedAgainstSchema": bool(only_checked[model.name]),
                    "choices": [
                        {"setting": one.setting, "value": one.value, "reason": one.reason} for one in model.choices
                    ],
                }
                for model in planned
            ],
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    print(*([gpu.shown for gpu in inventory.gpus] or [f"no GPU: {inventory.missing}"]), sep="\n")
    for model in planned:
        print(f"{model.name} ({backends[model.name]})")
        for choice in model.choices:
            print(f"  {choice.setting}: {choice.value} -- {choice.reason}")
        if only_checked[model.name]:
            print(f"  {only_checked[model.name]}")


def _only_checked(backend: str, directory: Path) -> str:
    if backend == "ensemble" or (directory / backend).is_dir():
        return ""
    return f"checked against Triton's schema only: {directory} has no backend {backend}"
