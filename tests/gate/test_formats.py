"""Files of evidence are recognised by their content, and say what their tool meant."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf import json_format, text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import anomalies_pb2

from webhook.gate.evidence import Evidence, EvidenceError
from webhook.gate.formats import FORMATS
from webhook.gate.formats.protobuf_text import parse_text_format
from webhook.gate.reading import read_evidence

SAMPLES = Path(__file__).parent / "samples"
Info = anomalies_pb2.AnomalyInfo


def _read(path: Path) -> Evidence:
    (evidence,) = read_evidence([path]).evidence
    return evidence


def _written(folder: Path, content: object, name: str = "evidence.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("sample", "name"),
    [
        ("great-expectations-passed.json", "Great Expectations validation result"),
        ("great-expectations-failed.json", "Great Expectations validation result"),
        ("great-expectations-checkpoint.json", "Great Expectations checkpoint result"),
        ("mlflow-metrics.json", "metrics (one JSON object of numbers)"),
        ("mlflow-run.json", "MLflow run"),
        ("mlflow-table.json", "MLflow evaluation table"),
        ("trivy.json", "Trivy report"),
        ("grype.json", "Grype report"),
        ("perf-analyzer.csv", "perf_analyzer CSV"),
        ("model-card.md", "model card"),
    ],
)
def test_each_sample_is_recognised_by_one_format_whatever_its_name(tmp_path: Path, sample: str, name: str) -> None:
    text = (SAMPLES / sample).read_text()
    renamed = _written(tmp_path, text, "evidence.txt")
    is_json = text.lstrip().startswith("{")
    document = json.loads(text) if is_json else text

    assert _read(renamed).format == name
    assert {one.name for one in FORMATS if one.is_text != is_json and one.recognises(document)} == {name}


def test_a_validation_that_great_expectations_passed() -> None:
    evidence = _read(SAMPLES / "great-expectations-passed.json")

    assert evidence.found.data_validation is not None
    assert evidence.found.data_validation.passed
    assert evidence.found.data_validation.name == "transactions"
    assert evidence.made.date() == datetime(2026, 11, 24, tzinfo=UTC).date()
    assert evidence.dated


def test_a_failed_expectation_is_named_with_its_column_and_count() -> None:
    validation = _read(SAMPLES / "great-expectations-failed.json").found.data_validation

    assert validation is not None
    assert not validation.passed
    assert validation.problems == ("expect_column_values_to_not_be_null of country: 1 of 3 values",)


def test_a_checkpoint_result_lists_the_same() -> None:
    validation = _read(SAMPLES / "great-expectations-checkpoint.json").found.data_validation

    assert validation is not None
    assert validation.problems == ("expect_column_values_to_not_be_null of country: 1 of 3 values",)


def test_a_validation_that_evaluated_nothing_did_not_pass(tmp_path: Path) -> None:
    path = _written(tmp_path, {"success": True, "results": [], "statistics": {}, "meta": {}})
    validation = _read(path).found.data_validation

    assert validation is not None
    assert not validation.passed
    assert validation.problems == ("it evaluated no expectations",)


def test_a_success_that_its_own_results_deny_is_none(tmp_path: Path) -> None:
    failed = json.loads((SAMPLES / "great-expectations-failed.json").read_text())
    validation = _read(_written(tmp_path, {**failed, "success": True})).found.data_validation

    assert validation is not None
    assert not validation.passed


def test_a_checkpoint_of_an_older_release_is_read(tmp_path: Path) -> None:
    result = {"expectation_config": {"expectation_type": "expect_table_row_count_to_equal", "kwargs": {}}}
    run = {"success": False, "results": [{**result, "success": False, "result": {"observed_value": 3}}]}
    document = {
        "success": False,
        "run_id": {"run_name": "n", "run_time": "2024-05-01T10:00:00+02:00"},
        "run_results": {"ValidationResultIdentifier::x": {"validation_result": run}},
    }
    evidence = _read(_written(tmp_path, document))

    assert evidence.made == datetime(2024, 5, 1, 8, tzinfo=UTC)
    assert evidence.found.data_validation is not None
    assert evidence.found.data_validation.problems == ("expect_table_row_count_to_equal: found 3",)


def test_the_metrics_of_an_mlflow_run_and_of_its_result_are_the_same() -> None:
    run, result = _read(SAMPLES / "mlflow-run.json"), _read(SAMPLES / "mlflow-metrics.json")

    assert run.found.metrics == result.found.metrics
    assert run.found.metrics["accuracy_score"] == 0.75
    assert run.made == datetime.fromtimestamp(1795522160.545, UTC)
    assert not result.dated


def test_a_time_in_another_zone_is_shown_in_utc(tmp_path: Path) -> None:
    path = _written(tmp_path, {"SchemaVersion": 2, "ArtifactName": "a", "CreatedAt": "2026-01-01T01:00:00+02:00"})

    assert f"{_read(path).made:%Y-%m-%d %H:%M}" == "2025-12-31 23:00"


def test_a_run_that_did_not_finish_has_no_results(tmp_path: Path) -> None:
    run = json.loads((SAMPLES / "mlflow-run.json").read_text())
    run["info"]["status"] = "FAILED"

    with pytest.raises(EvidenceError, match=r"status: found 'FAILED'; only a finished run"):
        read_evidence([_written(tmp_path, run)])


def test_the_metrics_of_a_run_as_the_rest_interface_has_them(tmp_path: Path) -> None:
    metrics = [{"key": "auc", "value": 0.9, "timestamp": 1, "step": 0}]
    path = _written(tmp_path, {"info": {"run_id": "a", "status": "FINISHED"}, "data": {"metrics": metrics}})

    assert _read(path).found.metrics == {"auc": 0.9}


def test_the_columns_of_an_evaluation_table_become_means() -> None:
    assert _read(SAMPLES / "mlflow-table.json").found.metrics == {"x/mean": 2.5, "target/mean": 0.5, "pred/mean": 0.25}


def test_a_column_with_gaps_has_no_mean(tmp_path: Path) -> None:
    table = {"columns": ["text", "toxicity/v1/score"], "data": [["a", 0.1], ["b", None]]}
    metrics = _read(_written(tmp_path, table)).found.metrics

    assert list(metrics) == ["toxicity/v1/mean"]
    assert math.isnan(metrics["toxicity/v1/mean"])


def test_trivy_says_what_is_vulnerable_and_what_mends_it() -> None:
    evidence = _read(SAMPLES / "trivy.json")

    assert evidence.made == datetime(2026, 11, 20, 9, 15, 30, 123456, tzinfo=UTC)
    assert evidence.found.vulnerabilities is not None
    assert [(one.id, one.severity, one.fixed) for one in evidence.found.vulnerabilities] == [
        ("CVE-2026-0001", "high", "3.0.13-0ubuntu3.9"),
        ("CVE-2026-0002", "medium", ""),
    ]


@pytest.mark.parametrize("results", [None, [], [{"Target": "config.yaml", "Class": "secret", "Secrets": []}]])
def test_a_trivy_report_that_lists_no_packages_is_no_scan_for_vulnerabilities(tmp_path: Path, results: object) -> None:
    path = _written(tmp_path, {"SchemaVersion": 2, "ArtifactName": "a", "Results": results})

    assert _read(path).found.vulnerabilities is None


def test_grype_says_the_same_in_its_own_words() -> None:
    evidence = _read(SAMPLES / "grype.json")

    assert evidence.dated
    assert evidence.found.vulnerabilities is not None
    assert [(one.severity, one.package, one.fixed) for one in evidence.found.vulnerabilities] == [
        ("critical", "requests", "2.32.4"),
        ("negligible", "bash", ""),
    ]


def test_a_grype_scan_that_found_nothing_is_a_scan(tmp_path: Path) -> None:
    path = _written(tmp_path, {"matches": [], "descriptor": {"name": "grype"}})

    assert _read(path).found.vulnerabilities == ()


def test_perf_analyzer_measures_microseconds() -> None:
    measurements = _read(SAMPLES / "perf-analyzer.csv").found.measurements

    assert measurements is not None
    assert [one.concurrency for one in measurements] == [1, 4, 8]
    assert measurements[1].percentiles == {"p50": 13.1, "p90": 14.2, "p95": 14.8, "p99": 18.25}
    assert measurements[1].load == "concurrency 4"


def test_a_load_by_request_rate_and_the_tables_of_an_ensemble_are_read(tmp_path: Path) -> None:
    text = "Request Rate,Inferences/Second,p95 latency\r\n100,99,5000\r\n\r\nModel: inner\r\nInferences/Second\r\n1\r\n"
    measurements = _read(_written(tmp_path, text, "perf.csv")).found.measurements

    assert measurements is not None
    assert [(one.load, one.concurrency, one.percentiles) for one in measurements] == [
        ("request rate 100", None, {"p95": 5.0})
    ]


def test_a_model_card_has_metadata_and_sections_that_somebody_wrote() -> None:
    card = _read(SAMPLES / "model-card.md").found.card

    assert card is not None
    assert card.metadata["license"] == "apache-2.0"
    assert "Classification of photographs" in card.sections["direct use"]
    assert "Classification of photographs" in card.sections["uses"]
    assert card.sections["out-of-scope use"] == ""
    assert "drawings" in card.sections["bias, risks, and limitations"]


def test_headings_inside_code_are_none(tmp_path: Path) -> None:
    text = (
        "---\nlicense: mit\n---\n# Use\n```sh\n# Limitations\n```\n\n~~~\n## Data\n```\n~~~\n## *Real* section:\ntext\n"
    )
    card = _read(_written(tmp_path, text, "README.md")).found.card

    assert card is not None
    assert list(card.sections) == ["use", "real section"]


def _anomalies(**features: tuple[int, str]) -> anomalies_pb2.Anomalies:
    message = anomalies_pb2.Anomalies()
    message.baseline.feature.add(name="country")
    for name, (severity, text) in features.items():
        info = message.anomaly_info[name]
        info.severity, info.short_description, info.description = severity, text, "longer:\n" + text
        info.path.step.append(name)
        reason = info.reason.add()
        reason.type = Info.ENUM_TYPE_UNEXPECTED_STRING_VALUES
    return message


def _both(folder: Path, message: anomalies_pb2.Anomalies) -> list[Evidence]:
    as_json = _written(folder, json_format.MessageToJson(message), "anomalies.json")
    as_text = _written(folder, text_format.MessageToString(message), "anomalies.pbtxt")
    return [_read(as_json), _read(as_text)]


def test_anomalies_fail_a_validation_and_warnings_do_not(tmp_path: Path) -> None:
    message = _anomalies(country=(Info.ERROR, "Unexpected string values"), amount=(Info.WARNING, "High drift"))
    for evidence in _both(tmp_path, message):
        assert evidence.format == "TensorFlow Data Validation anomalies"
        assert evidence.found.data_validation is not None
        assert evidence.found.data_validation.problems == ("country: Unexpected string values",)


def test_no_anomaly_is_a_validation_that_passed(tmp_path: Path) -> None:
    for evidence in _both(tmp_path, _anomalies(amount=(Info.WARNING, "High drift"))):
        assert evidence.found.data_validation is not None
        assert evidence.found.data_validation.passed


def test_an_anomaly_without_a_severity_fails(tmp_path: Path) -> None:
    for evidence in _both(tmp_path, _anomalies(amount=(Info.UNKNOWN, "odd"))):
        assert evidence.found.data_validation is not None
        assert not evidence.found.data_validation.passed


def test_missing_data_and_anomalies_of_the_whole_dataset_fail(tmp_path: Path) -> None:
    message = _anomalies()
    message.data_missing = True
    message.dataset_anomaly_info.severity = Info.ERROR
    message.dataset_anomaly_info.short_description = "Low num examples"
    for evidence in _both(tmp_path, message):
        assert evidence.found.data_validation is not None
        assert evidence.found.data_validation.problems == ("dataset: Low num examples", "the data is missing")


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30), st.booleans())
def test_the_text_format_is_read_as_protobuf_writes_it(name: str, text: str, as_utf8: bool) -> None:
    message = anomalies_pb2.Anomalies()
    message.anomaly_info[name].short_description = text
    written = text_format.MessageToString(message, as_utf8=as_utf8)
    (entry,) = parse_text_format(written)["anomaly_info"]

    assert entry["key"] == [name]
    assert entry["value"][0].get("short_description", [""]) == [text]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("baseline {", "line 1: expected a field name, found 'the end'"),
        ("baseline {\n  name: }\n", "line 2: expected a value, found '}'"),
        ('baseline { name: "open\n', "line 1: '\"' is not understood"),
        ("baseline {" * 100, "nested more than 50 deep"),
    ],
)
def test_broken_text_format_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(EvidenceError) as raised:
        read_evidence([_written(tmp_path, text, "anomalies.pbtxt")])

    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("document", "problems"),
    [
        ({"validationOk": True, "metricValidationsPerSlice": []}, ()),
        ({"metricValidationsPerSlice": []}, ("validation_ok is not true",)),
        (
            {"metricValidationsPerSlice": [{"failures": [{"metricKey": {"name": "auc"}, "message": "0.6 < 0.7"}]}]},
            ("auc: 0.6 < 0.7",),
        ),
        ({"validationOk": True, "missingThresholds": True}, ("thresholds are missing",)),
        ("validation_ok: true\nvalidation_details { slicing_details { num_matching_slices: 1 } }\n", ()),
        ('metric_validations_per_slice { failures { metric_key { name: "auc" } } }\n', ("auc: out of its thresholds",)),
    ],
)
def test_the_validation_result_of_tfx_evaluator(tmp_path: Path, document: object, problems: tuple[str, ...]) -> None:
    name = "result.pbtxt" if isinstance(document, str) else "result.json"
    validation = _read(_written(tmp_path, document, name)).found.model_validation

    assert validation is not None
    assert validation.problems == problems
    assert validation.passed == (not problems)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, "none of the known formats: binding file, Great Expectations"),
        ({"accuracy": "0.9"}, "none of the known formats"),
        ([1, 2], "none of the known formats"),
        ("{", ":1: this is not JSON: Expecting property name"),
        ('{\n "a": 1,\n "b" 2}', ":3: this is not JSON"),
        ("[" * 100000, "nested too deeply"),
        (
            {"SchemaVersion": 1, "ArtifactName": "a"},
            "looks like Trivy report, but SchemaVersion: found 1; expected 2",
        ),
        (
            {"SchemaVersion": 2, "ArtifactName": "a", "Results": [{"Class": "os-pkgs", "Vulnerabilities": [{}]}]},
            "looks like Trivy report, but it has no 'VulnerabilityID'",
        ),
        ({"SchemaVersion": 2, "ArtifactName": "a", "CreatedAt": "soon"}, "time 'soon' is not ISO 8601"),
        ({"matches": [{}], "descriptor": {}}, "looks like Grype report, but it has no 'vulnerability'"),
        ({"success": True, "results": 3, "statistics": {}}, "looks like Great Expectations validation result, but"),
        ({"info": {"run_id": "a"}, "data": {"metrics": {"a": "x"}}}, "metric a: found 'x'; expected a number"),
        ({"info": True, "data": {}}, "none of the known formats"),
        ({"accuracy": 10**400}, "looks like metrics (one JSON object of numbers), but int too large"),
        (
            {"SchemaVersion": 2, "ArtifactName": "a", "CreatedAt": "0001-01-01T00:00:00+10:00"},
            "looks like Trivy report, but",
        ),
        ({"info": {"run_id": "a", "end_time": 10**30}, "data": {}}, "is out of range"),
        ({"columns": ["a"], "data": [[]]}, "looks like MLflow evaluation table, but"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_file(tmp_path: Path, content: object, told: str) -> None:
    with pytest.raises(EvidenceError) as raised:
        read_evidence([_written(tmp_path, content)])

    assert str(tmp_path / "evidence.json") in str(raised.value)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "Concurrency,Inferences/Second,p95 latency\n", "it has a header and no measurement"),
        ("a.csv", "Concurrency,Inferences/Second,p95 latency\n1,2,fast\n", "line 2: p95 latency: found 'fast'"),
        ("a.csv", "Concurrency,Inferences/Second,p95 latency\n1,2\n", "line 2: p95 latency: found None"),
        ("a.md", "---\nlicense: [\n---\n# A\n", "the front matter is not YAML"),
        ("a.md", "---\n- a\n---\n# A\n", "the front matter is not a mapping"),
        ("a.md", "# No front matter\n", "none of the known formats"),
    ],
)
def test_text_that_cannot_be_read_is_told_with_its_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(EvidenceError) as raised:
        read_evidence([_written(tmp_path, text, name)])

    assert told in str(raised.value)


def test_every_unreadable_file_is_told_at_once(tmp_path: Path) -> None:
    first, second = _written(tmp_path, "{", "a.json"), _written(tmp_path, "{", "b.json")
    with pytest.raises(EvidenceError) as raised:
        read_evidence([first, second, tmp_path / "c.json"])

    assert [name in str(raised.value) for name in ("a.json", "b.json", "c.json: there is no such file")] == [True] * 3


def test_a_folder_may_hold_other_files_which_are_named(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    _written(tmp_path / "deep", {"accuracy": 0.9}, "metrics.json")
    _written(tmp_path, {"artifacts": []}, "artifacts_metadata.json")
    (tmp_path / "confusion.png").write_bytes(b"\x89PNG")
    reading = read_evidence([tmp_path])

    assert [one.found.metrics for one in reading.evidence] == [{"accuracy": 0.9}]
    assert reading.skipped == [str(tmp_path / "artifacts_metadata.json")]


def test_a_broken_file_in_a_folder_is_an_error_and_not_skipped(tmp_path: Path) -> None:
    _written(tmp_path, "{", "trivy.json")

    with pytest.raises(EvidenceError, match="this is not JSON"):
        read_evidence([tmp_path])


def test_a_binary_file_with_a_name_of_ours_is_of_no_known_format(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(EvidenceError, match="none of the known formats"):
        read_evidence([tmp_path / "metrics.json"])
