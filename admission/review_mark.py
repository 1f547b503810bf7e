"""The annotation that says which review changed a pod: it ties the two records of a pod together.

Anybody may write it, so that nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from admission.json_patch import Operation

REVIEW_KEY = "tidewaiter.dev/review"
_ANNOTATIONS = "/metadata/annotations"
_MARK = f"{_ANNOTATIONS}/{REVIEW_KEY.replace('/', '~1')}"


def marked(patch: Iterable[Operation], obj: dict[str, Any], uid: str) -> tuple[Operation, ...]:
    """The patch of ``obj``, with the annotation; a patch of nothing stays so."""
    operations = list(patch)
    if not operations:
        return ()
    for number, one in enumerate(operations):
        if one["path"] == _ANNOTATIONS and isinstance(one.get("value"), dict):
            operations[number] = {**one, "value": {**one["value"], REVIEW_KEY: uid}}
            return tuple(operations)
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        # A patch that makes them is above, where there is one: without, there is nowhere to write.
        return tuple(operations)
    if isinstance(metadata.get("annotations"), dict):
        operations.append({"op": "add", "path": _MARK, "value": uid})
    else:
        operations.append({"op": "add", "path": _ANNOTATIONS, "value": {REVIEW_KEY: uid}})
    return tuple(operations)
