"""Until when something holds, as people write it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

_SPAN = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def until(text: str, now: datetime) -> str:
    """``90d``, ``12w``, ``36h``, a day (it ends with it, UTC) or a time, as the API writes times.

    Raises ``ValueError`` with a sentence.
    """
    span = _SPAN.fullmatch(text)
    try:
        if span is not None:
            found = now + int(span[1]) * _UNITS[span[2]]
        elif len(text) == len("2027-01-31"):
            found = datetime.combine(date.fromisoformat(text), time(23, 59, 59), tzinfo=UTC)
        else:
            found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"--expires {text}: this is no time; write 90d, 12w, 36h, 2027-01-31 or 2027-01-31T18:00:00Z"
        ) from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found <= now:
        raise ValueError(f"--expires {text}: this is past; give a time to come")
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
