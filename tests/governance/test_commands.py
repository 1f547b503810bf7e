"""`tidewaiter model` and `tidewaiter exception` where no cluster is needed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from webhook.cli import main
from webhook.governance.expiry import until
from webhook.governance.proposal import metric_of_flag

DIGEST = f"sha256:{'a' * 64}"
FLAGS = ("--source", "s3://models/resnet50/3", "--digest", DIGEST)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_a_proposal_from_flags_is_printed_as_a_manifest() -> None:
    done = _run("model", "propose", "acme/Resnet:3", *FLAGS, "--commit", "abc", "--metric", "acc=0.9>=0.8", "--dry-run")

    found = yaml.safe_load(done.stdout)
    assert found["metadata"]["name"].startswith("acme-resnet-3---")
    assert found["spec"]["lineage"] == {"commit": "abc"}
    assert found["spec"]["evidence"] == {"evaluation": [{"metric": "acc", "value": 0.9, "atLeast": 0.8}]}


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    printed = _run("model", "propose", "resnet50:3", *FLAGS, "--memory", "16Gi", "--dry-run").stdout
    (tmp_path / "version.yaml").write_text(printed)

    again = _run("model", "propose", "-f", str(tmp_path / "version.yaml"), "--dry-run").stdout

    assert again == printed


def test_a_file_may_hold_only_the_spec(tmp_path: Path) -> None:
    spec = {"model": "resnet50", "version": "3", "source": "s3://m/3", "digest": DIGEST}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))

    done = _run("model", "propose", "-f", str(tmp_path / "spec.yaml"), "--dry-run", "--format", "json")

    assert json.loads(done.stdout)["spec"] == spec


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model: resnet50\nversion: '3'\nsource: s3://m\ndigst: x\n", "version.yaml:4: digst: unknown key"),
        ("model: resnet50\nversion: 3\nsource: s3://m\ndigest: x\n", "version.yaml:2: version:"),
        ("model: [\n", "version.yaml:2: this is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_by_line(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "version.yaml").write_text(text)

    done = _run("model", "propose", "-f", str(tmp_path / "version.yaml"), "--dry-run")

    assert done.exit_code == 2
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("resnet50", *FLAGS), "resnet50: give a model and its version, for example resnet50:3"),
        (("resnet50:3",), "--source is required; give it, or a file with -f"),
        (("resnet50:3", "--source", "s3://m", "--digest", "md5:1"), "--digest md5:1: string should match"),
        (("resnet50:3", *FLAGS, "--metric", "good"), "--metric good: this is no metric; write accuracy=0.93"),
        (("resnet50:3", "-f", "x.yaml"), "-f x.yaml and MODEL:VERSION: give the version by a file or by flags"),
        (("-f", "x.yaml", "--memory", "1Gi"), "-f x.yaml and --memory: give the version"),
        (("-f", "absent.yaml"), "absent.yaml cannot be read"),
    ],
)
def test_wrong_flags_are_refused_by_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = _run("model", "propose", *arguments, "--dry-run")

    assert done.exit_code == 2
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90d", "2026-08-30T12:00:00Z"),
        ("36h", "2026-06-03T00:00:00Z"),
        ("2w", "2026-06-15T12:00:00Z"),
        ("2027-01-31", "2027-01-31T23:59:59Z"),
        ("2027-01-31T18:00:00+02:00", "2027-01-31T16:00:00Z"),
    ],
)
def test_an_expiry_is_a_span_a_day_or_a_time(text: str, expected: str) -> None:
    assert until(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tomorrow", "this is no time; write 90d"),
        ("2027-02-30", "this is no time"),
        ("0d", "this is no time"),
        ("99999999d", "this is no time"),
        ("2026-01-01", "this is past"),
    ],
)
def test_another_expiry_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        until(text, NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy=0.93", {"metric": "accuracy", "value": 0.93}),
        ("accuracy = 0.93 >= 0.9", {"metric": "accuracy", "value": 0.93, "atLeast": 0.9}),
        ("wer=1e-2<=0.1", {"metric": "wer", "value": 0.01, "atMost": 0.1}),
    ],
)
def test_a_metric_has_a_value_and_perhaps_a_threshold(text: str, expected: dict[str, object]) -> None:
    assert metric_of_flag(text) == expected


def test_an_exception_is_printed_as_a_manifest() -> None:
    done = _run(
        "exception", "request", "old", "--rule", "image-pinned", "--for-namespace", "vision", "--for-label", "app=old",
        "--expires", "2090-01-01", "--reason", "vendor image", "--dry-run",
    )  # fmt: skip

    assert yaml.safe_load(done.stdout)["spec"] == {
        "rules": ["image-pinned"],
        "match": {"namespaces": ["vision"], "labels": {"app": "old"}},
        "reason": "vendor image",
        "expires": "2090-01-01T23:59:59Z",
    }


def test_without_a_cluster_one_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    done = _run("model", "list")

    assert done.exit_code == 2
    assert "give --kubeconfig FILE, or set KUBECONFIG" in done.stderr


@pytest.mark.parametrize("text", ["a: [", "- 1", "current-context: x\n", ""])
def test_a_broken_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)

    done = _run("model", "list", "--kubeconfig", str(path))

    assert done.exit_code == 2
    assert f"no cluster by {path}: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_kubeconfig_that_does_not_exist_is_named(tmp_path: Path) -> None:
    done = _run("model", "list", "--kubeconfig", str(tmp_path / "none"))

    assert done.exit_code == 2
    assert done.stderr == f"kubeconfig {tmp_path / 'none'} does not exist\n"
