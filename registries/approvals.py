"""Putting approvals together from what registries say."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import Annotated

from pydantic import BeforeValidator

from admission.approval import EnvironmentApproval

EVERY_ENVIRONMENT = "*"


def end_of(expires: datetime | date | None) -> datetime | None:
    """When an approval ends: a date ends with its day, and a time without a zone is UTC."""
    if expires is None:
        return None
    if isinstance(expires, datetime):
        return expires if expires.tzinfo else expires.replace(tzinfo=UTC)
    return datetime.combine(expires, time.max, tzinfo=UTC)


def moment(text: str) -> datetime | date:
    """A day, or a time, as ISO 8601 writes them; raises ``ValueError``."""
    return date.fromisoformat(text) if len(text) == len("2026-01-01") else datetime.fromisoformat(text)


def _day_or_time(value: object) -> object:
    if isinstance(value, str):
        return moment(value)
    if value is None or isinstance(value, date):
        return value
    raise ValueError("write a day (2026-01-31) or a time (2026-01-31T12:00:00Z)")


Expiry = Annotated[datetime | date | None, BeforeValidator(_day_or_time, json_schema_input_type=str | None)]
"""When something ends, in a document: a day stays a day, so that it can end with it."""


def one_for_all(approvals: Iterable[EnvironmentApproval]) -> tuple[EnvironmentApproval, ...]:
    """One for each environment; where one is for every environment, it stands alone."""
    by_environment = {one.environment: one for one in approvals}
    everywhere = by_environment.get(EVERY_ENVIRONMENT)
    return (everywhere,) if everywhere is not None else tuple(by_environment.values())
