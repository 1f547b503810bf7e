"""What holds in one namespace: environment, workload classes, modes and actions.

All of it comes from the namespace and the settings, never from the pod: an author
must not choose the rules that judge them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from admission.finding import Action
from admission.workload import WorkloadClass

ENVIRONMENT_KEY = "tidewaiter.dev/environment"
ENFORCEMENT_KEY = "tidewaiter.dev/enforcement"


V = TypeVar("V", bound=StrEnum)


def _for_every_environment(value: Any) -> Any:
    return {"*": value} if isinstance(value, str) else value


ByEnvironment = Annotated[
    dict[str, V], BeforeValidator(_for_every_environment, json_schema_input_type=dict[str, V] | V)
]
"""A value by environment; "*" stands for every other one, and so does a value alone."""


class Mode(StrEnum):
    """What a mutator does: nothing, say what it would change, or change it."""

    OFF = "off"
    PREVIEW = "preview"
    APPLY = "apply"


class EnvironmentSettings(BaseModel):
    """What holds in every namespace of one environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    action: Action = Action.WARN
    """What a finding does here unless a rule says otherwise."""
    workloads: tuple[WorkloadClass, ...] = tuple(WorkloadClass)
    """Workload classes that pods may ask for."""
    default_workload: WorkloadClass = Field(default=WorkloadClass.INFERENCE, alias="defaultWorkload")
    """The class of a pod whose label and owner say nothing."""


class NamespaceSettings(BaseModel):
    """What holds in one namespace, over its environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    environment: str | None = None
    """The environment, where the namespace's own label does not say."""
    workloads: tuple[WorkloadClass, ...] | None = None
    """Workload classes that pods may ask for here."""
    default_workload: WorkloadClass | None = Field(default=None, alias="defaultWorkload")
    """The class of a pod whose label and owner say nothing."""
    priority_classes: tuple[str, ...] | None = Field(default=None, alias="priorityClasses")
    """The only priority classes that pods may name here; unset: all but system-*."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Cost labels of the namespace's pods, for example team and project."""
    actions: dict[str, Action] = Field(default_factory=dict)
    """Action by rule id; may loosen what the environment says."""
    modes: dict[str, Mode] = Field(default_factory=dict)
    """Mode by mutator id."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace as the cluster has it."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamespacePolicy:
    """The settings, resolved for one namespace. ``environment`` "" means not opted in."""

    namespace: Namespace
    environment: str
    settings: NamespaceSettings
    workloads: tuple[WorkloadClass, ...]
    default_workload: WorkloadClass
    environment_action: Action
    enforcement: Action | None

    @property
    def opted_in(self) -> bool:
        """Whether the namespace has an environment."""
        return bool(self.environment)

    def mode(self, mutator: str, by_environment: Mapping[str, Mode]) -> Mode:
        """The mode of a mutator here; outside opted-in namespaces it never applies."""
        mode = self.settings.modes.get(mutator)
        if mode is None:
            mode = by_environment.get(self.environment, by_environment.get("*", Mode.APPLY))
        return mode if self.opted_in or mode is Mode.OFF else Mode.PREVIEW

    def action(self, rule: str, by_environment: Mapping[str, Action]) -> Action:
        """What a finding of ``rule`` does here.

        The namespace's settings win over the rule's, those over the environment's.
        The namespace's label may tighten the answer and never loosens it.
        """
        action = self.settings.actions.get(rule)
        if action is None:
            action = by_environment.get(self.environment, by_environment.get("*", self.environment_action))
        if not self.opted_in:
            return min(action, Action.WARN, key=lambda one: one.strictness)
        if self.enforcement is not None and action is not Action.OFF:
            action = max(action, self.enforcement, key=lambda one: one.strictness)
        return action


def namespace_policy(
    namespace: Namespace,
    environments: Mapping[str, EnvironmentSettings],
    namespaces: Mapping[str, NamespaceSettings],
) -> NamespacePolicy:
    """Resolve what holds in ``namespace``.

    The label wins over the settings' map. A label that names no known environment is
    held to the strictest one: a typing error must not open a namespace.
    """
    own = namespaces.get(namespace.name, NamespaceSettings())
    named = namespace.labels.get(ENVIRONMENT_KEY) or own.environment or ""
    environment = environments.get(named)
    if environment is None:
        environment = _strictest(environments) if named else EnvironmentSettings()
    enforcement = namespace.labels.get(ENFORCEMENT_KEY)
    return NamespacePolicy(
        namespace=namespace,
        environment=named,
        settings=own,
        workloads=own.workloads or environment.workloads,
        default_workload=own.default_workload or environment.default_workload,
        environment_action=environment.action,
        enforcement=Action(enforcement) if enforcement in tuple(Action) else None,
    )


def _strictest(environments: Mapping[str, EnvironmentSettings]) -> EnvironmentSettings:
    return max(environments.values(), key=lambda one: one.action.strictness, default=EnvironmentSettings())
