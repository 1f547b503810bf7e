from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from registries.http_client import _retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("120", 120.0), ("", None), ("-1", None), ("1e9", None), ("9" * 40, None), ("²", None)],
)
def test_retry_after_is_seconds_or_nothing(text: str, seconds: float | None) -> None:
    assert _retry_after(text) == seconds


def test_retry_after_is_a_date_too_and_one_that_has_passed_is_now() -> None:
    now = datetime.now(UTC)
    later = _retry_after(format_datetime(now + timedelta(minutes=10), usegmt=True))
    assert later is not None
    assert 500 < later <= 600
    assert _retry_after(format_datetime(now - timedelta(days=1), usegmt=True)) == 0.0
