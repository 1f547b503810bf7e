"""Inference requests of the Open Inference Protocol over gRPC, read with Triton's own schema."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]  # ships no types

from tidewaiter_runtime.input_validation.tensors import Rejected, Tensor
from tidewaiter_runtime.input_validation.v2_http import InferenceRequest

_CONTENTS = {
    "BOOL": ("bool_contents", "u1"),
    "UINT8": ("uint_contents", "u4"),
    "UINT16": ("uint_contents", "u4"),
    "UINT32": ("uint_contents", "u4"),
    "UINT64": ("uint64_contents", "u8"),
    "INT8": ("int_contents", "i4"),
    "INT16": ("int_contents", "i4"),
    "INT32": ("int_contents", "i4"),
    "INT64": ("int64_contents", "i8"),
    "FP32": ("fp32_contents", "f4"),
    "FP64": ("fp64_contents", "f8"),
    "BYTES": ("bytes_contents", ""),
}


def read_message(message: bytes) -> Any:
    """The message as Triton reads it.

    Raises:
        Rejected: it is no ModelInferRequest.
    """
    try:
        return service_pb2.ModelInferRequest.FromString(message)
    except DecodeError:
        raise Rejected("the message is no ModelInferRequest") from None


def inference_request(message: Any) -> InferenceRequest:
    """The tensors of a ModelInferRequest.

    Raises:
        Rejected: the data are in a place that the protocol does not give them.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise Rejected(f"found {len(raw)} raw_input_contents for {len(message.inputs)} inputs; expected one for each")
    tensors = []
    for number, one in enumerate(message.inputs):
        _refuse_shared_memory(one)
        shape = tuple(one.shape)
        if not raw:
            tensors.append(Tensor(one.name, one.datatype, shape, values=_contents(one)))
        elif one.HasField("contents"):
            raise Rejected(f"input {one.name[:80]!r} has contents and raw_input_contents; send one")
        else:
            tensors.append(Tensor(one.name, one.datatype, shape, raw=raw[number]))
    for one in message.outputs:
        _refuse_shared_memory(one)
    return InferenceRequest(message.id, tensors)


def _contents(one: Any) -> Any:
    place = _CONTENTS.get(one.datatype)
    if place is None:
        raise Rejected(f"input {one.name[:80]!r}: {one.datatype[:20]!r} can only be sent as raw_input_contents")
    others = [field.name for field, _ in one.contents.ListFields() if field.name != place[0]]
    if others:
        raise Rejected(f"input {one.name[:80]!r}: {one.datatype} has its elements in {place[0]}; found {others[0]}")
    values = getattr(one.contents, place[0])
    return np.array(values, dtype=place[1]) if place[1] else list(values)


def _refuse_shared_memory(one: Any) -> None:
    if any(key.startswith("shared_memory") for key in one.parameters):
        raise Rejected("shared memory is not for callers; send the data in the request")
