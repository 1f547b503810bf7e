"""What a stricter action of a rule would have refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from audit.sql_records import SqlRecords
from webhook.page.facts import Facts, RuleFacts
from webhook.page.filters import Filters
from webhook.page.identity import Visible
from webhook.page.rows import Row, findings, row, text

_READ = 5_000
_SHOWN = 25
_LET_THROUGH = ("allowed", "mutated", "warned")
_MADE_UP = re.compile(r"(-[a-z0-9]{8,10})?(-[bcdfghjklmnpqrstvwxz2456789]{5})?$")
"""What controllers put behind a workload's name: a template's hash, and five characters for each pod."""


@dataclass(slots=True)
class Affected:
    """One workload that would have been refused."""

    namespace: str
    kind: str
    workload: str
    environment: str
    times: int
    newest: Row
    message: str
    remedy: str


def rule_list(records: SqlRecords, filters: Filters, visible: Visible, facts: Facts) -> dict[str, Any]:
    """Every rule in force or in the records, with how often it spoke and how often that refused nothing."""
    counted = records.by_rule_and_verdict(replace(filters.selection(visible.namespaces), rule=""))
    listed = []
    for rule in sorted({*facts.rules, *counted}):
        by_verdict = counted.get(rule, {})
        let_through = sum(by_verdict.get(verdict, 0) for verdict in _LET_THROUGH)
        listed.append((rule, facts.rules.get(rule), by_verdict.get("denied", 0), let_through))
    listed.sort(key=lambda one: (-one[3], -one[2], one[0]))
    return {"rules": listed}


def plan(records: SqlRecords, rule: str, filters: Filters, visible: Visible, facts: Facts) -> dict[str, Any] | None:
    """What would have been refused had ``rule`` denied; None for a rule that nobody knows.

    A request counts that was let through although the rule spoke of it. Dry runs, findings
    that an exception excuses, and what ``/mutate`` saw before ``/validate`` do not.
    """
    about: RuleFacts | None = facts.rules.get(rule)
    selection = replace(filters.selection(visible.namespaces), rule=rule)
    page = records.page(selection, _READ)
    if about is None and not page.entries:
        return None
    affected: dict[tuple[str, str, str], Affected] = {}
    excused = refused = 0
    concerned: list[Row] = []
    for entry in page.entries:
        record, one = entry.value, row(entry.value)
        if one.verdict == "denied":
            refused += 1
            continue
        if one.verdict not in _LET_THROUGH or one.dry_run or record.get("webhook") != "validate":
            continue
        spoke = [each for each in findings(record) if text(each, "rule") == rule]
        if all(text(each, "exception") for each in spoke):
            excused += 1
            continue
        concerned.append(one)
        _take(affected, record, one, next(each for each in spoke if not text(each, "exception")))
    return {
        "rule": rule,
        "about": about,
        "affected": sorted(affected.values(), key=lambda one: (-one.times, one.namespace, one.workload)),
        "requests": len(concerned),
        "namespaces": _by_namespace(affected.values()).most_common(),
        "rows": concerned[:_SHOWN],
        "excused": excused,
        "refused": refused,
        "read": len(page.entries),
        "partly": page.following is not None,
    }


def _take(
    affected: dict[tuple[str, str, str], Affected], record: Mapping[str, Any], one: Row, finding: Mapping[str, Any]
) -> None:
    workload = workload_of(one.name)
    key = (one.namespace, one.kind, workload)
    if key in affected:
        affected[key].times += 1
        return
    affected[key] = Affected(
        one.namespace, one.kind, workload, text(record, "environment"), 1, one,
        text(finding, "message"), text(finding, "remedy"),
    )  # fmt: skip


def _by_namespace(affected: Iterable[Affected]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for one in affected:
        counted[one.namespace] += one.times
    return counted


def workload_of(name: str) -> str:
    """The name without what a controller put behind it."""
    bare = name.removesuffix("*").rstrip("-")
    return _MADE_UP.sub("", bare) or bare
