"""The load test against a real tritonserver, and its results as evidence for the gate of CI."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.serving_runtime.conftest import Runtime
from tests.serving_runtime.input_gate import of_rows
from tests.serving_runtime.tritonserver import MODELS, Triton, running_triton


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with running_triton(MODELS, "--disable-auto-complete-config", log=tmp_path_factory.mktemp("t") / "log") as found:
        yield found


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    path = tmp_path / "request.json"
    path.write_bytes(of_rows([1, 2, 3], [4, 5, 6]))
    return path


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_each_level_is_measured_and_the_gate_of_ci_takes_the_csv(
    runtime: Runtime, triton: Triton, tmp_path: Path, request_file: Path, scheme: str
) -> None:
    from webhook.cli import main

    evidence = tmp_path / "evidence"
    evidence.mkdir()
    url = f"{scheme}://127.0.0.1:{triton.http if scheme == 'http' else triton.grpc}"
    served = triton.metric("nv_inference_count", model="sum")
    ended = runtime(
        *("bench", "--url", url, "--model", "sum", "--request", request_file, "--concurrency", "1:3:2"),
        *("--seconds", "0.5", "--warm-up", "0.1", "--format", "csv", "--output", evidence / "perf.csv"),
    )
    assert ended.code == 0, ended.err
    assert "concurrency 3:" in ended.err
    rows = list(csv.DictReader((evidence / "perf.csv").read_text().splitlines()))
    assert [row["Concurrency"] for row in rows] == ["1", "3"]
    assert triton.metric("nv_inference_count", model="sum") > served
    for row in rows:
        assert float(row["p50 latency"]) <= float(row["p95 latency"]) <= float(row["p99 latency"])
        assert float(row["Inferences/Second"]) > 0

    def judged(limit: str) -> int:
        gates = tmp_path / "gates.yaml"
        gates.write_text(f"gates: {{production: {{latency: {{p95: {limit}, p99: {limit}, concurrency: 3}}}}}}\n")
        options = ["--model", "sum", "--version", "1", "--env", "production", "--gates", str(gates)]
        return CliRunner().invoke(main, ["gate", *options, str(evidence)]).exit_code

    assert judged("60s") == 0
    assert judged("1us") == 1


def test_a_request_is_made_up_from_the_metadata(runtime: Runtime, triton: Triton) -> None:
    url = f"http://127.0.0.1:{triton.http}"
    quick = ("--concurrency", "2", "--seconds", "0.2", "--warm-up", "0", "--format", "json")
    ended = runtime("bench", "--url", url, "--model", "sum", "--shape", "INPUT:4,3", *quick)
    assert ended.code == 0, ended.err
    (level,) = json.loads(ended.out)["levels"]
    assert (level["concurrency"], level["requests"] > 0) == (2, True)
    assert level["inferences_per_second"] == pytest.approx(level["requests"] * 4 / level["seconds"], rel=0.02)
    assert runtime("bench", "--url", url, "--model", "text_length", *quick).code == 0
    unknown = runtime("bench", "--url", url, "--model", "sum", *quick)
    assert (unknown.code, "give --shape INPUT:1,..." in unknown.err) == (2, True)
    text = runtime("bench", "--url", url, "--model", "sum", "--shape", "INPUT:1,3", *quick[:-1], "text")
    assert text.out.splitlines()[0].split()[0] == "concurrency"


def test_failed_requests_are_no_evidence(runtime: Runtime, triton: Triton, tmp_path: Path, request_file: Path) -> None:
    request_file.write_text(request_file.read_text().replace("INPUT", "OTHER"))
    for url, status in (
        (f"http://127.0.0.1:{triton.http}", "HTTP 400"),
        (f"grpc://127.0.0.1:{triton.grpc}", "gRPC INVALID"),
    ):
        ended = runtime(
            *("bench", "--url", url, "--model", "sum", "--request", request_file, "--seconds", "0.2", "--warm-up", "0"),
            *("--format", "csv", "--output", tmp_path / "perf.csv"),
        )
        assert (ended.code, status in ended.err) == (1, True), ended.err
        assert not (tmp_path / "perf.csv").exists()


def test_percentiles_are_of_the_nearest_rank() -> None:
    from tidewaiter_runtime.load_test.measurement import Level

    level = Level(1, 2.0, [float(number) for number in range(1, 101)], batch=3)
    assert [level.percentile(of) for of in (50, 95, 99)] == [50, 95, 99]
    assert level.rate == 150
    assert Level(1, 1.0, [7.0]).percentile(99) == 7


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--url", "ftp://a:1"], "expected http://HOST:PORT or grpc://HOST:PORT"),
        (["--url", "http://127.0.0.1:9"], "the model server cannot be reached"),
        (["--url", "grpc://127.0.0.1:9"], "give --request FILE"),
        (["--url", "http://127.0.0.1:9", "--concurrency", "0"], "--concurrency: found '0'"),
        (["--url", "http://127.0.0.1:9", "--concurrency", "a"], "--concurrency: found 'a'"),
        (["--url", "http://127.0.0.1:9", "--seconds", "0"], "--seconds and --warm-up"),
        (["--url", "http://127.0.0.1:9", "--shape", "x"], "--shape: found 'x'"),
        (["--url", "http://127.0.0.1:9", "--request", "/nowhere"], "--request /nowhere: cannot be read"),
        (["--url", "http://127.0.0.1:9", "--request", "/dev/null"], "is no inference request"),
        (["--url", "http://127.0.0.1:9", "--model", "../x"], "expected a model's name"),
    ],
)
def test_what_cannot_be_measured_is_said(runtime: Runtime, flags: list[str], problem: str) -> None:
    ended = runtime("bench", *([] if "--model" in flags else ["--model", "sum"]), *flags)
    assert (ended.code in (2, 4), problem in ended.err) == (True, True), ended.err
