"""What a rules file declares: for each model its inputs, and for all of them who may call how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
    "BYTES": 0,
}
"""The datatypes of the Open Inference Protocol, with the bytes of one element; BYTES have their own lengths."""


class Pattern(Protocol):
    """A regular expression of an engine whose time is linear in the text."""

    def search(self, text: str) -> object | None:
        """A match anywhere in ``text``, or None."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How long one dimension may be."""

    least: int
    most: int

    def __str__(self) -> str:
        if self.least == self.most:
            return str(self.least)
        return "any" if self.most < 0 else f"{self.least} to {self.most}"

    def allows(self, found: int) -> bool:
        """Whether a dimension may be ``found`` long."""
        return self.least <= found and (self.most < 0 or found <= self.most)


@dataclass(frozen=True, slots=True)
class TextRule:
    """What one element of a BYTES input may be: UTF-8, with so many characters."""

    shortest: int = 0
    longest: int = 4096
    pattern: Pattern | None = None
    pattern_text: str = ""
    forbidden: tuple[tuple[str, Pattern], ...] = ()


@dataclass(frozen=True, slots=True)
class InputRule:
    """One input tensor. ``low`` and ``high`` are inclusive; not-a-number is outside of every range."""

    name: str
    datatype: str
    shape: tuple[Extent, ...]
    low: float | None = None
    high: float | None = None
    text: TextRule | None = None
    optional: bool = False
    features: tuple[str, ...] = ()
    """Names for the columns of the last dimension, whose values the exporter watches."""


@dataclass(frozen=True, slots=True)
class ModelRule:
    """One model: its inputs, the versions that may be asked for (all, where none is named), the largest body."""

    name: str
    inputs: Mapping[str, InputRule]
    versions: frozenset[str] = frozenset()
    body_bytes: int = 4 << 20
    sample: float = 0.0
    """The share of accepted requests whose features and prediction go to the exporter."""
    prediction: str = ""
    """The output whose first element is watched as the prediction."""


@dataclass(frozen=True, slots=True)
class RateRule:
    """Each caller has ``burst`` requests at once, and then ``per_second`` of them. 0: no limit."""

    per_second: float = 0.0
    burst: float = 1.0
    callers: int = 10_000


@dataclass(frozen=True, slots=True)
class CallerRule:
    """Where the caller's name is taken from."""

    source: str = "address"
    header: str = ""
    issuer: str = ""
    audience: str = ""
    keys: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """All of a rules file."""

    models: Mapping[str, ModelRule]
    rate: RateRule = field(default_factory=RateRule)
    caller: CallerRule = field(default_factory=CallerRule)

    @property
    def largest_body(self) -> int:
        """What no body of any model exceeds, in bytes."""
        return max((one.body_bytes for one in self.models.values()), default=0)
