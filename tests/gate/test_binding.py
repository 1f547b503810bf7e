"""Evidence that is about another model version, another image, or nobody knows about what."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from webhook.cli import main

_ONE, _OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
_KEYS = {"tidewaiter.dev/model": "resnet50", "tidewaiter.dev/model-version": "3"}
_SAMPLES = Path(__file__).parent / "samples"


def run(folder: Path, gate: dict[str, Any], *arguments: str) -> Result:
    """The gate of ``production``, for resnet50:3, with the evidence in a folder."""
    (folder / "gates.yaml").write_text(yaml.safe_dump({"gates": {"production": gate}}), encoding="utf-8")
    asked = ("--model", "resnet50", "--version", "3", "--env", "production", "--gates", str(folder / "gates.yaml"))
    return CliRunner().invoke(main, ["gate", *asked, *arguments, str(folder / "evidence")])


def keep(folder: Path, name: str, content: Any) -> str:
    """A file of evidence; returns its SHA-256."""
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "evidence").mkdir(exist_ok=True)
    (folder / "evidence" / name).write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def mlflow_run(tags: Any) -> dict[str, Any]:
    return {"info": {"run_id": "r", "status": "FINISHED"}, "data": {"metrics": {"a": 1.0}, "tags": tags}}


def card(**keys: Any) -> str:
    return f"---\n{yaml.safe_dump({'license': 'x', **keys})}---\n\n# Card\n"


def trivy(**metadata: Any) -> dict[str, Any]:
    results = [{"Class": "os-pkgs", "Vulnerabilities": []}]
    return {"SchemaVersion": 2, "ArtifactName": "company/triton:1", "Metadata": metadata, "Results": results}


def grype(**target: Any) -> dict[str, Any]:
    return {"matches": [], "descriptor": {}, "source": {"type": "image", "target": target}}


def great_expectations(**meta: Any) -> dict[str, Any]:
    result = json.loads((_SAMPLES / "great-expectations-passed.json").read_text(encoding="utf-8"))
    result["meta"] |= meta
    return dict(result)


METRIC: dict[str, Any] = {"metrics": {"a": {"min": 0}}}
SCAN: dict[str, Any] = {"vulnerabilities": {"allowed": {"high": 0}}}
CARD: dict[str, Any] = {"modelCard": {"metadata": ["license"]}}
DATA: dict[str, Any] = {"dataValidation": True}

ABOUT_ANOTHER = {
    "an MLflow run's tag, another version": (METRIC, mlflow_run({**_KEYS, "tidewaiter.dev/model-version": "2"}), "version '2'"),
    "as the REST API has tags": (METRIC, mlflow_run([{"key": "tidewaiter.dev/model", "value": "bert"}]), "model 'bert'"),
    "a model card's front matter": (CARD, card(**{**_KEYS, "tidewaiter.dev/model": "bert"}), "model 'bert'"),
    "a number in front matter": (CARD, card(**{**_KEYS, "tidewaiter.dev/model-version": 2}), "version '2'"),
    "another digest": (CARD, card(**{"tidewaiter.dev/digest": _OTHER}), f"digest '{_OTHER}'"),
    "a Great Expectations result": (DATA, great_expectations(**{"tidewaiter.dev/model": "bert"}), "model 'bert'"),
    "a Trivy scan of another image": (SCAN, trivy(RepoDigests=[f"company/triton@{_OTHER}"]), f"a scan of image {_OTHER}"),
    "a Grype scan of another image": (SCAN, grype(userInput="company/triton:1", manifestDigest=_OTHER), f"a scan of image {_OTHER}"),
}  # fmt: skip


@pytest.mark.parametrize("which", ABOUT_ANOTHER)
def test_evidence_about_something_else_fails_though_its_thresholds_hold(tmp_path: Path, which: str) -> None:
    gate, content, told = ABOUT_ANOTHER[which]
    keep(tmp_path, "e.md" if isinstance(content, str) else "e.json", content)

    result = run(tmp_path, gate, "--digest", _ONE, "--image", f"company/triton@{_ONE}")

    assert result.exit_code == 1, result.output
    assert f"expected evidence about resnet50:3 ({_ONE}), found {told}" in result.output
    assert "FAILED: 1 of 2" in result.output


RIGHT = {
    "an MLflow run": (METRIC, mlflow_run(_KEYS)),
    "a model card": (CARD, card(**{**_KEYS, "tidewaiter.dev/model-version": 3})),
    "a digest alone": (CARD, card(**{"tidewaiter.dev/digest": _ONE})),
    "a Great Expectations result": (DATA, great_expectations(**_KEYS)),
    "a Trivy scan by the image's digest": (SCAN, trivy(RepoDigests=[f"company/triton@{_ONE}"])),
    "a Trivy scan by the image's id": (SCAN, trivy(ImageID=_ONE)),
    "a Grype scan": (SCAN, grype(repoDigests=[f"company/triton@{_ONE}"])),
}


@pytest.mark.parametrize("which", RIGHT)
def test_evidence_that_names_what_is_judged_is_bound(tmp_path: Path, which: str) -> None:
    gate, content = RIGHT[which]
    keep(tmp_path, "e.md" if isinstance(content, str) else "e.json", content)

    result = run(tmp_path, gate, "--digest", _ONE, "--image", f"company/triton@{_ONE}", "--require-bound")

    assert result.exit_code == 0, result.output
    assert f"it is about resnet50:3 ({_ONE})" in result.output
    assert "nothing says" not in result.output


def test_evidence_that_names_nothing_passes_with_a_sentence_and_fails_where_it_must(tmp_path: Path) -> None:
    keep(tmp_path, "metrics.json", {"a": 1})

    result = run(tmp_path, METRIC)
    assert result.exit_code == 0, result.output
    assert f"nothing says that these are about resnet50:3: {tmp_path / 'evidence' / 'metrics.json'}" in result.output
    assert json.loads(run(tmp_path, METRIC, "--format", "json").output)["unbound"] == [
        str(tmp_path / "evidence" / "metrics.json")
    ]

    for gate, more in ((METRIC, ["--require-bound"]), ({**METRIC, "bound": True}, [])):
        result = run(tmp_path, gate, *more)
        assert result.exit_code == 1, result.output
        assert "expected evidence that names resnet50:3, found none that does" in result.output


def test_what_no_threshold_rests_on_may_be_about_anything(tmp_path: Path) -> None:
    keep(tmp_path, "metrics.json", mlflow_run(_KEYS))
    keep(tmp_path, "README.md", card(**{"tidewaiter.dev/model": "bert"}))

    assert run(tmp_path, METRIC, "--require-bound").exit_code == 0


def test_a_binding_file_speaks_for_what_has_no_room_to(tmp_path: Path) -> None:
    digest = keep(tmp_path, "metrics.json", {"a": 1})
    keep(tmp_path, "binding.json", {**_KEYS, "tidewaiter.dev/files": {"metrics.json": digest}})

    result = run(tmp_path, METRIC, "--require-bound")

    assert result.exit_code == 0, result.output
    assert f"it is about resnet50:3, says {tmp_path / 'evidence' / 'binding.json'}" in result.output


@pytest.mark.parametrize("wrong", ["another version", "other bytes"])
def test_a_binding_file_binds_these_bytes_to_this_version(tmp_path: Path, wrong: str) -> None:
    digest = keep(tmp_path, "metrics.json", {"a": 1})
    binding = {**_KEYS, "tidewaiter.dev/files": {"metrics.json": digest}}
    if wrong == "another version":
        binding["tidewaiter.dev/model-version"] = "2"
    else:
        keep(tmp_path, "metrics.json", {"a": 2})
    keep(tmp_path, "binding.json", binding)

    result = run(tmp_path, METRIC, "--require-bound")

    assert result.exit_code == 1
    told = "found version '2'" if wrong == "another version" else "found none that does"
    assert told in result.output


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"tidewaiter.dev/files": {"a": "1" * 64}}, "it names no model version"),
        ({**_KEYS, "tidewaiter.dev/files": {}}, "expected an object of file names and their SHA-256"),
        ({**_KEYS, "tidewaiter.dev/files": {"a": "abc"}}, "'a' has no SHA-256"),
        ({**_KEYS, "tidewaiter.dev/model": ["x"], "tidewaiter.dev/files": {"a": "1" * 64}}, "expected a text"),
        (mlflow_run({"tidewaiter.dev/model-version": 3.0}), "expected a text"),
    ],
)
def test_a_name_that_cannot_be_read_is_a_sentence(tmp_path: Path, content: Any, told: str) -> None:
    keep(tmp_path, "e.json", content)

    result = run(tmp_path, METRIC)

    assert (result.exit_code, told in result.output) == (2, True), result.output


@pytest.mark.parametrize("option", ["--digest", "--image"])
def test_what_is_judged_is_named_by_a_digest(tmp_path: Path, option: str) -> None:
    keep(tmp_path, "metrics.json", {"a": 1})

    result = run(tmp_path, METRIC, option, "company/triton:1")

    assert result.exit_code == 2
    assert f"{option} company/triton:1: give a digest" in result.output
