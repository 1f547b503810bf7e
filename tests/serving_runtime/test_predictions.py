"""What the gate reads of answers for the exporter: the first element of each row, or nothing."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest


def answer(*outputs: dict[str, Any]) -> bytes:
    return json.dumps({"model_name": "m", "model_version": "1", "outputs": list(outputs)}).encode()


OTHER = {"name": "other", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}}


def test_json_and_binary_answers_give_the_same() -> None:
    from tidewaiter_runtime.input_validation.predictions import from_http

    plain = answer({"name": "score", "datatype": "FP32", "shape": [2, 2], "data": [0.5, 0.25, 0.75, 1]})
    assert from_http(plain, None, "score") == [0.5, 0.75]
    size = {"parameters": {"binary_data_size": 16}}
    head = answer(OTHER, {"name": "score", "datatype": "FP32", "shape": [2, 2], **size})
    body = head + struct.pack("<q4f", 7, 0.5, 0.25, 0.75, 1)
    assert from_http(body, len(head), "score") == [0.5, 0.75]
    assert len(from_http(answer({"name": "s", "datatype": "FP32", "shape": [40], "data": [1] * 40}), None, "s")) == 16


def test_grpc_answers_give_the_same() -> None:
    from tidewaiter_runtime.input_validation.predictions import from_grpc
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferResponse(model_name="m")
    message.outputs.add(name="other", datatype="INT64", shape=[1])
    message.outputs.add(name="score", datatype="FP32", shape=[2, 2])
    message.raw_output_contents.extend([struct.pack("<q", 7), struct.pack("<4f", 0.5, 0.25, 0.75, 1)])
    assert from_grpc(message, "score") == [0.5, 0.75]
    assert from_grpc(message, "missing") == []
    message.raw_output_contents[1] = b"123"
    assert from_grpc(message, "score") == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"outputs": 3}',
        answer({"name": "score"}),
        answer({"name": "score", "datatype": "BYTES", "shape": [1], "data": ["a"]}),
        answer({"name": "score", "datatype": "FP32", "shape": [7, 3], "data": [1]}),
        answer({"name": "score", "datatype": "FP32", "shape": [0], "data": []}),
        answer({"name": "score", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 99}}),
        answer({"name": "other", "datatype": "FP32", "shape": [1], "data": [1]}),
    ],
)
def test_an_answer_that_cannot_be_read_gives_nothing_and_fails_nothing(body: bytes) -> None:
    from tidewaiter_runtime.input_validation.predictions import from_http

    assert from_http(body, None, "score") == []
