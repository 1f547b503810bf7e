"""Which runtime KServe takes for a model (``GetSupportingRuntimes``)."""

from __future__ import annotations

from typing import Any

import pytest

from admission.workload_kinds.authored_field import AuthoredField
from admission.workload_kinds.serving_runtimes import (
    WantedRuntime,
    chosen_runtime,
    image_of_gpu_build,
    image_of_version,
    with_placeholders_filled,
)
from admission.workload_kinds.workload_pod import WorkloadFacts


def _runtime(created: str = "", **spec: Any) -> dict[str, Any]:
    formats = spec.pop("formats", [{"name": "sklearn", "version": "1", "autoSelect": True}])
    return {"metadata": {"creationTimestamp": created}, "spec": {"supportedModelFormats": formats, **spec}}


def _auto(**of_format: Any) -> list[dict[str, Any]]:
    return [{"name": "sklearn", "autoSelect": True, **of_format}]


_FITS = _runtime()


@pytest.mark.parametrize(
    ("why", "runtimes", "wanted", "chosen"),
    [
        ("nothing is known", {}, {}, None),
        ("it serves the format", {"/a": _FITS}, {}, "/a"),
        ("one of the namespace comes before those of the cluster", {"/a": _FITS, "models/z": _FITS}, {}, "models/z"),
        ("one of another namespace is not seen", {"other/a": _FITS}, {}, None),
        ("it is disabled", {"/a": _runtime(disabled=True)}, {}, None),
        ("it serves another format", {"/a": _runtime(formats=[{"name": "onnx", "autoSelect": True}])}, {}, None),
        ("it is not to be chosen by KServe", {"/a": _runtime(formats=[{"name": "sklearn"}])}, {}, None),
        ("it serves that version", {"/a": _FITS}, {"version": "1"}, "/a"),
        ("it serves another version", {"/a": _FITS}, {"version": "2"}, None),
        ("it serves any version", {"/a": _runtime(formats=_auto())}, {"version": "2"}, None),
        ("it speaks another protocol", {"/a": _runtime(protocolVersions=["v2"])}, {}, None),
        ("it speaks the protocol", {"/a": _runtime(protocolVersions=["grpc-v2", "v2"])}, {"protocol": "v2"}, "/a"),
        ("it serves many models at once", {"/a": _runtime(multiModel=True)}, {}, None),
        ("it needs several nodes", {"/a": _runtime(workerSpec={})}, {}, None),
        ("it is for several nodes", {"/a": _FITS, "/b": _runtime(workerSpec={})}, {"multi_node": True}, "/b"),
        (
            "the higher priority wins",
            {"/a": _runtime(formats=_auto(priority=1)), "/b": _runtime(formats=_auto(priority=2)), "/c": _FITS},
            {},
            "/b",
        ),
        ("a priority wins over none", {"/a": _FITS, "/b": _runtime(formats=_auto(priority=0))}, {}, "/b"),
        ("the better protocol wins", {"/b": _runtime(protocolVersions=["grpc-v1", "v1"]), "/a": _FITS}, {}, "/b"),
        (
            "the newer one wins",
            {"/a": _runtime("2025-01-01T00:00:00Z"), "/b": _runtime("2026-01-01T00:00:00Z")},
            {},
            "/b",
        ),
        ("the first by name wins", {"/b": _FITS, "/a": _FITS}, {}, "/a"),
        ("the one that is asked for", {"/a": _FITS, "/b": _runtime(formats=[])}, {"name": "b"}, "/b"),
        ("the namespace's of that name", {"/b": _FITS, "models/b": _FITS}, {"name": "b"}, "models/b"),
        ("the one that is asked for is not there", {"/a": _FITS}, {"name": "b"}, None),
        ("the one that is asked for is disabled", {"/b": _runtime(disabled=True)}, {"name": "b"}, None),
        (
            "no protocol is asked of one by name",
            {"/b": _runtime(protocolVersions=["v2"])},
            {"name": "b", "protocol": ""},
            "/b",
        ),
    ],
)
def test_the_runtime_is_the_one_that_kserve_would_take(
    why: str, runtimes: dict[str, Any], wanted: dict[str, Any], chosen: str | None
) -> None:
    known = WorkloadFacts({tuple(key.split("/")): obj for key, obj in runtimes.items()})  # type: ignore[misc] # a pair
    asked = {"name": "", "format": "sklearn", "version": "", "protocol": "v1", "multi_node": False, **wanted}
    found = chosen_runtime(WantedRuntime(**asked), "models", known)
    assert (f"{found.namespace}/{found.name}" if found else None) == chosen, why


@pytest.mark.parametrize(
    ("image", "version", "found"),
    [
        ("a/b:1", "2", "a/b:2"),
        ("a/b", "2", "a/b:2"),
        ("a:5000/b", "2", "a:5000/b:2"),
        ("a/b@sha256:1", "2", "a/b@sha256:1"),
        ("a/b:1", "", "a/b:1"),
        ("", "2", ""),
    ],
)
def test_the_version_is_the_image_s_tag(image: str, version: str, found: str) -> None:
    assert image_of_version(image, version) == found


@pytest.mark.parametrize(
    ("image", "runtime", "resources", "found"),
    [
        ("a:1", "kserve-torchserve", {"limits": {"nvidia.com/gpu": 1}}, "a:1-gpu"),
        ("a:1-gpu", "kserve-torchserve", {"limits": {"nvidia.com/gpu": 1}}, "a:1-gpu"),
        ("a:1", "kserve-torchserve", {"requests": {"cpu": 1}}, "a:1"),
        ("a:1", "mine", {"limits": {"nvidia.com/gpu": 1}}, "a:1"),
        ("a", "kserve-torchserve", {"limits": {"nvidia.com/gpu": 1}}, "a"),
        ("a:1@sha256:2", "kserve-torchserve", {"limits": {"nvidia.com/gpu": 1}}, "a:1@sha256:2"),
    ],
)
def test_a_gpu_gets_the_gpu_build(image: str, runtime: str, resources: dict[str, Any], found: str) -> None:
    assert image_of_gpu_build(image, runtime, resources) == found


def test_placeholders_are_the_service_s_metadata() -> None:
    metadata = AuthoredField({"name": "n", "labels": {"a": "b"}, "annotations": None}, "metadata", "inferenceservice")
    value = {
        "args": ["--n={{.Name}}", "{{ .Labels.a }}{{.Annotations.c}}{{.Namespace}}", "{{other}}"],
        "n": 1,
        "x": None,
    }
    assert with_placeholders_filled(value, metadata) == {"args": ["--n=n", "b", "{{other}}"], "n": 1, "x": None}
