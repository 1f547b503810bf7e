"""Of a live pod, `kubectl tidewaiter why` says what was done to it and by which rule."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from admission.review_mark import REVIEW_KEY
from tests.cluster.conftest import opted_in
from tests.cluster.manifests import deployment
from tests.controlplane.binaries import locate
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import wait_until

NAMESPACE = "explained"


@pytest.fixture(scope="module")
def pod_name(tidewaiter: Tidewaiter) -> str:
    """A pod that a Deployment's controller made."""
    opted_in(tidewaiter.plane, NAMESPACE)
    tidewaiter.plane.apply(deployment("triton", NAMESPACE))

    def made() -> str | None:
        listed = json.loads(tidewaiter.plane.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json").stdout)
        return next((str(one["metadata"]["name"]) for one in listed["items"]), None)

    return wait_until(made, "a pod of the Deployment")


def _why(tidewaiter: Tidewaiter, reference: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Through kubectl, as its plugin."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(locate("kubectl")), "tidewaiter", "why", reference, "-n", NAMESPACE, "-r", str(tidewaiter.process.log), *more],
        env={**os.environ, "PATH": path, "KUBECONFIG": str(tidewaiter.plane.kubeconfig)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_pod_that_its_controller_named_is_found_with_what_was_injected(tidewaiter: Tidewaiter, pod_name: str) -> None:
    pod = tidewaiter.plane.get("pod", pod_name, NAMESPACE)
    assert pod is not None

    mutated, judged = _records(_why(tidewaiter, f"pod/{pod_name}", "--format", "json"))

    assert mutated["uid"] == pod["metadata"]["annotations"][REVIEW_KEY] == judged["mutation"]
    assert (mutated["webhook"], mutated["name"]) == ("mutate", pod["metadata"]["generateName"] + "*")
    assert {"gpu-scheduling", "security-context"} <= {one["mutator"] for one in mutated["injections"]}
    assert (judged["webhook"], judged["name"], judged["allowed"]) == ("validate", pod_name, True)
    assert judged["approval"]["state"] == "approved"


def test_its_text_names_the_injections_and_the_approval(tidewaiter: Tidewaiter, pod_name: str) -> None:
    done = _why(tidewaiter, f"po/{pod_name}")

    assert done.returncode == 0, done.stderr
    assert "tolerate the taint nvidia.com/gpu" in done.stdout
    assert "approved" in done.stdout


@pytest.mark.usefixtures("pod_name")
def test_a_workload_is_explained_by_the_review_that_it_was_applied_with(tidewaiter: Tidewaiter) -> None:
    (judged,) = _records(_why(tidewaiter, "deploy/triton", "--format", "json"))

    assert (judged["kind"], judged["name"], judged["webhook"]) == ("Deployment", "triton", "validate")


def test_what_nobody_reviewed_has_no_record_and_the_reasons_are_said(tidewaiter: Tidewaiter) -> None:
    done = _why(tidewaiter, "pod/nobodys")

    assert done.returncode == 1
    assert "there is no record of pod explained/nobodys" in done.stderr
