"""A proposal as people write it: flags, or a YAML file held to a schema with lines in its errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from admission.strict_yaml import parse_document
from registries.model_version import KIND, object_name
from webhook.governance.access import GROUP

API_VERSION = f"{GROUP}/v1alpha1"
_CLOSED = ConfigDict(extra="forbid", populate_by_name=True)
_METRIC = re.compile(r"([^=<>]+)=([-+.0-9eE]+)(?:(>=|<=)([-+.0-9eE]+))?")


class Metric(BaseModel):
    """One figure of the evaluation."""

    model_config = _CLOSED

    metric: str = Field(min_length=1, max_length=128)
    value: float
    at_least: float | None = Field(default=None, alias="atLeast")
    at_most: float | None = Field(default=None, alias="atMost")
    dataset: str | None = None


class Scan(BaseModel):
    """A vulnerability scan."""

    model_config = _CLOSED

    scanner: str | None = None
    critical: int | None = Field(default=None, ge=0)
    high: int | None = Field(default=None, ge=0)
    report: str | None = None


class Check(BaseModel):
    """An audit that passed or did not."""

    model_config = _CLOSED

    passed: bool
    report: str | None = None


class Evidence(BaseModel):
    """Why it may be approved."""

    model_config = _CLOSED

    evaluation: list[Metric] | None = None
    latency: float | None = Field(default=None, ge=0, alias="latencyP95Milliseconds")
    scan: Scan | None = Field(default=None, alias="vulnerabilityScan")
    bias_audit: Check | None = Field(default=None, alias="biasAudit")
    data_validation: Check | None = Field(default=None, alias="dataValidation")


class Lineage(BaseModel):
    """Where the bytes come from."""

    model_config = _CLOSED

    training_run: str | None = Field(default=None, alias="trainingRun")
    data_version: str | None = Field(default=None, alias="dataVersion")
    commit: str | None = None


class Proposal(BaseModel):
    """The ``spec`` of a ``ModelVersion``, without what Tidewaiter writes."""

    model_config = _CLOSED

    model: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$", max_length=200)
    version: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=63)
    source: str = Field(pattern=r"^[a-z][a-z0-9+.-]*:[^\s]+$", max_length=2048)
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    framework: str | None = None
    memory: str | None = Field(default=None, pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$")
    lineage: Lineage | None = None
    model_card: str | None = Field(default=None, alias="modelCard")
    evidence: Evidence | None = None


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="allow")

    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class _Manifest(BaseModel):
    model_config = _CLOSED

    api_version: Literal["tidewaiter.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["ModelVersion"]
    metadata: _Metadata = _Metadata()
    spec: Proposal


def proposal_of_file(path: Path) -> Proposal:
    """The proposal of a file: a ``ModelVersion`` manifest, or only its spec. Raises ``DocumentError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if re.search(r"^(apiVersion|kind|spec)\s*:", text, re.MULTILINE):
        return parse_document(text, _Manifest, path.name).spec
    return parse_document(text, Proposal, path.name)


def proposal_of_flags(flags: dict[str, Any]) -> Proposal:
    """The proposal of flags, by the names of the spec. Raises ``ValueError`` with a sentence for each problem."""
    try:
        return Proposal.model_validate(flags)
    except ValidationError as error:
        problems = []
        for one in error.errors(include_url=False):
            where = "--" + str(one["loc"][0])
            if one["type"] == "missing":
                problems.append(f"{where} is required; give it, or a file with -f")
            else:
                problems.append(f"{where} {str(one.get('input'))[:80]}: {one['msg'][:1].lower()}{one['msg'][1:]}")
        raise ValueError("\n".join(problems)) from None


def metric_of_flag(text: str) -> dict[str, Any]:
    """``accuracy=0.93``, ``accuracy=0.93>=0.9`` or ``wer=0.07<=0.1``; raises ``ValueError``."""
    wrong = ValueError(f"--metric {text}: this is no metric; write accuracy=0.93, accuracy=0.93>=0.9 or wer=0.07<=0.1")
    found = _METRIC.fullmatch(text.replace(" ", ""))
    if found is None:
        raise wrong
    try:
        metric: dict[str, Any] = {"metric": found[1], "value": float(found[2])}
        if found[3]:
            metric["atLeast" if found[3] == ">=" else "atMost"] = float(found[4])
    except ValueError:
        raise wrong from None
    return metric


def manifest(proposal: Proposal) -> dict[str, Any]:
    """The object to create."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": object_name(proposal.model, proposal.version)},
        "spec": proposal.model_dump(by_alias=True, exclude_none=True),
    }


def as_yaml(obj: dict[str, Any]) -> str:
    """The object as a file for ``kubectl apply``."""
    text: str = yaml.safe_dump(obj, sort_keys=False, allow_unicode=True, width=1000)
    return text
