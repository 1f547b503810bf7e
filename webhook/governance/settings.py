"""Settings of approvals and exceptions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from admission.strict_yaml import Problem


class GovernanceSettings(BaseModel):
    """Who may approve model versions and policy exceptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    approvers: dict[str, Annotated[int, Field(ge=1, le=16)]] = Field(default_factory=dict)
    """How many people must approve a model version, by environment; * for those not named, else 1."""
    service_accounts_may_approve: bool = Field(default=False, alias="serviceAccountsMayApprove")
    """Let pipelines approve, and not only propose; RBAC still has to let them."""
    max_exception_days: int = Field(default=90, ge=1, le=3650, alias="maxExceptionDays")
    """How far in the future a policy exception may expire."""


def unknown_environments(settings: GovernanceSettings, environments: Collection[str]) -> Iterator[Problem]:
    """A mistyped environment would want one approver where its owner meant two."""
    for name in settings.approvers:
        if name != "*" and name not in environments:
            yield ("approvers", name), f"there is no such environment; use {', '.join(['*', *environments])}"
