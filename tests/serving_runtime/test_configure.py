"""``configure``: what it chooses, and what it says of it. NVML is one of ours, pynvml is the real one."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.serving_runtime.nvml import nvml  # noqa: F401  # a fixture
from tests.serving_runtime.serving import SPEC, copied_models, run

_ONNX = """
models:
- name: resnet
  backend: onnxruntime
  maxBatchSize: 8
  memoryMegabytes: 4000
  inputs: [{name: image, type: FP32, dims: [3, 224, 224]}]
  outputs: [{name: scores, type: FP32, dims: [1000]}]
"""
_TENSORS = "inputs: [{name: X, type: FP32, dims: [4]}], outputs: [{name: Y, type: FP32, dims: [4]}]"


class Configured:
    """A run over a repository in a folder of its own."""

    def __init__(self, folder: Path, library: Path | None = None) -> None:
        self.repository = folder / "models"
        self.repository.mkdir()
        self.spec = folder / "spec.yaml"
        self._library = library

    def __call__(self, spec: str, machine: str = "no-device", *flags: str) -> subprocess.CompletedProcess[str]:
        self.spec.write_text(spec)
        for name, backend in re.findall(r"name: (\w+),? *(?:\n  )?backend: (\w+)", spec):
            file = {"onnxruntime": "model.onnx", "tensorrt": "model.plan", "python": "model.py"}.get(backend)
            if file:
                (self.repository / name / "1").mkdir(parents=True, exist_ok=True)
                (self.repository / name / "1" / file).touch()
        variables = {"FAKE_NVML": machine}
        if self._library:
            variables["LD_LIBRARY_PATH"] = str(self._library)
        return run("configure", f"--spec={self.spec}", f"--repository={self.repository}", *flags, **variables)

    def choices(self, spec: str, machine: str, model: str = "resnet") -> dict[str, tuple[str, str]]:
        done = self(spec, machine, "--format=json")
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["models"]
        chosen = next(one["choices"] for one in found if one["name"] == model)
        return {one["setting"]: (one["value"], one["reason"]) for one in chosen}

    def config(self, model: str = "resnet") -> Any:
        from tidewaiter_runtime.triton.triton_schema import parse_config

        file = self.repository / model / "config.pbtxt"
        return parse_config(file.read_text(), str(file))


@pytest.fixture
def configured(tmp_path: Path, nvml: Path) -> Configured:  # noqa: F811  # the fixture
    return Configured(tmp_path, nvml)


def test_an_l4_gets_the_model_twice(configured: Configured) -> None:
    choices = configured.choices(_ONNX, "l4")
    assert choices["device"] == ("gpu", "GPU 0 (NVIDIA L4, 23034 MiB, compute 8.9)")
    assert choices["instances"][0] == "2"
    group = configured.config().instance_group[0]
    assert (group.kind, list(group.gpus), group.count) == (1, [0], 2)
    assert configured.config().HasField("dynamic_batching")


def test_of_mig_one_instance_is_used_and_its_own_memory_counts(configured: Configured) -> None:
    choices = configured.choices(_ONNX, "a100-mig")
    assert choices["device"][1].startswith("GPU 0 (MIG instance of NVIDIA A100-SXM4-40GB, 19968 MiB, compute 8.0)")
    assert "1 more here are left unused" in choices["device"][1]
    too_large = configured(_ONNX.replace("4000", "30000"), "a100-mig")
    assert too_large.returncode == 2
    assert "model 'resnet': 1 x 30000 MiB fit on no GPU any more" in too_large.stderr
    assert configured(_ONNX.replace("4000", "30000"), "a100").returncode == 0


@pytest.mark.parametrize(
    ("machine", "why"),
    [("no-device", "NVML lists no GPU that this container may use"), ("no-driver", "the NVIDIA driver is not loaded")],
)
def test_without_a_gpu_the_cpu_is_chosen_and_it_says_why(configured: Configured, machine: str, why: str) -> None:
    value, reason = configured.choices(_ONNX, machine)["device"]
    assert value == "cpu"
    assert why in reason
    assert configured.config().instance_group[0].kind == 2


def test_without_nvml_it_says_that_no_gpu_was_given(tmp_path: Path) -> None:
    value, reason = Configured(tmp_path).choices(_ONNX, "l4")["device"]
    assert (value, reason) == ("cpu", "libnvidia-ml.so.1 is not in this container, so no GPU was given to it")


def test_models_are_packed_by_memory_and_used_memory_counts(configured: Configured) -> None:
    spec = "models:\n" + "".join(
        f"- {{name: {name}, backend: onnxruntime, memoryMegabytes: {size}, {_TENSORS}}}\n"
        for name, size in (("small", 3000), ("large", 9000), ("middle", 4000))
    )
    # GPU 0 has 10,000 of 15,360 MiB in use: 4,860 are left; GPU 1 has 13,324.
    placed = {name: configured.choices(spec, "t4x2", name)["gpus"][0] for name in ("large", "middle", "small")}
    assert placed == {"large": "[1]", "middle": "[0]", "small": "[1]"}
    assert configured.choices(spec, "t4x2", "middle")["instances"][1] == "there is no memory for a second one"


def test_an_engine_of_tensorrt_needs_a_gpu(configured: Configured) -> None:
    done = configured(f"models:\n- {{name: engine, backend: tensorrt, {_TENSORS}}}\n", "no-device")
    assert done.returncode == 2
    assert "model 'engine': an engine of TensorRT runs on a GPU only, and here NVML lists no GPU" in done.stderr


def test_acceleration_is_written_where_the_gpu_has_it_and_refused_where_not(configured: Configured) -> None:
    spec = f"{_ONNX}  acceleration: {{tensorrt: true, precision: fp16, cudaGraphs: true}}\n"
    assert configured.choices(spec, "l4")["precision"][0] == "fp16 through TensorRT"
    accelerator = configured.config().optimization.execution_accelerators.gpu_execution_accelerator[0]
    assert accelerator.name == "tensorrt"
    assert accelerator.parameters["precision_mode"] == "FP16"
    assert accelerator.parameters["trt_cuda_graph_enable"] == "true"
    old = configured(spec, "p100")
    assert old.returncode == 2
    assert "fp16 needs compute 7.0 or later, found GPU 0 (Tesla P100-PCIE-16GB, 16384 MiB, compute 6.0)" in old.stderr
    int8 = configured(f"{_ONNX}  acceleration: {{tensorrt: true, precision: int8}}\n", "l4")
    assert int8.returncode == 2
    assert "int8 needs calibrationTable" in int8.stderr


def test_what_this_server_cannot_run_is_said_to_be_checked_only(configured: Configured) -> None:
    done = configured(_ONNX, "l4", f"--backend-directory={configured.repository}")
    assert "checked against Triton's schema only" in done.stdout
    (configured.repository / "onnxruntime").mkdir()
    done = configured(_ONNX, "l4", f"--backend-directory={configured.repository}")
    assert "schema only" not in done.stdout


def test_everything_that_can_be_declared_is_written(configured: Configured) -> None:
    spec = f"""
cache: {{redis: {{host: redis.cache}}}}
models:
- name: front
  backend: python
  maxBatchSize: 8
  {_TENSORS.split(", outputs")[0]}
  outputs: [{{name: Y, type: FP32, dims: [4]}}]
  calls: [back]
  versions: {{specific: [1]}}
  responseCache: true
  batching:
    delayMicroseconds: 100
    preferredSizes: [4, 8]
    priorityLevels: 2
    defaultPriority: 2
    queue: {{timeoutMicroseconds: 5000, size: 16, onTimeout: delay, allowOverride: true}}
    priorityQueues: {{1: {{timeoutMicroseconds: 900}}}}
  rateLimiter: {{priority: 3, resources: [{{name: slot, count: 2, sharedByDevices: true}}]}}
- name: back
  backend: python
  maxBatchSize: 4
  inputs: [{{name: X, type: FP32, dims: [4]}}]
  outputs: [{{name: Y, type: FP32, dims: [4]}}]
"""
    assert configured(spec).returncode == 0
    config = configured.config("front")
    assert list(config.version_policy.specific.versions) == [1]
    assert config.response_cache.enable
    batching = config.dynamic_batching
    assert list(batching.preferred_batch_size) == [4, 8]
    assert (batching.priority_levels, batching.default_priority_level) == (2, 2)
    queue = batching.default_queue_policy
    assert (queue.timeout_action, queue.default_timeout_microseconds) == (1, 5000)
    assert (queue.max_queue_size, queue.allow_timeout_override) == (16, True)
    assert batching.priority_queue_policy[1].default_timeout_microseconds == 900
    limiter = config.instance_group[0].rate_limiter
    assert (limiter.priority, limiter.resources[0].name, getattr(limiter.resources[0], "global")) == (3, "slot", True)
    assert len(config.model_warmup) == 0
    assert [one.batch_size for one in configured.config("back").model_warmup] == [1, 4]


def test_a_model_that_calls_others_is_not_warmed_up(configured: Configured) -> None:
    spec = (
        f"models:\n- {{name: a, backend: python, calls: [b], {_TENSORS}}}\n- {{name: b, backend: python, {_TENSORS}}}\n"
    )
    value, reason = configured.choices(spec, "no-device", "a")["warmup"]
    assert (value, reason) == ("off", "the models that it calls may not be loaded yet when it would run")
    done = configured(spec.replace("calls: [b]", "calls: [b], warmup: true"))
    assert done.returncode == 2
    assert "a model with calls has no warmup" in done.stderr


def test_the_example_of_the_documentation_is_one(configured: Configured) -> None:
    page = (Path(__file__).parents[2] / "docs" / "triton.md").read_text()
    block = re.search(r"^    cache:.*?(?=\n\n)", page, re.MULTILINE | re.DOTALL)
    assert block is not None
    choices = configured.choices(textwrap.dedent(block[0]), "l4", "encoder")
    assert choices["precision"][0] == "fp16 through TensorRT"
    assert choices["warmup"][0] == "zeros, batches of 1 and 16"
    assert configured.config("embed").ensemble_scheduling.step[1].model_name == "encoder"


def test_redis_credentials_are_no_part_of_the_command(configured: Configured) -> None:
    spec = f"cache: {{redis: {{host: redis.cache}}}}\nmodels:\n- {{name: one, backend: python, {_TENSORS}}}\n"
    assert configured(spec).returncode == 0
    done = run(
        *("serve", f"--repository={configured.repository}", f"--spec={configured.spec}", "--program=/bin/true"),
        *("--print-command", "--allow=root", "--allow=writable-root", "--allow=small-shm"),
        TRITONCACHE_REDIS_PASSWORD="hunter2",
    )
    assert done.returncode == 0, done.stderr
    assert "--cache-config=redis,socket_timeout=200" in done.stdout
    assert "--cache-config=redis,pool_size=8" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_a_check_passes_over_what_was_written_and_fails_over_what_differs(tmp_path: Path) -> None:
    repository, spec = copied_models(tmp_path / "models"), tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    given = ("configure", f"--spec={spec}", f"--repository={repository}")
    missing = run(*given, "--check")
    assert missing.returncode == 1
    assert "slow/config.pbtxt is missing; run configure without --check" in missing.stderr
    assert not (repository / "slow" / "config.pbtxt").exists()
    assert run(*given).returncode == 0
    assert run(*given, "--check").returncode == 0
    file = repository / "slow" / "config.pbtxt"
    file.write_text("# laid out otherwise\n" + file.read_text().replace("\n", "\n\n"))
    assert run(*given, "--check").returncode == 0
    file.write_text(file.read_text().replace("max_batch_size: 16", "max_batch_size: 4"))
    (repository / "stray" / "1").mkdir(parents=True)
    differs = run(*given, "--check")
    assert differs.returncode == 1
    assert "slow/config.pbtxt differs from what was declared in max_batch_size" in differs.stderr
    assert "stray is not declared" in differs.stderr


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("models: []\n", "spec.yaml:1: models: "),
        (
            "models:\n- {name: a, backend: pyton, inputs: [], outputs: []}\n",
            "spec.yaml:2: models[0].backend: input should",
        ),
        (
            SPEC.replace("delayMicroseconds", "delayMikros"),
            "spec.yaml:22: models[2].batching.delayMikros: unknown key; allowed are",
        ),
        (SPEC.replace("cache: {local: {megabytes: 8}}", ""), "model 'sum' has responseCache; declare cache too"),
        (SPEC.replace("model: sum,", "model: summ,"), "model 'sum_then_slow' uses 'summ', which is not declared"),
        (SPEC.replace("{INPUT: total}", "{INPUTS: total}"), "'slow' has no input 'INPUTS'; it has INPUT"),
        (SPEC.replace("sample: [4]", "sample: [4, 4]"), "sample [4, 4] is no example of dims [-1]"),
        (SPEC.replace("resources: {cpu: 2}", "resources: {gpu: 2}"), "resources has 'gpu', which no model takes"),
        (SPEC + "cache: {local: {megabytes: 1}}\n", "key 'cache' is given twice; give it once"),
        ("models: [\n", "this is not YAML"),
        ("- a\n", "this is no mapping of keys to values"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, spec: str, sentence: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(spec)
    done = run("configure", f"--spec={file}", f"--repository={tmp_path}")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_files_that_the_backend_would_not_find_are_named(tmp_path: Path) -> None:
    repository, spec = copied_models(tmp_path / "models"), tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    (repository / "sum" / "1" / "model.py").unlink()
    done = run("configure", f"--spec={spec}", f"--repository={repository}")
    assert done.returncode == 1
    assert "sum/1 has no model.py, which backend python loads" in done.stderr


def test_the_schema_in_the_reference_is_that_of_the_code() -> None:
    committed = Path(__file__).parents[2] / "docs" / "reference" / "model-repository.schema.json"
    assert run("configure", "--schema").stdout == committed.read_text(), (
        "run: tidewaiter-runtime configure --schema > docs/reference/model-repository.schema.json"
    )
