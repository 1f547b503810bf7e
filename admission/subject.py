"""The pods that a request is about: one of its own, or those that a workload would create."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from admission.admission_review import AdmissionRequest
from admission.context import ReviewContext
from admission.finding import Finding
from admission.pod import ModelPod
from admission.pod_schema import MalformedObjectError, check_shape
from admission.workload import WorkloadClass, trusted_owner_kind
from admission.workload_kinds.workload_pod import WorkloadPod

_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")

MAX_CONTAINERS = 500
"""Of all lists of all pods of one object. ``python -m bench.containers`` says what each costs."""


class TooManyContainersError(MalformedObjectError):
    """The object's pods have more containers than can be reviewed in time; the text says how many.

    ``unchanged``: an update that leaves the spec as it was, as one that takes a finalizer away.
    """

    def __init__(self, request: AdmissionRequest, count: int) -> None:
        super().__init__(
            f"{request.kind.kind} has {count} containers and cannot be reviewed in time; at most {MAX_CONTAINERS} "
            "can be: spread them over several objects"
        )
        self.namespace = request.namespace
        old = request.old_object
        self.unchanged = old is not None and old.get("spec") == (request.object or {}).get("spec")


@dataclass(frozen=True, slots=True)
class Subject:
    """One pod as it was written. ``template`` is False for a pod that stands for itself."""

    pod: dict[str, Any]
    origin: WorkloadPod
    namespace: str
    owner_kind: str
    template: bool
    _written: dict[str, dict[str, int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def role(self) -> str:
        """What tells this pod from others of the same workload; "" where there is one."""
        return self.origin.role

    @property
    def said_by_kind(self) -> WorkloadClass | None:
        """The workload class that the kind itself stands for."""
        return self.origin.workload

    def model_pod(self, context: ReviewContext, *, copy: bool = False) -> ModelPod:
        """The pod as rules see it; on a copy where it is going to be edited."""

        def claim_is_accelerator(claim: Mapping[str, Any]) -> bool:
            return context.cluster.claim_is_accelerator(self.namespace, claim)

        obj = copied(self.pod) if copy else self.pod
        if obj.get("spec") is None:
            # ModelPod makes what is missing: not in what was received.
            obj = {**obj, "spec": {}}
        return ModelPod(
            obj, self.namespace, self.owner_kind, claim_is_accelerator, self.template, self.origin.loads_model
        )

    def authored(self, finding: Finding, judged: Mapping[str, Any]) -> str:
        """The finding's path as one of the author's object; ``judged`` is the pod that it was found in."""
        return self.origin.authored(path_before_injection(finding.path, self.pod, judged, self._written))


def subjects(request: AdmissionRequest, obj: dict[str, Any] | None, context: ReviewContext) -> tuple[Subject, ...]:
    """The pods of one object; none where its kind makes none.

    Raises ``MalformedObjectError``, and ``TooManyContainersError`` where an object that is to
    be admitted has too many; an old object that has excuses nothing.
    """
    found = _subjects(request, obj, context)
    count = sum(len((one.pod.get("spec") or {}).get(place) or ()) for one in found for place in _CONTAINER_LISTS)
    if count <= MAX_CONTAINERS:
        return found
    if obj is not request.object:
        return ()
    raise TooManyContainersError(request, count)


def _subjects(request: AdmissionRequest, obj: dict[str, Any] | None, context: ReviewContext) -> tuple[Subject, ...]:
    if obj is None:
        return ()
    prefix = "" if obj is request.object else "oldObject"
    if request.kind.kind == "Pod" and not request.kind.group:
        check_shape(obj, prefix)
        owner = trusted_owner_kind(obj, context.username, context.controllers)
        return (Subject(obj, WorkloadPod(obj), request.namespace, owner, template=False),)
    kind = context.workload_kind(request.kind.group, request.kind.kind)
    if kind is None:
        return ()
    found = []
    for origin in kind.pods(obj, request.namespace, context.cluster.workloads):
        check_shape(origin.pod, prefix, origin.authored)
        owner = origin.owner_kind or request.kind.kind
        found.append(Subject(origin.pod, origin, request.namespace, owner, template=True))
    return tuple(found)


def path_before_injection(
    path: str, before: Mapping[str, Any], after: Mapping[str, Any], written: dict[str, dict[str, int]] | None = None
) -> str:
    """``path`` of the injected pod ``after`` as a path of the pod ``before``, which its author wrote.

    An injected container moves those behind it. One that the author did not write is
    named, not numbered: ``spec.initContainers[tidewaiter-preload]``. ``written`` keeps where
    the containers of ``before`` stand, from one path to the next.
    """
    if before is after or not path.startswith("spec."):
        return path
    place, bracket, rest = path.removeprefix("spec.").partition("[")
    number, closed, rest = rest.partition("]")
    if not (bracket and closed and number.isdecimal() and place in _CONTAINER_LISTS):
        return path
    index = int(number)
    moved = (after.get("spec") or {}).get(place) or []
    name = (moved[index].get("name") or "") if index < len(moved) else ""
    own = (before.get("spec") or {}).get(place) or []
    if index < len(own) and (own[index].get("name") or "") == name:
        return path
    written = {} if written is None else written
    if place not in written:
        written[place] = _positions(own)
    return f"spec.{place}[{written[place].get(name, name)}]{rest}"


def _positions(containers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Where each name stands first."""
    return {one.get("name") or "": len(containers) - back for back, one in enumerate(reversed(containers), 1)}


def copied(obj: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of JSON; through bytes, since ``copy.deepcopy`` takes five times as long."""
    made: dict[str, Any] = orjson.loads(orjson.dumps(obj))
    return made
