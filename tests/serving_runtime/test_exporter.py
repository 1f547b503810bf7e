"""The exporter with a real tritonserver, the gate and a driver library of ours."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.controlplane.child_process import ChildProcess
from tests.controlplane.waiting import wait_until
from tests.serving_runtime.conftest import SOURCES, Runtime
from tests.serving_runtime.input_gate import ask, of_rows, running_gate
from tests.serving_runtime.tritonserver import MODELS, free_ports, running_triton

INFER = "/v2/models/sum/infer"


class Exporter:
    """One that listens."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def text(self) -> str:
        answer = ask(self.port, "GET", "/metrics")
        assert answer.status == 200
        return answer.body.decode()

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of the samples of that name with these labels; None without any."""
        found = [
            sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None


@contextmanager
def running_exporter(folder: Path, *flags: str | Path, env: dict[str, str] | None = None) -> Iterator[Exporter]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tidewaiter_runtime", "exporter", f"--listen=127.0.0.1:{port}"]
    process = ChildProcess(
        "exporter",
        [*command, *(str(one) for one in flags)],
        folder / "exporter.log",
        env={**os.environ, "PYTHONPATH": str(SOURCES), **(env or {})},
    )
    process.start()
    try:

        def listening() -> bool:
            assert process.running, process.log_tail()
            return "listening on" in process.log.read_text()

        wait_until(listening, "the exporter to listen", 60)
        yield Exporter(port)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        process.wait(20)
        assert process.exit_status == 0, process.log_tail()
    finally:
        process.stop()


def profile(runtime: Runtime, folder: Path) -> Path:
    """Of the model ``sum`` with three features that are normal around 0, and registered in 2026."""
    table = np.random.default_rng(1).normal(0, 1, (5000, 3))
    rows = ["age,income,tenure,sum", *(f"{a},{b},{c},{a + b + c}" for a, b, c in table)]
    (folder / "reference.csv").write_text("\n".join(rows))
    about = ("--model", "sum", "--model-version", "1", "--prediction", "sum", "--registered", "2026-01-01T00:00:00Z")
    assert runtime("profile", folder / "reference.csv", *about, "--output", folder / "profile.json").code == 0
    return folder / "profile.json"


def test_drift_rises_when_the_inputs_shift_and_labels_give_the_accuracy(runtime: Runtime, tmp_path: Path) -> None:
    reference, observations = profile(runtime, tmp_path), tmp_path / "observations"
    with (
        running_triton(MODELS, "--disable-auto-complete-config", log=tmp_path / "triton.log") as triton,
        running_exporter(
            tmp_path,
            *("--triton-metrics", f"http://127.0.0.1:{triton.metrics_port}/metrics"),
            *("--observations", observations, "--profile", reference),
        ) as exporter,
        running_gate(tmp_path, triton.http, triton.grpc, flags=("--observations", observations)) as gate,
    ):
        source = np.random.default_rng(2)

        def send(mean: float, requests: int, name: str) -> None:
            for number in range(requests):
                body = json.loads(of_rows(*source.normal(mean, 1, (16, 3)).round(4).tolist()))
                answer = ask(gate.http, "POST", INFER, json.dumps({"id": f"{name}{number}", **body}).encode())
                assert answer.status == 200

        def sampled(count: int) -> None:
            wait_until(
                lambda: (exporter.value("tidewaiter_drift_samples", model="sum", version="1") or 0) >= count,
                f"{count} samples",
            )

        send(0, 60, "before")
        sampled(960)
        for feature in ("age", "income", "tenure"):
            before = exporter.value("tidewaiter_feature_drift_psi", feature=feature)
            assert before is not None
            assert before < 0.1
        needed = exporter.value("tidewaiter_drift_samples_needed", model="sum", version="1")
        assert needed is not None
        assert needed < 960
        send(2, 60, "after")
        sampled(1920)
        for feature in ("age", "income", "tenure"):
            labels = {"model": "sum", "version": "1", "feature": feature}
            after = exporter.value("tidewaiter_feature_drift_psi", **labels)
            chance = exporter.value("tidewaiter_feature_drift_psi_by_chance", **labels)
            assert after is not None
            assert chance is not None
            assert after > 0.25 > chance
            p_value = exporter.value("tidewaiter_feature_drift_ks_p_value", **labels)
            assert p_value is not None
            assert p_value < 1e-6
        assert (exporter.value("tidewaiter_prediction_drift_psi", model="sum", version="1") or 0) > 0.25

        assert exporter.value("tidewaiter_requests_total", verdict="accepted", version="1") == 120
        assert exporter.value("tidewaiter_request_duration_seconds_count", model="sum", version="1") == 120
        bucket = exporter.value("tidewaiter_request_duration_seconds_bucket", model="sum", le="10.0")
        assert bucket == 120
        assert ask(gate.http, "POST", INFER, of_rows([1, 2, 4000])).status == 400
        wait_until(lambda: exporter.value("tidewaiter_requests_total", verdict="rejected") == 1, "the refused request")
        assert exporter.value("tidewaiter_queue_depth", model="sum", version="1") == 0
        assert exporter.value("tidewaiter_triton_up") == 1
        assert (exporter.value("tidewaiter_model_age_seconds", model="sum") or 0) > 86400
        assert (exporter.value("tidewaiter_model_loaded_seconds", model="sum") or 86400) < 3600

        predicted = ask(gate.http, "POST", INFER, b'{"id": "one", ' + of_rows([0.2, 0.3, 0.4])[1:])
        assert predicted.status == 200
        assert ask(gate.http, "POST", INFER, b'{"id": "two", ' + of_rows([0.0, 0.1, 0.1])[1:]).status == 200
        wait_until(lambda: exporter.value("tidewaiter_requests_total", verdict="accepted") == 122, "both predictions")
        lines = b'{"id": "one", "label": 1}\n{"id": "two", "label": 1}\n{"id": "three", "label": 0}\n{"id": "one", "label": 0}'
        labelled = ask(exporter.port, "POST", "/labels", lines)
        assert (labelled.status, labelled.body) == (200, b"2 of 4 labels have a prediction\n")
        assert exporter.value("tidewaiter_accuracy", model="sum", version="1") == 0.5
        assert exporter.value("tidewaiter_labelled_total", model="sum") == 2
        assert exporter.value("tidewaiter_labels_unmatched_total") == 2
        assert ask(exporter.port, "POST", "/labels", b'{"id": "one"}').status == 400


def test_latencies_survive_a_response_cache_that_hides_them_from_tritons_summaries(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    (repository / "sum" / "1").mkdir(parents=True)
    source = MODELS / "sum"
    (repository / "sum" / "1" / "model.py").write_bytes((source / "1" / "model.py").read_bytes())
    config = (source / "config.pbtxt").read_text() + "response_cache { enable: true }\n"
    (repository / "sum" / "config.pbtxt").write_text(config)
    observations = tmp_path / "observations"
    flags = (
        "--disable-auto-complete-config",
        "--cache-config=local,size=1048576",
        "--metrics-config=summary_latencies=true",
    )
    with (
        running_triton(repository, *flags, log=tmp_path / "triton.log") as triton,
        running_exporter(
            tmp_path,
            *("--triton-metrics", f"http://127.0.0.1:{triton.metrics_port}/metrics", "--observations", observations),
        ) as exporter,
        running_gate(tmp_path, triton.http, triton.grpc, flags=("--observations", observations)) as gate,
    ):
        for _ in range(20):
            assert ask(gate.http, "POST", INFER, of_rows([1, 2, 3])).status == 200
        wait_until(
            lambda: exporter.value("tidewaiter_request_duration_seconds_count", model="sum", version="1") == 20,
            "20 latencies",
        )
        assert exporter.value("tidewaiter_response_cache_hits_total", model="sum", version="1") == 19
        assert not [one for one in triton.samples() if one.name == "nv_inference_request_summary_us_count"]


def test_without_a_reader_the_gate_drops_and_later_says_how_many(tmp_path: Path) -> None:
    from tidewaiter_runtime.exporter.observed import Observed
    from tidewaiter_runtime.exporter.serving import receive
    from tidewaiter_runtime.input_validation.observations import Observations

    path = tmp_path / "observations"
    sent = {"model": "m", "version": "1", "protocol": "http", "verdict": "accepted", "seconds": 0.01}
    observations = Observations(path)
    for _ in range(3):
        observations.send(dict(sent))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(path))
        for _ in range(5000):  # nobody reads: the kernel's queue fills, and sending neither waits nor fails
            observations.send(dict(sent))
    dropped = observations._dropped
    assert dropped > 1000
    observed = Observed({}, samples=100, window_s=60, predictions=10)
    end = receive(path, observed)
    observations.send(dict(sent))
    wait_until(lambda: observed.dropped, "the datagram", 10)
    end()
    observations.close()
    assert observed.dropped == dropped
    assert observed.requests == {("m", "1", "http", "accepted"): 1}


def test_what_is_observed_is_bounded_and_what_is_no_observation_is_counted() -> None:
    from tidewaiter_runtime.exporter.observed import Observed

    observed = Observed({}, samples=100, window_s=60, predictions=10)
    one = {"version": "1", "protocol": "http", "verdict": "accepted", "seconds": 0.01, "prediction": [1], "id": "x"}
    for number in range(1000):
        features = {f"f{number}-{column}": [1.0] * 200 for column in range(3)}
        observed.add({**one, "model": f"m{number}", "id": f"x{number}", "features": features}, 0)
    assert len(observed.requests) == 256
    assert len(observed.windows) == 512
    assert max(len(window.values(0)) for window in observed.windows.values()) == 100
    assert [observed.label(f"x{number}", 1) for number in (245, 246, 255)] == [False, True, True]
    assert observed.dropped > 0
    for wrong in ({}, {"model": "m"}, {**one, "model": "m0", "seconds": "x"}, {**one, "model": "m0", "features": 3}):
        observed.add(wrong, 0)
    assert observed.unreadable == 4


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("l4", [("GPU-l4", "", 0.73, 0)]),
        ("t4x2", [("GPU-t4-0", "", 0.73, 10000 << 20), ("GPU-t4-1", "", 0.73, 0)]),
        ("a100-mig", [("MIG-one", "1", None, 0), ("MIG-two", "4", None, 0)]),
        ("no-device", []),
    ],
)
def test_nvml_tells_of_each_gpu_and_under_mig_no_use(
    tmp_path: Path, machine: str, expected: Sequence[tuple[str, str, float | None, int]], driver: Path
) -> None:
    env = {"LD_LIBRARY_PATH": str(driver), "FAKE_NVML": machine}
    with running_exporter(tmp_path, "--gpu", "nvml", env=env) as exporter:
        assert exporter.value("tidewaiter_gpus_readable") == 1
        for uuid, instance, use, used in expected:
            labels = {"uuid": uuid, "instance": instance}
            assert exporter.value("tidewaiter_gpu_utilization_ratio", **labels) == use
            assert exporter.value("tidewaiter_gpu_memory_used_bytes", **labels) == used
            assert (exporter.value("tidewaiter_gpu_memory_total_bytes", **labels) or 0) > 0
        assert exporter.text.count("tidewaiter_gpu_memory_used_bytes{") == len(expected)


def test_a_machine_without_a_driver_says_so_and_still_exports(tmp_path: Path, driver: Path) -> None:
    env = {"LD_LIBRARY_PATH": str(driver), "FAKE_NVML": "no-driver"}
    with running_exporter(
        tmp_path, "--gpu", "nvml", "--triton-metrics", "http://127.0.0.1:9/metrics", env=env
    ) as exporter:
        assert exporter.value("tidewaiter_gpus_readable") == 0
        assert exporter.value("tidewaiter_triton_up") == 0


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that pynvml loads, with the use of GPUs."""
    from tests.serving_runtime import nvml

    folder = tmp_path_factory.mktemp("driver")
    compiler = os.environ.get("CC", "cc").split()
    source = Path(nvml.__file__).with_name("fake_nvml_utilization.c")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([*compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(target), str(source)], check=True)
    return folder


def test_dcgm_tells_the_use_of_mig_instances_as_engine_activity() -> None:
    from tidewaiter_runtime.exporter.gpu import from_dcgm
    from tidewaiter_runtime.exporter.prometheus_text import read

    text = """\
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",modelName="NVIDIA L4"} 85
# TYPE DCGM_FI_PROF_GR_ENGINE_ACTIVE gauge
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="1",UUID="GPU-2",GPU_I_ID="3",GPU_I_PROFILE="1g.5gb",modelName="A100"} 0.25
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1",modelName="NVIDIA L4"} 1000
DCGM_FI_DEV_FB_USED{gpu="1",UUID="GPU-2",GPU_I_ID="3",GPU_I_PROFILE="1g.5gb",modelName="A100"} 100
# TYPE DCGM_FI_DEV_FB_FREE gauge
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-1",modelName="NVIDIA L4"} 22000
DCGM_FI_DEV_FB_FREE{gpu="1",UUID="GPU-2",GPU_I_ID="3",GPU_I_PROFILE="1g.5gb",modelName="A100"} 4700
"""
    found = from_dcgm(read(text))
    assert [(one.uuid, one.instance, one.utilization, one.used_bytes / 2**20) for one in found] == [
        ("GPU-1", "", 0.85, 1000),
        ("GPU-2", "3", 0.25, 100),
    ]
    assert [one.total_bytes / 2**20 for one in found] == [23000, 4800]


def test_the_exporter_answers_only_its_own_paths_and_bounded_labels(tmp_path: Path) -> None:
    with running_exporter(tmp_path) as exporter:
        assert ask(exporter.port, "GET", "/healthz").status == 200
        assert ask(exporter.port, "GET", "/other").status == 404
        assert ask(exporter.port, "POST", "/labels", b"x", {"Content-Length": str(100 << 20)}).status == 413


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--listen", "9400"], "--listen: found '9400'"),
        (["--gpu", "dcgm"], "--gpu dcgm and --dcgm-metrics belong together"),
        (["--triton-metrics", "localhost:8002"], "expected http://HOST:PORT/metrics"),
        (["--samples", "1"], "--samples: expected 100 to 100000"),
        (["--profile", "/nowhere"], "/nowhere cannot be read"),
        (["--observations", "/nowhere/socket"], "--observations /nowhere/socket: cannot listen"),
    ],
)
def test_flags_that_cannot_be_used_are_named(runtime: Runtime, flags: list[str], problem: str) -> None:
    ended = runtime("exporter", "--listen", f"127.0.0.1:{free_ports(1)[0]}", *flags)
    assert (ended.code, problem in ended.err) == (2, True), ended.err
