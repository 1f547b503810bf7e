"""The webhook finds nothing in the manifests, and changes only what their author expects."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serving_runtime import renderings

_FOLDER = Path(__file__).parent / "manifests"
_EXPECTED = yaml.safe_load((_FOLDER / "reviews.yaml").read_text())["renderings"]


def _cases() -> list[Any]:
    return [
        pytest.param(rendering, obj, expected, id=f"{rendering} {obj}")
        for rendering, objects in _EXPECTED.items()
        for obj, expected in objects.items()
    ]  # fmt: skip


@functools.cache
def _reviewed(rendering: str) -> dict[str, Any]:
    return _review(renderings.rendered(rendering))


def _review(text: str) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "webhook", "review", "-", "--format", "json", "--namespace", "models",
        "--settings", str(_FOLDER / "settings.yaml"),
    ]  # fmt: skip
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    return {f"{one['kind']}/{one['name']}": one for one in report["objects"] if one["verdict"] != "skipped"}


@pytest.mark.parametrize(("rendering", "obj", "expected"), _cases())
def test_nothing_is_found_and_only_the_expected_is_changed(rendering: str, obj: str, expected: dict[str, Any]) -> None:
    reviewed = _reviewed(rendering)[obj]
    assert reviewed["findings"] == []
    assert reviewed["verdict"] == "allowed"
    assert [f"{one['mutator']}: {change}" for one in reviewed["injections"] for change in one["changes"]] == expected[
        "changes"
    ]
    assert [one["path"] for pod in reviewed["pods"] for one in pod["patch"]] == expected["touched"]


def test_every_rendering_and_every_workload_in_it_has_an_expectation() -> None:
    assert set(_EXPECTED) == set(renderings.names())
    for rendering, objects in _EXPECTED.items():
        assert set(objects) == set(_reviewed(rendering)), rendering


def test_nothing_is_found_in_the_pod_that_kserve_makes_of_the_inference_service() -> None:
    """With the initializer and the volume that KServe's own webhook adds; its digest is then verified."""
    service = renderings.one("kserve", "InferenceService")
    runtime = renderings.one("kserve", "ClusterServingRuntime", "tidewaiter-triton")["spec"]
    model = service["spec"]["predictor"]["model"]
    place = {"name": "kserve-provision-location", "mountPath": "/mnt/models"}
    server = {**runtime["containers"][0], "resources": model["resources"]}
    server["volumeMounts"] = [*server["volumeMounts"], {**place, "readOnly": True}]
    initializer = {
        "name": "storage-initializer",
        "image": f"docker.io/kserve/storage-initializer@sha256:{'0' * 64}",
        "args": [model["storageUri"], "/mnt/models"],
        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "volumeMounts": [place],
    }
    labels = {**service["spec"]["predictor"]["labels"], "serving.kserve.io/inferenceservice": "resnet50"}
    source = {"internal.serving.kserve.io/storage-initializer-sourceuri": model["storageUri"]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "resnet50", "namespace": "models", "labels": labels, "annotations": source},
        "spec": {
            "securityContext": service["spec"]["predictor"]["securityContext"],
            "automountServiceAccountToken": False,
            "initContainers": [initializer],
            "containers": [server],
            "volumes": [*runtime["volumes"], {"name": place["name"], "emptyDir": {}}],
        },
    }
    reviewed = _review(yaml.safe_dump(pod))["Pod/resnet50"]
    assert reviewed["findings"] == []
    changes = [change for one in reviewed["injections"] for change in one["changes"]]
    assert "verify sha256:9f86d081884c... after KServe's storage initializer" in changes
    # What its author wrote is changed in nothing but where it runs and what it is called.
    assert not [one for one in changes if "kserve-container" in one]
