"""The first page: what happened, what is in force, what needs somebody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from admission.policy_exception import PolicyException
from audit.selection import Selection
from audit.sql_records import SqlRecords
from webhook.page.chart import chart, spans
from webhook.page.facts import Facts
from webhook.page.filters import Filters
from webhook.page.identity import Visible
from webhook.page.rows import part, row, text, words

_TOP = 8
_MODELS = 8
_OF_A_MODEL = 40
_SOON = timedelta(days=30)
_ADMITTED = ("allowed", "mutated", "warned")


@dataclass(frozen=True, slots=True)
class InForce:
    """The newest version of a model that was let into an environment, and on whose word."""

    version: str
    time: str
    approvers: tuple[str, ...]
    id: str


@dataclass(frozen=True, slots=True)
class Ending:
    """An exception that ends soon; ``namespaces`` are those of the reader among its own."""

    name: str
    rules: tuple[str, ...]
    namespaces: tuple[str, ...]
    expires: datetime
    days: int
    reason: str
    ticket: str


def overview(records: SqlRecords, filters: Filters, visible: Visible, facts: Facts, seen: list[str]) -> dict[str, Any]:
    """What the template shows. ``seen`` are the namespaces that there are decisions of and that may be seen."""
    selection = filters.selection(visible.namespaces)
    until = filters.until or filters.now
    since = filters.since or until - timedelta(days=30)
    selection = replace(selection, since=since, until=filters.until)
    over = spans(since, until)
    counts = records.timeline(selection, over.first, over.step, over.count)
    refused = records.most(replace(selection, verdict="denied"), "namespace", 50)
    warned = records.most(replace(selection, verdict="warned"), "namespace", 50)
    in_force = _in_force(records, selection)
    noisy = sorted({*refused, *warned}, key=lambda name: (-refused.get(name, 0), -warned.get(name, 0), name))
    return {
        "chart": chart(counts, over),
        "totals": {verdict: sum(numbers) for verdict, numbers in counts.items()},
        "rules": records.most(selection, "rule", _TOP),
        "noisy": [(name, refused.get(name, 0), warned.get(name, 0)) for name in noisy[:_TOP]],
        "in_force": in_force,
        "environments": sorted({name for found in in_force.values() for name in found}),
        "exceptions": list(_ending(facts.exceptions(), filters.now, visible, seen)),
        "health": list(facts.health()),
        "revision": facts.revision,
    }


def _in_force(records: SqlRecords, selection: Selection) -> dict[str, dict[str, InForce]]:
    """By model and environment, for the models with most decisions."""
    every: dict[str, dict[str, InForce]] = {}
    for model in records.most(selection, "model", _MODELS):
        found: dict[str, InForce] = {}
        for entry in records.page(replace(selection, model=model), _OF_A_MODEL).entries:
            one, record = row(entry.value), entry.value
            environment = text(record, "environment")
            if one.verdict not in _ADMITTED or not environment or not one.version or one.dry_run:
                continue
            approvers = tuple(words(part(record, "approval").get("approvers")))
            found.setdefault(environment, InForce(one.version, one.time, approvers, one.id))
        if found:
            every[model] = found
    return every


def _ending(
    exceptions: tuple[PolicyException, ...], now: datetime, visible: Visible, seen: list[str]
) -> Iterator[Ending]:
    for one in sorted(exceptions, key=lambda each: each.expires):
        if not now < one.expires <= now + _SOON:
            continue
        about = one.namespaces
        if not visible.everything:
            # Whoever sees some namespaces learns of an exception there, and not where else it holds.
            about = tuple(name for name in seen if any(fnmatchcase(name, pattern) for pattern in one.namespaces))
            if not about:
                continue
        known = visible.everything
        yield Ending(one.name, one.rules, about, one.expires, max(0, (one.expires - now).days),
                     one.reason if known else "", one.ticket if known else "")  # fmt: skip
