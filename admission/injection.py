"""Running the mutators on one pod."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from admission.context import MissingInjection, ReviewContext
from admission.decision import Injection
from admission.mutator import Change
from admission.namespace import Mode
from admission.pod import ModelPod
from admission.rules_in_force import RulesInForce
from admission.subject import Subject, copied


def inject(pod: ModelPod, context: ReviewContext, rules: RulesInForce, role: str = "") -> Iterator[Injection]:
    """Run the mutators on ``pod``, those in preview on a copy that is thrown away."""
    preview: ModelPod | None = None
    for mutator, settings, mode in rules.mutators:
        target = pod
        if mode is Mode.PREVIEW:
            if preview is None:
                preview = pod.on(copied(pod.obj))
            target = preview
        changes = list(mutator.mutate(target, context, settings))
        yield from _injections(mutator.id, changes, role, preview=mode is Mode.PREVIEW)


def missing_injections(subject: Subject, context: ReviewContext, rules: RulesInForce) -> tuple[MissingInjection, ...]:
    """What ``/mutate`` would still change. The pod itself is judged as it was received."""
    pod = subject.model_pod(context, copy=True)
    return tuple(
        MissingInjection(injection.mutator, injection.changes)
        for injection in inject(pod, context, rules)
        if not injection.preview and injection.changes
    )


def _injections(mutator: str, changes: Iterable[Change], role: str, *, preview: bool) -> Iterator[Injection]:
    applied: list[str] = []
    said: list[str] = []
    for change in changes:
        (applied if change.applied and not preview else said).append(change.summary)
    if applied:
        yield Injection(mutator, tuple(applied), role=role)
    if said:
        yield Injection(mutator, tuple(said), preview=True, role=role)
