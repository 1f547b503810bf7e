"""What a rule is: one constant in one module under ``validators/``, or one Rego file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from admission.context import ReviewContext
from admission.finding import Action, Finding
from admission.namespace import ByEnvironment, DatesByEnvironment
from admission.pod import ModelPod
from admission.workload import WorkloadClass


class Scope(StrEnum):
    """Which pods a rule judges.

    ``EVERY_POD`` judges all pods of an opted-in namespace, so that a renamed image or
    a missing label hides nothing.
    """

    MODEL_POD = "model-pod"
    EVERY_POD = "every-pod"


class RuleSettings(BaseModel):
    """Settings that every rule has; a rule's own extend them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    action: ByEnvironment[Action] = Field(default_factory=dict)
    """Action by environment; "*" stands for every other one. Unset: the environment's."""
    deny_after: DatesByEnvironment = Field(default_factory=dict, alias="denyAfter")
    """Day by environment from which findings are refused, from 0:00 UTC; until then they say so."""


@dataclass(frozen=True, slots=True)
class Applicability:
    """When a rule has a say, whatever it is written in."""

    scope: Scope = Scope.MODEL_POD
    workloads: frozenset[WorkloadClass] = frozenset(WorkloadClass)

    def covers(self, pod: ModelPod, context: ReviewContext) -> bool:
        """Whether the rule judges this pod."""
        workload = context.workload if pod.recognised_by else None
        return self.includes(workload, opted_in=context.namespace.opted_in)

    def includes(self, workload: WorkloadClass | None, *, opted_in: bool) -> bool:
        """Whether the rule judges pods of a class, None being no model's, in such a namespace."""
        return (self.scope is Scope.EVERY_POD and opted_in) or workload in self.workloads


S = TypeVar("S", bound=RuleSettings)


@dataclass(frozen=True, slots=True)
class Validator(Generic[S]):
    """One rule in Python. ``check(pod, context, settings)`` yields findings and edits nothing.

    ``judges_what_runs`` says that its findings are about the code and the model that run, or
    about who brings them: an update that changes what runs cannot inherit them.
    """

    id: str
    check: Callable[[ModelPod, ReviewContext, S], Iterable[Finding]]
    settings: type[S]
    applies: Applicability = Applicability()
    judges_what_runs: bool = False


class Severity(StrEnum):
    """How bad it is when a rule is broken; for reports, not for decisions."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule in Rego, described by its ``# METADATA``."""

    id: str
    title: str
    description: str
    applies: Applicability
    settings: RuleSettings
    severity: Severity = Severity.MEDIUM
    remedy: str = ""
    related: tuple[str, ...] = ()


PolicyInput = Mapping[str, Any]
"""What Rego sees of one pod: ``admission.policy_input`` has the shape."""


@dataclass(frozen=True, slots=True)
class RuleFailure:
    """A rule that could not be evaluated. ``reason`` is a sentence without the input's content."""

    reason: str


PolicyAnswers = Mapping[str, "list[Finding] | RuleFailure"]
"""Findings by rule id; a rule that found nothing may be absent, a rule that failed never is."""


class PolicyEngine(Protocol):
    """Evaluates Rego. ``rules`` are those in force; ``revision`` names their content."""

    @property
    def rules(self) -> Mapping[str, PolicyRule]:
        """The rules in force by id."""

    @property
    def revision(self) -> str:
        """A short hash of policies and data."""

    async def evaluate(self, policy_input: PolicyInput) -> PolicyAnswers:
        """Answers by rule id for one input; never raises for a rule that fails."""


class PolicyError(Exception):
    """A policy could not be loaded or evaluated; the text says which and why."""
