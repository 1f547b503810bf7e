"""Records of what a version answered: JSON lines or CSV with ``label``, ``prediction`` and ``latency_ms``."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidewaiter_runtime.refusals import BadInput


@dataclass(frozen=True, slots=True)
class Record:
    """One answer. Labels and predictions are compared as texts; what is not there is None."""

    label: str | None
    prediction: str | None
    latency_ms: float | None


def read_records(path: Path) -> list[Record]:
    """All records of a file.

    Raises:
        BadInput: with file and line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = _csv(stream, path) if path.suffix == ".csv" else _json_lines(stream, path)
            records = [_record(row, f"{path}:{line}") for line, row in rows]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8") from None
    if not records:
        raise BadInput(f"{path} has no records")
    return records


def _csv(stream: Any, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        yield from enumerate(csv.DictReader(stream, strict=True), 2)
    except csv.Error as error:
        raise BadInput(f"{path} is no CSV: {error}") from None


def _json_lines(stream: Any, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise BadInput(f'{path}:{number}: expected a JSON object, as {{"label": 1, "prediction": 1}}')
        yield number, document


def _record(row: Mapping[str, Any], at: str) -> Record:
    latency = row.get("latency_ms")
    if latency in (None, ""):
        milliseconds = None
    else:
        try:
            milliseconds = float(latency)
        except (TypeError, ValueError):
            milliseconds = math.nan
        if not 0 < milliseconds < math.inf:
            raise BadInput(f"{at}: latency_ms: found {str(latency)[:40]!r}; expected a number above 0")
    return Record(_class(row.get("label"), at), _class(row.get("prediction"), at), milliseconds)


def _class(value: Any, at: str) -> str | None:
    """1, 1.0, "1" and "1.0" are one class; true is "true"."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise BadInput(f"{at}: found {str(value)[:40]!r}; expected a class: a text or a number")
    text = str(value).strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text
