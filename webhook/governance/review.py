"""The review of our own objects, from body to answer. Whatever goes wrong is a refusal."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from admission.admission_review import AdmissionRequest, BadReviewError, decode, encode
from admission.decision import Purpose
from admission.json_patch import diff
from registries.model_version import KIND as MODEL_VERSION
from webhook.governance.access import GROUP, Access
from webhook.governance.model_versions import (
    Asked,
    Verdict,
    judge_approvals,
    judge_deletion,
    judge_proposal,
    keep_transition_times,
    stamp_approvals,
    stamp_proposal,
)
from webhook.governance.policy_exceptions import KIND as POLICY_EXCEPTION
from webhook.governance.policy_exceptions import judge_approval, judge_request, stamp_approval, stamp_request
from webhook.governance.record import governance_record
from webhook.governance.settings import GovernanceSettings
from webhook.reviewer import Answer

_LOG = logging.getLogger("tidewaiter.governance")
_STATUS = "status"
_MARK = "tidewaiter: "


def _now() -> datetime:
    return datetime.now(UTC)


class GovernanceReviewer:
    """Stamps and judges ``ModelVersion`` and ``PolicyException``.

    ``environments`` are those that may be approved for, ``own_namespace`` is the one whose
    exceptions are honoured, ``access`` asks RBAC. ``record`` takes one record per decision and
    never blocks; what was only stamped is no decision. ``count`` takes each decision's kind, what
    was done, and the verdict: few words each, whatever the request says.
    """

    def __init__(
        self,
        settings: GovernanceSettings,
        environments: Collection[str],
        own_namespace: str,
        access: Access,
        clock: Callable[[], datetime] = _now,
        record: Callable[[dict[str, Any]], None] = lambda _record: None,
        count: Callable[[str, str, str], None] = lambda _kind, _what, _verdict: None,
    ) -> None:
        self._settings = settings
        self._environments = tuple(environments)
        self._own_namespace = own_namespace
        self._access = access
        self._clock = clock
        self._record = record
        self._count = count

    async def mutate(self, body: bytes) -> Answer:
        """Write who proposes, requests and approves, and when."""
        started, request = time.perf_counter(), None
        try:
            request = decode(body)
            obj = copy.deepcopy(request.object or {})
            self._stamp(request, obj)
            return Answer(200, encode(request.uid, allowed=True, patch=diff(request.object or {}, obj)))
        except Exception as error:  # noqa: BLE001  # a crash is a refusal with its UID, never a bare 500
            return self._failed(request, error, Purpose.MUTATE, started)

    async def validate(self, body: bytes) -> Answer:
        """Refuse what nobody may write."""
        started, request = time.perf_counter(), None
        try:
            request = decode(body)
            verdict = self._judge(request)
            refusals = [*verdict.refusals]
            for found in await asyncio.gather(*(self._refusal(asked) for asked in verdict.asked)):
                refusals += found
        except Exception as error:  # noqa: BLE001  # the same
            return self._failed(request, error, Purpose.VALIDATE, started)
        self._keep(request, Purpose.VALIDATE, tuple(refusals), "", started)
        message = "\n".join(f"{_MARK}{one}" for one in refusals)
        # The API server drops a warning that has a line break or a tab in it.
        warnings = [_MARK + " ".join(one.split()) for one in verdict.warnings] if not refusals else []
        return Answer(200, encode(request.uid, allowed=not refusals, message=message, warnings=warnings))

    def _failed(self, request: AdmissionRequest | None, error: Exception, purpose: Purpose, started: float) -> Answer:
        """The refusal that an error of the request or of ours becomes."""
        uid = request.uid if request is not None else getattr(error, "uid", "")
        if isinstance(error, BadReviewError):
            sentence, code = str(error), 400
        else:
            _LOG.error("review %s went wrong", uid, exc_info=error)
            sentence, code = f"an error in Tidewaiter itself: {type(error).__name__}", 500
        text = f"{_MARK}{sentence} (request {uid or 'without uid'}: refused, since it could not be reviewed)"
        self._keep(request, purpose, (), text, started)
        return Answer(200 if uid else 400, encode(uid, allowed=False, message=text, code=code))

    def _keep(
        self, request: AdmissionRequest | None, purpose: Purpose, refusals: tuple[str, ...], error: str, started: float
    ) -> None:
        seconds = time.perf_counter() - started
        verdict = "error" if error else "denied" if refusals else "allowed"
        self._count(*_counted(request), verdict)
        self._record(governance_record(request, purpose, refusals, error, self._clock(), seconds))

    async def _refusal(self, asked: Asked) -> list[str]:
        allowed = await self._access(asked.question)
        if allowed is None:
            return [f"RBAC could not be asked what {asked.question.username} may do; try again"]
        return [] if allowed else [asked.refusal]

    def _stamp(self, request: AdmissionRequest, obj: dict[str, Any]) -> None:
        kind, of_status = self._kind(request), request.sub_resource == _STATUS
        if kind == MODEL_VERSION and of_status:
            stamp_approvals(request, obj, self._settings, self._clock())
            keep_transition_times(request.old_object, obj)
        elif kind == MODEL_VERSION:
            stamp_proposal(request, obj)
        elif of_status:
            stamp_approval(request, obj, self._clock())
        else:
            stamp_request(request, obj)

    def _judge(self, request: AdmissionRequest) -> Verdict:
        kind, of_status = self._kind(request), request.sub_resource == _STATUS
        now = self._clock()
        if request.operation == "DELETE":
            return judge_deletion(request) if kind == MODEL_VERSION else Verdict()
        if kind == MODEL_VERSION and of_status:
            return judge_approvals(request, self._settings, self._environments, now)
        if kind == MODEL_VERSION:
            return judge_proposal(request)
        if of_status:
            return judge_approval(request, self._settings, now)
        return judge_request(request, self._settings, self._own_namespace, now)

    def _kind(self, request: AdmissionRequest) -> str:
        kind = request.kind
        if kind.group != GROUP or kind.kind not in (MODEL_VERSION, POLICY_EXCEPTION):
            raise BadReviewError(f"{kind.kind} of group {kind.group!r} is not reviewed here", request.uid)
        if request.sub_resource not in ("", _STATUS):
            raise BadReviewError(f"subresource {request.sub_resource!r} is not reviewed here", request.uid)
        return kind.kind


def _counted(request: AdmissionRequest | None) -> tuple[str, str]:
    """A request's kind and what it does, in words of ours."""
    if request is None:
        return "other", "other"
    kind = request.kind.kind if request.kind.kind in (MODEL_VERSION, POLICY_EXCEPTION) else "other"
    if request.sub_resource:
        return kind, _STATUS if request.sub_resource == _STATUS else "other"
    return kind, request.operation.lower() if request.operation in ("CREATE", "UPDATE", "DELETE") else "other"
