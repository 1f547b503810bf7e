"""What an environment asks of a model version before it is approved there.

A file has one key, ``gates``: thresholds by environment. The settings file may have the same key.
"""

from __future__ import annotations

import math
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from admission.strict_yaml import DocumentError, parse_document

_CLOSED = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)
_LATENCY_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_AGE_UNITS = {"h": 3600, "d": 86400, "w": 604800}

Severity = Literal["critical", "high", "medium", "low", "negligible", "unknown"]


def _milliseconds(text: Any) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", str(text))
    if found is None:
        raise ValueError("use a number with us, ms or s, as in 120ms")
    return float(found[1]) * _LATENCY_UNITS[found[2]]


def _age(text: Any) -> timedelta:
    found = re.fullmatch(r"(\d{1,5})(h|d|w)", str(text))
    if found is None:
        raise ValueError("use a whole number with h, d or w, as in 30d")
    return timedelta(seconds=int(found[1]) * _AGE_UNITS[found[2]])


Milliseconds = Annotated[float, BeforeValidator(_milliseconds, json_schema_input_type=str)]
Age = Annotated[timedelta, BeforeValidator(_age, json_schema_input_type=str)]


class Bounds(BaseModel):
    """The least and the greatest value that a metric may have; both are allowed themselves."""

    model_config = _CLOSED

    min: float | None = None
    """Least value."""
    max: float | None = None
    """Greatest value."""

    @model_validator(mode="after")
    def _bounds_something(self) -> Bounds:
        given = [one for one in (self.min, self.max) if one is not None]
        if not given or not all(math.isfinite(one) for one in given):
            raise ValueError("give min, max or both, as numbers")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is greater than max {self.max:g}")
        return self

    def hold(self, value: float) -> bool:
        """Whether ``value`` lies within; no value does that is not a number."""
        low = -math.inf if self.min is None else self.min
        high = math.inf if self.max is None else self.max
        return math.isfinite(value) and low <= value <= high

    @property
    def text(self) -> str:
        """For sentences."""
        if self.min is not None and self.max is not None:
            return f"{self.min:g} to {self.max:g}"
        return f"at least {self.min:g}" if self.min is not None else f"at most {self.max:g}"


class Latency(BaseModel):
    """The greatest latencies that a load test may have measured."""

    model_config = _CLOSED

    p95: Milliseconds | None = None
    """95th percentile, for example 120ms."""
    p99: Milliseconds | None = None
    """99th percentile."""
    concurrency: int | None = Field(default=None, ge=1)
    """Only the measurement with so many requests at a time counts; unset: every one does."""

    @model_validator(mode="after")
    def _limits_something(self) -> Latency:
        if self.p95 is None and self.p99 is None:
            raise ValueError("give p95, p99 or both")
        return self


class AcceptedVulnerability(BaseModel):
    """A vulnerability that is known and not counted."""

    model_config = _CLOSED

    id: str = Field(min_length=1)
    """As scanners name it, for example CVE-2026-1234."""
    reason: str = Field(min_length=1)
    """Why the model may be served all the same."""
    until: date | None = None
    """The last day on which it is accepted."""


class Vulnerabilities(BaseModel):
    """How many vulnerabilities a scan may have found."""

    model_config = _CLOSED

    allowed: dict[Severity, Annotated[int, Field(ge=0)]] = Field(min_length=1)
    """Greatest number by severity; a severity that is not named is not limited."""
    ignore_unfixed: bool = Field(default=False, alias="ignoreUnfixed")
    """Count only those that a newer version of the package mends."""
    accepted: tuple[AcceptedVulnerability, ...] = ()
    """Vulnerabilities that are not counted."""


class ModelCard(BaseModel):
    """What a model card must say."""

    model_config = _CLOSED

    sections: tuple[str, ...] = ()
    """Headings, in any case and level, that have text below them."""
    metadata: tuple[str, ...] = ()
    """Keys of the YAML front matter that have a value."""

    @model_validator(mode="after")
    def _asks_something(self) -> ModelCard:
        if not self.sections and not self.metadata:
            raise ValueError("give sections, metadata or both")
        return self


class Gate(BaseModel):
    """The thresholds of one environment. What is not named is not asked for."""

    model_config = _CLOSED

    metrics: dict[str, Bounds] = Field(default_factory=dict)
    """Evaluation metrics by the name that the evaluation gave them."""
    bias: dict[str, Bounds] = Field(default_factory=dict)
    """Metrics of the bias audit, in the same way."""
    latency: Latency | None = None
    """Latency of a load test."""
    vulnerabilities: Vulnerabilities | None = None
    """Vulnerabilities of the image."""
    data_validation: bool = Field(default=False, alias="dataValidation")
    """The training or serving data was validated, and passed."""
    model_validation: bool = Field(default=False, alias="modelValidation")
    """The pipeline's own evaluation (TFX Evaluator) blessed the model."""
    model_card: ModelCard | None = Field(default=None, alias="modelCard")
    """The model card."""
    bound: bool = False
    """Whether every file that a threshold rests on must name the model version that it is about."""
    max_age: Age | None = Field(default=None, alias="maxAge")
    """How old evidence may be, for example 30d; a model card has no age."""

    @model_validator(mode="after")
    def _asks_something(self) -> Gate:
        asked = (self.metrics, self.bias, self.latency, self.vulnerabilities, self.model_card)
        if not any(asked) and not self.data_validation and not self.model_validation:
            raise ValueError("this gate asks for nothing; name a threshold, or leave the environment out")
        return self


class Gates(BaseModel):
    """A file of gates."""

    model_config = _CLOSED

    gates: dict[str, Gate] = Field(min_length=1)
    """Thresholds by environment."""


def load_gates(path: Path) -> Gates:
    """Read and check a file of gates; raises ``DocumentError`` with every problem."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DocumentError([f"gates file {path} cannot be read: {reason}"]) from None
    return parse_document(text, Gates, path.name)
