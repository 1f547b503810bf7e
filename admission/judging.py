"""Running the rules on one pod. Rego is asked from outside: whoever drives the review evaluates it."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from admission.context import ReviewContext
from admission.finding import Finding, JudgedFinding
from admission.pod import ModelPod
from admission.policy_input import policy_input
from admission.rules_in_force import JudgingRules, RulesInForce
from admission.validator import PolicyAnswers, PolicyInput, RuleFailure

Judging = Generator[PolicyInput, PolicyAnswers, list[JudgedFinding]]


def judge(pod: ModelPod, context: ReviewContext, in_force: RulesInForce) -> Judging:
    """Every finding of every rule that covers the pod, with the action that holds.

    Yields the question to Rego, at most once, and takes the answers.
    """
    rules = in_force.judging[context.workload if pod.recognised_by else None]
    findings = list(_in_python(pod, context, rules))
    if not rules.policies:
        return findings
    question = policy_input(pod, context)
    answers = yield question
    for rule, answer in answers.items():
        action = rules.policies.get(rule)
        if action is None:
            continue
        if isinstance(answer, RuleFailure):
            findings.append(JudgedFinding(_unjudged(rule, answer), *action))
        else:
            findings += (JudgedFinding(finding, *action) for finding in answer)
    return findings


def _in_python(pod: ModelPod, context: ReviewContext, rules: JudgingRules) -> Iterator[JudgedFinding]:
    for validator, settings, action in rules.validators:
        for finding in validator.check(pod, context, settings):
            yield JudgedFinding(finding, *action)


def _unjudged(rule: str, failure: RuleFailure) -> Finding:
    return Finding(
        rule=rule,
        path="spec",
        message=f"nobody can say whether the rule holds: {failure.reason}",
        remedy="try again, and tell the platform team if it stays so",
    )
