"""HTML from templates; everything that a record says is escaped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_TAKEN = {
    "allowed": "Allowed", "mutated": "Mutated", "warned": "Warned", "denied": "Refused", "ignored": "Ignored",
    "error": "Error",
}  # fmt: skip


class Templates:
    """The page's templates, loaded once."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_shown,
        )
        self._environment.filters |= {
            "when": _when, "clock": _clock, "number": _number, "verdict": _verdict, "path": _path, "ago": _ago,
        }  # fmt: skip
        self._environment.globals |= {"link": _link, "asset": _Assets().address}

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """One page."""
        return self._environment.get_template(name).render(values)


class _Assets:
    """Addresses of files that change with their content, so that no old one is shown from a browser's cache."""

    def __init__(self) -> None:
        self._stamps = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in (HERE / "static").iterdir()
        }

    def address(self, name: str) -> str:
        return f"/static/{name}?{self._stamps[name]}"


def _shown(value: Any) -> Any:
    """Characters that turn a line around, or that no screen has, are shown by their number."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", value) if type(value) is str else value


def _when(value: str | datetime) -> str:
    """A time to the second."""
    moment = _moment(value)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment is not None else str(value)


def _clock(value: str | datetime) -> str:
    """A time to the minute, without the year."""
    moment = _moment(value)
    return f"{moment:%d %b %H:%M}" if moment is not None else str(value)


def _ago(value: str | datetime, now: datetime) -> str:
    moment = _moment(value)
    if moment is None:
        return ""
    seconds = int((now - moment).total_seconds())
    if seconds < 0:
        return "just now"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _moment(value: str | datetime) -> datetime | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _verdict(value: str) -> str:
    return _TAKEN.get(value, value or "Unknown")


def _path(value: str) -> str:
    return quote(value, safe="")


def _link(path: str, **parameters: Any) -> str:
    """An address with parameters; a trailing underscore keeps a name from being Python's."""
    given = {name.rstrip("_"): value for name, value in parameters.items() if value}
    return f"{path}?{urlencode(given)}" if given else path
