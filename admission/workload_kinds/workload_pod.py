"""``WorkloadPod``: one pod that would come of a workload, and where its author wrote each field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from admission.workload import WorkloadClass


@dataclass(frozen=True, slots=True)
class WorkloadPod:
    """One kind of pod that a workload creates, as its controller would create it.

    ``pod`` has ``metadata`` and ``spec``; it may share parts with the author's object, so
    it is read only. ``origins`` map a path of the pod to the path where its author wrote it
    (``("spec", "spec.template.spec")``); the most specific one holds, and "" maps what
    nothing else does. ``brought`` does the same for what the author did not write: there a
    finding is told at the field that brought it in (the runtime's name), and nowhere below.
    ``role`` tells the pods of one workload apart (predictor, head, worker): "" where there
    is one. ``owner_kind`` is the kind that the cluster's own controller would put in the
    pod's owner reference. ``workload`` is what the kind says about the class of its pods;
    None where it says nothing. ``loads_model`` is False where other objects say what these
    pods load (a serving runtime), or where they load nothing (a router).
    """

    pod: dict[str, Any]
    origins: tuple[tuple[str, str], ...] = (("", ""),)
    role: str = ""
    owner_kind: str = ""
    workload: WorkloadClass | None = None
    brought: tuple[tuple[str, str], ...] = ()
    loads_model: bool = True

    @property
    def place(self) -> str | None:
        """Where the pod stands as a whole in the author's object; None where it is put together."""
        (start, where), *others = self.origins or (("", ""),)
        return where if not start and not others else None

    def authored(self, path: str) -> str:
        """``path`` of the pod as a path of the author's object."""
        start, where = _nearest(path, self.origins)
        by_start, by = _nearest(path, self.brought)
        if by_start and len(by_start) >= len(start):
            return by
        rest = path[len(start) :]
        if not where:
            return rest.removeprefix(".")
        return f"{where}{rest}" if not rest or rest[0] in ".[" else f"{where}.{rest}"


def _nearest(path: str, places: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """The longest start of ``path`` among ``places``, and where it leads."""
    best, where = "", ""
    for start, place in places:
        if start == "" and best == "":
            where = place
        elif len(start) > len(best) and _under(path, start):
            best, where = start, place
    return best, where


def _under(path: str, start: str) -> bool:
    return path == start or path.startswith((f"{start}.", f"{start}["))


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """What kinds need to know beyond the object: runtimes by (namespace, name), "" for cluster-wide ones."""

    serving_runtimes: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)


Pods = Callable[[Mapping[str, Any], str, WorkloadFacts], Iterable[WorkloadPod]]
"""``pods(obj, namespace, facts)``: the pods of one object. Raises ``MalformedObjectError`` for a wrong shape."""


@dataclass(frozen=True, slots=True)
class WorkloadKind:
    """One kind. ``versions`` and ``plural`` are for the webhook configuration."""

    group: str
    kind: str
    plural: str
    versions: tuple[str, ...]
    pods: Pods

    @property
    def namespaced(self) -> bool:
        """Whether its objects live in a namespace; the field's names say when they do not."""
        return not self.kind.startswith("Cluster")
