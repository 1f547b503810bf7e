"""The alerts and the dashboard of the service itself, which the chart hands to Prometheus and Grafana."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.chart.generate import CHART
from tests.chart.rendering import rendered
from tests.controlplane.binaries import locate
from webhook.metrics import Metrics

RULES = CHART / "files" / "alerts.yaml"
CASES = Path(__file__).parent / "alerts.test.yaml"
ALERTS = {one["alert"]: one for one in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
ROOT = CHART.parents[1]
_RUNBOOK = "https://github.com/tidewaiter/tidewaiter/blob/main/"


def _promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(locate("promtool")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_promtool_finds_nothing_to_say_about_them() -> None:
    done = _promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_fire_when_they_should_and_only_then() -> None:
    done = _promtool("test", "rules", CASES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_the_cases_would_notice_an_alert_that_is_gone(name: str, tmp_path: Path) -> None:
    rules, cases = yaml.safe_load(RULES.read_text()), yaml.safe_load(CASES.read_text())
    for rule in rules["groups"][0]["rules"]:
        if rule["alert"] == name:
            rule["expr"] = "vector(1) > 2"
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump({**cases, "rule_files": ["alerts.yaml"]}))
    assert _promtool("test", "rules", tmp_path / "cases.yaml").returncode != 0


def test_the_chart_hands_them_on_as_they_are() -> None:
    values = {"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}}
    (rule,) = (one for one in rendered(values) if one["kind"] == "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert not [one for one in rendered({}) if one["kind"] == "PrometheusRule"]


def _queries() -> list[str]:
    panels = json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_the_chart_hands_the_dashboard_on_as_it_is() -> None:
    (board,) = (
        one for one in rendered({"dashboard": {"enabled": True}}) if "dashboard.json" in (one.get("data") or {})
    )
    assert json.loads(board["data"]["dashboard.json"]) == json.loads((CHART / "files" / "dashboard.json").read_text())
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize("query", _queries())
def test_prometheus_understands_the_query(query: str) -> None:
    done = _promtool("--experimental", "promql", "format", query)
    assert done.returncode == 0, done.stderr


def test_every_metric_of_ours_is_one_that_the_service_has() -> None:
    metrics = Metrics()
    metrics.follow_exceptions(lambda: ())
    exported = dict(re.findall(r"^# TYPE (\S+) (\S+)", metrics.exposition().decode(), re.MULTILINE))
    histograms = {
        f"{name}_{part}" for name, kind in exported.items() for part in ("bucket", "count") if kind == "histogram"
    }
    queries = [*(rule["expr"] for rule in ALERTS.values()), *_queries()]
    named = {one for query in queries for one in re.findall(r"\btidewaiter_\w+", query)}
    assert named
    assert named <= set(exported) | histograms


@pytest.mark.parametrize("name", ALERTS)
def test_each_has_a_runbook_that_speaks_of_it(name: str) -> None:
    said = ALERTS[name]["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    page = ROOT / said["runbook_url"].removeprefix(_RUNBOOK)
    assert name in page.read_text()
