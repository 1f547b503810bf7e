"""What the records say of one object: who changed it as it came in, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from audit.chain import Entry
from audit.records import Records
from audit.selection import Selection

_LOOKED_AT = 2000
"""Records that name the object somewhere; the newest are looked at."""
_SHORT = {
    "cj": "cronjob", "cronjobs": "cronjob", "deploy": "deployment", "ds": "daemonset", "isvc": "inferenceservice",
    "llmisvc": "llminferenceservice", "lws": "leaderworkerset", "po": "pod", "rs": "replicaset",
    "sdep": "seldondeployment", "sts": "statefulset",
}  # fmt: skip
"""Short names as ``kubectl api-resources`` has them."""


@dataclass(frozen=True, slots=True)
class ObjectHistory:
    """The reviews of one object that matter, each None where there is no record of it.

    ``mutated`` changed it; ``judged`` is the newest that let it in, or in again, or turned it away.
    """

    mutated: Entry | None
    judged: Entry | None

    def __iter__(self) -> Iterator[Entry]:
        return (one for one in (self.mutated, self.judged) if one is not None)


def kind_named(word: str) -> str:
    """A kind as kubectl takes it (``deploy``, ``deployments``, ``Deployment.apps``), in small letters."""
    kind = word.casefold().partition(".")[0]
    if kind in _SHORT:
        return _SHORT[kind]
    return kind.removesuffix("es") if kind.endswith(("sses", "xes")) else kind.removesuffix("s")


def history_of(records: Records, kind: str, namespace: str, name: str, review: str = "") -> ObjectHistory:
    """The reviews of one object; ``review`` is what its annotation ``tidewaiter.dev/review`` says."""
    named = records.search(Selection(namespace=namespace, text=f'"{name}"'), _LOOKED_AT)
    judged = _first(named, kind, name, "validate")
    if not review and judged is not None:
        review = str(judged.value.get("mutation") or "")
    mutated = _first(named, kind, name, "mutate")
    if review:
        by_uid = (one for one in records.find(review) if one.value.get("webhook") == "mutate")
        mutated = next((one for one in by_uid if _is_of(one.value, kind, namespace, name)), mutated)
    return ObjectHistory(mutated, judged)


def _first(entries: Iterable[Entry], kind: str, name: str, webhook: str) -> Entry | None:
    return next(
        (
            one
            for one in entries
            if one.value.get("webhook") == webhook
            and one.value.get("name") == name
            and kind_named(str(one.value.get("kind"))) == kind
            and not one.value.get("dry_run")
        ),
        None,
    )


def _is_of(record: dict[str, Any], kind: str, namespace: str, name: str) -> bool:
    """Whether a mutation was of this object: its author may have written another's review into it."""
    found = str(record.get("name") or "")
    begins = found.endswith("*") and name.startswith(found[:-1])
    same_kind = kind_named(str(record.get("kind"))) == kind
    return same_kind and record.get("namespace") == namespace and (begins or found == name)
