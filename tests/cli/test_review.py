"""``tidewaiter review`` as its users call it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner, Result

from webhook.cli import main

_DIGEST = "sha256:" + "a" * 64
_SETTINGS = "environments: {production: {action: deny}, staging: {}, development: {action: audit}}\n"


def _pod(image: str = "nvcr.io/nvidia/tritonserver:24.08-py3", kind: str = "Pod") -> str:
    spec = {
        "initContainers": [{"name": "warm", "image": f"example.com/warm@{_DIGEST}"}],
        "containers": [{"name": "triton", "image": image, "resources": {"limits": {"nvidia.com/gpu": 1}}}],
    }
    metadata = {"name": "resnet", "namespace": "vision"}
    if kind == "Pod":
        return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    template = {"metadata": {"labels": {"app": "resnet"}}, "spec": spec}
    obj = {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": {"replicas": 2, "template": template}}
    return yaml.safe_dump(obj)


_WEB = yaml.safe_dump(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "a", "image": "b"}]},
    }
)


def _review(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["review", *arguments], input=stdin)


@pytest.fixture
def settings(tmp_path: Path) -> str:
    (tmp_path / "settings.yaml").write_text(_SETTINGS)
    return str(tmp_path / "settings.yaml")


def test_a_first_installation_warns_and_shows_what_it_would_inject() -> None:
    result = _review("-", stdin=_pod())

    assert result.exit_code == 0
    assert "ADMITTED, with warnings" in result.stdout
    assert "+    key: nvidia.com/gpu" in result.stdout
    assert "warn  image-pinned  spec.containers[0].image (triton)  line 8" in result.stdout
    assert "Namespace vision is not known here, and was judged as production" in result.stdout
    assert "\x1b[" not in result.stdout


def test_what_production_denies_is_refused_with_status_1(settings: str) -> None:
    result = _review("-", "--settings", settings, stdin=_pod(kind="Deployment"))

    assert result.exit_code == 1
    assert "REFUSED" in result.stdout
    assert "deny  image-pinned  spec.template.spec.containers[0].image (triton)" in result.stdout
    assert "1 object, 1 judged: 1 refused" in result.stdout


def test_the_environment_may_be_chosen(settings: str) -> None:
    result = _review("-", "--settings", settings, "--environment", "staging", stdin=_pod())

    assert result.exit_code == 0
    assert "environment staging" in result.stdout


def test_an_unknown_environment_is_a_sentence(settings: str) -> None:
    result = _review("-", "--settings", settings, "--environment", "prod", stdin=_pod())

    assert result.exit_code == 2
    assert "there is no such environment; use production, staging, development" in result.stderr


def test_a_namespace_in_the_reviewed_files_says_what_it_is(settings: str) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace"}
    namespace |= {"metadata": {"name": "vision", "labels": {"tidewaiter.dev/environment": "staging"}}}

    result = _review("-", "--settings", settings, stdin=f"{yaml.safe_dump(namespace)}---\n{_pod()}")

    assert result.exit_code == 0
    assert "environment staging" in result.stdout
    assert "is not known here" not in result.stdout


def test_warnings_can_be_made_to_fail() -> None:
    assert _review("-", "--fail-on", "warn", stdin=_pod()).exit_code == 1


def test_what_makes_no_pods_is_passed_over_and_said() -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"

    result = _review("-", stdin=service)

    assert result.exit_code == 0
    assert "Passed over: 1 (a Service makes no pods)" in result.stdout
    assert "1 object, 0 judged" in result.stdout


def test_bad_input_beside_good_is_reported_and_the_good_is_still_reviewed() -> None:
    result = _review("-", "absent.yaml", stdin=_pod())

    assert result.exit_code == 2
    assert "absent.yaml: cannot be read: No such file or directory" in result.stderr
    assert "image-pinned" in result.stdout


def test_an_object_whose_shape_is_wrong_is_a_sentence_and_status_2() -> None:
    result = _review("-", stdin="apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: {}}\n")

    assert result.exit_code == 2
    assert "not reviewed: spec.containers" in result.stdout


def test_json_has_every_finding_with_its_line_and_a_patch_that_makes_the_pod() -> None:
    result = _review("-", "--format", "json", stdin=_pod())

    report = json.loads(result.stdout)
    (pod,) = report["objects"]
    pinned = next(one for one in pod["findings"] if one["rule"] == "image-pinned")
    assert report["summary"] == {"objects": 1, "judged": 1, "refused": 0, "warned": 1}
    assert pinned["line"] == 8
    assert pinned["action"] == "warn"
    assert {"gpu-scheduling", "security-context"} <= {one["mutator"] for one in pod["injections"]}
    assert any(one["path"] == "/spec/tolerations" for one in pod["pods"][0]["patch"])


def test_yaml_is_a_complete_stream_with_the_pods_as_they_come_out() -> None:
    result = _review("-", "--format", "yaml", stdin=f"{_WEB}---\n{_pod()}---\n{_pod(kind='Deployment')}")

    web, pod, deployment = yaml.safe_load_all(result.stdout)
    assert web["metadata"]["name"] == "web"
    assert pod["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert deployment["spec"]["template"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert deployment["spec"]["replicas"] == 2


def test_what_yaml_prints_is_not_changed_again() -> None:
    first = _review("-", "--format", "yaml", stdin=_pod()).stdout

    assert _review("-", "--format", "yaml", stdin=first).stdout == first


def test_sarif_points_at_file_and_line_with_a_level_for_each_action(settings: str, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(_pod())

    result = _review(str(tmp_path / "pod.yaml"), "--format", "sarif", "--settings", settings)

    (run,) = json.loads(result.stdout)["runs"]
    pinned = next(one for one in run["results"] if one["ruleId"] == "image-pinned")
    assert pinned["level"] == "error"
    assert pinned["locations"][0]["physicalLocation"]["region"] == {"startLine": 8}
    assert pinned["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith("pod.yaml")
    assert run["tool"]["driver"]["rules"][pinned["ruleIndex"]]["id"] == "image-pinned"
    assert "Every image is pinned" in run["tool"]["driver"]["rules"][pinned["ruleIndex"]]["shortDescription"]["text"]
    assert run["invocations"][0]["executionSuccessful"] is True


def test_junit_fails_the_case_of_a_refused_object_and_skips_what_is_no_pod(settings: str) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"

    result = _review("-", "--format", "junit", "--settings", settings, stdin=f"{service}---\n{_pod()}")

    root = ElementTree.fromstring(result.stdout)  # noqa: S314  # our own output
    skipped, failed = root.iter("testcase")
    assert skipped.find("skipped") is not None
    failure = failed.find("failure")
    assert failure is not None
    assert "image-pinned" in (failure.text or "")
    assert (root.get("tests"), root.get("failures")) == ("2", "1")


def test_a_container_that_was_moved_by_an_injection_keeps_its_line() -> None:
    pod = _pod().replace(f"example.com/warm@{_DIGEST}", "example.com/warm:latest")

    result = _review("-", stdin=pod)

    line = next(n for n, text in enumerate(pod.splitlines(), 1) if "warm:latest" in text)
    assert f"spec.initContainers[0].image (warm)  line {line}" in result.stdout


def test_colours_are_for_terminals_and_for_those_who_ask() -> None:
    assert "\x1b[32m" in _review("-", "--color", "always", stdin=_pod()).stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["review", "--help"], ["serve", "--help"], ["config", "check", "--help"]]
)
def test_help_shows_how_it_is_used(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 0
    assert "tidewaiter" in result.stdout


def test_the_webhook_configurations_come_as_yaml_with_the_ca(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
    (tmp_path / "ca.crt").write_text(pem)

    result = CliRunner().invoke(main, ["config", "webhooks", "--ca-file", str(tmp_path / "ca.crt")])

    configurations = list(yaml.safe_load_all(result.stdout))
    assert [one["metadata"]["name"] for one in configurations] == [
        "tidewaiter",
        "tidewaiter",
        "tidewaiter-governance",
        "tidewaiter-governance",
    ]
    assert {one["clientConfig"]["caBundle"] for two in configurations for one in two["webhooks"]} == {
        base64.b64encode(pem.encode()).decode()
    }


def test_a_ca_file_that_is_missing_is_a_sentence() -> None:
    result = CliRunner().invoke(main, ["config", "webhooks", "--ca-file", "absent.crt"])

    assert result.exit_code == 2
    assert "absent.crt cannot be read" in result.stderr


@pytest.mark.parametrize("nothing", ["", "---\n", "# only a comment\n"])
def test_an_empty_pipe_is_no_green_gate(nothing: str) -> None:
    result = _review("-", stdin=nothing)

    assert result.exit_code == 2
    assert "there is no object in it" in result.stderr


def test_a_kubeconfig_that_is_no_yaml_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a: [")

    result = _review("-", "--kubeconfig", str(tmp_path / "config"), stdin=_pod())

    assert result.exit_code == 2
    assert "no cluster by" in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_ca_file_that_is_no_certificate_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("not PEM")

    result = CliRunner().invoke(main, ["config", "webhooks", "--ca-file", str(tmp_path / "ca.crt")])

    assert result.exit_code == 2
    assert "is no certificate" in result.stderr


def test_certificates_that_cannot_be_written_are_a_sentence() -> None:
    result = CliRunner().invoke(main, ["serve", "--certificates", "/proc/nowhere"])

    assert result.exit_code == 2
    assert "/proc/nowhere" in result.stderr
