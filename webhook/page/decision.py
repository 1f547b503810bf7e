"""One decision: what was found, what was changed, on whose word, and whether its record is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.chain import Entry, hash_of
from audit.checkpoint import signature_problem
from audit.record_columns import columns
from audit.selection import Selection, version_of
from audit.sql_records import Place, SqlRecords
from webhook.page.approvals import Given, events
from webhook.page.facts import Facts
from webhook.page.identity import Visible
from webhook.page.rows import dicts, findings, part, row, rows, text, texts, words

Keys = Mapping[str, Ed25519PublicKey]
_OF_MODEL = 2_000
_OF_A_FINDING = ("rule", "action", "path", "container", "message", "remedy", "exception", "deny_after")
_SIGNS = {"add": "+", "remove": "-", "replace": "~", "move": "~", "copy": "~"}


@dataclass(frozen=True, slots=True)
class Change:
    """One operation of the patch: ``sign`` is + - or ~."""

    sign: str
    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked of the record: ``good`` is None where it cannot be told."""

    good: bool | None
    sentence: str


def decision(records: SqlRecords, identifier: str, visible: Visible, facts: Facts, keys: Keys) -> dict[str, Any] | None:
    """What the template shows; None where there is no such record, or none that may be seen."""
    found = [entry for entry in records.find(identifier) if columns(entry.value)[2] in visible]
    if not found:
        return None
    entry = next((one for one in found if one.value.get("id") == identifier), found[0])
    record = entry.value
    mutation = text(record, "mutation")
    related = [one for one in found if one is not entry]
    if mutation and mutation != identifier:
        related += [one for one in records.find(mutation) if columns(one.value)[2] in visible]
    return {
        "row": row(record),
        "record": record,
        "findings": [(texts(one, *_OF_A_FINDING), facts.rules.get(text(one, "rule"))) for one in findings(record)],
        "denials": sum(text(one, "action") == "deny" for one in findings(record)),
        "left_out": {
            name: record[f"{name}_left_out"]
            for name in ("findings", "injections", "groups")
            if isinstance(record.get(f"{name}_left_out"), int)
        },
        "injections": [
            {"mutator": text(one, "mutator"), "changes": words(one.get("changes")), "preview": bool(one.get("preview"))}
            for one in dicts(record.get("injections"))
        ],
        "request": [(label, value) for label, value in _request(record) if value],
        "changes": list(_changes(record)),
        "patch_left_out": part(record, "patch_left_out"),
        "approval": texts(part(record, "approval"), "registry", "state", "freshness")
        | {"approvers": words(part(record, "approval").get("approvers"))}
        if part(record, "approval")
        else {},
        "model": texts(part(record, "model"), "uri", "digest"),
        "revision": text(record, "policy_revision"),
        "said": texts(record, "error", "ignored", "uid", "replica", "hash"),
        "approved_by": list(_approved(records, record, visible)),
        "signatures": [texts(one, "state", "key", "image") for one in dicts(record.get("signatures"))],
        "governance": json.dumps(record["governance"], indent=2, ensure_ascii=False)
        if isinstance(record.get("governance"), dict)
        else "",
        "related": rows(related),
        "checks": list(_checks(entry, records.place(entry), keys)),
        "whole": json.dumps(record, indent=2, ensure_ascii=False, sort_keys=True),
    }


def _request(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "User", text(record, "user")
    yield "Groups", ", ".join(words(record.get("groups")))
    for name in ("environment", "workload", "recognised", "webhook"):
        yield name.capitalize(), text(record, name)
    taken = record.get("latency_ms")
    yield "Took", f"{taken} ms" if isinstance(taken, int | float) else ""


def _changes(record: Mapping[str, Any]) -> Iterator[Change]:
    for one in dicts(record.get("patch")):
        kind = text(one, "op")
        lines: tuple[str, ...] = ()
        if "value" in one:
            lines = tuple(json.dumps(one["value"], indent=2, ensure_ascii=False).splitlines())
        elif text(one, "from"):
            lines = (f"from {text(one, 'from')}",)
        yield Change(_SIGNS.get(kind, "?"), text(one, "path"), lines)


def _approved(records: SqlRecords, record: Mapping[str, Any], visible: Visible) -> Iterator[Given]:
    """What the log has of approvals of this version; those stand in no namespace."""
    model, version = columns(dict(record))[3], version_of(record)
    if not visible.everything or not model or not version or isinstance(record.get("governance"), dict):
        return
    asked = Selection(model=model, version=version, namespaces=frozenset([""]))
    for entry in records.page(replace(asked, namespaces=frozenset([""])), 50, scan=_OF_MODEL).entries:
        yield from (one for one in events(entry.value) if one.state != "withdrawn")


def _checks(entry: Entry, place: Place, keys: Keys) -> Iterator[Check]:
    record = entry.value
    whole = hash_of(entry) == record.get("hash")
    yield Check(
        whole, "Its hash is that of what it says." if whole else "Its hash is not that of what it says: edited."
    )
    if place.before is not None:
        follows = place.before.value.get("hash") == record.get("previous")
        yield Check(
            follows, "It names the record before it." if follows else "It does not follow the record before it."
        )
    elif record.get("sequence") == 1:
        yield Check(True, "It is the first of its process.")
    else:
        yield Check(None, "The record before it is not here: removed by retention, or missing.")
    if place.after is not None:
        named = place.after.value.get("previous") == record.get("hash")
        yield Check(named, "The record after it names it." if named else "The record after it names another.")
    yield _covered(place, keys)


def _covered(place: Place, keys: Keys) -> Check:
    checkpoint = place.checkpoint.value if place.checkpoint is not None else None
    if checkpoint is None:
        return Check(None, "No checkpoint covers it yet.")
    where = f"the checkpoint at record {checkpoint.get('sequence')}"
    if not checkpoint.get("signature"):
        return Check(None, f"It is covered by {where}, which nobody signed.")
    if not keys:
        return Check(None, f"It is covered by {where}; no public key is set to check its signature.")
    problem = signature_problem(checkpoint, keys)
    if problem:
        return Check(False, f"{where[0].upper()}{where[1:]} is not to be believed: {problem}.")
    return Check(True, f"It is covered by {where}, whose signature is genuine.")
