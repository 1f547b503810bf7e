"""What files say about a model version, whatever tool wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from webhook.gate.binding import About


class EvidenceError(ValueError):
    """A file that cannot be read as what it seems to be, as a sentence with its name."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of a load test. ``percentiles`` are milliseconds by name (``p95``); ``concurrency`` where it has one."""

    load: str
    concurrency: int | None
    percentiles: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One vulnerability of one package. ``severity`` is lower case; ``fixed`` is empty where nothing mends it."""

    id: str
    severity: str
    package: str
    installed: str
    fixed: str


@dataclass(frozen=True, slots=True)
class Validation:
    """The outcome of a validation that another tool made. ``problems`` say what did not pass."""

    name: str
    passed: bool
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """A model card: its metadata, and the text below each heading in lower case."""

    metadata: Mapping[str, Any]
    sections: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """What one file says. None means that it does not speak of it."""

    made: datetime | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] | None = None
    vulnerabilities: tuple[Vulnerability, ...] | None = None
    data_validation: Validation | None = None
    model_validation: Validation | None = None
    card: Card | None = None
    about: About = field(default_factory=About)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One file, what wrote it, and what it says.

    ``made`` is the file's own word; where it has none, the file's modification time, and then
    ``dated`` is False.
    """

    source: str
    format: str
    sha256: str
    made: datetime
    dated: bool
    found: Found


@dataclass(frozen=True, slots=True)
class Format:
    """How the files of one tool are recognised and read.

    ``recognises`` and ``read`` get parsed JSON, or text where ``is_text``. ``read`` raises
    ``ValueError``, ``KeyError`` or ``TypeError`` where a file is not what it seemed to be.
    """

    name: str
    recognises: Callable[[Any], bool]
    read: Callable[[Any], Found]
    is_text: bool = False
