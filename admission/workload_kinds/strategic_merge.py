"""A strategic merge of what the author wrote over what a runtime gives, noting where each part is from.

Source: ``k8s.io/apimachinery/pkg/util/strategicpatch`` with the ``patchMergeKey`` tags of
``k8s.io/api/core/v1/types.go``, as KServe's ``MergeRuntimeContainers`` and ``MergePodSpec`` use it.
"""

from __future__ import annotations

from typing import Any

from admission.workload_kinds.authored_field import AuthoredField, below
from admission.workload_kinds.pod_draft import PodDraft

_MERGE_KEYS = {
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "volumes": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "initContainers": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists that are merged entry by entry, and the key that tells the entries apart. Others are replaced."""

_REPLACED = frozenset({"volumes"})
"""Lists whose entries replace one another whole: a volume has one source."""


def merge(draft: PodDraft, path: str, given: AuthoredField, written: AuthoredField, by: str) -> Any:
    """``written`` over ``given``; ``path`` is where the result will stand in the pod.

    What came of ``given`` alone is noted as brought in by the field ``by``.
    """
    if _is_empty(written.value):
        if not _is_empty(given.value):
            draft.brought(path, by)
        return given.value
    if isinstance(given.value, dict) and isinstance(written.value, dict):
        draft.written(path, written.path)
        return {
            key: merge(draft, below(path, key), given[key], written[key], by)
            for key in dict.fromkeys((*given.value, *written.value))
        }
    key = _MERGE_KEYS.get(path.rpartition(".")[2])
    if key and isinstance(given.value, list) and isinstance(written.value, list):
        draft.written(path, written.path)
        return _merged_entries(draft, path, given, written, by, key)
    draft.written(path, written.path)
    return written.value


def _merged_entries(
    draft: PodDraft, path: str, given: AuthoredField, written: AuthoredField, by: str, key: str
) -> list[Any]:
    replaced = path.rpartition(".")[2] in _REPLACED
    mine: dict[str, AuthoredField] = {}
    for entry in written.items():
        mine[_identity(entry, key)] = entry
    found: list[Any] = []
    for entry in given.items():
        identity, place = _identity(entry, key), f"{path}[{len(found)}]"
        over = mine.pop(identity, None)
        if over is None:
            draft.brought(place, by)
            draft.brought(f"{path}[{identity}]", by)
            found.append(entry.value)
        elif replaced or "value" in over.object() or "valueFrom" in over.object():
            # A variable has a value or a reference, never both.
            draft.written(place, over.path)
            found.append(over.value)
        else:
            found.append(merge(draft, place, entry, over, by))
    for entry in mine.values():
        draft.written(f"{path}[{len(found)}]", entry.path)
        found.append(entry.value)
    return found


def _identity(entry: AuthoredField, key: str) -> str:
    value = entry.object().get(key)
    if isinstance(value, (dict, list)):
        raise entry[key].malformed("a string or a number")
    return str(value)


def _is_empty(value: object) -> bool:
    """Whether Go would leave the field out."""
    return value is None or value in ("", [], {})
