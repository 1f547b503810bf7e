"""Reads one output of an answer: what the exporter watches as the model's prediction. Never raises."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

_KINDS = {"FP32": "<f4", "FP64": "<f8", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "BOOL": "u1"}
_MOST_ROWS = 16
_LARGEST_JSON = 256 << 10


def from_http(body: bytes, header_length: int | None, output: str) -> list[float]:
    """The output's first element in each of at most 16 rows; nothing where it cannot be read."""
    text = body if header_length is None else body[:header_length]
    if len(text) > _LARGEST_JSON:
        return []
    try:
        outputs = orjson.loads(text).get("outputs", [])
        start = header_length or 0
        for one in outputs:
            size = one.get("parameters", {}).get("binary_data_size")
            if one.get("name") == output:
                raw = None if size is None else body[start : start + size]
                return _first_of_rows(raw, one.get("data"), str(one["datatype"]), one["shape"])
            start += size or 0
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return []


def from_grpc(message: Any, output: str) -> list[float]:
    """The same of a ModelInferResponse."""
    for number, one in enumerate(message.outputs):
        if one.name == output and number < len(message.raw_output_contents):
            try:
                return _first_of_rows(message.raw_output_contents[number], None, one.datatype, list(one.shape))
            except (ValueError, KeyError):
                return []
    return []


def _first_of_rows(raw: bytes | None, data: Any, datatype: str, shape: list[int]) -> list[float]:
    values = np.frombuffer(raw, _KINDS[datatype]) if raw is not None else np.asarray(data)
    rows = values.astype(np.float64).reshape(shape[0] if shape else 1, -1)[:_MOST_ROWS]
    return [float(one) for one in rows[:, 0]] if rows.size else []
