"""Reads an object at a path as findings write it, and lists what a pod's containers say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadPod

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\]]*)\]")
_LISTS = ("initContainers", "containers", "ephemeralContainers")


class AbsentError(Exception):
    """There is nothing at the path."""


def at(obj: Any, path: str) -> Any:
    """The value at ``path``: ``env[NAME]`` is the entry of that name, ``labels[a.b/c]`` the member."""
    found, position = obj, 0
    while position < len(path):
        step = _STEP.match(path, position)
        assert step is not None, f"{path!r} is no path"
        found = _member(found, step[1], path) if step[1] is not None else _entry(found, step[2], path)
        position = step.end()
    return found


def _member(found: Any, key: str, path: str) -> Any:
    if not isinstance(found, dict) or key not in found:
        raise AbsentError(path)
    return found[key]


def _entry(found: Any, key: str, path: str) -> Any:
    if isinstance(found, dict):
        return _member(found, key, path)
    if not isinstance(found, list):
        raise AbsentError(path)
    if key.isdecimal() and int(key) < len(found):
        return found[int(key)]
    named = [one for one in found if isinstance(one, dict) and one.get("name") == key]
    if not named:
        raise AbsentError(path)
    return named[-1]


def said_by_containers(pod: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(path, value) of images, commands, arguments and variables."""
    for kind in _LISTS:
        for index, container in enumerate((pod.get("spec") or {}).get(kind) or ()):
            place = f"spec.{kind}[{index}]"
            if container.get("image"):
                yield f"{place}.image", container["image"]
            for field in ("command", "args"):
                for number, word in enumerate(container.get(field) or ()):
                    yield f"{place}.{field}[{number}]", word
            variables = container.get("env") or ()
            for number, variable in enumerate(variables):
                yield f"{place}.env[{number}]", variable
            for name in {one.get("name") for one in variables}:
                if isinstance(name, str) and re.fullmatch(r"\w+", name) and not name.isdecimal():
                    last = [one for one in variables if one.get("name") == name][-1]
                    yield f"{place}.env[{name}]", last


def said_by_metadata(pod: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(path, value) of labels and annotations."""
    for field in ("labels", "annotations"):
        for key, value in ((pod.get("metadata") or {}).get(field) or {}).items():
            yield f"metadata.{field}[{key}]", value


def is_brought(pod: WorkloadPod, path: str) -> bool:
    """Whether another field stands for what is at ``path``."""
    return pod.authored(path) == pod.authored(f"{path}.x")


def examples() -> list[dict[str, Any]]:
    path = Path(__file__).with_name("examples.yaml")
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def facts(example: dict[str, Any]) -> WorkloadFacts:
    runtimes = {}
    for key, obj in (example.get("runtimes") or {}).items():
        namespace, _, name = key.partition("/")
        runtimes[(namespace, name)] = obj
    return WorkloadFacts(runtimes)
