"""From what a rule answered to findings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from admission.finding import Finding
from admission.validator import PolicyRule, RuleFailure

MAX_FINDINGS = 100
_LONGEST = 2_000

OnFailure = Callable[[str, str], None]
"""Told of each failure: the rule's id ("" for the engine as a whole) and a one-word cause."""


def ignore_failure(_rule: str, _cause: str) -> None:
    """Count nothing."""


def findings_of(rule: PolicyRule, answer: Any) -> list[Finding] | RuleFailure:
    """Findings in a fixed order; at most ``MAX_FINDINGS``, the last then says how many more there are."""
    if not isinstance(answer, list):
        return RuleFailure(f"rule {rule.id} answered {_kind(answer)} instead of a set of findings")
    findings: list[Finding] = []
    for one in answer:
        made = _finding(rule, one)
        if isinstance(made, RuleFailure):
            return made
        findings.append(made)
    findings.sort(key=_order)
    if len(findings) > MAX_FINDINGS:
        more = len(findings) - MAX_FINDINGS + 1
        findings[MAX_FINDINGS - 1 :] = [
            Finding(rule.id, findings[0].path, f"and {more} more findings of this rule", _remedy(rule))
        ]
    return findings


def _order(finding: Finding) -> tuple[str, str, str, str]:
    return (finding.path, finding.message, finding.container, finding.remedy)


def _finding(rule: PolicyRule, answer: Any) -> Finding | RuleFailure:
    if not isinstance(answer, dict):
        return RuleFailure(f"rule {rule.id} answered {_kind(answer)} as a finding; findings have path and message")
    for key in ("path", "message"):
        if not isinstance(answer.get(key), str) or not answer[key]:
            return RuleFailure(f"rule {rule.id} answered a finding without {key}; findings have path and message")
    for key in ("remedy", "container"):
        if not isinstance(answer.get(key, ""), str):
            return RuleFailure(f"rule {rule.id} answered a finding whose {key} is {_kind(answer[key])}, no text")
    return Finding(
        rule=rule.id,
        path=answer["path"][:_LONGEST],
        message=answer["message"][:_LONGEST],
        remedy=(answer.get("remedy") or _remedy(rule))[:_LONGEST],
        container=answer.get("container", "")[:_LONGEST],
    )


def _remedy(rule: PolicyRule) -> str:
    return rule.remedy or "see the rule's description"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")
