"""``template_kind``: the mapping that the settings may give for a kind that nobody knows."""

from __future__ import annotations

from typing import Any

import pytest

from admission.workload import WorkloadClass
from admission.workload_kinds.templates import template_kind
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadPod

_POD = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "d"}]}}


def _pods(path: str, obj: dict[str, Any]) -> list[WorkloadPod]:
    kind = template_kind("acme.io", "Farm", "farms", ("v1",), path)
    assert (kind.group, kind.kind, kind.plural, kind.versions) == ("acme.io", "Farm", "farms", ("v1",))
    return list(kind.pods(obj, "models", WorkloadFacts()))


@pytest.mark.parametrize(
    ("path", "obj", "found"),
    [
        ("spec.template", {"spec": {"template": _POD}}, [("", "spec.template.spec.containers[0].image")]),
        ("template", {"template": _POD}, [("", "template.spec.containers[0].image")]),
        ("", _POD, [("", "spec.containers[0].image")]),
        (
            "spec.jobs[*].template",
            {"spec": {"jobs": [{"name": "one", "template": _POD}, {"template": _POD}, {"template": None}]}},
            [
                ("one", "spec.jobs[0].template.spec.containers[0].image"),
                ("1", "spec.jobs[1].template.spec.containers[0].image"),
            ],
        ),
        (
            "spec.jobs.*.template",
            {"spec": {"jobs": {"web": {"template": _POD}, "a.b": {"template": _POD}}}},
            [
                ("web", "spec.jobs.web.template.spec.containers[0].image"),
                ("a.b", "spec.jobs[a.b].template.spec.containers[0].image"),
            ],
        ),
        (
            "spec.groups[*].jobs.*",
            {"spec": {"groups": [{"groupName": "g", "jobs": {"w": _POD}}]}},
            [("g w", "spec.groups[0].jobs.w.spec.containers[0].image")],
        ),
        ("spec.template", {"spec": {}}, []),
        ("spec.template", {}, []),
        ("spec.jobs[*]", {"spec": {"jobs": None}}, []),
    ],
)
def test_every_template_at_the_path_is_a_pod(path: str, obj: dict[str, Any], found: list[tuple[str, str]]) -> None:
    pods = _pods(path, obj)
    assert [(one.role, one.authored("spec.containers[0].image")) for one in pods] == found
    assert all(one.pod == _POD for one in pods)


def test_the_owner_is_the_kind_itself_unless_it_is_said_otherwise() -> None:
    own = template_kind("acme.io", "Farm", "farms", ("v1",), "t")
    other = template_kind("acme.io", "Farm", "farms", ("v1",), "t", owner_kind="Job", workload=WorkloadClass.BATCH)
    made = [next(iter(one.pods({"t": _POD}, "", WorkloadFacts()))) for one in (own, other)]
    assert [(one.owner_kind, one.workload) for one in made] == [("Farm", None), ("Job", WorkloadClass.BATCH)]


@pytest.mark.parametrize(
    "path", ["spec..template", ".spec", "spec.", "spec.jobs[0].t", "spec.job*", "[*].t", "a[*][*]", "a[b]", "a]"]
)
def test_what_is_no_path_is_refused_with_an_example(path: str) -> None:
    with pytest.raises(ValueError, match=r"is no path of a pod template: .*spec\.replicatedJobs\[\*\]\.template"):
        template_kind("acme.io", "Farm", "farms", ("v1",), path)
