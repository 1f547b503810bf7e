"""Putting approvals together from what registries say."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time

from admission.approval import EnvironmentApproval

EVERY_ENVIRONMENT = "*"


def end_of(expires: datetime | date | None) -> datetime | None:
    """When an approval ends: a date ends with its day, and a time without a zone is UTC."""
    if expires is None:
        return None
    if isinstance(expires, datetime):
        return expires if expires.tzinfo else expires.replace(tzinfo=UTC)
    return datetime.combine(expires, time.max, tzinfo=UTC)


def one_for_all(approvals: Iterable[EnvironmentApproval]) -> tuple[EnvironmentApproval, ...]:
    """One for each environment; where one is for every environment, it stands alone."""
    by_environment = {one.environment: one for one in approvals}
    everywhere = by_environment.get(EVERY_ENVIRONMENT)
    return (everywhere,) if everywhere is not None else tuple(by_environment.values())
