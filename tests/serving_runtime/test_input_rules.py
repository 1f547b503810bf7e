"""What the input gate lets through and what it refuses, without a server."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

_KEYS = ("name", "datatype", "shape", "data", "parameters", "binary_data_size", "shared_memory_region")
RULES = """\
models:
  iris:
    versions: ['1', '2']
    bodyBytes: 4096
    inputs:
      features: {datatype: FP32, shape: [1-8, 4], range: [0, 10]}
      count: {datatype: INT8, shape: [2], optional: true}
      flag: {datatype: BOOL, shape: [2], optional: true}
      prompt:
        datatype: BYTES
        shape: [-1]
        optional: true
        text: {minLength: 2, maxLength: 5, pattern: '[a-zé]+', forbidden: ['dr+op']}
"""


def judged(body: bytes, header_length: str | None = None) -> str:
    """What is wrong with a request body; nothing where nothing is."""
    from tidewaiter_runtime.input_validation.rules_file import parse_rules
    from tidewaiter_runtime.input_validation.tensors import Rejected, check_request
    from tidewaiter_runtime.input_validation.v2_http import parse_request

    try:
        check_request(parse_request(body, header_length).tensors, parse_rules(RULES).models["iris"])
    except Rejected as why:
        return str(why)
    return ""


def body(*more: dict[str, object], **changes: object) -> bytes:
    features = {"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [1, 2.5, 3, 4], **changes}
    return json.dumps({"inputs": [features, *more]}).encode()


def of(name: str, datatype: str, data: list[object]) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}


@pytest.mark.parametrize(
    "accepted",
    [
        body(),
        body(data=[[1, 2, 3, 4]]),
        body(shape=[2, 4], data=[[1, 2, 3, 4], [0, 10, 0, 10]]),
        body(of("count", "INT8", [-128, 127])),
        body(of("flag", "BOOL", [True, False])),
        body(of("prompt", "BYTES", ["café", "ab"])),
    ],
)
def test_what_is_declared_goes_through(accepted: bytes) -> None:
    assert judged(accepted) == ""


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (body(datatype="FP64"), "found datatype 'FP64'; expected FP32"),
        (body(shape=[9, 4], data=[1] * 36), "dimension 0: found 9; expected 1 to 8"),
        (body(shape=[1, 5], data=[1] * 5), "dimension 1: found 5; expected 4"),
        (body(shape=[4]), "found 1 dimensions; expected 2"),
        (body(shape=[-1, 4]), "dimension 0: found -1"),
        (body(shape=[True, 4]), "no shape"),
        (body(data=[1, 2, 3]), "found 3 elements; its shape needs 4"),
        (body(data=[1, 2, 3, 10.001]), "found 10.001; expected values from 0 to 10"),
        (body(data=[1, 2, 3, "4"]), "found an element of type string"),
        (body(data=[1, 2, 3, None]), "found an element of type null"),
        (body(data=[1, 2, 3, True]), "found an element of type boolean"),
        (body(data=[[1, 2], 3, 4]), "nested unevenly"),
        (body(data=[1, 2, 3, 10**400]), "does not fit"),
        (body().replace(b"2.5", b"NaN"), "NaN"),
        (body().replace(b"2.5", b"1e999"), "does not fit FP32"),
        (body(of("count", "INT8", [1, 128])), "does not fit INT8"),
        (body(of("count", "INT8", [1, 1.0])), "found an element of type number"),
        (body(of("flag", "BOOL", [1, 0])), "found an element of type integer"),
        (body(of("features", "FP32", [1])), "is there twice"),
        (body(of("other", "FP32", [1])), "is not declared"),
        (b'{"inputs":[]}', "no list of inputs"),
        (json.dumps({"inputs": [of("count", "INT8", [1, 2])]}).encode(), "'features' is missing"),
        (body(of("prompt", "BYTES", ["a"])), "has 1 characters; expected 2 to 5"),
        (body(of("prompt", "BYTES", ["abcdef"])), "has 6 characters"),
        (body(of("prompt", "BYTES", ["ab\n"])), "not of the declared pattern"),
        (body(of("prompt", "BYTES", ["drrop"])), "has what is forbidden"),
        (body(of("prompt", "BYTES", [7])), "no text"),
        (body().replace(b'"inputs"', b'"inputs":[],"inputs"'), "the same key twice"),
        (body().replace(b'"data"', b'"data":[9,9,9,99],"data"'), "the same key twice"),
        (body(parameters={"shared_memory_region": "x"}), "shared memory"),
        (body(parameters={"binary_data_size": 16}), "binary_data_size is not within"),
        (body() + b"x", "not JSON"),
        (body().decode().encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"inputs":[3]}', "not a JSON object"),
        (b'{"inputs":{}}', "no list of inputs"),
        (b"", "not JSON"),
    ],
)
def test_what_is_not_declared_is_refused_with_the_reason(refused: bytes, reason: str) -> None:
    assert reason in judged(refused)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=6),
    max_leaves=20,
)
_INPUT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(("features", "count", "flag", "prompt", "other")) | _JSON,
        "datatype": st.sampled_from(("FP32", "INT8", "BOOL", "BYTES", "FP16")) | _JSON,
        "shape": st.lists(st.integers(-2, 9), max_size=3) | _JSON,
        "data": st.lists(st.integers(-1, 11) | st.floats() | st.text(max_size=3), max_size=9) | _JSON,
        "parameters": st.dictionaries(st.sampled_from(_KEYS), st.integers(-1, 40), max_size=2) | _JSON,
    },
)


@given(st.lists(_INPUT, max_size=3), st.binary(max_size=40), st.none() | st.integers(-1, 400) | st.just("head"))
def test_whatever_is_sent_is_accepted_or_rejected_and_nothing_else(
    inputs: list[object], raw: bytes, length: int | str | None
) -> None:
    head = json.dumps({"inputs": inputs}).encode()
    judged(head + raw, None if length is None else str(len(head) if length == "head" else length))
    judged(raw, None if length is None else str(length))


@given(st.binary(max_size=60), st.lists(st.sampled_from(("FP32", "INT8", "BYTES", "FP16", "")), min_size=1, max_size=2))
def test_whatever_is_sent_over_grpc_is_accepted_or_rejected_and_nothing_else(raw: bytes, datatypes: list[str]) -> None:
    from tidewaiter_runtime.input_validation.rules_file import parse_rules
    from tidewaiter_runtime.input_validation.tensors import Rejected, check_request
    from tidewaiter_runtime.input_validation.v2_grpc import inference_request, read_message
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferRequest(model_name="iris")
    for name, datatype in zip(("features", "prompt"), datatypes, strict=False):
        message.inputs.add(name=name, datatype=datatype, shape=[1, 4] if name == "features" else [1])
        message.raw_input_contents.append(raw)
    for sent in (raw, message.SerializeToString(), message.SerializeToString() + raw):
        try:
            check_request(inference_request(read_message(sent)).tensors, parse_rules(RULES).models["iris"])
        except Rejected as why:
            assert str(why)


def binary(raw: bytes, size: object = None, **changes: object) -> tuple[bytes, str]:
    parameters = {"binary_data_size": len(raw) if size is None else size}
    one = {"name": "features", "datatype": "FP32", "shape": [1, 4], "parameters": parameters, **changes}
    head = json.dumps({"inputs": [one]}).encode()
    return head + raw, str(len(head))


FOUR = np.array([1, 2, 3, 4], "<f4").tobytes()


def test_binary_tensors_are_held_to_the_same_rules() -> None:
    assert judged(*binary(FOUR)) == ""
    assert "found 10.5;" in judged(*binary(np.array([1, 2, 3, 10.5], "<f4").tobytes()))
    assert "found nan;" in judged(*binary(np.array([1, 2, np.nan, 4], "<f4").tobytes()))
    assert "found 12 bytes; its shape and datatype need 16" in judged(*binary(FOUR[:12]))


def test_the_lengths_of_a_binary_body_must_add_up() -> None:
    content, length = binary(FOUR)
    assert "4 bytes follow the JSON" not in judged(content, length)
    assert "bytes follow the JSON" in judged(content + b"more", length)
    assert "binary_data_size is not within" in judged(*binary(FOUR, size=17))
    assert "binary_data_size is not within" in judged(*binary(FOUR, size=-1))
    assert "binary_data_size is not within" in judged(*binary(FOUR, size=True))
    assert "send one" in judged(*binary(FOUR, data=[1, 2, 3, 4]))


@pytest.mark.parametrize("length", ["0", "-1", "+5", "1e2", "999999", "", "٣"])
def test_a_header_length_that_is_none_is_refused(length: str) -> None:
    """0 is Triton's raw binary request: a body whose shape nobody declared."""
    assert "Inference-Header-Content-Length" in judged(binary(FOUR)[0], length)


def test_binary_texts_must_add_up_and_be_utf_8() -> None:
    def prompt(raw: bytes, count: int) -> str:
        features = {"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
        text = {"name": "prompt", "datatype": "BYTES", "shape": [count], "parameters": {"binary_data_size": len(raw)}}
        head = json.dumps({"inputs": [features, text]}).encode()
        return judged(head + raw, str(len(head)))

    def element(content: bytes, length: int | None = None) -> bytes:
        return struct.pack("<I", len(content) if length is None else length) + content

    assert prompt(element(b"ab") + element("é".encode() * 2), 2) == ""
    assert "found 1 elements" in prompt(element(b"ab"), 2)
    assert "bytes follow the last element" in prompt(element(b"ab") * 2, 1)
    assert "is said to have 4294967295 bytes" in prompt(element(b"ab", 0xFFFFFFFF), 1)
    assert "not UTF-8" in prompt(element(b"\xff\xfe"), 1)


def test_a_pattern_that_would_be_catastrophic_elsewhere_takes_linear_time() -> None:
    from tidewaiter_runtime.input_validation.rules_file import parse_rules
    from tidewaiter_runtime.input_validation.tensors import Rejected, Tensor, check_tensor

    rule = (
        parse_rules(
            "models: {m: {inputs: {p: {datatype: BYTES, shape: [1], text: {maxLength: 100000, pattern: '(a+)+'}}}}}"
        )
        .models["m"]
        .inputs["p"]
    )
    # Python's own engine needs some 2^50000 steps for this; finishing at all is the proof.
    with pytest.raises(Rejected, match="not of the declared pattern"):
        check_tensor(Tensor("p", "BYTES", (1,), values=["a" * 50_000 + "!"]), rule)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("models: {}", "models: names no model"),
        ("model: {}", "model is not known; did you mean models?"),
        (
            "models:\n  m:\n    inputs:\n      x: {shape: [1], datatype: FP31}",
            "rules.yaml:4: models.m.inputs.x.datatype: found 'FP31'",
        ),
        ("models: {m: {inputs: {x: {datatype: FP32}}}}", "shape: is missing"),
        ("models: {m: {inputs: {x: {datatype: FP32, shape: [5-2]}}}}", "a dimension is 4, 1-64 or -1"),
        ("models: {m: {inputs: {x: {datatype: FP32, shape: [1], range: [3, 1]}}}}", "expected [least, most]"),
        ("models: {m: {inputs: {x: {datatype: FP32, shape: [1], text: {}}}}}", "text: is for BYTES"),
        ("models: {m: {inputs: {x: {datatype: BYTES, shape: [1], text: {pattern: '(?=a)'}}}}}", "is no RE2 expression"),
        ("models: {m: {inputs: {x: {datatype: BYTES, shape: [1], text: {pattern: '('}}}}}", "is no RE2 expression"),
        ("models: {m: {inputs: {}}}\nmodels: {}", "rules.yaml:2: models is there twice"),
        ("models: {m: {inputs: {x: {datatype: FP32, shape: [2], features: [a]}}}}", "found 1 names"),
        ("models: {'a/b': {inputs: {x: {datatype: FP32, shape: [2]}}}}", "rename the model"),
        ("models: [", "is not YAML"),
        ("models: &a {m: *a}", "alias"),
        (
            "rate: {perSecond: -1}\nmodels: {m: {inputs: {x: {datatype: FP32, shape: [1]}}}}",
            "rules.yaml:1: rate.perSecond: found '-1'",
        ),
        (
            "caller: {from: header}\nmodels: {m: {inputs: {x: {datatype: FP32, shape: [1]}}}}",
            "caller.header: is missing",
        ),
        ("models: {m: {versions: [x], inputs: {x: {datatype: FP32, shape: [1]}}}}", "a version is a number"),
    ],
)
def test_a_rules_file_that_is_wrong_says_where_and_what(text: str, problem: str) -> None:
    from tidewaiter_runtime.input_validation.rules_file import parse_rules
    from tidewaiter_runtime.refusals import BadInput

    with pytest.raises(BadInput) as refused:
        parse_rules(text)
    assert problem in str(refused.value)


def test_each_caller_has_a_bucket_of_its_own_and_old_ones_are_forgotten() -> None:
    from tidewaiter_runtime.input_validation.rate_limit import RateLimit
    from tidewaiter_runtime.input_validation.rules import RateRule

    now = [0.0]
    limit = RateLimit(RateRule(per_second=2, burst=3, callers=2), lambda: now[0])
    assert [limit.wait_s("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.wait_s("b") == 0
    now[0] = 0.25
    assert limit.wait_s("a") == pytest.approx(0.25)
    now[0] = 0.5
    assert limit.wait_s("a") == 0
    assert limit.wait_s("c") == 0
    assert len(limit) == 2


def test_the_access_log_drops_and_says_so_rather_than_waits() -> None:
    import threading

    from tidewaiter_runtime.input_validation.access_log import Access, AccessLog

    class Blocked:
        def __init__(self) -> None:
            self.go = threading.Event()
            self.entered = threading.Event()
            self.written = b""

        def write(self, content: bytes) -> int:
            self.entered.set()
            assert self.go.wait(10)
            self.written += content
            return len(content)

        def flush(self) -> None:
            pass

    stream = Blocked()
    log = AccessLog(stream, capacity=2)  # type: ignore[arg-type]
    log.add(Access("http", caller="first"))
    assert stream.entered.wait(10)
    for number in range(5):
        log.add(Access("http", caller=str(number)))
    stream.go.set()
    log.close()
    lines = [json.loads(one) for one in stream.written.splitlines()]
    assert [one["caller"] for one in lines] == ["first", "0", "1"]
    log = AccessLog(stream, capacity=2)  # type: ignore[arg-type]
    log._dropped = 3
    log.add(Access("http"))
    log.close()
    assert json.loads(stream.written.splitlines()[-1])["dropped_before"] == 3


def test_the_documented_rules_are_rules() -> None:
    from tidewaiter_runtime.input_validation.rules_file import parse_rules

    text = (Path(__file__).parents[2] / "docs" / "input-validation.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    rules = parse_rules(example)
    assert list(rules.models) == ["fraud", "assistant"]
    assert rules.models["fraud"].inputs["features"].features == ("age", "income", "tenure", "balance")
    assert rules.caller.header == "x-forwarded-user"


def test_too_many_texts_are_refused_before_each_is_looked_at() -> None:
    from tidewaiter_runtime.input_validation.rules_file import parse_rules
    from tidewaiter_runtime.input_validation.tensors import Rejected, Tensor, check_tensor

    rule = parse_rules("models: {m: {inputs: {p: {datatype: BYTES, shape: [-1]}}}}").models["m"].inputs["p"]
    check_tensor(Tensor("p", "BYTES", (4096,), raw=bytes(4 * 4096)), rule)
    with pytest.raises(Rejected, match="found 4097 texts; 4096 are allowed"):
        check_tensor(Tensor("p", "BYTES", (4097,), raw=bytes(4 * 4097)), rule)
