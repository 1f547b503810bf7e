"""The CSV that Triton's ``perf_analyzer -f`` writes: a row for each load, latencies in microseconds."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping

from webhook.gate.evidence import Format, Found, Measurement

_PERCENTILE = re.compile(r"(p\d{1,2}) latency")
_LOADS = ("Concurrency", "Request Rate")


def _recognises(text: str) -> bool:
    header = text.lstrip("\ufeff").partition("\n")[0]
    return "Inferences/Second" in header and _PERCENTILE.search(header) is not None


def _read(text: str) -> Found:
    """The first table; those of an ensemble's own models follow after an empty line."""
    table = text.lstrip("\ufeff").replace("\r\n", "\n").partition("\n\n")[0]
    rows = list(csv.DictReader(table.splitlines()))
    if not rows:
        raise ValueError("it has a header and no measurement")
    return Found(measurements=tuple(_measurement(number, row) for number, row in enumerate(rows, 2)))


def _measurement(line: int, row: Mapping[str | None, str | None]) -> Measurement:
    percentiles = {}
    for column, value in row.items():
        found = _PERCENTILE.fullmatch(str(column))
        if found:
            percentiles[found[1]] = _number(value, str(column), line) / 1000
    load = next((f"{name.lower()} {row[name]}" for name in _LOADS if row.get(name)), "no stated load")
    concurrency = row.get("Concurrency")
    at_a_time = None if concurrency is None else int(_number(concurrency, "Concurrency", line))
    return Measurement(load, at_a_time, percentiles)


def _number(value: str | None, column: str, line: int) -> float:
    try:
        return float(value or "")
    except ValueError:
        raise ValueError(f"line {line}: {column}: found {value!r}; expected a number") from None


CSV = Format("perf_analyzer CSV", _recognises, _read, is_text=True)
