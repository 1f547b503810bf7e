"""What holds in one namespace: environment, workload classes, modes and actions.

All of it comes from the namespace and the settings, never from the pod: an author
must not choose the rules that judge them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
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


DatesByEnvironment = Annotated[
    dict[str, date],
    BeforeValidator(
        lambda value: {"*": value} if isinstance(value, str | date) else value,
        json_schema_input_type=dict[str, date] | date,
    ),
]
"""A day by environment; "*" stands for every other one, and so does a day alone."""


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
    deny_after: dict[str, date] = Field(default_factory=dict, alias="denyAfter")
    """Day by rule id from which its findings are refused here, from 0:00 UTC."""
    modes: dict[str, Mode] = Field(default_factory=dict)
    """Mode by mutator id."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace as the cluster has it."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class NamespacePolicy:
    """The settings, resolved for one namespace. ``environment`` "" means not opted in.

    ``judged_as`` are the environments that the namespace is held to: its own, or every
    one where its label names none that exists.
    """

    namespace: Namespace
    environment: str
    settings: NamespaceSettings
    workloads: tuple[WorkloadClass, ...]
    default_workload: WorkloadClass
    judged_as: Mapping[str, EnvironmentSettings]
    enforcement: Action | None

    @property
    def opted_in(self) -> bool:
        """Whether the namespace has an environment."""
        return bool(self.environment)

    @property
    def environment_action(self) -> Action:
        """What a finding does here where no rule says otherwise."""
        return self._strictest({}, _own_action, _strictness)

    def mode(self, mutator: str, by_environment: Mapping[str, Mode]) -> Mode:
        """The mode of a mutator here; outside opted-in namespaces it never applies."""
        mode = self.settings.modes.get(mutator)
        if mode is None:
            mode = self._strictest(by_environment, _apply, _MODES.index)
        return mode if self.opted_in or mode is Mode.OFF else Mode.PREVIEW

    def action(self, rule: str, by_environment: Mapping[str, Action]) -> Action:
        """What a finding of ``rule`` does here.

        The namespace's settings win over the rule's, those over the environment's.
        The namespace's label may tighten the answer and never loosens it.
        """
        action = self.settings.actions.get(rule)
        if action is None:
            action = self._strictest(by_environment, _own_action, _strictness)
        if not self.opted_in:
            return min(action, Action.WARN, key=lambda one: one.strictness)
        if self.enforcement is not None and action is not Action.OFF:
            action = max(action, self.enforcement, key=_strictness)
        return action

    def deny_after(self, rule: str, by_environment: Mapping[str, date]) -> date | None:
        """The day from which findings of ``rule`` are refused here; None where no day is set.

        An action that the settings give this very namespace is meant to last: a day of
        the rule's does not end it, a day of the namespace's does.
        """
        own = self.settings.deny_after.get(rule)
        if own is not None or rule in self.settings.actions or not self.opted_in:
            return own if self.opted_in else None
        days = [by_environment.get(name, by_environment.get("*")) for name in self.judged_as]
        return min((day for day in days if day is not None), default=None)

    def action_on(
        self, day: date, rule: str, by_environment: Mapping[str, Action], deny_after: Mapping[str, date]
    ) -> tuple[Action, date | None]:
        """What a finding of ``rule`` does here on ``day`` (UTC), and the day to come on which it begins to deny."""
        action = self.action(rule, by_environment)
        if action in (Action.OFF, Action.DENY):
            return action, None
        from_day = self.deny_after(rule, deny_after)
        if from_day is None or day < from_day:
            return action, from_day
        return Action.DENY, None

    def _strictest(
        self,
        by_environment: Mapping[str, V],
        otherwise: Callable[[EnvironmentSettings], V],
        strictness: Callable[[V], int],
    ) -> V:
        """What holds here, or the strictest of what holds anywhere where the label is mistyped."""
        held_to = (
            by_environment.get(name, by_environment.get("*", otherwise(settings)))
            for name, settings in self.judged_as.items()
        )
        return next(held_to) if len(self.judged_as) == 1 else max(held_to, key=strictness)


def namespace_policy(
    namespace: Namespace,
    environments: Mapping[str, EnvironmentSettings],
    namespaces: Mapping[str, NamespaceSettings],
) -> NamespacePolicy:
    """Resolve what holds in ``namespace``.

    The label wins over the settings' map. A label that names no known environment is
    held to the strictest of what any environment gives, rule by rule and mutator by
    mutator: a typing error must not open a namespace. Its pods may ask for a class that
    may be asked for everywhere, and are inference otherwise, which every rule covers.
    """
    own = namespaces.get(namespace.name, NamespaceSettings())
    named = namespace.labels.get(ENVIRONMENT_KEY) or own.environment or ""
    judged_as = environments
    environment = environments.get(named) or EnvironmentSettings()
    if named in environments or not named or not environments:
        judged_as = {named: environment}
    else:
        everywhere = set(WorkloadClass).intersection(*(one.workloads for one in environments.values()))
        environment = EnvironmentSettings(workloads=tuple(one for one in WorkloadClass if one in everywhere))
    enforcement = namespace.labels.get(ENFORCEMENT_KEY)
    return NamespacePolicy(
        namespace=namespace,
        environment=named,
        settings=own,
        workloads=own.workloads or environment.workloads,
        default_workload=own.default_workload or environment.default_workload,
        judged_as=judged_as,
        enforcement=Action(enforcement) if enforcement in tuple(Action) else None,
    )


_MODES = (Mode.OFF, Mode.PREVIEW, Mode.APPLY)


def _strictness(action: Action) -> int:
    return action.strictness


def _own_action(environment: EnvironmentSettings) -> Action:
    return environment.action


def _apply(_environment: EnvironmentSettings) -> Mode:
    return Mode.APPLY
