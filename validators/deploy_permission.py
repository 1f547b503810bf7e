"""Only those whose role allows it deploy models to an environment.

Fields: who asks (``request.userInfo``), judged where a person stands: on the workload that
they apply, or on a bare pod. A pod that its controller makes was permitted with its
workload, and an update that leaves the pods as they are is nobody's deployment.

``by: groups`` compares the user and their groups with the roles of the settings.
``by: subject-access-review`` asks the cluster instead whether the user may do the virtual
verb ``deploy`` on ``models.tidewaiter.dev`` in the namespace, so that RBAC decides. A role
for a Git-ops controller names its group, for example ``system:serviceaccounts:argocd``.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import Field

from admission.context import ReviewContext
from admission.finding import Finding
from admission.pod import ModelPod
from admission.validator import RuleSettings, Validator

_ID = "deploy-permission"


class PermissionSource(StrEnum):
    """Who says what a user may do."""

    GROUPS = "groups"
    SUBJECT_ACCESS_REVIEW = "subject-access-review"


class DeployPermissionSettings(RuleSettings):
    """Settings of deploy-permission."""

    by: PermissionSource = PermissionSource.GROUPS
    """Whether roles of these settings decide, or the cluster's RBAC."""
    roles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Groups and users by role, for example mlops-engineer: [ml-platform, ada@example.com]."""
    allowed: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Roles that may deploy, by environment; an environment that is not named is open to all."""


def check(_pod: ModelPod, context: ReviewContext, settings: DeployPermissionSettings) -> Iterable[Finding]:
    """Judge who asks."""
    if context.by_controller:
        return  # the workload was judged when a person applied it
    if settings.by is PermissionSource.SUBJECT_ACCESS_REVIEW:
        if context.may_deploy is None:
            yield _finding(
                f"nobody could say whether {context.username} may deploy models to {context.namespace.namespace.name}",
                "try again once the cluster answers access reviews",
            )
        elif not context.may_deploy:
            yield _finding(
                f"{context.username} may not deploy models to namespace {context.namespace.namespace.name}",
                "have verb deploy on models.tidewaiter.dev granted to you there, or ask somebody who has it",
            )
        return
    allowed = settings.allowed.get(context.environment)
    if allowed is None or _has_one(settings, allowed, context):
        return
    named = ", ".join(f"{role} ({', '.join(settings.roles.get(role, ())) or 'nobody'})" for role in allowed)
    yield _finding(
        f"{context.username or 'nobody'} has no role that may deploy models to {context.environment}",
        f"ask one of {named or 'the platform team'} to apply it",
    )


def _has_one(settings: DeployPermissionSettings, allowed: Iterable[str], context: ReviewContext) -> bool:
    names = {context.username, *context.groups}
    return any(names.intersection(settings.roles.get(role, ())) for role in allowed)


def _finding(message: str, remedy: str) -> Finding:
    return Finding(rule=_ID, path="metadata", message=message, remedy=remedy, of_request=True)


VALIDATOR = Validator(id=_ID, check=check, settings=DeployPermissionSettings, judges_what_runs=True)
