"""Great Expectations: a validation result, and a checkpoint's results.

Shapes: ``ExpectationSuiteValidationResult.to_json_dict()`` and ``CheckpointResult.describe()``
of release 1, and the checkpoint result of releases 0.13 to 0.18 (``run_results``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from webhook.gate.binding import said_by
from webhook.gate.evidence import Format, Found, Validation
from webhook.gate.times import moment


def _is_result(document: Any) -> bool:
    return isinstance(document, dict) and {"success", "results", "statistics"} <= document.keys()


def _is_checkpoint(document: Any) -> bool:
    return isinstance(document, dict) and {"success", "validation_results", "statistics"} <= document.keys()


def _is_legacy_checkpoint(document: Any) -> bool:
    return isinstance(document, dict) and {"success", "run_results"} <= document.keys()


def _read_result(document: Mapping[str, Any]) -> Found:
    meta = document.get("meta") or {}
    name = document.get("suite_name") or meta.get("expectation_suite_name") or "expectations"
    return Found(
        made=_made(meta),
        data_validation=_validation(str(name), document["success"] is True, [document["results"]]),
        about=said_by(meta),
    )


def _read_checkpoint(document: Mapping[str, Any]) -> Found:
    runs = [one["expectations"] for one in document["validation_results"]]
    return Found(data_validation=_validation("checkpoint", document["success"] is True, runs))


def _read_legacy_checkpoint(document: Mapping[str, Any]) -> Found:
    results = [one["validation_result"] for one in document["run_results"].values()]
    made = moment((document.get("run_id") or {}).get("run_time"))
    passed = document["success"] is True and all(one["success"] is True for one in results)
    return Found(made=made, data_validation=_validation("checkpoint", passed, [one["results"] for one in results]))


def _made(meta: Mapping[str, Any]) -> datetime | None:
    run = meta.get("run_id")
    return moment(run.get("run_time") if isinstance(run, dict) else meta.get("validation_time"))


def _validation(name: str, passed: bool, runs: Iterable[list[Mapping[str, Any]]]) -> Validation:
    """A validation that looked at nothing did not pass."""
    runs = list(runs)
    problems = [_problem(one) for results in runs for one in results if one["success"] is not True]
    if not runs or not all(runs):
        problems.append("it evaluated no expectations")
    return Validation(name, passed and not problems, tuple(problems))


def _problem(result: Mapping[str, Any]) -> str:
    expectation = result.get("expectation_config") or result
    kind = str(expectation.get("type") or expectation.get("expectation_type"))
    column = (expectation.get("kwargs") or {}).get("column")
    observed = result.get("result") or {}
    count = observed.get("unexpected_count")
    found = f": {count} of {observed.get('element_count')} values" if count else ""
    if not count and "observed_value" in observed:
        found = f": found {observed['observed_value']}"
    raised = (result.get("exception_info") or {}).get("exception_message")
    return f"{kind}{f' of {column}' if column else ''}{f': {raised}' if raised else found}"


RESULT = Format("Great Expectations validation result", _is_result, _read_result)
CHECKPOINT = Format("Great Expectations checkpoint result", _is_checkpoint, _read_checkpoint)
LEGACY_CHECKPOINT = Format("Great Expectations checkpoint result", _is_legacy_checkpoint, _read_legacy_checkpoint)
