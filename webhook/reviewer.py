"""From request bytes to answer bytes: the one place where facts, rules and request meet.

Whatever goes wrong here is a decision: counted, written down, and answered with the
request's UID.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from admission.admission_review import AdmissionRequest, BadReviewError, decode, encode
from admission.approval import Answered, ApprovalQuestion, Unavailable
from admission.context import DeployQuestion, ReviewContext
from admission.decision import Decision, Purpose
from admission.image_signature import SignatureQuestion, Signatures, none_wanted
from admission.namespace import Namespace, NamespacePolicy, namespace_policy
from admission.pipeline import Question, Reviewing, RuleSet, reviewing
from admission.pod_schema import MalformedObjectError
from admission.policy_exception import PolicyException
from admission.review_mark import marked
from admission.subject import TooManyContainersError
from admission.validator import PolicyAnswers, PolicyEngine, PolicyError
from admission.workload_kinds.kinds import workload_kind
from admission.workload_kinds.workload_pod import WorkloadKind
from audit.record import decision_record
from validators.deploy_permission import VALIDATOR as DEPLOY_PERMISSION
from validators.deploy_permission import DeployPermissionSettings, PermissionSource
from webhook.access_review import AccessQuestion, AccessReviews
from webhook.cluster_state import ClusterState
from webhook.metrics import Metrics
from webhook.settings import MUTATORS, VALIDATORS, Settings, settings_revision

T = TypeVar("T")

_GROUP = "tidewaiter.dev"
_LOG = logging.getLogger("tidewaiter.review")

TellOwner = Callable[[AdmissionRequest, Decision], None]
"""Tells a pod's owner of a decision; never blocks."""
NamespaceReader = Callable[[str], Awaitable[Namespace | None]]
"""Reads a namespace that the cache does not have; None where it does not exist."""


class Approvals(Protocol):
    """What answers for model versions: never raises, and within the webhook's time."""

    async def ask(self, question: ApprovalQuestion) -> Answered:
        """The registries' answer, who gave it, and when."""


class ImageSignatures(Protocol):
    """What answers for images that must be signed: never raises, and within the webhook's time."""

    def wants(self, image: str) -> bool:
        """Whether an image must be signed."""

    async def ask(self, question: SignatureQuestion) -> Signatures:
        """What is known of the images."""


_LARGE_BODY = 64 * 1024
"""Bytes from which a request is reviewed beside the event loop: probes are answered meanwhile, and
so are requests of the usual size, whose reviews take less than going to another thread and back."""

_NO_REGISTRY = Answered(Unavailable("no registry is configured (settings: registries)"))


class NamespaceUnknownError(Exception):
    """The namespace is not known and cannot be read; the text is a sentence."""


def rule_set(settings: Settings, engine: PolicyEngine | None) -> RuleSet:
    """Every mutator and rule with its settings."""
    return RuleSet(
        mutators=tuple((one, settings.mutator(one.id)) for one in MUTATORS),
        validators=tuple((one, settings.rule(one.id)) for one in VALIDATORS),
        policies=engine.rules if engine is not None else {},
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the API server. ``status`` is HTTP's; a refusal is 200 with a reason."""

    status: int
    body: bytes


class Reviewer:
    """Holds what reviews need. ``record`` takes one record per review and never blocks."""

    def __init__(
        self,
        settings: Settings,
        state: ClusterState,
        engine: PolicyEngine | None,
        *,
        approvals: Approvals | None = None,
        images: ImageSignatures | None = None,
        exceptions: Callable[[], tuple[PolicyException, ...]] = tuple,
        metrics: Metrics | None = None,
        record: Callable[[dict[str, Any]], None] = lambda _record: None,
        read_namespace: NamespaceReader | None = None,
        access: AccessReviews | None = None,
        tell_owner: TellOwner = lambda _request, _decision: None,
    ) -> None:
        self._settings = settings
        self._state = state
        self._engine = engine
        self._revision = ""
        self._rules = rule_set(settings, None)
        self._approvals = approvals
        self._images = images
        self._exceptions = exceptions
        self.metrics = metrics or Metrics()
        self._record = record
        self._read_namespace = read_namespace
        self._access = access
        self._asks_rbac = _asks_rbac(settings)
        self._tell_owner = tell_owner
        self._custom_kinds = settings.custom_kinds
        self._settings_revision = settings_revision(settings)
        self._policies: dict[str, NamespacePolicy] = {}
        self._policies_revision = -1
        # One thread: large requests wait for each other, and never take more than it from the others.
        self._beside = ThreadPoolExecutor(1, "large-reviews")

    async def answer(self, body: bytes, purpose: Purpose) -> Answer:
        """Review one request."""
        started = time.perf_counter()
        request: AdmissionRequest | None = None
        try:
            large = len(body) > _LARGE_BODY
            request = await self._step(decode, body, beside=large)
            if self._state.namespace(request.namespace) is None and request.namespace:
                await self._learn_namespace(request.namespace)
            decision = await self.judge(request, purpose, beside=large)
            if decision.patch and request.object is not None:
                decision = replace(decision, patch=marked(decision.patch, request.object, decision.uid))
        except BadReviewError as error:
            decision = self._failed(error.uid, request, purpose, "bad-request", str(error))
        except TooManyContainersError as error:
            allowed = purpose is Purpose.MUTATE or not self._policy(error.namespace).opted_in or error.unchanged
            decision = self._failed(_uid(request), request, purpose, "too-many-containers", str(error), allowed=allowed)
        except MalformedObjectError as error:
            decision = self._failed(_uid(request), request, purpose, "malformed-object", str(error))
        except PolicyError as error:
            decision = self._failed(_uid(request), request, purpose, "policy", str(error))
        except NamespaceUnknownError as error:
            decision = self._failed(_uid(request), request, purpose, "namespace", str(error))
        except Exception as error:  # noqa: BLE001  # a crash is a counted decision with its UID, never a bare 500
            _LOG.exception("review %s went wrong", _uid(request))
            decision = self._failed(
                _uid(request), request, purpose, "internal", f"an error in Tidewaiter itself: {type(error).__name__}"
            )
        self._keep(decision, request, time.perf_counter() - started)
        if request is not None:
            self._tell_owner(request, decision)
        return _answer(decision)

    def unread(self, purpose: Purpose, status: int, cause: str, sentence: str, seconds: float) -> Answer:
        """Answer a request that was not read to its end: counted and written down like any other."""
        self.metrics.count_error(purpose.value, cause)
        decision = Decision(uid="", purpose=purpose, allowed=False, error=f"tidewaiter: {sentence}")
        self._keep(decision, None, seconds)
        return _unanswerable(decision, status)

    def _keep(self, decision: Decision, request: AdmissionRequest | None, seconds: float) -> None:
        """Count it and write it down; the answer goes out whatever becomes of that."""
        self.metrics.count(decision, seconds)
        try:
            self._record(
                decision_record(decision, request, datetime.now(UTC), seconds, self._revision, self._settings_revision)
            )
        except Exception:  # noqa: BLE001  # a lost record is counted, and must not lose the answer too
            _LOG.exception("the record of review %s could not be made", decision.uid)
            self.metrics.records_dropped.inc()

    async def judge(self, request: AdmissionRequest, purpose: Purpose, *, beside: bool = False) -> Decision:
        """Review one decoded request; raises what ``admission.pipeline.reviewing`` raises.

        ``beside``: on a thread of its own, between one question and the next. Rego and
        registries are asked on the event loop: an engine must stay in its thread.
        """
        if self._settings.exempt(request.namespace):
            return Decision(uid=request.uid, purpose=purpose, allowed=True, ignored="exempt namespace")
        context = self.context(request.namespace)
        rules = self._rules_in_force()
        rules.in_force(context.namespace, context.now.date())  # what is kept is written on the event loop alone
        steps = reviewing(request, purpose, context, rules)
        reached = await self._step(_advanced, steps, None, beside=beside)
        while not isinstance(reached, Decision):
            reached = await self._step(_advanced, steps, await self._answer_to(reached), beside=beside)
        return reached

    async def _step(self, work: Callable[..., T], *about: Any, beside: bool) -> T:
        """Do it here, or on the thread of large reviews."""
        if not beside:
            return work(*about)
        return await asyncio.get_running_loop().run_in_executor(self._beside, work, *about)

    def _rules_in_force(self) -> RuleSet:
        """Policies are read again while the process runs."""
        if self._engine is not None and self._engine.revision != self._revision:
            self._rules, self._revision = rule_set(self._settings, self._engine), self._engine.revision
        return self._rules

    async def _answer_to(self, question: Question) -> PolicyAnswers | Answered | Signatures | bool | None:
        """What Rego or a registry says."""
        if isinstance(question, ApprovalQuestion):
            if self._approvals is None:
                return _NO_REGISTRY
            return await self._approvals.ask(question)
        if isinstance(question, DeployQuestion):
            if self._access is None:
                return None
            asked = AccessQuestion(question.username, question.groups, "deploy", _GROUP, "models", question.namespace)
            return await self._access.allowed(asked)
        if isinstance(question, SignatureQuestion):
            return await self._images.ask(question) if self._images is not None else {}
        return await self._engine.evaluate(question) if self._engine is not None else {}

    @property
    def controllers(self) -> Mapping[str, tuple[str, ...]]:
        """User names of custom controllers by the kind whose pods they make."""
        return self._settings.controllers

    def workload_kind(self, group: str, kind: str) -> WorkloadKind | None:
        """What is known of a kind; None where it makes no pods."""
        return self._custom_kinds.get((group, kind)) or workload_kind(group, kind)

    def context(self, namespace: str) -> ReviewContext:
        """The facts for one namespace, as of now."""
        return ReviewContext(
            namespace=self._policy(namespace),
            now=datetime.now(UTC),
            pools=self._settings.pools,
            cluster=self._state.facts,
            had_template=self._state.had_template,
            exceptions=self._exceptions(),
            wants_signature=self._images.wants if self._images is not None else none_wanted,
            had_pods=self._state.pods.had,
            asks_rbac=self._asks_rbac,
            owner_of=self._state.owner_of,
            custom_kinds=self._custom_kinds,
            controllers=self._settings.controllers,
        )

    def _policy(self, name: str) -> NamespacePolicy:
        if self._policies_revision != self._state.namespaces_revision:
            self._policies.clear()
            self._policies_revision = self._state.namespaces_revision
        policy = self._policies.get(name)
        if policy is None:
            namespace = self._state.namespace(name) or Namespace(name)
            policy = namespace_policy(namespace, self._settings.environments, self._settings.namespaces)
            self._policies[name] = policy
        return policy

    async def _learn_namespace(self, name: str) -> None:
        """A namespace so new that the watch has not brought it: guessing would open a hole."""
        if self._read_namespace is None or self._settings.exempt(name):
            return
        try:
            namespace = await self._read_namespace(name)
        except Exception as error:
            raise NamespaceUnknownError(
                f"namespace {name} is not known yet and cannot be read ({error}); try again"
            ) from error
        if namespace is not None:
            self._state.put_namespace(namespace)

    def _failed(
        self,
        uid: str,
        request: AdmissionRequest | None,
        purpose: Purpose,
        cause: str,
        sentence: str,
        *,
        allowed: bool | None = None,
    ) -> Decision:
        """The counted decision on an error of ours, or on a request that is none; ``allowed``: else by settings."""
        self.metrics.count_error(purpose.value, cause)
        if allowed is None:
            allowed = self._allowed_on_error(request, purpose)
        if not uid:
            return Decision(uid="", purpose=purpose, allowed=False, error=f"tidewaiter: {sentence}")
        consequence = "let through unreviewed" if allowed else "refused, since it could not be reviewed"
        return Decision(
            uid=uid, purpose=purpose, allowed=allowed, error=f"tidewaiter: {sentence} (request {uid}: {consequence})"
        )

    def _closed_for(self, request: AdmissionRequest) -> bool:
        """Whether nothing stands behind the answer about a workload: a person brings it, and needs leave."""
        by_controller = request.user.username.startswith("system:serviceaccount:kube-system:")
        return self._settings.workloads_fail_closed and not by_controller

    def _allowed_on_error(self, request: AdmissionRequest | None, purpose: Purpose) -> bool:
        if purpose is Purpose.MUTATE:
            return self._settings.allow_on_error.mutate
        if request is not None and request.kind.kind != "Pod" and not self._closed_for(request):
            # Workloads are advised; the check of their pods stands behind.
            return True
        return self._settings.allow_on_error.validate_


def _asks_rbac(settings: Settings) -> bool:
    rule = settings.rule(DEPLOY_PERMISSION.id)
    return isinstance(rule, DeployPermissionSettings) and rule.by is PermissionSource.SUBJECT_ACCESS_REVIEW


def _advanced(steps: Reviewing, answer: Any) -> Question | Decision:
    """The next question of a review, or what it came to. No future carries a ``StopIteration``."""
    try:
        return steps.send(answer)
    except StopIteration as end:
        decision: Decision = end.value
        return decision


def _uid(request: AdmissionRequest | None) -> str:
    return request.uid if request is not None else ""


def _unanswerable(decision: Decision, status: int) -> Answer:
    """No review that we could answer: there is no UID to answer with."""
    return Answer(status, encode("", allowed=False, message=decision.error, code=status))


def _answer(decision: Decision) -> Answer:
    if decision.error and not decision.uid:
        return _unanswerable(decision, 400)
    annotations = {"verdict": decision.verdict.value}
    if decision.findings:
        annotations["findings"] = ",".join(dict.fromkeys(one.finding.rule for one in decision.findings))
    return Answer(
        200,
        encode(
            decision.uid,
            allowed=decision.allowed,
            message="" if decision.allowed else decision.denial(),
            code=500 if decision.error else 403,
            warnings=decision.warnings(),
            patch=decision.patch,
            audit_annotations=annotations,
        ),
    )
