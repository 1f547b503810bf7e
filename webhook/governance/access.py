"""Leave to approve, as RBAC gives it.

Approving is a virtual verb on a virtual resource, as ``approve`` on ``signers`` is for
certificates: nobody ever sends such a request, the webhook only asks whether it would be
allowed. So a role can name environments, and verbs: ["*"] on ``modelversions`` grants none:

    apiGroups: [tidewaiter.dev]
    resources: [environments]
    resourceNames: [staging]
    verbs: [approve]

A version that was revoked is deleted only with verb ``forget`` on each environment that
revoked it: deleted, it could be proposed and approved as if nothing had been.

Exceptions go by rule: verb ``except`` on resource ``rules`` with the rules' ids as
resourceNames, in Tidewaiter's own namespace. A pattern needs leave for every rule, which is
a role without resourceNames.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from admission.admission_review import UserInfo
from webhook.access_review import AccessQuestion, AskCluster

GROUP = "tidewaiter.dev"
APPROVE, FORGET, ENVIRONMENTS = "approve", "forget", "environments"
EXCEPT, RULES = "except", "rules"
_TIMEOUT_SECONDS = 2.0
_LOG = logging.getLogger("tidewaiter.governance")

Access = Callable[[AccessQuestion], Awaitable[bool | None]]
"""Whether RBAC allows it; None where nobody could be asked. Never raises."""


def may_approve(user: UserInfo, environment: str) -> AccessQuestion:
    """The question whether a user may approve for an environment."""
    return AccessQuestion(user.username, user.groups or (), APPROVE, GROUP, ENVIRONMENTS, name=environment)


def may_forget(user: UserInfo, environment: str) -> AccessQuestion:
    """The question whether a user may delete a version that an environment revoked."""
    return AccessQuestion(user.username, user.groups or (), FORGET, GROUP, ENVIRONMENTS, name=environment)


def may_except(user: UserInfo, rule: str, namespace: str) -> AccessQuestion:
    """The question whether a user may approve an exception of a rule; a pattern asks for every rule."""
    name = "" if "*" in rule else rule
    return AccessQuestion(user.username, user.groups or (), EXCEPT, GROUP, RULES, namespace, name)


def asking(ask: AskCluster) -> Access:
    """Asks the cluster each time: an approval is rare, and a role that was taken away counts at once."""

    async def allowed(question: AccessQuestion) -> bool | None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return await asyncio.to_thread(ask, question)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody gave leave
            _LOG.warning("access review of %s failed: %s", question.username, str(error) or type(error).__name__)
            return None

    return allowed
