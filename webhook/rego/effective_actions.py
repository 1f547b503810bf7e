"""What every rule does in one namespace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from admission.finding import Action
from admission.namespace import Namespace, namespace_policy
from admission.validator import PolicyRule
from webhook.settings import VALIDATORS, Settings


@dataclass(frozen=True, slots=True)
class EffectiveAction:
    """One rule, what it is written in, what its findings do, and from which day on they deny."""

    rule: str
    language: str
    action: Action
    deny_after: date | None = None


def effective_actions(
    settings: Settings, rules: Mapping[str, PolicyRule], namespace: Namespace, day: date
) -> Iterator[EffectiveAction]:
    """Every rule, in Python and Rego, by name."""
    policy = namespace_policy(namespace, settings.environments, settings.namespaces)
    languages = {**{one.id: "Python" for one in VALIDATORS}, **dict.fromkeys(rules, "Rego")}
    for rule, language in sorted(languages.items()):
        own = settings.rule(rule)
        yield EffectiveAction(rule, language, *policy.action_on(day, rule, own.action, own.deny_after))
