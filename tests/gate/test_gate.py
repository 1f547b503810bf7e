"""``tidewaiter gate`` as a pipeline calls it, and its thresholds one by one."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner, Result

from admission.strict_yaml import DocumentError, parse_document
from webhook.cli import main
from webhook.gate.check import Check
from webhook.gate.evidence import Evidence, Found
from webhook.gate.judgement import judge
from webhook.gate.reading import read_evidence
from webhook.gate.thresholds import Gate, Gates

SAMPLES = Path(__file__).parent / "samples"
_NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def _gate(**thresholds: Any) -> Gate:
    return parse_document(yaml.safe_dump({"gates": {"production": thresholds}}), Gates, "gates.yaml").gates[
        "production"
    ]


def _judged(gate: Gate, *samples: str) -> dict[str, Check]:
    evidence = read_evidence([SAMPLES / one for one in samples]).evidence
    return {one.id: one for one in judge(gate, evidence, _NOW)}


def _made(made: datetime, source: str = "e.json", **found: Any) -> Evidence:
    return Evidence(source, "test", "", made, True, Found(made=made, **found))


@pytest.mark.parametrize(
    ("bounds", "passed"),
    [
        ({"min": 0.75}, True),
        ({"min": 0.7500001}, False),
        ({"max": 0.75}, True),
        ({"max": 0.7499999}, False),
        ({"min": 0.7, "max": 0.8}, True),
    ],
)
def test_a_metric_lies_within_its_bounds_which_are_allowed_themselves(bounds: dict[str, float], passed: bool) -> None:
    checks = _judged(_gate(metrics={"accuracy_score": bounds}), "mlflow-metrics.json")

    assert checks["metrics.accuracy_score"].passed is passed
    assert "found 0.75" in checks["metrics.accuracy_score"].message


def test_a_metric_that_nobody_measured_fails_and_names_those_that_are_there() -> None:
    check = _judged(_gate(metrics={"accuracy": {"min": 0.5}}), "mlflow-metrics.json")["metrics.accuracy"]

    assert not check.passed
    assert "no metric 'accuracy' among accuracy_score, example_count" in check.message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_no_number_fails_every_bound(value: float) -> None:
    for bounds in ({"min": -1e308}, {"max": 1e308}):
        (check,) = judge(_gate(metrics={"loss": bounds}), [_made(_NOW, metrics={"loss": value})], _NOW)
        assert not check.passed
        assert "found no number" in check.message


def test_a_better_number_elsewhere_does_not_undo_a_worse_one() -> None:
    evidence = [_made(_NOW, metrics={"auc": 0.9}), _made(_NOW, metrics={"auc": 0.4})]
    (check,) = judge(_gate(metrics={"auc": {"min": 0.8}}), evidence, _NOW)

    assert not check.passed
    assert "found 0.4 (e.json)" in check.message


def test_a_bias_metric_has_a_check_of_its_own() -> None:
    evidence = [_made(_NOW, metrics={"demographic_parity_difference": -0.2})]
    (check,) = judge(_gate(bias={"demographic_parity_difference": {"min": -0.1, "max": 0.1}}), evidence, _NOW)

    assert check.id == "bias.demographic_parity_difference"
    assert not check.passed
    assert "expected -0.1 to 0.1, found -0.2" in check.message


@pytest.mark.parametrize(
    ("latency", "passed", "told"),
    [
        ({"p99": "34ms"}, {"latency.p99": True}, "33.6 ms at concurrency 8"),
        ({"p99": "30ms"}, {"latency.p99": False}, "expected at most 30 ms, found 33.6 ms at concurrency 8"),
        ({"p99": "20ms", "concurrency": 4}, {"latency.p99": True}, "18.25 ms at concurrency 4"),
        ({"p95": "0.015s", "p99": "18000us", "concurrency": 4}, {"latency.p95": True, "latency.p99": False}, "18 ms"),
        ({"p95": "1s", "concurrency": 16}, {"latency.p95": False}, "at concurrency 16, found no measurement"),
    ],
)
def test_the_slowest_measurement_counts(latency: dict[str, Any], passed: dict[str, bool], told: str) -> None:
    checks = _judged(_gate(latency=latency), "perf-analyzer.csv")

    assert {name: one.passed for name, one in checks.items()} == passed
    assert any(told in one.message for one in checks.values())


def test_a_load_test_without_the_percentile_fails(tmp_path: Path) -> None:
    (tmp_path / "perf.csv").write_text("Concurrency,Inferences/Second,p90 latency\n1,2,3\n")
    (check,) = judge(_gate(latency={"p99": "1s"}), read_evidence([tmp_path]).evidence, _NOW)

    assert not check.passed
    assert "found measurements without p99" in check.message


def test_one_load_test_without_the_percentile_fails_though_another_has_it(tmp_path: Path) -> None:
    (tmp_path / "perf.csv").write_text("Concurrency,Inferences/Second,p90 latency\n1,2,3\n")
    evidence = read_evidence([tmp_path, SAMPLES / "perf-analyzer.csv"]).evidence
    (check,) = judge(_gate(latency={"p99": "1s"}), evidence, _NOW)

    assert not check.passed


@pytest.mark.parametrize(
    ("vulnerabilities", "passed"),
    [
        ({"allowed": {"critical": 0, "high": 0}}, [False, False]),
        ({"allowed": {"critical": 1, "high": 1}}, [True, True]),
        ({"allowed": {"medium": 0}}, [False]),
        ({"allowed": {"medium": 0}, "ignoreUnfixed": True}, [True]),
        ({"allowed": {"high": 0}, "ignoreUnfixed": True}, [False]),
        ({"allowed": {"high": 0}, "accepted": [{"id": "CVE-2026-0001", "reason": "not reachable"}]}, [True]),
        ({"allowed": {"high": 0}, "accepted": [{"id": "CVE-2026-0001", "reason": "r", "until": "2026-11-25"}]}, [True]),
        (
            {"allowed": {"high": 0}, "accepted": [{"id": "CVE-2026-0001", "reason": "r", "until": "2026-11-24"}]},
            [False],
        ),
        ({"allowed": {"low": 0, "unknown": 0}}, [True, True]),
    ],
)
def test_vulnerabilities_are_counted_by_severity(vulnerabilities: dict[str, Any], passed: list[bool]) -> None:
    checks = _judged(_gate(vulnerabilities=vulnerabilities), "trivy.json", "grype.json")

    assert [one.passed for one in checks.values()] == passed


def test_a_vulnerability_is_named_with_what_mends_it_and_counted_once(tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "trivy.json", tmp_path / "again.json")
    evidence = read_evidence([SAMPLES / "trivy.json", tmp_path / "again.json"]).evidence
    (check,) = judge(_gate(vulnerabilities={"allowed": {"high": 0}}), evidence, _NOW)

    assert "found 1: CVE-2026-0001 in libssl3t64 3.0.13-0ubuntu3 (fixed in 3.0.13-0ubuntu3.9)" in check.message


def test_no_scan_is_not_a_clean_scan() -> None:
    check = _judged(_gate(vulnerabilities={"allowed": {"critical": 0}}), "mlflow-metrics.json")[
        "vulnerabilities.critical"
    ]

    assert not check.passed
    assert "found no scan that lists packages" in check.message


@pytest.mark.parametrize(
    ("samples", "passed", "told"),
    [
        (["great-expectations-passed.json"], True, "passed: transactions"),
        (["great-expectations-failed.json"], False, "not_be_null of country: 1 of 3 values"),
        (["great-expectations-passed.json", "great-expectations-checkpoint.json"], False, "not_be_null"),
        (["mlflow-metrics.json"], False, "found none"),
    ],
)
def test_every_data_validation_must_have_passed(samples: list[str], passed: bool, told: str) -> None:
    check = _judged(_gate(dataValidation=True), *samples)["data-validation"]

    assert check.passed is passed
    assert told in check.message


def test_a_data_validation_is_not_taken_for_a_model_validation() -> None:
    assert not _judged(_gate(modelValidation=True), "great-expectations-passed.json")["model-validation"].passed


@pytest.mark.parametrize(
    ("card", "passed", "told"),
    [
        ({"sections": ["Direct Use", "bias, risks, and limitations"]}, [True], "found all"),
        ({"sections": ["Out-of-Scope Use"]}, [False], "none for 'Out-of-Scope Use'"),
        ({"sections": ["Intended use"], "metadata": ["license"]}, [False, True], "none for 'Intended use'"),
        ({"metadata": ["license", "base_model"]}, [False], "none for 'base_model'"),
    ],
)
def test_a_model_card_says_what_it_must(card: dict[str, Any], passed: list[bool], told: str) -> None:
    checks = _judged(_gate(modelCard=card), "model-card.md")

    assert [one.passed for one in checks.values()] == passed
    assert told in next(iter(checks.values())).message


def test_a_model_card_has_no_age(tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "model-card.md", tmp_path)
    os.utime(tmp_path / "model-card.md", (0, 0))
    gate = _gate(modelCard={"metadata": ["license"]}, maxAge="30d")

    assert [one.id for one in judge(gate, read_evidence([tmp_path]).evidence, _NOW)] == ["model-card.metadata"]


def test_without_a_model_card_both_fail() -> None:
    checks = _judged(_gate(modelCard={"sections": ["Use"], "metadata": ["license"]}), "trivy.json")

    assert [one.passed for one in checks.values()] == [False, False]


@pytest.mark.parametrize(
    ("age", "passed", "told"),
    [
        (timedelta(days=30), True, "found 30 days"),
        (timedelta(days=30, minutes=1), False, "expected an age of at most 30 days"),
        (timedelta(minutes=-4), True, "found less than an hour"),
        (timedelta(minutes=-6), False, "found a time in the future"),
    ],
)
def test_evidence_is_recent_and_not_from_the_future(age: timedelta, passed: bool, told: str) -> None:
    gate = _gate(metrics={"auc": {"min": 0.5}}, maxAge="30d")
    checks = judge(gate, [_made(_NOW - age, metrics={"auc": 0.9})], _NOW)

    assert checks[-1].id == "evidence-age.e.json"
    assert checks[-1].passed is passed
    assert told in checks[-1].message


def test_evidence_that_no_threshold_rests_on_may_be_old() -> None:
    gate = _gate(metrics={"auc": {"min": 0.5}}, maxAge="1h")
    old = _made(_NOW - timedelta(days=900), "old.json", vulnerabilities=())

    assert [one.passed for one in judge(gate, [_made(_NOW, metrics={"auc": 0.9}), old], _NOW)] == [True, True]


def test_a_file_without_a_time_of_its_own_is_dated_by_its_modification_and_says_so(tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "mlflow-metrics.json", tmp_path)
    long_ago = (_NOW - timedelta(days=60)).timestamp()
    os.utime(tmp_path / "mlflow-metrics.json", (long_ago, long_ago))
    gate = _gate(metrics={"accuracy_score": {"min": 0.5}}, maxAge="30d")
    check = judge(gate, read_evidence([tmp_path]).evidence, _NOW)[-1]

    assert not check.passed
    assert "by the file's modification time" in check.message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gates: {production: {}}", "gates.yaml:1: gates.production: this gate asks for nothing"),
        ("gates: {}", "gates"),
        ("{}", "gates: this key is required and missing"),
        ("gates:\n  production:\n    metrics: {auc: {}}", ":3: gates.production.metrics.auc: give min, max or both"),
        ("gates: {p: {metrics: {auc: {min: 2, max: 1}}}}", "min 2 is greater than max 1"),
        ("gates: {p: {metrics: {auc: {min: .nan}}}}", "give min, max or both, as numbers"),
        ("gates: {p: {latency: {p99: 100}}}", "use a number with us, ms or s, as in 120ms, found '100'"),
        ("gates: {p: {latency: {concurrency: 1}}}", "give p95, p99 or both"),
        ("gates: {p: {dataValidation: true, maxAge: soon}}", "use a whole number with h, d or w"),
        ("gates: {p: {vulnerabilities: {allowed: {sever: 0}}}}", "gates.p.vulnerabilities.allowed.sever"),
        ("gates: {p: {vulnerabilities: {allowed: {high: -1}}}}", "greater than or equal to 0"),
        ("gates: {p: {vulnerabilities: {allowed: {high: 0}, accepted: [{id: a}]}}}", "reason: this key is required"),
        ("gates: {p: {modelCard: {}}}", "give sections, metadata or both"),
        ("gates: {p: {metric: {}}}", "did you mean 'metrics'?"),
    ],
)
def test_a_file_of_gates_that_cannot_be_used_is_told_with_line_and_key(text: str, told: str) -> None:
    with pytest.raises(DocumentError) as raised:
        parse_document(text, Gates, "gates.yaml")

    assert told in str(raised.value)


def test_the_gates_can_be_a_key_of_the_settings_file() -> None:
    from pydantic import BaseModel, Field

    class Settings(BaseModel):
        gates: dict[str, Gate] = Field(default_factory=dict)

    settings = parse_document("gates: {staging: {dataValidation: true}}", Settings, "settings.yaml")

    assert settings.gates["staging"].data_validation
    assert "dataValidation" in json.dumps(Settings.model_json_schema(by_alias=True))


_GATES = """
gates:
  production:
    metrics: {accuracy_score: {min: 0.7}}
    vulnerabilities: {allowed: {critical: 0}}
    dataValidation: true
  staging:
    metrics: {accuracy_score: {min: 0.9}, missing: {max: 1}}
    dataValidation: true
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository as a pipeline sees it: gates.yaml, and evidence in the folder of that name."""
    (tmp_path / "gates.yaml").write_text(_GATES)
    (tmp_path / "evidence").mkdir()
    for name in ("mlflow-metrics.json", "trivy.json", "great-expectations-passed.json"):
        shutil.copy(SAMPLES / name, tmp_path / "evidence")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(environment: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["gate", "--model", "resnet50", "--version", "3", "--env", environment, *arguments])


@pytest.mark.usefixtures("project")
def test_a_version_that_holds_every_threshold_ends_with_0() -> None:
    result = _run("production")

    assert result.exit_code == 0, result.output
    assert result.output.startswith("resnet50:3 for production\n")
    assert "  nothing says that these are about resnet50:3: evidence/" in result.output
    assert result.output.endswith("PASSED: 3 thresholds hold (3 files of evidence)\n")
    assert "\x1b[" not in result.output
    assert "\x1b[32m" in _run("production", "--color", "always").output


@pytest.mark.usefixtures("project")
def test_one_that_does_not_ends_with_1_and_says_what_to_do() -> None:
    result = _run("staging")

    assert result.exit_code == 1
    assert (
        "FAIL  metrics.accuracy_score: expected at least 0.9, found 0.75 (evidence/mlflow-metrics.json)"
        in result.output
    )
    assert "evaluate a better version" in result.output
    assert "FAILED: 2 of 3 thresholds do not hold" in result.output


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("environment", "arguments", "told"),
    [
        ("prod", [], "gates.yaml has no gate of that name; use production, staging"),
        ("production", ["--gates", "nowhere.yaml"], "gates file nowhere.yaml cannot be read: No such file"),
        ("production", ["nowhere"], "nowhere: there is no such file or folder"),
        ("production", ["gates.yaml"], "gates.yaml: none of the known formats"),
        ("production", ["--output", "no/such/folder"], "--output no/such/folder cannot be written"),
    ],
)
def test_bad_input_ends_with_2_and_a_sentence(environment: str, arguments: list[str], told: str) -> None:
    result = _run(environment, *arguments)

    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("project")
def test_without_model_or_version_nothing_is_judged() -> None:
    assert CliRunner().invoke(main, ["gate", "--env", "production"]).exit_code == 2


@pytest.mark.usefixtures("project")
def test_json_says_which_files_the_outcome_rests_on() -> None:
    document = json.loads(_run("staging", "--format", "json").output)

    assert (document["model"], document["modelVersion"], document["environment"]) == ("resnet50", "3", "staging")
    assert document["passed"] is False
    assert [one["passed"] for one in document["checks"]] == [False, False, True]
    assert {one["file"]: len(one["sha256"]) for one in document["evidence"]}["evidence/trivy.json"] == 64


@pytest.mark.usefixtures("project")
def test_sarif_points_at_the_evidence_or_else_at_the_thresholds() -> None:
    document = json.loads(_run("staging", "--format", "sarif").output)
    (run,) = document["runs"]

    assert [one["ruleId"] for one in run["results"]] == ["metrics", "metrics"]
    uris = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]]
    assert uris == ["evidence/mlflow-metrics.json", "gates.yaml"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_what_files_say_cannot_move_the_cursor_of_a_terminal(project: Path) -> None:
    failed = json.loads((SAMPLES / "great-expectations-failed.json").read_text())
    failed["results"][1]["expectation_config"]["type"] = "\x1b[2Jgone\rPASSED\n"
    (project / "evidence" / "hostile.json").write_text(json.dumps(failed))
    result = _run("production", "--color", "never")

    assert "?[2Jgone?PASSED? of country" in result.output
    assert "\x1b" not in result.output


@pytest.mark.usefixtures("project")
def test_junit_has_a_case_for_each_threshold() -> None:
    root = ElementTree.fromstring(_run("staging", "--format", "junit").output)  # noqa: S314  # our own

    assert (root.get("tests"), root.get("failures")) == ("3", "2")
    assert [one.get("name") for one in root.iter("testcase") if one.find("failure") is not None] == [
        "metrics.accuracy_score",
        "metrics.missing",
    ]


def test_a_report_for_machines_goes_to_a_file_and_the_text_to_the_log(project: Path) -> None:
    result = _run("staging", "--format", "junit", "--output", "gate.xml")

    assert result.exit_code == 1
    assert "FAILED: 2 of 3" in result.output
    root = ElementTree.parse(project / "gate.xml").getroot()  # noqa: S314  # our own
    assert root.get("failures") == "2"


def test_every_kind_of_check_has_a_rule_in_sarif(project: Path) -> None:
    everything = {
        "metrics": {"a": {"min": 0}},
        "bias": {"b": {"min": 0}},
        "latency": {"p95": "1s"},
        "vulnerabilities": {"allowed": {"high": 0}},
        "dataValidation": True,
        "modelValidation": True,
        "modelCard": {"sections": ["Use"], "metadata": ["license"]},
        "bound": True,
        "maxAge": "1h",
    }
    (project / "gates.yaml").write_text(yaml.safe_dump({"gates": {"production": everything}}))
    shutil.copy(SAMPLES / "great-expectations-failed.json", project / "evidence")
    run = json.loads(_run("production", "--format", "sarif").output)["runs"][0]

    assert {one["ruleId"] for one in run["results"]} == {one["id"] for one in run["tool"]["driver"]["rules"]}
