"""What a store files a record under."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

_LONGEST = 600


def milliseconds(time: str) -> int:
    """Milliseconds since 1970 of a record's ``time``; 0 where it is none."""
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        return 0
    return int((parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


def columns(record: dict[str, Any]) -> tuple[int, str, str, str, str, str]:
    """What is searched for: time, uid, namespace, model, user, verdict."""
    model = record.get("model")
    governance = record.get("governance")
    named = model.get("name") if isinstance(model, dict) else None
    if named is None and isinstance(governance, dict):
        named = governance.get("model")
    texts = (record.get("uid"), record.get("namespace"), named, record.get("user"), record.get("verdict"))
    uid, namespace, model_name, user, verdict = (_filed(text) for text in texts)
    return milliseconds(str(record.get("time", ""))), uid, namespace, model_name, user, verdict


def rules(record: dict[str, Any]) -> set[str]:
    """The rules that had something to say."""
    findings = record.get("findings")
    if not isinstance(findings, list):
        return set()
    return {one["rule"] for one in findings if isinstance(one, dict) and isinstance(one.get("rule"), str)}


def _filed(text: object) -> str:
    # PostgreSQL has no NUL in texts, and indexes none that is very long.
    return text.replace("\0", "\ufffd")[:_LONGEST] if isinstance(text, str) else ""
