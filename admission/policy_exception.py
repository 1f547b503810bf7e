"""``PolicyException``: named rules do not hold for some objects until a day, with a reason and an approver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class PolicyException:
    """One exception that somebody other than its requester approved.

    ``rules``, ``namespaces``, ``kinds`` and ``names`` are ids and names, with * for any
    part; empty ``kinds`` and ``names`` stand for all. ``labels`` must all be on the pod.
    ``expires`` is aware; from then on the exception is gone.
    """

    name: str
    rules: tuple[str, ...]
    namespaces: tuple[str, ...]
    expires: datetime
    kinds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    ticket: str = ""
    requester: str = ""
    approver: str = ""

    def covers(self, rule: str, now: datetime) -> bool:
        """Whether the rule is switched off by it now."""
        return now < self.expires and _any(rule, self.rules)

    def selects(self, namespace: str, kind: str, name: str, labels: Mapping[str, str]) -> bool:
        """Whether it is about this object; ``labels`` are those of its pod."""
        return (
            _any(namespace, self.namespaces)
            and (not self.kinds or _any(kind, self.kinds))
            and (not self.names or _any(name, self.names))
            and all(labels.get(key) == value for key, value in self.labels.items())
        )


def _any(word: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(word, pattern) for pattern in patterns)
