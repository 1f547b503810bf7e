"""What a mutator is: one constant in one module under ``mutators/``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from admission.context import ReviewContext
from admission.namespace import ByEnvironment, Mode
from admission.pod import ModelPod


class MutatorSettings(BaseModel):
    """Settings that every mutator has; a mutator's own extend them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    mode: ByEnvironment[Mode] = Field(default_factory=dict)
    """Mode by environment; "*" stands for every other one. Unset: apply."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a mutator did to the working copy, in words.

    ``applied`` is False for what it left alone and says so: a preview, or a choice
    of the author's that stands.
    """

    summary: str
    applied: bool = True


S = TypeVar("S", bound=MutatorSettings)


@dataclass(frozen=True, slots=True)
class Mutator(Generic[S]):
    """One mutation.

    ``mutate(pod, context, settings)`` edits ``pod.obj`` in place and returns what it
    did. It fills what is unset, keeps what is stricter, leaves what conflicts (a
    rule complains about that) and, on its own result, changes nothing.
    """

    id: str
    order: int
    mutate: Callable[[ModelPod, ReviewContext, S], Iterable[Change]]
    settings: type[S]
