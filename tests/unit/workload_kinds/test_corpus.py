"""Real manifests (TIDEWAITER_CORPUS): what their pods say is found where their authors wrote it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from admission.pod_schema import check_shape
from admission.workload_kinds.kinds import WORKLOAD_KINDS, workload_kind
from admission.workload_kinds.workload_pod import WorkloadFacts
from tests.cluster import corpus
from tests.unit.workload_kinds.author_paths import at, is_brought, said_by_containers, said_by_metadata

_CORPUS = corpus.folder("TIDEWAITER_CORPUS", "corpus")
_CRDS = corpus.folder("TIDEWAITER_CRDS", "crds")


def _objects() -> list[Any]:
    found = []
    for document in corpus.documents(_CORPUS) if _CORPUS is not None else ():
        if _kind(document.obj) is not None:
            found.append(pytest.param(document.obj, id=document.title))
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=corpus.MISSING))]


def _kind(document: dict[str, Any]) -> Any:
    return workload_kind(str(document.get("apiVersion")).rpartition("/")[0], str(document.get("kind")))


@pytest.mark.parametrize("document", _objects())
def test_what_real_pods_say_is_found_where_their_authors_wrote_it(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    pods = list(_kind(document).pods(document, "models", WorkloadFacts()))
    assert pods, "a real workload without pods"
    for pod in pods:
        check_shape(pod.pod)
        for path, value in (*said_by_containers(pod.pod), *said_by_metadata(pod.pod)):
            found = at(document, pod.authored(path))
            if not is_brought(pod, path):
                assert found == value, path
    assert document == before


def test_groups_plurals_and_versions_are_those_of_the_definitions() -> None:
    if _CRDS is None:
        pytest.skip(corpus.MISSING)
    compared = set()
    for path in sorted(_CRDS.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if not isinstance(document, dict) or document.get("kind") != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            kind = workload_kind(spec["group"], spec["names"]["kind"])
            if kind is None:
                continue
            compared.add(kind.kind)
            assert kind.plural == spec["names"]["plural"]
            served = {one["name"] for one in spec["versions"] if one["served"]}
            assert served <= set(kind.versions), kind.kind
    assert compared, f"no definition of a known kind in {_CRDS}"
    assert compared <= {one.kind for one in WORKLOAD_KINDS}
