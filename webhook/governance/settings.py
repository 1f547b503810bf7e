"""Settings of approvals and exceptions."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GovernanceSettings(BaseModel):
    """Who may approve model versions and policy exceptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    approvers: dict[str, int] = Field(default_factory=dict)
    """How many people must approve a model version, by environment; * for those not named, else 1."""
    service_accounts_may_approve: bool = Field(default=False, alias="serviceAccountsMayApprove")
    """Let pipelines approve, and not only propose; RBAC still has to let them."""
    max_exception_days: int = Field(default=90, ge=1, le=3650, alias="maxExceptionDays")
    """How far in the future a policy exception may expire."""

    @property
    def required(self) -> dict[str, int]:
        """The numbers of approvers, none below 1."""
        return {environment: max(1, number) for environment, number in self.approvers.items()}
