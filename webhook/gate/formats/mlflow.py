"""MLflow: a run, an evaluation table, and metrics as one flat object.

``mlflow runs describe`` and ``Run.to_dictionary()`` write runs; ``EvaluationResult.save()``
writes ``metrics.json``; ``log_table`` and evaluations write tables. Any other tool's metrics
are read too, where they are one JSON object of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from webhook.gate.binding import said_by
from webhook.gate.evidence import Format, Found
from webhook.gate.times import moment


def _is_run(document: Any) -> bool:
    if not isinstance(document, dict) or not {"info", "data"} <= document.keys():
        return False
    return isinstance(document["info"], dict) and "run_id" in document["info"]


def _read_run(document: Mapping[str, Any]) -> Found:
    info = document["info"]
    if info.get("status") not in (None, "FINISHED", 3):
        raise ValueError(f"info.status: found {info['status']!r}; only a finished run has results")
    metrics = document["data"].get("metrics") or {}
    if isinstance(metrics, list):  # as the REST API has them
        metrics = {one["key"]: one["value"] for one in metrics}
    tags = document["data"].get("tags") or {}
    if isinstance(tags, list):
        tags = {one["key"]: one["value"] for one in tags}
    numbers = {name: _number(one, name) for name, one in metrics.items()}
    return Found(made=moment(info.get("end_time")), metrics=numbers, about=said_by(tags))


def _is_table(document: Any) -> bool:
    return isinstance(document, dict) and document.keys() == {"columns", "data"}


def _read_table(document: Mapping[str, Any]) -> Found:
    """The mean of each column of numbers: ``toxicity/v1/score`` gives ``toxicity/v1/mean``, ``x`` gives ``x/mean``.

    A column with gaps has no mean: what is missing could be what failed.
    """
    rows = document["data"]
    metrics = {}
    for index, column in enumerate(document["columns"]):
        values = [row[index] for row in rows]
        numbers = [float(one) for one in values if _is_number(one)]
        if numbers:
            mean = math.fsum(numbers) / len(numbers) if len(numbers) == len(values) else math.nan
            metrics[f"{str(column).removesuffix('/score')}/mean"] = mean
    return Found(metrics=metrics)


def _is_metrics(document: Any) -> bool:
    return isinstance(document, dict) and bool(document) and all(_is_number(one) for one in document.values())


def _read_metrics(document: Mapping[str, Any]) -> Found:
    return Found(metrics={name: _number(one, name) for name, one in document.items()})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any, name: str) -> float:
    if not _is_number(value):
        raise ValueError(f"metric {name}: found {str(value)[:40]!r}; expected a number")
    return float(value)


RUN = Format("MLflow run", _is_run, _read_run)
TABLE = Format("MLflow evaluation table", _is_table, _read_table)
METRICS = Format("metrics (one JSON object of numbers)", _is_metrics, _read_metrics)
