"""Kinds whose pods come of pod templates, as they stand.

Sources: the CustomResourceDefinitions of each project; the labels that their controllers
put on pods (``labelPod`` of KubeRay's ``common/pod.go``, ``pkg/core`` of the training operator,
LeaderWorkerSet's and JobSet's API packages).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from admission.workload import WorkloadClass
from admission.workload_kinds.authored_field import AuthoredField
from admission.workload_kinds.pod_draft import well_formed
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadKind, WorkloadPod

_NAMES = ("name", "groupName")
"""What the entries of a list call themselves."""


@dataclass(frozen=True, slots=True)
class Template:
    """Pod templates at one place of an object.

    ``path`` is dotted; ``[*]`` stands for every entry of a list and ``.*`` for every member
    of a map. ``role`` is what the pods are called, beside the name of the entry or member.
    ``labels`` are those that the controller sets; ``{name}`` is the object's name and
    ``{entry}`` that of the entry or member.
    """

    path: str
    role: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    owner_kind: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    template: AuthoredField
    entry: str = ""


def template_kind(
    group: str,
    kind: str,
    plural: str,
    versions: tuple[str, ...],
    path: str,
    *,
    owner_kind: str = "",
    workload: WorkloadClass | None = None,
    labels: Mapping[str, str] | None = None,
) -> WorkloadKind:
    """A kind with pod templates at ``path``.

    ``path`` is dotted; ``[*]`` stands for every entry of a list, ``.*`` for every member of a
    map (``spec.replicatedJobs[*].template.spec.template``); "" where the object itself has a
    pod's spec. Raises ``ValueError`` where ``path`` is none.
    """
    template = Template(path, labels=labels or {}, owner_kind=owner_kind or kind)
    return templates_kind(group, kind, plural, versions, (template,), workload=workload)


def templates_kind(
    group: str,
    kind: str,
    plural: str,
    versions: tuple[str, ...],
    templates: tuple[Template, ...],
    *,
    workload: WorkloadClass | None = None,
) -> WorkloadKind:
    """A kind with pod templates at several places."""
    steps = [(template, _steps(template.path)) for template in templates]

    def pods(obj: AuthoredField, _namespace: str, _facts: WorkloadFacts) -> Iterator[WorkloadPod]:
        for template, way in steps:
            for found in _follow(_Found(obj), way):
                if found.template.present:
                    yield _pod(found, template, obj, workload)

    return WorkloadKind(group, kind, plural, versions, well_formed(kind, pods))


def _steps(path: str) -> tuple[str, ...]:
    """``spec.jobs[*].template`` as ``("spec", "jobs", "[*]", "template")``."""
    steps: list[str] = []
    for part in path.split(".") if path else ():
        name = part.removesuffix("[*]")
        if not name or "[" in name or "]" in name or ("*" in name and name != "*"):
            raise ValueError(
                f"{path!r} is no path of a pod template: write names with dots between them, "
                "[*] behind a list and .* for the members of a map (spec.replicatedJobs[*].template)"
            )
        steps.append(name)
        if part.endswith("[*]"):
            steps.append("[*]")
    return tuple(steps)


def _follow(found: _Found, steps: tuple[str, ...]) -> Iterator[_Found]:
    if not steps:
        yield found
        return
    step, rest = steps[0], steps[1:]
    here = found.template
    if step == "[*]":
        for index, one in enumerate(here.items()):
            yield from _follow(_Found(one, _joined(found.entry, _name(one) or str(index))), rest)
    elif step == "*":
        for key, one in here.members():
            yield from _follow(_Found(one, _joined(found.entry, key)), rest)
    else:
        yield from _follow(_Found(here[step], found.entry), rest)


def _name(entry: AuthoredField) -> str:
    return next((entry[key].text() for key in _NAMES if entry[key].present), "")


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)


def _pod(found: _Found, template: Template, obj: AuthoredField, workload: WorkloadClass | None) -> WorkloadPod:
    field = found.template
    pod: dict[str, Any] = dict(field.object())
    brought: tuple[tuple[str, str], ...] = ()
    if template.labels:
        values = {"name": obj.at("metadata.name").text(), "entry": found.entry}
        # Their controllers let nobody change the labels that they select pods by.
        set_by_controller = {key: value.format(**values) for key, value in template.labels.items()}
        written = {key: one.value for key, one in field["metadata"]["labels"].texts()}
        pod["metadata"] = {**field["metadata"].object(), "labels": {**written, **set_by_controller}}
        brought = tuple((f"metadata.labels[{key}]", "metadata.name") for key in set_by_controller)
    return WorkloadPod(
        pod=pod,
        origins=(("", field.path),),
        role=_joined(template.role, found.entry),
        owner_kind=template.owner_kind,
        workload=workload,
        brought=brought,
    )
