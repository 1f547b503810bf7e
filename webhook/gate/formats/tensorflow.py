"""TensorFlow Data Validation's anomalies, and the validation result of TFX's Evaluator.

Messages ``tensorflow.metadata.v0.Anomalies`` (tensorflow_metadata) and
``tensorflow_model_analysis.ValidationResult``, as JSON and in text format. Their binary files
(``SchemaDiff.pb``, TFRecords) are not read: write them with ``json_format.MessageToJson``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from webhook.gate.evidence import Format, Found, Validation
from webhook.gate.formats.protobuf_text import parse_text_format

_ANOMALY_FIELDS = {
    "baseline",
    "baselineV1",
    "anomalyInfo",
    "datasetAnomalyInfo",
    "anomalyNameFormat",
    "dataMissing",
    "driftSkewInfo",
}
_EVALUATION_FIELDS = {"validationOk", "metricValidationsPerSlice"}
_ANOMALIES_START = re.compile(r"\s*(baseline|anomaly_info|anomaly_name_format|dataset_anomaly_info|drift_skew_info)\b")
_EVALUATION_START = re.compile(r"\s*(validation_ok|metric_validations_per_slice)\b")
_ERROR = ("ERROR", "UNKNOWN", 2, 0, None)
"""Severities that fail; only a warning does not."""


def _is_anomalies(document: Any) -> bool:
    if not isinstance(document, dict) or not document or not document.keys() <= _ANOMALY_FIELDS:
        return False
    return bool(document.keys() & {"baseline", "anomalyInfo", "datasetAnomalyInfo", "dataMissing", "driftSkewInfo"})


def _read_anomalies(document: Mapping[str, Any]) -> Found:
    of_features = [(name, info) for name, info in (document.get("anomalyInfo") or {}).items()]
    of_dataset = document.get("datasetAnomalyInfo")
    everything = [*of_features, *([("dataset", of_dataset)] if of_dataset else [])]
    return _anomalies(everything, missing=document.get("dataMissing") is True)


def _read_anomalies_text(text: str) -> Found:
    document = parse_text_format(text)
    entries = [(_one(entry, "key"), _one(entry, "value", {})) for entry in document.get("anomaly_info", [])]
    entries += [("dataset", one) for one in document.get("dataset_anomaly_info", [])]
    found = [
        (str(name), {"severity": _one(info, "severity"), "shortDescription": _one(info, "short_description")})
        for name, info in entries
    ]
    return _anomalies(found, missing=_one(document, "data_missing") == "true")


def _anomalies(found: Iterable[tuple[str, Mapping[str, Any]]], *, missing: bool) -> Found:
    problems = [
        f"{name}: {info.get('shortDescription') or info.get('description') or 'anomaly'}"
        for name, info in found
        if info.get("severity") in _ERROR
    ]
    if missing:
        problems.append("the data is missing")
    return Found(data_validation=Validation("anomalies", not problems, tuple(problems)))


def _is_evaluation(document: Any) -> bool:
    return isinstance(document, dict) and bool(document.keys() & _EVALUATION_FIELDS)


def _read_evaluation(document: Mapping[str, Any]) -> Found:
    """JSON leaves ``validationOk: false`` out, so that only its presence is a pass."""
    problems = [
        _failure((failure.get("metricKey") or {}).get("name"), failure.get("message"))
        for per_slice in document.get("metricValidationsPerSlice") or []
        for failure in per_slice.get("failures") or []
    ]
    if document.get("missingThresholds"):
        problems.append("thresholds are missing")
    return _evaluation(problems, passed=document.get("validationOk") is True)


def _read_evaluation_text(text: str) -> Found:
    document = parse_text_format(text)
    problems = [
        _failure(_one(_one(failure, "metric_key", {}), "name"), _one(failure, "message"))
        for per_slice in document.get("metric_validations_per_slice", [])
        for failure in per_slice.get("failures", [])
    ]
    if _one(document, "missing_thresholds") == "true":
        problems.append("thresholds are missing")
    return _evaluation(problems, passed=_one(document, "validation_ok") == "true")


def _evaluation(problems: list[str], *, passed: bool) -> Found:
    if not passed and not problems:
        problems = ["validation_ok is not true"]
    return Found(model_validation=Validation("evaluation", passed and not problems, tuple(problems)))


def _failure(metric: Any, message: Any) -> str:
    return f"{metric or 'a metric'}: {message or 'out of its thresholds'}"


def _one(message: Mapping[str, list[Any]], field: str, otherwise: Any = None) -> Any:
    """The last value of a field, as protocol buffers take a field that is not repeated."""
    return message[field][-1] if field in message else otherwise


ANOMALIES = Format("TensorFlow Data Validation anomalies", _is_anomalies, _read_anomalies)
ANOMALIES_TEXT = Format(
    "TensorFlow Data Validation anomalies",
    lambda text: _ANOMALIES_START.match(text) is not None,
    _read_anomalies_text,
    is_text=True,
)
EVALUATION = Format("TFX Evaluator validation result", _is_evaluation, _read_evaluation)
EVALUATION_TEXT = Format(
    "TFX Evaluator validation result",
    lambda text: _EVALUATION_START.match(text) is not None,
    _read_evaluation_text,
    is_text=True,
)
