"""Inference requests of the Open Inference Protocol over HTTP, with its binary tensor extension.

Two readers of one request must not read two requests: what Triton's RapidJSON and Python could
understand differently (a key twice, NaN, another encoding than UTF-8) is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tidewaiter_runtime.input_validation.tensors import Rejected, Tensor

_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What a request asks for."""

    id: str
    tensors: Sequence[Tensor]


def parse_request(body: bytes, header_length: str | None) -> InferenceRequest:
    """Read one body; ``header_length`` is the value of ``Inference-Header-Content-Length``.

    Raises:
        Rejected: the body is none that the protocol knows, or one that servers read differently.
    """
    text, binary = _split(body, header_length)
    document = _document(text)
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise Rejected("the body has no list of inputs")
    tensors = []
    start = 0
    for one in inputs:
        tensor, start = _tensor(one, binary, start)
        tensors.append(tensor)
    if start != len(binary):
        raise Rejected(f"{len(binary)} bytes follow the JSON; the inputs' binary_data_size add up to {start}")
    _refuse_shared_memory(document.get("outputs"))
    identifier = document.get("id", "")
    return InferenceRequest(identifier if isinstance(identifier, str) else "", tensors)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    # Length 0 is Triton's "raw binary request": a body without shape and datatype, which no rule can judge.
    if not header_length.isascii() or not header_length.isdigit() or not 0 < int(header_length[:12]) <= len(body):
        raise Rejected(
            f"Inference-Header-Content-Length: found {header_length[:20]!r}; "
            f"expected the length of the JSON, from 1 to {len(body)}"
        )
    length = int(header_length)
    return body[:length], memoryview(body)[length:]


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Rejected("the body is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise Rejected(f"the body is not JSON: {str(error)[:100]}") from None
    if not isinstance(document, dict):
        raise Rejected("the body is not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Rejected("the body has a JSON object with the same key twice")
    return found


def _no_constant(name: str) -> None:
    raise Rejected(f"the body has {name}, which is not JSON")


def _tensor(one: object, binary: memoryview, start: int) -> tuple[Tensor, int]:
    if not isinstance(one, dict):
        raise Rejected("an input is not a JSON object")
    name, datatype, shape = one.get("name"), one.get("datatype"), one.get("shape")
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise Rejected("an input has no name or no datatype")
    if not isinstance(shape, list) or len(shape) > _DEEPEST or not all(type(length) is int for length in shape):
        raise Rejected(f"input {name[:80]!r} has no shape that is a list of whole numbers")
    parameters = one.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise Rejected(f"input {name[:80]!r}: parameters are not a JSON object")
    _refuse_shared_memory([one])
    size = (parameters or {}).get("binary_data_size")
    if size is None:
        return Tensor(name, datatype, tuple(shape), values=_flat(one.get("data"), name)), start
    if type(size) is not int or not 0 <= size <= len(binary) - start:
        raise Rejected(f"input {name[:80]!r}: binary_data_size is not within the {len(binary) - start} bytes left")
    if "data" in one:
        raise Rejected(f"input {name[:80]!r} has data and binary_data_size; send one")
    return Tensor(name, datatype, tuple(shape), raw=binary[start : start + size]), start + size


def _flat(data: object, name: str) -> list[object]:
    if not isinstance(data, list):
        raise Rejected(f"input {name[:80]!r} has no data that is a list")
    flat: list[object] = data
    for _ in range(_DEEPEST):
        nested = sum(type(one) is list for one in flat)
        if not nested:
            return flat
        if nested != len(flat):
            break
        flat = list(chain.from_iterable(flat))  # type: ignore[arg-type]  # all are lists
    raise Rejected(f"input {name[:80]!r}: its data are nested unevenly or too deep")


def _refuse_shared_memory(entries: object) -> None:
    for one in entries if isinstance(entries, list) else ():
        parameters = one.get("parameters") if isinstance(one, dict) else None
        if isinstance(parameters, dict) and any(key.startswith("shared_memory") for key in parameters):
            raise Rejected("shared memory is not for callers; send the data in the request")
