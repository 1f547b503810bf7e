"""The objects as their pods would come out, as YAML: a complete stream, what is not touched included.

A workload is printed with its pod templates as its pods would come out. One whose pods are
made of more than templates (an InferenceService) is printed as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from webhook.offline_review import Reviewed
from webhook.review_formats.text import dump

_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def mutated(reviews: Sequence[Reviewed]) -> str:
    """One document per object."""
    return "---\n".join(dump(_admitted(one)) for one in reviews)


def _admitted(reviewed: Reviewed) -> Any:
    obj: Any = reviewed.manifest.obj
    for pod in reviewed.pods:
        if pod.place is not None:
            steps = [int(index) if index else word for index, word in _STEP.findall(pod.place)]
            obj = _put(obj, steps, pod.admitted)
    return obj


def _put(obj: Any, steps: list[int | str], value: Any) -> Any:
    """``obj`` with ``value`` at ``steps``, which exist."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(obj, list):
        return [_put(one, rest, value) if index == step else one for index, one in enumerate(obj)]
    return {**obj, step: _put(obj[step], rest, value)}
