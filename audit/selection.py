"""Which records are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from audit.chain import Entry
from audit.record_columns import columns, rules


@dataclass(frozen=True, slots=True)
class Selection:
    """What a record must have; "" and None ask for nothing. Times are aware.

    ``text`` may stand anywhere in the record, in any case of letters.
    """

    namespace: str = ""
    model: str = ""
    user: str = ""
    rule: str = ""
    verdict: str = ""
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""

    def has(self, entry: Entry) -> bool:
        """Whether the record is asked for."""
        time, _, namespace, model, user, verdict = columns(entry.value)
        return (
            self._named(((self.namespace, namespace), (self.model, model), (self.user, user), (self.verdict, verdict)))
            and (self.since is None or time >= int(self.since.timestamp() * 1000))
            and (self.until is None or time < int(self.until.timestamp() * 1000))
            and (not self.rule or self.rule in rules(entry.value))
            and self.has_text(entry.line)
        )

    def has_text(self, line: bytes) -> bool:
        """Whether the text stands in a record's line."""
        return not self.text or self.text.casefold() in line.decode("utf-8", "replace").casefold()

    @staticmethod
    def _named(pairs: Iterable[tuple[str, str]]) -> bool:
        return all(not asked or asked == found for asked, found in pairs)


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many records there are, from when to when (the records' own times), and of what."""

    total: int
    first: str
    last: str
    counts: dict[str, dict[str, int]]
    """By verdict, namespace, model, user and rule: how many, most first."""


def most_first(counts: dict[str, int], at_most: int = 10) -> dict[str, int]:
    """The most frequent ones."""
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:at_most])
