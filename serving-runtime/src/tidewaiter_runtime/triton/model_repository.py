"""A Triton model repository on disk: what is in it, written or held to a plan."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tidewaiter_runtime.refusals import BadInput, Unreadable
from tidewaiter_runtime.triton.model_repository_plan import PlannedModel
from tidewaiter_runtime.triton.model_repository_spec import Model, RepositorySpec
from tidewaiter_runtime.triton.triton_schema import parse_config, write_config

CONFIG = "config.pbtxt"
_MODEL_FILES = {
    "python": "model.py",
    "onnxruntime": "model.onnx",
    "tensorrt": "model.plan",
    "pytorch": "model.pt",
}
_VERSION = re.compile(r"[1-9][0-9]*")
_LARGEST_CONFIG = 4 << 20


def file_sizes(repository: Path, spec: RepositorySpec) -> dict[str, int]:
    """Bytes of the files in each declared model's largest version; 0 where it has none."""
    return {model.name: max(map(_size, versions(repository / model.name)), default=0) for model in spec.models}


def versions(folder: Path) -> list[Path]:
    """The folders of a model's versions, the lowest first. Raises Unreadable where the storage fails."""
    if not folder.is_dir():
        return []
    try:
        found = [one for one in folder.iterdir() if _VERSION.fullmatch(one.name) and one.is_dir()]
    except OSError as error:
        raise Unreadable(f"{folder} cannot be listed: {error.strerror}") from None
    return sorted(found, key=lambda one: int(one.name))


def missing_files(repository: Path, spec: RepositorySpec) -> list[str]:
    """A sentence for each declared model that has no version which its backend could load."""
    return [sentence for model in spec.models for sentence in _missing(repository, model)]


def undeclared(repository: Path, spec: RepositorySpec) -> list[str]:
    """Folders of models that nobody declared, which a server of mode ``none`` would load."""
    declared = {model.name for model in spec.models}
    return sorted(
        one.name
        for one in repository.iterdir()
        if one.is_dir() and one.name not in declared and ((one / CONFIG).is_file() or versions(one))
    )


def write_plan(repository: Path, planned: Sequence[PlannedModel], ensembles: Sequence[str]) -> list[Path]:
    """Write what differs, each file at once or not at all; ensembles get the empty version that Triton wants."""
    written = []
    try:
        for model in planned:
            folder = repository / model.name
            folder.mkdir(exist_ok=True)
            if model.name in ensembles and not versions(folder):
                (folder / "1").mkdir()
            text = write_config(model.config)
            file = folder / CONFIG
            if not file.is_file() or file.read_text(errors="replace") != text:
                _replace(file, text)
                written.append(file)
    except OSError as error:
        raise Unreadable(f"{error.filename or repository} cannot be written: {error.strerror}") from None
    return written


def differences(repository: Path, planned: Sequence[PlannedModel]) -> list[str]:
    """A sentence for each file that is missing or says something else; what is only laid out otherwise is the same."""
    return [sentence for model in planned for sentence in _differences(repository / model.name / CONFIG, model)]


def read_config(file: Path) -> str:
    """The text of one ``config.pbtxt``."""
    try:
        if file.stat().st_size > _LARGEST_CONFIG:
            raise BadInput(f"{file} is larger than {_LARGEST_CONFIG:,} bytes; no config.pbtxt is")
        return file.read_text()
    except UnicodeDecodeError:
        raise BadInput(f"{file} is not UTF-8; expected protobuf's text format") from None
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None


def _size(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


def _missing(repository: Path, model: Model) -> Iterator[str]:
    if model.backend == "ensemble":
        return
    wanted = _MODEL_FILES[model.backend]
    folders = versions(repository / model.name)
    if not folders:
        yield f"{repository / model.name} has no version; expected a folder named by a number, with {wanted} in it"
    for folder in folders:
        if not (folder / wanted).exists():
            yield f"{folder} has no {wanted}, which backend {model.backend} loads"
    asked = model.versions.specific if model.versions else ()
    for number in sorted(set(asked) - {int(folder.name) for folder in folders}):
        yield f"{repository / model.name} has no version {number}, which is declared"


def _differences(file: Path, model: PlannedModel) -> Iterator[str]:
    if not file.is_file():
        yield f"{file} is missing; run configure without --check"
        return
    found = parse_config(read_config(file), str(file))
    if found == model.config:
        return
    fields = [one.name for one in model.config.DESCRIPTOR.fields]
    other = [name for name in fields if getattr(found, name) != getattr(model.config, name)]
    yield f"{file} differs from what was declared in {', '.join(other)}; run configure without --check"


def _replace(file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".config-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), 0o644)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
