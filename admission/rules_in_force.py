"""What a set of mutators and rules means in one namespace on one day.

Resolved once and not in every review: a review then pays for the rules that judge its
pod, and nothing for the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from admission.finding import Action
from admission.mutator import Mutator, MutatorSettings
from admission.namespace import Mode, NamespacePolicy
from admission.validator import PolicyRule, RuleSettings, Validator
from admission.workload import WorkloadClass

Mutators = tuple[tuple[Mutator[Any], MutatorSettings], ...]
Validators = tuple[tuple[Validator[Any], RuleSettings], ...]
ActionOf = tuple[Action, date | None]
"""What a finding does, and the day to come on which it begins to deny."""
PodClass = WorkloadClass | None
"""The workload class of a model pod; None for a pod that is no model's."""


@dataclass(frozen=True, slots=True)
class JudgingRules:
    """The rules that judge pods of one class. What is off is left out; ``policies`` by id."""

    validators: tuple[tuple[Validator[Any], RuleSettings, ActionOf], ...]
    policies: Mapping[str, ActionOf]


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """Mutators in order with their modes, without those that are off, and rules by class of pod.

    ``settings`` are those of the mutators, by id; ``judged_anew`` the rules whose findings an
    update that changes what runs cannot inherit.
    """

    day: date
    mutators: tuple[tuple[Mutator[Any], MutatorSettings, Mode], ...]
    settings: Mapping[str, MutatorSettings]
    judging: Mapping[PodClass, JudgingRules]
    judged_anew: frozenset[str] = frozenset()


def rules_in_force(
    mutators: Mutators,
    validators: Validators,
    policies: Mapping[str, PolicyRule],
    namespace: NamespacePolicy,
    day: date,
) -> RulesInForce:
    """Resolve what acts in ``namespace`` on ``day`` (UTC)."""
    modes = [(one, settings, namespace.mode(one.id, settings.mode)) for one, settings in mutators]
    acting = tuple(one for one in modes if one[2] is not Mode.OFF)
    in_python = [(one, settings, _action(one.id, settings, namespace, day)) for one, settings in validators]
    in_rego = [(one, _action(one.id, one.settings, namespace, day)) for one in policies.values()]
    return RulesInForce(
        day=day,
        mutators=acting,
        settings={mutator.id: settings for mutator, settings, _ in acting},
        judging={
            pod: JudgingRules(
                validators=tuple(one for one in in_python if _acts(one[0], one[2], namespace, pod)),
                policies={rule.id: action for rule, action in in_rego if _acts(rule, action, namespace, pod)},
            )
            for pod in (None, *WorkloadClass)
        },
        judged_anew=frozenset(one.id for one, _ in validators if one.judges_what_runs),
    )


def _action(rule: str, settings: RuleSettings, namespace: NamespacePolicy, day: date) -> ActionOf:
    return namespace.action_on(day, rule, settings.action, settings.deny_after)


def _acts(rule: Validator[Any] | PolicyRule, action: ActionOf, namespace: NamespacePolicy, pod: PodClass) -> bool:
    return action[0] is not Action.OFF and rule.applies.includes(pod, opted_in=namespace.opted_in)
