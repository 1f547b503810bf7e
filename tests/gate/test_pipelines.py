"""The example pipelines: of the shape that their engines take, and their scripts run as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from hera.workflows.models import WorkflowTemplate
from kfp.pipeline_spec import pipeline_spec_pb2

_ROOT = Path(__file__).parents[2]
PIPELINES = _ROOT / "examples" / "pipelines"
SAMPLES = Path(__file__).parent / "samples"
_SHELL = ["sh", "-e", "-c"]


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a pipeline, and its variables."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def _documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((PIPELINES / name).read_text()))


def _filled(value: str, values: dict[str, str]) -> str:
    for placeholder, filling in values.items():
        value = value.replace(placeholder, filling)
    return value


def _github() -> Iterator[Step]:
    (workflow,) = _documents("github-actions.yaml")
    for step in workflow["jobs"]["gate"]["steps"]:
        if "run" in step:
            variables = {
                name: _filled(one, {"${{ github.ref_name }}": "3"}) for name, one in step.get("env", {}).items()
            }
            yield Step([*_SHELL, step["run"]], variables)


def _gitlab() -> Iterator[Step]:
    (pipeline,) = _documents("gitlab-ci.yaml")
    job = pipeline["gate"]
    variables = {**pipeline["variables"], **job["variables"]}
    script = "\n".join(job["script"])
    yield Step([*_SHELL, script], {name: _filled(one, {"$CI_COMMIT_TAG": "3"}) for name, one in variables.items()})


def _tekton() -> Iterator[Step]:
    task, _ = _documents("tekton.yaml")
    values = {
        "$(params.model)": "resnet50",
        "$(params.version)": "3",
        "$(params.environment)": "production",
        "$(results.digest.path)": "digest.txt",
    }
    for step in task["spec"]["steps"]:
        assert step["script"].startswith("#!/bin/sh -e\n")
        yield Step([*_SHELL, step["script"]], {one["name"]: _filled(one["value"], values) for one in step["env"]})


def _argo() -> Iterator[Step]:
    (template,) = _documents("argo-workflows.yaml")
    values = {
        "{{workflow.parameters.model}}": "resnet50",
        "{{workflow.parameters.version}}": "3",
        "{{workflow.parameters.environment}}": "production",
    }
    for one in template["spec"]["templates"][1:]:
        script = one["script"]
        assert script["command"] == ["sh", "-e"]
        yield Step(
            [*_SHELL, script["source"]],
            {entry["name"]: _filled(entry["value"], values) for entry in script.get("env", [])},
        )


def _kubeflow() -> Iterator[Step]:
    (pipeline,) = _documents("kubeflow-pipelines.yaml")
    values = {
        "{{$.inputs.parameters['model']}}": "resnet50",
        "{{$.inputs.parameters['version']}}": "3",
        "{{$.inputs.parameters['environment']}}": "production",
        "{{$.inputs.artifacts['gates'].path}}": "gates.yaml",
        "{{$.inputs.artifacts['evidence'].path}}": "evidence",
        "{{$.inputs.artifacts['files'].path}}": "model",
        "{{$.outputs.artifacts['report'].path}}": "report.json",
        "{{$.outputs.parameters['found'].output_file}}": "digest.txt",
    }
    executors = pipeline["deploymentSpec"]["executors"]
    for name in ("exec-gate", "exec-digest"):
        container = executors[name]["container"]
        yield Step([_filled(one, values) for one in [*container["command"], *container["args"]]])


ENGINES: dict[str, Callable[[], Iterator[Step]]] = {
    "github-actions": _github,
    "gitlab-ci": _gitlab,
    "tekton": _tekton,
    "argo-workflows": _argo,
    "kubeflow-pipelines": _kubeflow,
}
engine = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A model repository as the gate's job finds it, with evidence made just now."""
    shutil.copy(PIPELINES / "gates.yaml", tmp_path)
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    for name in ("mlflow-metrics.json", "perf-analyzer.csv", "model-card.md"):
        shutil.copyfile(SAMPLES / name, evidence / name)
    now = datetime.now(UTC).isoformat()
    trivy = json.loads((SAMPLES / "trivy.json").read_text())
    (evidence / "trivy.json").write_text(json.dumps({**trivy, "CreatedAt": now}))
    validation = json.loads((SAMPLES / "great-expectations-passed.json").read_text())
    validation["meta"]["run_id"]["run_time"] = now
    (evidence / "validation.json").write_text(json.dumps(validation))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(b"weights")
    _command(tmp_path / "bin", "tidewaiter", "webhook", _ROOT)
    _command(tmp_path / "bin", "tidewaiter-runtime", "tidewaiter_runtime", _ROOT / "serving-runtime" / "src")
    return tmp_path


def _command(folder: Path, name: str, module: str, sources: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\nPYTHONPATH="{sources}" exec "{sys.executable}" -m {module} "$@"\n')
    (folder / name).chmod(0o755)


def _run(project: Path, steps: Iterator[Step]) -> tuple[int, str]:
    """Run steps until one fails; the status and output of the last one that ran."""
    printed = ""
    for step in steps:
        environment = {"PATH": f"{project / 'bin'}:{os.environ['PATH']}", "HOME": str(project), **step.environment}
        done = subprocess.run(
            step.command, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        printed += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, printed
    return 0, printed


@engine
def test_a_version_that_passes_ends_with_its_digest(project: Path, engine: str) -> None:
    status, printed = _run(project, ENGINES[engine]())

    assert status == 0, printed
    assert "resnet50:3 for production" in printed
    assert "PASSED: 12 thresholds hold (5 files of evidence)" in printed
    assert re.search(r"^sha256:[0-9a-f]{64}$", printed, re.MULTILINE)
    assert (project / "digest.txt").read_text().startswith("sha256:")


@engine
def test_a_version_that_fails_ends_the_pipeline_before_its_digest(project: Path, engine: str) -> None:
    (project / "evidence" / "mlflow-metrics.json").write_text('{"accuracy_score": 0.2, "f1_score": 0.9}')
    status, printed = _run(project, ENGINES[engine]())

    assert status == 1
    assert "expected at least 0.75, found 0.2" in printed
    assert not (project / "digest.txt").exists()


@engine
def test_a_missing_model_fails_the_pipeline_too(project: Path, engine: str) -> None:
    shutil.rmtree(project / "model")
    status, printed = _run(project, ENGINES[engine]())

    assert status == 2
    assert "model: there is no such file or folder" in printed


@engine
def test_values_from_outside_are_no_part_of_a_script(engine: str) -> None:
    (template,) = {
        "github-actions": [r"\$\{\{"],
        "gitlab-ci": [r"\$CI_"],
        "tekton": [r"\$\("],
        "argo-workflows": [r"\{\{"],
        "kubeflow-pipelines": [r"\{\{"],
    }[engine]
    scripts = [one.command[3] for one in ENGINES[engine]()]

    assert scripts
    assert not [script for script in scripts if re.search(template, script)]


@pytest.mark.parametrize(
    ("name", "schema"),
    [("github-actions.yaml", "vendor.github-workflows"), ("gitlab-ci.yaml", "vendor.gitlab-ci")],
)
def test_the_engine_s_own_json_schema_takes_the_file(name: str, schema: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text((PIPELINES / name).read_text().replace("script:", "skript:").replace("run:", "ran:"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*command, PIPELINES / name], capture_output=True, text=True, timeout=60, check=False)
    broken = subprocess.run([*command, tmp_path / name], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout
    assert broken.returncode == 1


def test_argo_s_models_take_the_workflow_template() -> None:
    (document,) = _documents("argo-workflows.yaml")
    template = WorkflowTemplate.model_validate(document)

    assert {one.name for one in template.spec.templates or []} == {"release", "gate", "digest"}
    assert json.loads(template.model_dump_json(by_alias=True, exclude_none=True)) == document


def test_kubeflow_s_pipeline_spec_takes_the_compiled_pipeline() -> None:
    (document,) = _documents("kubeflow-pipelines.yaml")
    spec = json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())

    assert spec.root.dag.tasks["digest"].dependent_tasks == ["gate", "importer"]
    assert not spec.root.dag.tasks["gate"].caching_options.enable_cache


def test_kubeflow_s_pipeline_was_compiled_from_the_source_beside_it() -> None:
    source = (PIPELINES / "kubeflow_pipelines.py").read_text()
    (document,) = _documents("kubeflow-pipelines.yaml")
    executors = document["deploymentSpec"]["executors"]

    for executor in ("exec-gate", "exec-digest"):
        container = executors[executor]["container"]
        assert f'IMAGE = "{container["image"]}"' in source.replace("(\n    ", "").replace("\n)", "")
        assert f"'{container['command'][3]}'" in source


def test_tekton_s_task_is_complete_in_itself() -> None:
    """There is no schema of Tekton's in a package registry: names and references are held to each other."""
    task, pipeline = _documents("tekton.yaml")
    declared = {one["name"] for one in task["spec"]["params"]}
    used = set(re.findall(r"\$\(params\.([\w-]+)\)", json.dumps(task["spec"]["steps"])))

    assert {task["apiVersion"], pipeline["apiVersion"]} == {"tekton.dev/v1"}
    assert used == declared
    assert set(re.findall(r"\$\(results\.([\w-]+)\.path\)", json.dumps(task["spec"]["steps"]))) == {
        one["name"] for one in task["spec"]["results"]
    }
    (reference,) = pipeline["spec"]["tasks"]
    assert reference["taskRef"]["name"] == task["metadata"]["name"]
    without_default = {one["name"] for one in task["spec"]["params"] if "default" not in one}
    assert {one["name"] for one in reference["params"]} == without_default
    assert {one["name"] for one in reference["workspaces"]} == {one["name"] for one in task["spec"]["workspaces"]}
    for step in task["spec"]["steps"]:
        assert step.keys() <= {"name", "image", "env", "script"}


def test_every_image_of_ours_is_pinned_by_digest() -> None:
    images = re.findall(r"\S*/tidewaiter/\S+", "".join(one.read_text() for one in PIPELINES.glob("*.yaml")))

    assert images
    assert all(re.fullmatch(r"[\w./-]+@sha256:[0-9a-f]{64}", image) for image in images)
