"""Rego policies on disk: modules, their ``# METADATA``, and their data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from admission.validator import Applicability, PolicyError, PolicyRule, RuleSettings, Scope
from admission.workload import WorkloadClass

_METADATA = "# METADATA"
_PACKAGE = "package "
_ROOT = "tidewaiter."
_TEST_SUFFIX = "_test.rego"


class _Custom(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(pattern=r"^[a-z][a-z0-9-]{1,62}$")
    severity: str = ""
    remedy: str = ""
    scope: Scope = Scope.MODEL_POD
    workloads: frozenset[WorkloadClass] = frozenset(WorkloadClass)


class _Metadata(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    title: str = Field(min_length=1)
    description: str = Field(min_length=1)
    custom: _Custom


@dataclass(frozen=True, slots=True)
class PolicyModule:
    """One Rego file: ``package`` is the name below ``data.tidewaiter``."""

    path: str
    text: str
    package: str
    rule: PolicyRule


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Modules and data of one folder; ``revision`` is a hash of their content."""

    modules: tuple[PolicyModule, ...]
    data: dict[str, Any]
    revision: str


def built_in_policies() -> Path:
    """The folder of the policies that come with Tidewaiter."""
    return Path(str(files("policies").joinpath("data.yaml"))).parent


def read_policies(folder: Path) -> PolicySet:
    """Read a folder of policies; raises ``PolicyError`` that names the file and the problem."""
    try:
        paths = sorted(path for path in folder.glob("*.rego") if not path.name.endswith(_TEST_SUFFIX))
        texts = {path.name: path.read_text(encoding="utf-8") for path in paths}
        data_path = folder / "data.yaml"
        data_text = data_path.read_text(encoding="utf-8") if data_path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"policies in {folder} cannot be read: {error}") from None
    if not texts:
        raise PolicyError(
            f"folder {folder} has no .rego file; give a folder of policies (settings: policies.directory)"
        )
    modules = tuple(_module(name, text) for name, text in texts.items())
    twice = [one.rule.id for one in modules if sum(other.rule.id == one.rule.id for other in modules) > 1]
    if twice:
        raise PolicyError(f"rule id {twice[0]} stands in more than one policy of {folder}; rename one")
    digest = hashlib.sha256(orjson.dumps([texts, data_text])).hexdigest()[:12]
    return PolicySet(modules, _data(data_text), digest)


def _data(text: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise PolicyError(f"data.yaml is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise PolicyError("data.yaml must be a mapping")
    return data


def _module(name: str, text: str) -> PolicyModule:
    package = next((line.removeprefix(_PACKAGE).strip() for line in text.splitlines() if line.startswith(_PACKAGE)), "")
    if not package.startswith(_ROOT):
        raise PolicyError(f"{name}: package {package or '(none)'} must begin with {_ROOT}, for example {_ROOT}my_rule")
    try:
        metadata = _Metadata.model_validate(yaml.safe_load(_comment(text)) or {})
    except (yaml.YAMLError, ValidationError) as error:
        raise PolicyError(
            f"{name}: # METADATA before the package needs title, description and custom.id: {error}"
        ) from None
    custom = metadata.custom
    rule = PolicyRule(
        id=custom.id,
        title=metadata.title,
        description=metadata.description.strip(),
        applies=Applicability(custom.scope, custom.workloads),
        settings=RuleSettings(),
    )
    return PolicyModule(name, text, package.removeprefix(_ROOT), rule)


def _comment(text: str) -> str:
    """The YAML of the ``# METADATA`` block that stands before the package."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.strip() == _METADATA:
            inside, lines = True, []
        elif inside and line.startswith("#"):
            lines.append(line.removeprefix("#").removeprefix(" "))
        elif line.startswith(_PACKAGE):
            break
        else:
            inside = False
    return "\n".join(lines)
