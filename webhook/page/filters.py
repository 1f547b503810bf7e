"""What a URL asks for: its parameters as a selection of records, and the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from audit.selection import Cursor, Selection
from audit.sql_records import VERDICTS

RANGES = {"1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days", "all": "All time"}
_TEXTS = ("namespace", "team", "model", "version", "user", "rule", "text")
_KNOWN = {*_TEXTS, "verdict", "range", "from", "to", "before"}
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(r"(\d{1,4})([mhd])")
_CURSOR = re.compile(r"(\d{1,15})-(\d{1,18})")
_LONGEST = 600


class BadFilterError(ValueError):
    """A URL asks for what cannot be asked; the text is a sentence."""


@dataclass(frozen=True, slots=True)
class Filters:
    """The parameters as they were given, and what they mean. ``default_range`` holds without any time."""

    given: Mapping[str, str]
    since: datetime | None
    until: datetime | None
    before: Cursor | None = None
    default_range: str = "7d"
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def get(self, name: str) -> str:
        """A parameter; "" where it was not given."""
        return self.given.get(name, "")

    @property
    def range(self) -> str:
        """The range in force; "" where times are given."""
        if self.get("from") or self.get("to"):
            return ""
        return self.get("range") or self.default_range

    @property
    def active(self) -> dict[str, str]:
        """What narrows the records, apart from the time, by parameter."""
        return {name: self.get(name) for name in (*_TEXTS, "verdict") if self.get(name)}

    def selection(self, namespaces: frozenset[str] | None) -> Selection:
        """The selection, of what may be seen."""
        return Selection(
            namespace=self.get("namespace"),
            model=self.get("model"),
            version=self.get("version"),
            user=self.get("user"),
            rule=self.get("rule"),
            verdict=self.get("verdict"),
            since=self.since,
            until=self.until,
            text=self.get("text"),
            namespaces=namespaces,
        )

    def query(self, *without: str, **changes: str) -> str:
        """The query string with other values; one that is "" goes, and so does the place in the list."""
        asked = {name: value for name, value in self.given.items() if name not in ("before", *without)} | changes
        text = urlencode({name: value for name, value in asked.items() if value})
        return f"?{text}" if text else ""


def read_filters(
    parameters: Iterable[tuple[str, str]], now: datetime, default_range: str = "7d", more: Iterable[str] = ()
) -> Filters:
    """The filters of a query string; raises ``BadFilterError``."""
    given: dict[str, str] = {}
    for name, value in parameters:
        if name not in _KNOWN and name not in more:
            raise BadFilterError(f"There is no filter “{name[:40]}”. The filters are {', '.join(sorted(_KNOWN))}.")
        if name in given:
            raise BadFilterError(f"The filter “{name}” is given twice. Give it once.")
        if len(value) > _LONGEST or "\0" in value:
            raise BadFilterError(f"The filter “{name}” is longer than {_LONGEST} characters, or is no text.")
        if value.strip():
            given[name] = value.strip()
    verdict = given.get("verdict", "")
    if verdict and verdict not in VERDICTS:
        raise BadFilterError(f"There is no verdict “{verdict[:40]}”. The verdicts are {', '.join(VERDICTS)}.")
    since, until = _moment(given, "from"), _moment(given, "to")
    if since is None and until is None:
        since = _since(given.get("range") or default_range, now)
    return Filters(given, since, until, _cursor(given.get("before", "")), default_range, now)


def place_text(cursor: Cursor | None) -> str:
    """A place as a parameter."""
    return f"{cursor.time}-{cursor.number}" if cursor is not None else ""


def _since(text: str, now: datetime) -> datetime | None:
    if text == "all":
        return None
    ago = _AGO.fullmatch(text)
    if ago is None:
        raise BadFilterError(f"“{text[:40]}” is no range. Give 90m, 24h, 7d or all.")
    return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})


def _moment(given: Mapping[str, str], name: str) -> datetime | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadFilterError(f"“{text[:40]}” is no time. Give 2026-06-01 or 2026-06-01T12:00, in UTC.") from None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    if not 1971 <= found.year <= 9000:
        raise BadFilterError(f"“{text[:40]}” is no time of any record.")
    return found


def _cursor(text: str) -> Cursor | None:
    if not text:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None or int(found[2]) > 2**63 - 1:
        raise BadFilterError("The place in the list cannot be read. Begin at the newest decisions.")
    return Cursor(int(found[1]), int(found[2]))
