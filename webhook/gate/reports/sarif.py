"""SARIF 2.1.0, for code scanning: a result for each threshold that does not hold.

Source: docs.oasis-open.org/sarif/sarif/v2.1.0. A result stands on the file of evidence, or on
the file of thresholds where evidence is missing.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

from webhook.gate.check import Check
from webhook.gate.outcome import Outcome

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULES = {
    "metrics": "Evaluation metrics lie within their thresholds",
    "bias": "Metrics of the bias audit lie within their thresholds",
    "latency": "Latency stays below its thresholds",
    "vulnerabilities": "The image has no more vulnerabilities than are allowed",
    "data-validation": "The data was validated and passed",
    "model-validation": "The pipeline's own evaluation blessed the model",
    "model-card": "The model card says what it must",
    "evidence-about": "Evidence is about the model version that is judged",
    "evidence-age": "Evidence is recent enough",
}


def sarif(outcome: Outcome) -> str:
    """One run."""
    rules = list(_RULES)
    results = [_result(one, outcome, rules) for one in outcome.failed]
    driver = {
        "name": "tidewaiter gate",
        "version": version("tidewaiter"),
        "rules": [{"id": rule, "shortDescription": {"text": _RULES[rule]}} for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True}],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(check: Check, outcome: Outcome, rules: list[str]) -> dict[str, Any]:
    rule = check.id.partition(".")[0]
    sources = check.sources or (outcome.gates_source,)
    return {
        "ruleId": rule,
        "ruleIndex": rules.index(rule),
        "level": "error",
        "message": {"text": f"{outcome.name} for {outcome.environment}: {check.id}: {check.message}; {check.remedy}"},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": PurePath(one).as_posix()}, "region": {"startLine": 1}},
                "logicalLocations": [{"fullyQualifiedName": f"{outcome.environment}/{check.id}"}],
            }
            for one in sources
        ],
    }
