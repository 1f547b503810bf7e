"""What a review costs grows with the pod and not faster: counted in calls, since time tells another story each day."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from admission.decision import Decision, Purpose
from admission.pipeline import review
from tests.kernel import DIGEST, context, request, rules

SMALL, TIMES = 60, 4
RULES = rules(settings={"preload": {"image": f"ghcr.io/tidewaiter/serving-runtime@{DIGEST}"}})
APPROVED = {"model": "m", "version": "1", "source": "s3://models/m", "digest": DIGEST}
CLAIMED = {"model": "m", "version": "1", "source": "pvc://claim/m"}
TRITON = {"image": "nvcr.io/nvidia/tritonserver:24.01", "args": ["tritonserver", "--model-repository=/models"]}
GPU = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod of model m:1."""
    named = [{"name": f"c{number}", **one} for number, one in enumerate(containers)]
    labels = {"tidewaiter.dev/model": "m", "tidewaiter.dev/model-version": "1"}
    return {"metadata": {"name": "p", "labels": labels}, "spec": {"containers": named, **spec}}


def mounts(count: int) -> list[dict[str, Any]]:
    """Mounts of as many volumes."""
    return [{"name": f"v{number}", "mountPath": f"/data/{number}/x"} for number in range(count)]


def volumes(count: int) -> list[dict[str, Any]]:
    """As many volumes, of a claim each."""
    return [{"name": f"v{number}", "persistentVolumeClaim": {"claimName": f"k{number}"}} for number in range(count)]


def slices(first: int, end: int) -> dict[str, str]:
    """Limits on as many kinds of a GPU's slices."""
    return {f"nvidia.com/mig-{number}g.5gb": "1" for number in range(first, end)}


def doubling(count: int) -> list[dict[str, str]]:
    """Variables, each of which names the one before twice."""
    return [{"name": f"E{n}", "value": f"$(E{n - 1})$(E{n - 1})" if n else "aaaa"} for n in range(count)]


GROWING: dict[str, Callable[[int], dict[str, Any]]] = {
    "servers": lambda n: pod(*[TRITON] * n),
    "servers with accelerators": lambda n: pod(*[{**TRITON, **GPU}] * n),
    "unknown images": lambda n: pod(TRITON, *[{"image": "shop/web:1"}] * n),
    "unknown servers with accelerators": lambda n: pod(*[{"image": "shop/serve:1", **GPU}] * n),
    "init containers": lambda n: pod(
        TRITON, initContainers=[{"name": f"i{number}", "image": "shop/setup:1"} for number in range(n)]
    ),
    "containers of one name": lambda n: pod(*[{**TRITON, "name": "same"}] * n),
    "containers without a name": lambda n: pod(*[{**TRITON, "name": None}] * n),
    "bad security contexts": lambda n: pod(*[{**TRITON, "securityContext": {"privileged": True, "runAsUser": 0}}] * n),
    "mounts of one container": lambda n: pod({**TRITON, "volumeMounts": mounts(n)}, volumes=volumes(n)),
    "mounts of an unknown container": lambda n: pod(
        {"image": "shop/web:1", "volumeMounts": mounts(n)}, volumes=volumes(n)
    ),
    "a volume for each container": lambda n: pod(
        *[{**TRITON, "volumeMounts": [one]} for one in mounts(n)], volumes=volumes(n)
    ),
    "arguments": lambda n: pod({**TRITON, "args": ["tritonserver", *["--model-repository=/models"] * n]}),
    "adapters": lambda n: pod({"image": "vllm/vllm-openai:v1", "args": ["--lora-modules", *["a=/b"] * n]}),
    "options that take many words": lambda n: pod(
        {"image": "vllm/vllm-openai:v1", "args": ["--model", "m"] + ["--lora-modules", "a=/b"] * n}
    ),
    "shells": lambda n: pod({"image": "shop/web:1", "command": ["sh"] * n, **GPU}),
    "shell lines": lambda n: pod({"image": "vllm/vllm-openai:v1", "command": ["sh", "-c", "vllm serve a; " * n]}),
    "variables of a shell line": lambda n: pod(
        {
            "image": "vllm/vllm-openai:v1",
            "command": ["sh", "-c", " ".join(f"$V{number}" for number in range(n))],
            "env": [{"name": f"V{number}", "value": "x"} for number in range(n)],
        }
    ),
    "variables that double": lambda n: pod(
        {"image": "vllm/vllm-openai:v1", "args": ["--model", f"$(E{n - 1})"], "env": doubling(n)}
    ),
    "accelerators of one container": lambda n: pod({**TRITON, "resources": {"limits": slices(0, n)}}),
    "accelerators of many containers": lambda n: pod(
        *[{**TRITON, "resources": {"limits": slices(number, number + 1)}} for number in range(n)],
        initContainers=[
            {"name": f"i{number}", "image": "shop/setup:1", "resources": {"limits": slices(number, number + 1)}}
            for number in range(n)
        ],
    ),
    "tolerations": lambda n: pod(
        {**TRITON, **GPU}, tolerations=[{"key": f"k{number}", "operator": "Exists"} for number in range(n)]
    ),
    "ports": lambda n: pod({**TRITON, "ports": [{"containerPort": 1 + number} for number in range(n)]}),
}


def workload(template: dict[str, Any]) -> dict[str, Any]:
    """A Deployment of it."""
    return {"apiVersion": "apps/v1", "metadata": {"name": "d"}, "spec": {"template": template}}


REVIEWS: dict[str, Callable[[dict[str, Any], dict[str, Any]], Decision]] = {
    "mutate": lambda obj, about: review(request(obj), Purpose.MUTATE, context(approvals=[about]), RULES),
    "validate a pod": lambda obj, about: review(request(obj), Purpose.VALIDATE, context(approvals=[about]), RULES),
    "validate a workload": lambda obj, about: review(
        request(workload(obj), kind="Deployment"), Purpose.VALIDATE, context(approvals=[about]), RULES
    ),
    "validate an update": lambda obj, about: review(
        request(obj, old=pod(TRITON)), Purpose.VALIDATE, context(approvals=[about]), RULES
    ),
}


@pytest.mark.parametrize("approval", [APPROVED, CLAIMED], ids=["with a digest", "a claim"])
@pytest.mark.parametrize("reviewed", REVIEWS.values(), ids=REVIEWS)
@pytest.mark.parametrize("grown", GROWING.values(), ids=GROWING)
def test_a_review_costs_no_more_than_its_pod_has_grown(
    grown: Callable[[int], dict[str, Any]],
    reviewed: Callable[[dict[str, Any], dict[str, Any]], Decision],
    approval: dict[str, Any],
) -> None:
    small, large = grown(SMALL), grown(TIMES * SMALL)
    reviewed(small, approval)  # what is kept from one review to the next is not in the count

    before = calls(lambda: reviewed(small, approval))
    after = calls(lambda: reviewed(large, approval))

    assert after <= 1.1 * TIMES * before


def calls(work: Callable[[], object]) -> int:
    """How many functions, ours and the interpreter's, were called."""
    count = 0

    def counted(_frame: FrameType, event: str, _function: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    profile = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(profile)
    return count
