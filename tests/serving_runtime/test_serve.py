"""``configure`` and ``serve`` with a real ``tritonserver``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.controlplane.waiting import wait_until
from tests.serving_runtime.conftest import SOURCES
from tests.serving_runtime.serving import SPEC, Serving, copied_models, run, serving

_KEY = "0123456789abcdef-the-operator-knows-it"
_GRPC_REPOSITORY = """
import sys, tritonclient.grpc as triton
client = triton.InferenceServerClient(sys.argv[1])
headers = {"triton-grpc-protocol-tidewaiter-restricted": sys.argv[2]} if sys.argv[2] else None
for ask in (lambda: client.get_model_repository_index(headers=headers), lambda: client.get_system_shared_memory_status(headers=headers)):
    try:
        ask()
        print("answered")
    except triton.InferenceServerException as error:
        print(error.message())
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Four models, one of which calls two others, and an ensemble: configured and served."""
    folder = tmp_path_factory.mktemp("served")
    repository = copied_models(folder / "models")
    spec, key = folder / "spec.yaml", folder / "key"
    spec.write_text(SPEC)
    key.write_text(_KEY)
    done = run("configure", "--spec", spec, "--repository", repository)
    assert done.returncode == 0, done.stderr
    flags = (f"--spec={spec}", f"--restricted-key-file={key}", "--drain-seconds=0", "--exit-seconds=5")
    with serving(repository, *flags, log=folder / "log") as one:
        one.wait_ready()
        yield one


def test_a_model_has_run_before_the_server_is_ready(tmp_path: Path) -> None:
    repository, spec = copied_models(tmp_path / "models", "slow"), tmp_path / "spec.yaml"
    begun, until = tmp_path / "begun", tmp_path / "until"
    parameters = f"{{seconds: '0', begun: {begun}, until: {until}}}"
    spec.write_text(_slow_alone(parameters).replace("warmup: false", "warmup: true"))
    assert run("configure", f"--spec={spec}", f"--repository={repository}").returncode == 0
    with serving(repository, "--drain-seconds=0", log=tmp_path / "log") as one:
        wait_until(begun.exists, "the warm-up", 60)
        assert one.triton.answers("/startup", one.health) == 503
        assert one.triton.answers("/ready", one.health) == 503
        until.touch()
        one.wait_ready()


def test_two_models_and_their_ensemble_answer(served: Serving) -> None:
    assert served.triton.infer("sum", INPUT=("FP32", [1.0, 2.0])) == {"SUM": [3.0]}
    assert served.triton.infer("text_length", TEXT=("BYTES", ["größe"])) == {"LENGTH": [5], "ECHO": ["größe"]}
    assert served.triton.infer("sum_then_slow", IN=("FP32", [1.0, 2.0, 4.0])) == {"OUT": [7.0]}


def test_a_model_calls_two_others(served: Serving) -> None:
    assert served.triton.infer("pipeline", TEXT=("BYTES", ["ab"])) == {"TOTAL": [2.0 + 97.0 + 98.0]}


def test_requests_that_come_together_run_together(served: Serving) -> None:
    ran = served.triton.metric("nv_inference_exec_count", model="slow")
    asked = served.triton.metric("nv_inference_request_success", model="slow")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda one: served.triton.infer("slow", INPUT=("FP32", [float(one)])), range(48)))
    assert answers == [{"OUTPUT": [float(one)]} for one in range(48)]
    assert served.triton.metric("nv_inference_request_success", model="slow") - asked == 48
    assert served.triton.metric("nv_inference_exec_count", model="slow") - ran < 24


def test_the_same_request_is_answered_from_the_cache(served: Serving) -> None:
    hits = served.triton.metric("nv_cache_num_hits_per_model", model="sum")
    runs = served.triton.metric("nv_inference_exec_count", model="sum")
    for _ in range(3):
        assert served.triton.infer("sum", INPUT=("FP32", [40.0, 2.5])) == {"SUM": [42.5]}
    assert served.triton.metric("nv_cache_num_hits_per_model", model="sum") - hits == 2
    assert served.triton.metric("nv_inference_exec_count", model="sum") - runs == 1


def test_latency_quantiles_are_in_the_metrics(served: Serving) -> None:
    served.triton.infer("text_length", TEXT=("BYTES", ["x"]))
    found = {one.labels["quantile"] for one in served.triton.samples() if one.name == "nv_inference_request_summary_us"}
    assert found == {"0.5", "0.95", "0.99"}


@pytest.mark.parametrize(
    "path", ["/v2/repository/index", "/v2/repository/models/sum/load", "/v2/repository/models/sum/unload"]
)
def test_the_repository_is_closed_over_http_without_the_key(served: Serving, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{served.triton.url}{path}", b"{}"))
    with refused.value:
        assert refused.value.code == 403
    assert served.triton.answers("/v2/systemsharedmemory/status") == 403


def test_who_has_the_key_may_list_the_repository(served: Serving) -> None:
    request = urllib.request.Request(f"{served.triton.url}/v2/repository/index", b"{}", {"tidewaiter-restricted": _KEY})
    with urllib.request.urlopen(request) as answer:
        assert b'"sum"' in answer.read()


def test_the_repository_and_shared_memory_are_closed_over_grpc_without_the_key(served: Serving) -> None:
    address = f"127.0.0.1:{served.triton.grpc}"
    refused = served.triton.client(_GRPC_REPOSITORY, address, "").splitlines()
    assert len(refused) == 2
    assert all("restricted" in line for line in refused), refused
    assert served.triton.client(_GRPC_REPOSITORY, address, _KEY).splitlines() == ["answered", "answered"]


def test_the_key_is_not_printed(served: Serving) -> None:
    assert _KEY not in served.triton.log


def test_no_request_fails_while_the_server_drains(tmp_path: Path) -> None:
    """Clients behave as a Service does: they go on until the pod is not ready, and then lead elsewhere."""
    repository = copied_models(tmp_path / "models", "slow")
    spec = tmp_path / "spec.yaml"
    spec.write_text(_slow_alone())
    assert run("configure", "--spec", spec, "--repository", repository).returncode == 0
    answers, failures, gone = [], [], threading.Event()
    with serving(repository, "--drain-seconds=6", "--exit-seconds=20", log=tmp_path / "log") as one:
        one.wait_ready()

        def client() -> None:
            while not gone.is_set():
                try:
                    answers.append(one.triton.infer("slow", INPUT=("FP32", [1.0])))
                except OSError as error:
                    failures.append(error)

        clients = [threading.Thread(target=client) for _ in range(8)]
        for thread in clients:
            thread.start()
        try:
            wait_until(lambda: len(answers) >= 16, "load", 60)
            before = len(answers)
            one.terminate()
            wait_until(lambda: one.triton.answers("/ready", one.health) == 503, "not ready", 10)
            assert one.triton.answers("/live", one.health) == 200
            wait_until(lambda: len(answers) >= before + 16, "answers after SIGTERM", 10)
        finally:
            gone.set()
        for thread in clients:
            thread.join(60)
        assert one.end() == 0, one.triton.process.log_tail()
    assert failures == []
    assert all(answer == {"OUTPUT": [1.0]} for answer in answers)


def test_a_request_that_runs_when_the_drain_is_over_is_answered(tmp_path: Path) -> None:
    repository = copied_models(tmp_path / "models", "slow")
    spec, begun, until = tmp_path / "spec.yaml", tmp_path / "begun", tmp_path / "until"
    spec.write_text(_slow_alone(f"{{seconds: '0', begun: {begun}, until: {until}}}"))
    assert run("configure", "--spec", spec, "--repository", repository).returncode == 0
    with serving(repository, "--drain-seconds=0", "--exit-seconds=30", log=tmp_path / "log") as one:
        one.wait_ready()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(one.triton.infer, "slow", INPUT=("FP32", [2.0]))
            wait_until(begun.exists, "it to run", 30)
            one.terminate()
            wait_until(lambda: "Found 1 HTTP service connections" in one.triton.log, "the server to wait for it", 30)
            assert not answer.done()
            until.touch()
            assert answer.result(60) == {"OUTPUT": [2.0]}
        assert one.end() == 0


def test_requests_beyond_the_queue_are_refused_at_once(tmp_path: Path) -> None:
    repository, spec = copied_models(tmp_path / "models", "slow"), tmp_path / "spec.yaml"
    begun, until = tmp_path / "begun", tmp_path / "until"
    parameters = f"{{seconds: '0', begun: {begun}, until: {until}}}"
    spec.write_text(
        _slow_alone(parameters).replace("maxBatchSize: 4", "maxBatchSize: 1\n  batching: {queue: {size: 1}}")
    )
    assert run("configure", f"--spec={spec}", f"--repository={repository}").returncode == 0
    with serving(repository, "--drain-seconds=0", log=tmp_path / "log") as one, ThreadPoolExecutor(8) as pool:
        one.wait_ready()
        first = pool.submit(one.triton.infer, "slow", INPUT=("FP32", [0.0]))
        wait_until(begun.exists, "it to run", 30)
        others = [pool.submit(one.triton.infer, "slow", INPUT=("FP32", [1.0])) for _ in range(7)]
        refused = wait_until(lambda: [one for one in others if one.done()], "a refusal", 30)
        error = refused[0].exception()
        assert isinstance(error, urllib.error.HTTPError)
        with error:
            assert error.code == 503
            assert b"maximum queue size" in error.read()
        until.touch()
        assert first.result(60) == {"OUTPUT": [0.0]}
        for waiting in others:
            if isinstance(left := waiting.exception(60), urllib.error.HTTPError):
                left.close()


def test_what_does_not_end_in_time_is_cut_and_told(tmp_path: Path) -> None:
    repository = copied_models(tmp_path / "models", "slow")
    spec, begun, reason = tmp_path / "spec.yaml", tmp_path / "begun", tmp_path / "reason"
    reason.write_text("")
    spec.write_text(_slow_alone(f"{{seconds: '0', begun: {begun}, until: {tmp_path / 'never'}}}"))
    assert run("configure", "--spec", spec, "--repository", repository).returncode == 0
    flags = ("--drain-seconds=0", "--exit-seconds=2", f"--termination-log={reason}")
    with serving(repository, *flags, log=tmp_path / "log") as one:
        one.wait_ready()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(one.triton.infer, "slow", INPUT=("FP32", [2.0]))
            wait_until(begun.exists, "it to run", 30)
            one.terminate()
            assert one.end() == 5
            assert isinstance(answer.exception(60), OSError)
    assert "requests or connections were still open 2 s after the drain" in reason.read_text()


def test_orphans_are_reaped(tmp_path: Path) -> None:
    """The server here is a shell that leaves a grandchild behind; it ends as a child of serve, and no zombie stays."""
    script = (
        "import sys, signal; sys.path.insert(0, sys.argv[1])\n"
        "from tidewaiter_runtime.triton.first_process import run_as_first_process, signals_held\n"
        "with signals_held():\n"
        "    sys.exit(run_as_first_process(['/bin/sh', '-c', sys.argv[2]], {'PATH': '/bin:/usr/bin'},\n"
        "             drain=lambda: 0, kill_seconds=5))\n"
    )
    orphan, end = tmp_path / "orphan", tmp_path / "end"
    leaves = f"(sh -c 'echo $$ > {orphan}; while [ ! -e {end} ]; do sleep 0.05; done' &); while :; do sleep 0.1; done"
    process = subprocess.Popen([sys.executable, "-c", script, str(SOURCES), leaves])
    try:
        pid = int(wait_until(lambda: orphan.exists() and orphan.read_text().strip(), "the orphan", 20))
        ours = f"PPid:\t{process.pid}\n"
        wait_until(lambda: ours in Path(f"/proc/{pid}/status").read_text(), "the orphan to be adopted", 20)
        end.touch()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the orphan to be reaped", 20)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait(10)


def test_a_server_that_ignores_sigterm_is_killed_in_time(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tidewaiter_runtime.triton.first_process import run_as_first_process, signals_held\n"
        "with signals_held():\n"
        "    sys.exit(run_as_first_process(['/bin/sh', '-c', sys.argv[2]], {'PATH': '/bin:/usr/bin'},\n"
        "             drain=lambda: 0, kill_seconds=1))\n"
    )
    started = tmp_path / "started"
    stubborn = f"trap '' TERM; touch {started}; while :; do sleep 0.1; done"
    process = subprocess.Popen([sys.executable, "-c", script, str(SOURCES), stubborn])
    try:
        wait_until(started.exists, "the server", 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGKILL
    finally:
        process.kill()
        process.wait(10)


def test_a_server_that_fails_is_told_in_the_termination_message(tmp_path: Path) -> None:
    repository = copied_models(tmp_path / "models", "sum")
    (repository / "sum" / "1" / "model.py").write_text("raise ValueError('no weights')\n")
    (repository / "sum" / "config.pbtxt").write_text((Path(__file__).parent / "models/sum/config.pbtxt").read_text())
    reason = tmp_path / "reason"
    reason.write_text("")
    with serving(repository, f"--termination-log={reason}", log=tmp_path / "log") as one:
        assert one.end() == 5
        assert "no weights" in one.triton.log
    assert "tritonserver ended with status 1" in reason.read_text()


def test_refusals_before_the_start_are_sentences(tmp_path: Path) -> None:
    repository = copied_models(tmp_path / "models", "sum")
    done = run("serve", "--repository", repository, "--program", "/bin/true")
    assert done.returncode == 2
    assert "has no model; expected folders with config.pbtxt, which configure writes" in done.stderr
    (repository / "sum" / "config.pbtxt").write_text('name: "sum"\nbackend: "python"\ninput { nam: "X" }\n')
    done = run("serve", "--repository", repository, "--program", "/bin/true")
    assert done.returncode == 2
    assert "sum/config.pbtxt:3: not what Triton's schema allows" in done.stderr
    (repository / "sum" / "config.pbtxt").write_text(
        'name: "sum"\nbackend: "python"\ninstance_group { kind: KIND_GPU }\n'
    )
    done = run("serve", "--repository", repository, "--program", "/bin/true")
    assert done.returncode == 2
    assert "model 'sum' runs on a GPU, and libnvidia-ml.so.1 is not in this container" in done.stderr
    if os.getuid() == 0:
        assert "this process runs as root" in done.stderr


def _slow_alone(parameters: str = "{seconds: '0.2'}") -> str:
    return f"""
models:
- name: slow
  backend: python
  maxBatchSize: 4
  warmup: false
  parameters: {parameters}
  inputs: [{{name: INPUT, type: FP32, dims: [1]}}]
  outputs: [{{name: OUTPUT, type: FP32, dims: [1]}}]
"""


def test_a_server_that_is_told_to_end_while_it_loads_ends(tmp_path: Path) -> None:
    repository, spec = copied_models(tmp_path / "models", "slow"), tmp_path / "spec.yaml"
    begun, until = tmp_path / "begun", tmp_path / "until"
    parameters = f"{{seconds: '0', begun: {begun}, until: {until}}}"
    spec.write_text(_slow_alone(parameters).replace("warmup: false", "warmup: true"))
    assert run("configure", f"--spec={spec}", f"--repository={repository}").returncode == 0
    with serving(repository, "--drain-seconds=3600", log=tmp_path / "log") as one:
        wait_until(begun.exists, "the warm-up", 60)
        one.terminate()
        assert one.end() == 0, one.triton.process.log_tail()
        assert "tritonserver has ended before it served anything" in one.triton.log
