"""SARIF 2.1.0, for code scanning. Source: docs.oasis-open.org/sarif/sarif/v2.1.0."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

from admission.finding import Action
from webhook.offline_review import Reviewed

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Action.DENY: "error", Action.WARN: "warning", Action.AUDIT: "note"}


def sarif(reviews: Sequence[Reviewed], problems: Sequence[str], rules: Mapping[str, str]) -> str:
    """One run. ``rules`` are one-sentence descriptions by rule id."""
    found = [result for one in reviews for result in _results(one)]
    used = sorted({result["ruleId"] for result in found})
    driver = {
        "name": "tidewaiter",
        "version": version("tidewaiter"),
        "rules": [{"id": rule, "shortDescription": {"text": rules.get(rule, rule)}} for rule in used],
    }
    for result in found:
        result["ruleIndex"] = used.index(result["ruleId"])
    failures = [*problems, *(f"{one.manifest.source}: {one.problem}" for one in reviews if one.problem)]
    invocation = {
        "executionSuccessful": not failures,
        "toolExecutionNotifications": [{"level": "error", "message": {"text": text}} for text in failures],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "columnKind": "unicodeCodePoints",
        "results": found,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _results(reviewed: Reviewed) -> Iterator[dict[str, Any]]:
    manifest = reviewed.manifest
    for judged in reviewed.decision.findings if reviewed.decision is not None else ():
        finding = judged.finding
        physical = {
            "artifactLocation": {"uri": PurePath(manifest.source).as_posix()},
            "region": {"startLine": manifest.line(finding.path)},
        }
        logical = f"{manifest.kind}/{reviewed.namespace}/{manifest.name}/{finding.path}"
        yield {
            "ruleId": finding.rule,
            "level": _LEVELS[judged.action],
            "message": {"text": f"{finding.message}; {finding.remedy}"},
            "locations": [{"physicalLocation": physical, "logicalLocations": [{"fullyQualifiedName": logical}]}],
        }
