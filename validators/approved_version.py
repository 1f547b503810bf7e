"""Refuses model versions that nobody approved.

Fields: the model reference (labels, annotations and arguments that name the model and
its version), and what each server is told to load.

The version must be approved in the registry for the namespace's environment and not
expired; a server that is told to load something else than the approved source is
found too, so that a label alone approves nothing. Notebooks and training runs have
no approved version: the rule is about inference and batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from admission.approval import Approval, ApprovalState, NotFound, Unavailable
from admission.context import ReviewContext
from admission.finding import Finding
from admission.model_reference import MODEL_KEY, VERSION_KEY
from admission.pod import ModelPod
from admission.validator import Applicability, RuleSettings, Validator
from admission.workload import WorkloadClass

_ID = "approved-version"
_HUB_SCHEME = "hf://"


class ApprovedVersionSettings(RuleSettings):
    """Settings of approved-version."""


def check(pod: ModelPod, context: ReviewContext, _settings: ApprovedVersionSettings) -> Iterable[Finding]:
    """Judge the model reference against the registry's answer."""
    model = context.model
    if not model.name or not model.version:
        missing = MODEL_KEY if not model.name else VERSION_KEY
        found = f"names model {model.name!r} without a version" if model.name else "does not say which model it serves"
        yield _finding(pod.field("metadata.labels"), f"the pod {found}", f"add label {missing}")
        return
    answer = context.approval
    if isinstance(answer, Unavailable):
        yield _finding(
            model.path,
            f"nobody can say whether {model.text} is approved: {answer.reason}",
            "try again once the registry answers; new versions are not admitted without it",
        )
    elif isinstance(answer, NotFound):
        known = f"; known versions: {', '.join(answer.known[:8])}" if answer.known else ""
        yield _finding(
            model.path,
            f"model version {model.text} is not in the registry{known}",
            "have it proposed and approved, or set the label to an approved version",
        )
    else:
        yield from _judge(answer, context)
        yield from _other_loads(answer, context)


def _judge(approval: Approval, context: ReviewContext) -> Iterator[Finding]:
    model = context.model
    if approval.state is not ApprovalState.APPROVED:
        yield Finding(
            rule=_ID,
            path=model.path,
            message=f"model version {model.text} is {approval.state.value}",
            remedy="use an approved version, or have this one approved",
            always=approval.state is ApprovalState.REVOKED,
        )
        return
    if approval.expires is not None and approval.expires <= context.now:
        yield _finding(
            model.path,
            f"the approval of {model.text} expired on {approval.expires.date().isoformat()}",
            "have it renewed, or use a version whose approval holds",
        )
    if context.environment and approval.environments and context.environment not in approval.environments:
        yield _finding(
            model.path,
            f"model version {model.text} is approved for {', '.join(approval.environments)}, "
            f"not for {context.environment}",
            f"have it approved for {context.environment}, or deploy it where it is approved",
        )


def _other_loads(approval: Approval, context: ReviewContext) -> Iterator[Finding]:
    source = approval.source.removeprefix(_HUB_SCHEME).partition("@")[0]
    names = {approval.model, approval.source, source}
    for load in context.model.loads:
        if not load.local and load.source.removeprefix(_HUB_SCHEME).partition("@")[0] not in names:
            yield Finding(
                rule=_ID,
                path=load.path,
                message=f"{load.argument} loads {load.source!r}, which is not the approved {context.model.text}",
                remedy=f"load {approval.source or approval.model}, or name what is loaded in label {MODEL_KEY}",
                container=load.container,
            )
    uri = context.model.uri
    if uri and approval.source and uri.rstrip("/") != approval.source.rstrip("/"):
        yield _finding(
            context.model.path,
            f"the pod brings {uri!r}, which is not the approved source of {context.model.text}",
            f"use {approval.source}",
        )


def _finding(path: str, message: str, remedy: str) -> Finding:
    return Finding(rule=_ID, path=path, message=message, remedy=remedy)


VALIDATOR = Validator(
    id=_ID,
    check=check,
    settings=ApprovedVersionSettings,
    applies=Applicability(workloads=frozenset({WorkloadClass.INFERENCE, WorkloadClass.BATCH})),
)
