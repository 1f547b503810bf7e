"""Records of one object, and of no other, whatever an author writes into an annotation."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest

from audit.object_history import history_of, kind_named
from audit.records import JsonLines

RECORD = {"schema": "tidewaiter.dev/decision/v1", "kind": "Pod", "namespace": "models", "dry_run": False}


def _record(number: int, webhook: str, name: str, **more: Any) -> dict[str, Any]:
    return {**RECORD, "time": f"2026-06-01T12:00:{number:02}.000Z", "uid": f"u-{number}", "webhook": webhook, "name": name} | more  # fmt: skip


def _uids(*records: dict[str, Any], kind: str = "pod", name: str = "triton-abc", review: str = "") -> tuple[str, str]:
    lines = JsonLines(io.BytesIO(b"\n".join(orjson.dumps(one) for one in records)).readlines())
    found = history_of(lines, kind, "models", name, review)
    return tuple(str(one.value["uid"]) if one else "" for one in (found.mutated, found.judged))  # type: ignore[return-value]


MUTATED = _record(1, "mutate", "triton-*")
JUDGED = _record(2, "validate", "triton-abc", mutation="u-1")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ((MUTATED, JUDGED), ("u-1", "u-2")),
        ((JUDGED,), ("", "u-2")),
        ((MUTATED,), ("", "")),
        ((MUTATED, JUDGED, _record(3, "validate", "triton-abc")), ("", "u-3")),
        ((MUTATED, JUDGED, _record(3, "validate", "triton-abc", dry_run=True)), ("u-1", "u-2")),
        ((_record(1, "mutate", "other-*"), JUDGED), ("", "u-2")),
        ((_record(1, "mutate", "triton-*", namespace="theirs"), JUDGED), ("", "u-2")),
        ((_record(1, "mutate", "triton-*", kind="Deployment"), JUDGED), ("", "u-2")),
        ((_record(1, "validate", "triton-abc"), JUDGED), ("", "u-2")),
        ((_record(1, "mutate", "triton-abc"), _record(2, "validate", "triton-abc")), ("u-1", "u-2")),
        ((MUTATED, _record(2, "validate", "triton-abcd", mutation="u-1")), ("", "")),
    ],
)
def test_what_is_found_is_of_this_object(records: tuple[dict[str, Any], ...], expected: tuple[str, str]) -> None:
    assert _uids(*records) == expected


def test_the_annotation_of_the_live_object_counts_where_there_is_no_record_of_its_judgement() -> None:
    assert _uids(MUTATED, review="u-1") == ("u-1", "")
    assert _uids(_record(1, "mutate", "other-*"), review="u-1") == ("", "")


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("pod", "pod"), ("po", "pod"), ("Pods", "pod"), ("deploy", "deployment"), ("deployments.apps", "deployment"),
        ("isvc", "inferenceservice"), ("InferenceServices", "inferenceservice"), ("sts", "statefulset"), ("jobs", "job"),
    ],
)  # fmt: skip
def test_a_kind_is_named_as_kubectl_takes_it(word: str, kind: str) -> None:
    assert kind_named(word) == kind
