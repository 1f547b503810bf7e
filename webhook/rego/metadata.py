"""``# METADATA``: the comment before a policy's package that says what the rule is."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from admission.validator import Applicability, PolicyError, PolicyRule, RuleSettings, Scope, Severity
from admission.workload import WorkloadClass

_METADATA = "# METADATA"
_PACKAGE = re.compile(r"package\s")


class _Custom(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z][a-z0-9-]{1,62}$")
    severity: Severity = Severity.MEDIUM
    remedy: str = ""
    scope: Scope = Scope.MODEL_POD
    workloads: frozenset[WorkloadClass] = frozenset(WorkloadClass)


class _Metadata(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    title: str = Field(min_length=1)
    description: str = Field(min_length=1)
    related_resources: tuple[str, ...] = ()
    custom: _Custom

    @field_validator("related_resources", mode="before")
    @classmethod
    def _addresses(cls, value: Any) -> Any:
        """OPA takes addresses alone or as ``ref`` with a description."""
        if not isinstance(value, list):
            return value
        return [one.get("ref") if isinstance(one, dict) else one for one in value]


def rule_of(path: str, text: str) -> PolicyRule:
    """The rule that a module describes; raises ``PolicyError`` with file and line of every problem."""
    start, comment = _comment(text)
    if not comment:
        raise PolicyError(
            f"{path}:1: there is no # METADATA before the package; begin the file with title, description and "
            "custom.id, as `tidewaiter policy show host-access` prints them"
        )
    try:
        document = yaml.safe_load("\n".join(comment))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = start + (mark.line if mark is not None else 0)
        reason = getattr(error, "problem", None) or "it cannot be read"
        raise PolicyError(f"{path}:{line}: # METADATA is not YAML: {reason}") from None
    try:
        metadata = _Metadata.model_validate(document)
    except ValidationError as error:
        raise PolicyError("\n".join(_problem(path, start, comment, one) for one in error.errors())) from None
    custom = metadata.custom
    return PolicyRule(
        id=custom.id,
        title=metadata.title,
        description=metadata.description.strip(),
        applies=Applicability(custom.scope, custom.workloads),
        settings=RuleSettings(),
        severity=custom.severity,
        remedy=custom.remedy,
        related=metadata.related_resources,
    )


def _problem(path: str, start: int, comment: list[str], problem: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    names = [index for index, line in enumerate(comment) if line.strip().startswith(f"{place[-1]}:")] if place else []
    found = "" if problem["type"] == "missing" else f", found {str(problem['input'])[:60]!r}"
    where = ".".join(place) or "it"
    return f"{path}:{start + (names[0] if names else 0)}: # METADATA: {where}: {problem['msg']}{found}"


def _comment(text: str) -> tuple[int, list[str]]:
    """The last ``# METADATA`` block before the package: its first line's number, and its YAML."""
    start, lines, inside = 1, [""][:0], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() == _METADATA:
            start, lines, inside = number + 1, [], True
        elif inside and line.startswith("#"):
            lines.append(line.removeprefix("#").removeprefix(" "))
        elif _PACKAGE.match(line):
            break
        else:
            inside = False
    return start, lines
