"""Running the rules on one pod. Rego is asked from outside: whoever drives the review evaluates it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from datetime import date
from typing import Any

from admission.context import ReviewContext
from admission.finding import Action, Finding, JudgedFinding
from admission.pod import ModelPod
from admission.policy_input import policy_input
from admission.validator import PolicyAnswers, PolicyInput, PolicyRule, RuleFailure, RuleSettings, Validator

Validators = tuple[tuple[Validator[Any], RuleSettings], ...]
_ActionOf = tuple[Action, date | None]
Judging = Generator[PolicyInput, PolicyAnswers, list[JudgedFinding]]


def judge(
    pod: ModelPod,
    context: ReviewContext,
    validators: Validators,
    policies: Mapping[str, PolicyRule],
) -> Judging:
    """Every finding of every rule that covers the pod, with the action that holds.

    Yields the question to Rego, at most once, and takes the answers.
    """
    findings = list(_in_python(pod, context, validators))
    actions = _actions(pod, context, policies)
    if not actions:
        return findings
    question = policy_input(pod, context)
    answers = yield question
    for rule, answer in answers.items():
        action = actions.get(rule)
        if action is None:
            continue
        if isinstance(answer, RuleFailure):
            findings.append(JudgedFinding(_unjudged(rule, answer), *action))
        else:
            findings += (JudgedFinding(finding, *action) for finding in answer)
    return findings


def _in_python(pod: ModelPod, context: ReviewContext, validators: Validators) -> Iterator[JudgedFinding]:
    for validator, settings in validators:
        if not validator.applies.covers(pod, context):
            continue
        action, deny_after = action_of(validator.id, settings, context)
        if action is not Action.OFF:
            for finding in validator.check(pod, context, settings):
                yield JudgedFinding(finding, action, deny_after)


def action_of(rule: str, settings: RuleSettings, context: ReviewContext) -> _ActionOf:
    """What a finding of the rule does in this namespace now, and from which day on it will be refused."""
    return context.namespace.action_on(context.now.date(), rule, settings.action, settings.deny_after)


def _actions(pod: ModelPod, context: ReviewContext, policies: Mapping[str, PolicyRule]) -> dict[str, _ActionOf]:
    """The action of each Rego rule that has a say."""
    found: dict[str, _ActionOf] = {}
    for rule in policies.values():
        if rule.applies.covers(pod, context):
            action = action_of(rule.id, rule.settings, context)
            if action[0] is not Action.OFF:
                found[rule.id] = action
    return found


def _unjudged(rule: str, failure: RuleFailure) -> Finding:
    return Finding(
        rule=rule,
        path="spec",
        message=f"nobody can say whether the rule holds: {failure.reason}",
        remedy="try again, and tell the platform team if it stays so",
    )
