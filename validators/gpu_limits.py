"""Accelerators are asked for in whole numbers, with limits, and not behind the scheduler's back.

Fields: ``resources`` of each container, ``env`` NVIDIA_VISIBLE_DEVICES and its kin.

* an extended resource needs a limit, a whole number, and a request equal to it (the API
  server says the same of stored pods; of a template it says it too late);
* more than one share of a GPU can fail at the kubelet (``failRequestsGreaterThanOne`` of
  the NVIDIA device plugin) and never means more compute;
* no container asks for more than the settings allow;
* a container without a GPU that sets ``NVIDIA_VISIBLE_DEVICES`` sees the node's GPUs on
  default settings of the NVIDIA container toolkit; so may one that takes the variable's
  value from another object. Of ``envFrom`` nobody can tell whether it sets the variable: it
  is found in a pod that wants to stand on GPU nodes and asks for no GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import Field

from admission.accelerators import is_accelerator
from admission.command_line import variables
from admission.context import ReviewContext
from admission.finding import Finding
from admission.pod import Container, ModelPod
from admission.quantity import parse_quantity
from admission.validator import Applicability, RuleSettings, Scope, Validator

_ID = "gpu-limits"
_SHARED = "nvidia.com/gpu.shared"
_DEVICES = ("NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HABANA_VISIBLE_DEVICES")
_NO_DEVICE = ("", "none", "void")


class GpuLimitsSettings(RuleSettings):
    """Settings of gpu-limits."""

    max_per_container: int = Field(default=16, ge=1, alias="maxPerContainer")
    """The most of one accelerator resource that one container may ask for."""


def check(pod: ModelPod, _context: ReviewContext, settings: GpuLimitsSettings) -> Iterable[Finding]:
    """Find wrong quantities and hidden use of GPUs."""
    for container in pod.containers:
        resources = container.spec.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for name in sorted({*filter(is_accelerator, requests), *filter(is_accelerator, limits)}):
            yield from _quantity(container, name, requests.get(name), limits.get(name), settings)
        yield from _hidden(pod, container)


def _quantity(
    container: Container, name: str, request: Any, limit: Any, settings: GpuLimitsSettings
) -> Iterator[Finding]:
    path = f"{container.path}.resources.limits[{name}]"
    if limit is None:
        yield _finding(
            container, path, f"{name} is requested ({request}) without a limit", f"set the limit to {request} too"
        )
        return
    amount = parse_quantity(limit)
    if amount is None or amount.denominator != 1 or amount < 0:
        yield _finding(
            container, path, f"{name} is {limit!r}", "use a whole number; part of a GPU is a MIG slice or a share"
        )
        return
    if request is not None and parse_quantity(request) != amount:
        yield _finding(container, path, f"{name} has request {request} and limit {limit}", "make them equal")
    if name == _SHARED and amount > 1:
        yield _finding(
            container, path, f"{amount} shares of a GPU are asked for", "ask for 1: more shares give no more compute"
        )
    if amount > settings.max_per_container:
        yield _finding(
            container,
            path,
            f"{amount} {name} are asked for",
            f"ask for at most {settings.max_per_container} in one container",
        )


def _hidden(pod: ModelPod, container: Container) -> Iterator[Finding]:
    if container.accelerators or pod.claims_accelerator:
        return
    known = variables(container)
    for name in _DEVICES:
        value = known.get(name, "")
        if value in _NO_DEVICE:
            continue
        shown = "with a value from another object may show" if value is None else f"={value!r} shows"
        yield _finding(
            container,
            f"{container.path}.env[{name}]",
            f"{name}{'' if value else ' '}{shown} the container GPUs of the node that it did not ask for",
            "remove the variable and ask for nvidia.com/gpu under resources.limits",
        )
    if container.spec.get("envFrom") and "NVIDIA_VISIBLE_DEVICES" not in known and pod.wants_gpu_node:
        yield _finding(
            container,
            f"{container.path}.envFrom",
            "the pod goes to nodes with GPUs and asks for none, and envFrom may set NVIDIA_VISIBLE_DEVICES, which "
            "shows the container those of the node",
            "ask for nvidia.com/gpu under resources.limits, or set NVIDIA_VISIBLE_DEVICES to void in env, which wins",
        )


def _finding(container: Container, path: str, message: str, remedy: str) -> Finding:
    return Finding(rule=_ID, path=path, message=message, remedy=remedy, container=container.name)


VALIDATOR = Validator(id=_ID, check=check, settings=GpuLimitsSettings, applies=Applicability(scope=Scope.EVERY_POD))
