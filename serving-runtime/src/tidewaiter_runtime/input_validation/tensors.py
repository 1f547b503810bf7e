"""Holds tensors to their rules. What is wrong comes back as one sentence; nothing is repaired."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidewaiter_runtime.input_validation.rules import SIZES, InputRule, ModelRule, TextRule

_KINDS = {
    "BOOL": "u1",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_INTEGERS = {
    name: (
        0 if name.startswith("U") else -(1 << (8 * SIZES[name] - 1)),
        (1 << (8 * SIZES[name] - name.startswith("I"))) - 1,
    )
    for name in SIZES
    if "INT" in name
}
_MOST_DIMENSIONS = 16
_MOST_TEXTS = 4096
"""Elements of one BYTES input; each takes time of its own, during which no other request is judged."""
_LARGEST_FP32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input of a request: ``raw`` little-endian bytes, or ``values`` as a list of numbers or texts."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview | None = None
    values: Sequence[object] | npt.NDArray[np.generic] | None = None


class Rejected(Exception):  # noqa: N818  # an outcome for the caller, no fault of the program
    """The request is not one that the rules allow; the text is for the caller."""


def check_request(tensors: Sequence[Tensor], rule: ModelRule) -> None:
    """Hold all inputs of one request to the model's rules.

    Raises:
        Rejected: naming the input, what was found and what is allowed.
    """
    seen = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise Rejected(f"input {_shown(tensor.name)} is there twice")
        seen.add(tensor.name)
        found = rule.inputs.get(tensor.name)
        if found is None:
            raise Rejected(f"input {_shown(tensor.name)} is not declared; inputs are {', '.join(rule.inputs)}")
        check_tensor(tensor, found)
    for name, one in rule.inputs.items():
        if name not in seen and not one.optional:
            raise Rejected(f"input {_shown(name)} is missing")


def check_tensor(tensor: Tensor, rule: InputRule) -> None:
    """Hold one input to its rule; raises Rejected."""
    at = f"input {_shown(rule.name)}"
    if tensor.datatype != rule.datatype:
        raise Rejected(f"{at}: found datatype {_shown(tensor.datatype)}; expected {rule.datatype}")
    if len(tensor.shape) > _MOST_DIMENSIONS or len(tensor.shape) != len(rule.shape):
        raise Rejected(f"{at}: found {len(tensor.shape)} dimensions; expected {len(rule.shape)}")
    for number, (length, extent) in enumerate(zip(tensor.shape, rule.shape, strict=True)):
        if length < 0 or not extent.allows(length):
            raise Rejected(f"{at}: dimension {number}: found {length}; expected {extent}")
    count = math.prod(tensor.shape)
    if rule.datatype == "BYTES":
        if count > _MOST_TEXTS:
            raise Rejected(f"{at}: found {count} texts; {_MOST_TEXTS} are allowed")
        _check_texts(list(_elements(tensor, count, at)), rule.text, at)
    elif tensor.raw is not None:
        _check_raw(tensor.raw, count, rule, at)
    else:
        _check_values(tensor, count, rule, at)


def numbers(tensor: Tensor) -> npt.NDArray[np.float64]:
    """The elements of a checked tensor of numbers, flat."""
    if tensor.raw is not None:
        return np.frombuffer(tensor.raw, _KINDS[tensor.datatype]).astype(np.float64)
    return np.asarray(tensor.values, dtype=np.float64)


def _check_raw(raw: bytes | memoryview, count: int, rule: InputRule, at: str) -> None:
    if len(raw) != count * SIZES[rule.datatype]:
        raise Rejected(f"{at}: found {len(raw)} bytes; its shape and datatype need {count * SIZES[rule.datatype]}")
    if rule.datatype == "BF16" or not count:
        return
    if rule.datatype == "BOOL":
        _check_range(np.frombuffer(raw, "u1"), 0, 1, at)
    if rule.low is not None and rule.high is not None:
        _check_range(np.frombuffer(raw, _KINDS[rule.datatype]), rule.low, rule.high, at)


def _check_range(array: npt.NDArray[np.generic], low: float, high: float, at: str) -> None:
    # min and max of an array that holds not-a-number are not-a-number, which no comparison allows
    least, most = array.min().item(), array.max().item()
    if not low <= least or not most <= high:
        wrong = least if not low <= least else most
        raise Rejected(f"{at}: found {wrong:.9g}; expected values from {low:g} to {high:g}")


def _check_values(tensor: Tensor, count: int, rule: InputRule, at: str) -> None:
    values = tensor.values if tensor.values is not None else ()
    if len(values) != count:
        raise Rejected(f"{at}: found {len(values)} elements; its shape needs {count}")
    if not count:
        return
    if isinstance(values, np.ndarray):
        array: npt.NDArray[np.generic] = values
    else:
        array = _array(values, rule.datatype, at)
    low, high = _bounds(rule)
    _check_range(array, low, high, at)


def _bounds(rule: InputRule) -> tuple[float, float]:
    if rule.low is not None and rule.high is not None:
        return rule.low, rule.high
    if rule.datatype in _INTEGERS:
        return _INTEGERS[rule.datatype]
    if rule.datatype == "BOOL":
        return 0, 1
    return -math.inf, math.inf


def _array(values: Sequence[object], datatype: str, at: str) -> npt.NDArray[np.generic]:
    """JSON's numbers as an array; JSON does not say whether 1 is a whole number, so 1.0 is none."""
    kinds = set(map(type, values))
    if datatype == "BOOL":
        allowed: set[type] = {bool}
    elif datatype in _INTEGERS:
        allowed = {int}
        low, high = _INTEGERS[datatype]
        if kinds <= allowed and not all(low <= one <= high for one in values):  # type: ignore[operator]  # all are int
            raise Rejected(f"{at}: a value does not fit {datatype}")
    elif datatype in ("FP32", "FP64"):
        allowed = {int, float}
    else:
        raise Rejected(f"{at}: {datatype} cannot be sent as JSON; send it as binary data")
    if not kinds <= allowed:
        wrong = next(one for one in kinds if one not in allowed)
        raise Rejected(f"{at}: found an element of type {_JSON.get(wrong, wrong.__name__)}; {datatype} was declared")
    if datatype in ("FP32", "FP64"):
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:
            raise Rejected(f"{at}: a value does not fit {datatype}") from None
        if datatype == "FP32" and float(np.abs(array).max()) > _LARGEST_FP32:
            raise Rejected(f"{at}: a value does not fit {datatype}")
        return array
    return np.array(values, dtype=_KINDS[datatype])


_JSON = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", type(None): "null"}


def _elements(tensor: Tensor, count: int, at: str) -> list[bytes]:
    if tensor.raw is None:
        values = tensor.values if tensor.values is not None else ()
        if len(values) != count:
            raise Rejected(f"{at}: found {len(values)} elements; its shape needs {count}")
        found: list[bytes] = []
        for one in values:
            if isinstance(one, str):
                found.append(_encoded(one, at))
            elif isinstance(one, bytes):
                found.append(one)
            else:
                raise Rejected(f"{at}: found an element that is no text")
        return found
    return _raw_elements(bytes(tensor.raw), count, at)


def _encoded(text: str, at: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Rejected(f"{at}: a text has half of a surrogate pair") from None


def _raw_elements(raw: bytes, count: int, at: str) -> list[bytes]:
    found: list[bytes] = []
    start = 0
    for _ in range(count):
        if start + 4 > len(raw):
            raise Rejected(f"{at}: found {len(found)} elements; its shape needs {count}")
        (length,) = struct.unpack_from("<I", raw, start)
        start += 4
        if length > len(raw) - start:
            raise Rejected(f"{at}: element {len(found)} is said to have {length} bytes; {len(raw) - start} are left")
        found.append(raw[start : start + length])
        start += length
    if start != len(raw):
        raise Rejected(f"{at}: {len(raw) - start} bytes follow the last element")
    return found


def _check_texts(elements: Sequence[bytes], rule: TextRule | None, at: str) -> None:
    if rule is None:
        return
    for number, element in enumerate(elements):
        try:
            text = element.decode()
        except UnicodeDecodeError:
            raise Rejected(f"{at}: element {number} is not UTF-8") from None
        if not rule.shortest <= len(text) <= rule.longest:
            raise Rejected(
                f"{at}: element {number} has {len(text)} characters; expected {rule.shortest} to {rule.longest}"
            )
        if rule.pattern is not None and rule.pattern.search(text) is None:
            raise Rejected(f"{at}: element {number} is not of the declared pattern {rule.pattern_text}")
        # Which expression it was is not told: it would teach a caller to write around it.
        if any(pattern.search(text) is not None for _, pattern in rule.forbidden):
            raise Rejected(f"{at}: element {number} has what is forbidden")


def _shown(text: str) -> str:
    return repr(text[:80])
