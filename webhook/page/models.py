"""Models: their versions, who approved them, where they were let in, and what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from audit.record_columns import columns
from audit.selection import Selection, version_of
from audit.sql_records import SqlRecords
from webhook.page.approvals import Given, events
from webhook.page.filters import Filters
from webhook.page.identity import Visible
from webhook.page.rows import Row, part, row, text, words

_READ = 3_000
_REFUSALS = 20
_LISTED = 100
_ADMITTED = ("allowed", "mutated", "warned")


@dataclass(slots=True)
class Version:
    """What the records say of one version."""

    name: str
    admitted: int = 0
    refused: int = 0
    newest: str = ""
    places: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Namespace and environment where it was let in, and how often."""
    states: dict[str, str] = field(default_factory=dict)
    """What the registry said last, by environment."""
    approvers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    digest: str = ""


def models(records: SqlRecords, filters: Filters, visible: Visible) -> dict[str, Any]:
    """The models that there are decisions of, with how many were refused."""
    selection = replace(filters.selection(visible.namespaces), model="")
    total = records.most(selection, "model", _LISTED)
    refused = records.most(replace(selection, verdict="denied"), "model", 10 * _LISTED)
    return {"models": [(name, number, refused.get(name, 0)) for name, number in total.items()], "most": _LISTED}


def model(records: SqlRecords, name: str, filters: Filters, visible: Visible) -> dict[str, Any] | None:
    """What the template shows; None where no record that may be seen is about it."""
    selection = Selection(model=name, since=filters.since, until=filters.until, namespaces=visible.namespaces)
    page = records.page(selection, _READ)
    versions: dict[str, Version] = {}
    refusals: list[Row] = []
    rules: Counter[str] = Counter()
    given: list[Given] = []
    for entry in page.entries:
        record = entry.value
        if isinstance(record.get("governance"), dict):
            given += events(record)
            continue
        one = row(record)
        _take(versions.setdefault(version_of(record), Version(version_of(record))), record, one)
        if one.verdict == "denied":
            rules.update(one.rules)
            if len(refusals) < _REFUSALS:
                refusals.append(one)
    if not page.entries:
        return None
    return {
        "name": name,
        "versions": sorted(versions.values(), key=lambda one: one.newest, reverse=True),
        "refusals": refusals,
        "rules": rules.most_common(8),
        "given": given,
        "read": len(page.entries),
        "partly": page.following is not None,
        "may_see_events": visible.everything,
    }


def _take(version: Version, record: Mapping[str, Any], one: Row) -> None:
    """Count a record in; the newest come first."""
    version.newest = version.newest or one.time
    environment = text(record, "environment")
    approval = part(record, "approval")
    if approval:
        version.states.setdefault(environment, text(approval, "state"))
        approvers = tuple(words(approval.get("approvers")))
        if approvers:
            version.approvers.setdefault(environment, approvers)
    version.digest = version.digest or text(part(record, "model"), "digest")
    if one.verdict in _ADMITTED:
        version.admitted += 1
        version.places[columns(dict(record))[2], environment] += 1
    elif one.verdict == "denied":
        version.refused += 1
