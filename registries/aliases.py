"""What aliases and tags of a version mean, for registries that have no approvals of their own.

A state of ``rejected`` or ``revoked`` counts whatever the aliases say. Everything else that is
not plainly an approval, an unknown word or an unreadable date too, approves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from admission.approval import Approval, ApprovalState, EnvironmentApproval
from registries.approvals import EVERY_ENVIRONMENT, end_of, moment, one_for_all
from registries.settings import AliasSettings

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FINAL = (ApprovalState.REJECTED, ApprovalState.REVOKED)


def approval_of(
    model: str,
    version: str,
    aliases: Collection[str],
    tags: Mapping[str, str],
    settings: AliasSettings,
    *,
    source: str,
    lineage: str,
) -> Approval:
    """The approval that follows. ``lineage`` says in words where the version comes from."""
    stated = settings.states.get(tags.get(settings.state_key, ""), ApprovalState.PROPOSED)
    approvals = () if stated in _FINAL else _approvals(aliases, tags, stated, settings, lineage)
    state = stated if stated in _FINAL else ApprovalState.APPROVED if approvals else ApprovalState.PROPOSED
    digest = tags.get(settings.digest_key, "").lower()
    return Approval(
        model=model,
        version=version,
        state=state,
        digest=digest if _DIGEST.fullmatch(digest) else "",
        source=source,
        by_environment=approvals,
    )


def _approvals(
    aliases: Collection[str], tags: Mapping[str, str], stated: ApprovalState, settings: AliasSettings, lineage: str
) -> tuple[EnvironmentApproval, ...]:
    by_tag = stated is ApprovalState.APPROVED
    if settings.approved_by != "alias" and not by_tag:
        return ()
    ends = tags.get(settings.expires_key, "").strip()
    try:
        expires = end_of(moment(ends)) if ends else None
    except ValueError:
        return ()  # somebody meant it to end: it does not last for ever
    approvers = tuple(one for part in tags.get(settings.approvers_key, "").split(",") if (one := part.strip()))
    if settings.approved_by == "tag":
        given = {EVERY_ENVIRONMENT: f"tag {settings.state_key}"}
    else:
        reached = ((alias, one) for alias in sorted(aliases) for one in settings.aliases.get(alias, ()))
        given = {environment: f"alias {alias}" for alias, environment in reached}
    return one_for_all(
        EnvironmentApproval(environment, approvers, expires, f"{why}; {lineage}" if lineage else why)
        for environment, why in given.items()
    )
