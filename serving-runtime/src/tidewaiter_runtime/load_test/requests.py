"""What a load test sends: one inference request, from a file or made up from the model's metadata."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]  # ships no types

from tidewaiter_runtime.refusals import BadInput

_FLOATS = ("FP32", "FP64")
_CONTENTS = {
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
}


def made_up(metadata: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """A request body with numbers from 0 to 1, always the same ones.

    Raises:
        BadInput: a dimension is not fixed and ``shapes`` does not say it.
    """
    source = random.Random(0)  # noqa: S311  # made-up inputs, the same each time
    inputs = []
    for one in metadata.get("inputs", ()):
        name, datatype = str(one["name"]), str(one["datatype"])
        shape = list(
            shapes.get(name, [1 if number == 0 and size < 0 else size for number, size in enumerate(one["shape"])])
        )
        if any(size < 0 for size in shape):
            raise BadInput(f"input {name!r} has a dimension of any length: {shape}; give --shape {name}:1,...")
        count = math.prod(shape)
        if datatype in _FLOATS:
            data: list[Any] = [round(source.random(), 4) for _ in range(count)]
        elif datatype == "BYTES":
            data = ["text"] * count
        elif datatype in ("FP16", "BF16"):
            raise BadInput(f"input {name!r} is {datatype}, which JSON cannot hold; load tests cannot send it")
        else:
            data = [False if datatype == "BOOL" else 0] * count
        inputs.append({"name": name, "datatype": datatype, "shape": shape, "data": data})
    if not inputs:
        raise BadInput("the model's metadata name no inputs; give --request FILE")
    return {"inputs": inputs}


def read_body(text: bytes, name: str) -> dict[str, Any]:
    """A request body of the Open Inference Protocol from a file; raises BadInput."""
    try:
        document = json.loads(text)
        missing = [one for one in document["inputs"] if not {"name", "datatype", "shape", "data"} <= one.keys()]
        document["inputs"][0]
    except (ValueError, LookupError, TypeError, AttributeError):
        missing = [None]
    if missing:
        raise BadInput(
            f"{name} is no inference request; expected JSON with inputs that have name, datatype, shape and data"
        )
    return dict(document)


def batch_of(body: Mapping[str, Any]) -> int:
    """How many inferences the request is: the first dimension of its first input."""
    shape = body["inputs"][0]["shape"]
    return max(1, int(shape[0])) if len(shape) > 1 else 1


def as_message(body: Mapping[str, Any], model: str, version: str) -> bytes:
    """The same request for gRPC; raises BadInput."""
    message = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for one in body["inputs"]:
        found = message.inputs.add(name=one["name"], datatype=one["datatype"], shape=one["shape"])
        data = _flat(one["data"])
        place = _CONTENTS.get(one["datatype"], "uint_contents" if one["datatype"].startswith("U") else "int_contents")
        try:
            encoded = [text.encode() for text in data] if one["datatype"] == "BYTES" else data
            getattr(found.contents, place).extend(encoded)
        except (TypeError, ValueError, AttributeError):
            raise BadInput(f"input {one['name']!r}: its data are not {one['datatype']}") from None
    return bytes(message.SerializeToString())


def _flat(data: Any) -> list[Any]:
    while data and isinstance(data, list) and isinstance(data[0], list):
        data = [inner for outer in data for inner in outer]
    return list(data)
