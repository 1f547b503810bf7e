"""Dashboards are what the code writes, and every query in them is one that Prometheus understands."""

from __future__ import annotations

import json
import re
import urllib.request
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml

from tests.controlplane.waiting import wait_until
from tests.serving_runtime.observability_files import (
    CASES,
    OBSERVABILITY,
    SERVING,
    dashboard_queries,
    named_metrics,
    rules,
    run,
)
from tests.serving_runtime.tritonserver import MODELS, running_triton
from tests.serving_runtime.tritonserver import locate as locate_tritonserver

KNOWN = yaml.safe_load((CASES / "metrics.yaml").read_text())
_FOUND_WHOLE = 16
QUERIES = list(dashboard_queries())


def _named() -> dict[str, str]:
    """Every metric that something here names, and where."""
    queries = [*QUERIES, *((rule.get("alert") or rule["record"], rule["expr"]) for rule in rules())]
    return {metric: where for where, query in queries for metric in named_metrics(query)}


def test_what_is_committed_is_what_the_code_writes() -> None:
    from observability.generated import files

    for path, text in files().items():
        assert path.read_text() == text, f"{path.name} is stale: run PYTHONPATH=serving-runtime python -m observability"
    assert {one.name for one in (OBSERVABILITY / "grafana").iterdir()} == {
        path.name for path in files() if path.suffix == ".json"
    }


@pytest.mark.parametrize(("where", "query"), [pytest.param(*one, id=f"{one[0]} {n}") for n, one in enumerate(QUERIES)])
def test_prometheus_understands_the_query(where: str, query: str) -> None:
    done = run("promtool", "--experimental", "promql", "format", query)
    assert done.returncode == 0, f"{where}: {done.stderr}"


def test_promtool_would_not_take_a_broken_query() -> None:
    assert run("promtool", "--experimental", "promql", "format", "sum(rate(x[5m])").returncode != 0


def test_every_metric_is_one_that_somebody_exports() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    exported = {metric for metrics in KNOWN.values() for metric in metrics}
    unknown = {metric: where for metric, where in _named().items() if metric not in recorded | exported}
    assert not unknown
    assert exported <= set(_named()), "these are listed and used nowhere"


def test_every_recorded_metric_is_read_by_something() -> None:
    """By a rule, a dashboard or a manifest: what nobody reads is calculated for nothing."""
    read = set(_named())
    manifests = "".join(one.read_text() for one in (SERVING / "manifests").rglob("*.yaml"))
    assert all(one["record"] in read or one["record"] in manifests for one in rules() if "record" in one)


def test_a_running_triton_has_the_metrics_that_are_said_to_be_its_own(tmp_path: Path) -> None:
    with running_triton(MODELS, "--disable-auto-complete-config", log=tmp_path / "log") as triton:
        # The port of the metrics is opened after the one that says that it is ready.
        wait_until(lambda: triton.answers("/metrics", triton.metrics_port) == HTTPStatus.OK, "Triton's metrics")
        with urllib.request.urlopen(f"http://127.0.0.1:{triton.metrics_port}/metrics", timeout=10) as answer:
            exported = set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.MULTILINE))
    assert set(KNOWN["triton"]) <= exported


def test_the_exporter_has_the_metrics_that_are_said_to_be_its_own() -> None:
    from prometheus_client import CollectorRegistry, generate_latest
    from tidewaiter_runtime.exporter.collecting import ModelCollector
    from tidewaiter_runtime.exporter.observed import Observed

    registry = CollectorRegistry()
    observed = Observed({}, samples=10, window_s=60, predictions=10)
    registry.register(ModelCollector(observed, triton=None, gpus=None, threshold=0.2))
    exported = dict(re.findall(r"^# TYPE (\S+) (\S+)", generate_latest(registry).decode(), re.MULTILINE))
    of_histograms = {
        f"{name}_{part}" for name, kind in exported.items() for part in ("bucket", "count") if kind == "histogram"
    }
    assert set(KNOWN["runtime"]) <= set(exported) | of_histograms


def test_tritons_library_has_the_metrics_that_need_a_gpu_or_a_cache() -> None:
    installed = locate_tritonserver()
    library = next(installed.home.glob("lib/python3*/site-packages/nvidia_pytriton.libs/libtritonserver*"))
    content = library.read_bytes()
    # Compilers keep the end of a short text in the instructions, so that only its beginning is found.
    assert [one for one in KNOWN["triton-library"] if one.encode()[:_FOUND_WHOLE] not in content] == []


@pytest.mark.parametrize("path", sorted((OBSERVABILITY / "grafana").glob("*.json")), ids=lambda path: path.stem)
def test_a_dashboard_asks_the_data_source_that_is_chosen(path: Path) -> None:
    board = json.loads(path.read_text())
    panels = [one for one in board["panels"] if one["type"] != "row"]
    assert panels
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
