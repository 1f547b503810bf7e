"""Who approved what: what the log has of approvals, and what was let in on somebody's word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audit.selection import Page, Selection, version_of
from audit.sql_records import SqlRecords
from webhook.page.filters import Filters
from webhook.page.identity import Visible
from webhook.page.rows import Row, dicts, part, row, text, words

_EVENTS = 200
_ADMITTED = ("allowed", "mutated", "warned")


@dataclass(frozen=True, slots=True)
class Given:
    """An approval, or a refusal or withdrawal of one, as it was written into the log."""

    time: str
    model: str
    version: str
    environment: str
    state: str
    by: str
    reason: str
    id: str


@dataclass(frozen=True, slots=True)
class Relied:
    """A version that was let into an environment on somebody's approval, the newest time of it."""

    model: str
    version: str
    environment: str
    approvers: tuple[str, ...]
    times: int
    newest: Row


def events(record: Mapping[str, Any]) -> Iterator[Given]:
    """The approvals that one record of a model version tells of; none where the request was refused."""
    about = part(record, "governance")
    if record.get("allowed") is not True or record.get("dry_run") is True:
        return
    for one in dicts(about.get("changes")):
        yield Given(
            time=text(record, "time"),
            model=text(about, "model"),
            version=text(about, "version"),
            environment=text(one, "environment"),
            state=text(one, "state") or "approved",
            by=text(one, "approver") or text(one, "approvedBy") or text(record, "user"),
            reason=text(one, "reason"),
            id=text(record, "id"),
        )


def approvals(records: SqlRecords, filters: Filters, by: str, visible: Visible) -> dict[str, Any]:
    """What ``by`` approved, or everybody where it is ""."""
    given: list[Given] = []
    looked_through = True
    if visible.everything:
        asked = Selection(
            user=by, since=filters.since, until=filters.until, text='"governance":', namespaces=frozenset([""])
        )
        page = records.page(asked, _EVENTS)
        looked_through = page.following is None
        given = [one for entry in page.entries for one in events(entry.value) if not by or one.by == by]
    relied, found = _relied(records, filters, by, visible)
    return {
        "by": by,
        "given": [one for one in given if one.model],
        "relied": relied,
        "partly": not looked_through or found.following is not None,
        "may_see_events": visible.everything,
    }


def _relied(records: SqlRecords, filters: Filters, by: str, visible: Visible) -> tuple[list[Relied], Page]:
    asked = Selection(
        since=filters.since, until=filters.until, text=by or '"approvers":', namespaces=visible.namespaces
    )
    page = records.page(asked, 5_000)
    found: dict[tuple[str, str, str], Relied] = {}
    for entry in page.entries:
        record = entry.value
        approvers = tuple(words(part(record, "approval").get("approvers")))
        if not approvers or (by and by not in approvers) or record.get("verdict") not in _ADMITTED:
            continue
        one = row(record)
        key = (one.model, version_of(record), text(record, "environment"))
        before = found.get(key)
        found[key] = Relied(*key, approvers, before.times + 1 if before else 1, before.newest if before else one)
    return sorted(found.values(), key=lambda one: one.newest.time, reverse=True), page
