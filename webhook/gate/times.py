"""Times as tools write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

_NANOSECONDS = re.compile(r"(\.\d{6})\d+")
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)\.?\d*Z?")


def moment(value: Any) -> datetime | None:
    """ISO 8601 (with nanoseconds, as Go writes them), or milliseconds since 1970, in UTC; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value / 1000, UTC)
        except (OverflowError, OSError, ValueError):
            raise ValueError(f"time {value} is out of range") from None
    compact = _COMPACT.fullmatch(str(value))
    if compact:
        year, month, day, hour, minute, second = (int(one) for one in compact.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    try:
        found = datetime.fromisoformat(_NANOSECONDS.sub(r"\1", str(value)))
    except ValueError:
        raise ValueError(f"time {str(value)[:40]!r} is not ISO 8601") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
