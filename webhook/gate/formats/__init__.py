"""The formats of evidence: one module per tool. The order is the order of recognition."""

from __future__ import annotations

from webhook.gate.evidence import Format
from webhook.gate.formats import (
    binding_file,
    great_expectations,
    grype,
    mlflow,
    model_card,
    perf_analyzer,
    tensorflow,
    trivy,
)

FORMATS: tuple[Format, ...] = (
    binding_file.FILE,
    great_expectations.RESULT,
    great_expectations.CHECKPOINT,
    great_expectations.LEGACY_CHECKPOINT,
    tensorflow.ANOMALIES,
    tensorflow.ANOMALIES_TEXT,
    tensorflow.EVALUATION,
    tensorflow.EVALUATION_TEXT,
    trivy.REPORT,
    grype.REPORT,
    mlflow.RUN,
    mlflow.TABLE,
    mlflow.METRICS,
    model_card.CARD,
    perf_analyzer.CSV,
)
