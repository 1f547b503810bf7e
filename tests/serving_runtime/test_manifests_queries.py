"""The queries in autoscalers and rollouts: Prometheus understands them, somebody exports what they name, and they
say what they are there to say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serving_runtime import renderings
from tests.serving_runtime.observability_files import CASES, named_metrics, rules, run
from tests.serving_runtime.renderings import MANIFESTS

_ADAPTER = MANIFESTS / "components" / "latency-autoscaling" / "prometheus-adapter-rules.yaml"
_SERIES = "tidewaiter_request_duration_seconds_bucket"
_CANARY = 'namespace="models",pod="resnet50-7d9f-x2x4q",model="resnet50",rollouts_pod_template_hash="new"'
_STABLE = 'namespace="models",pod="resnet50-primary-5c6b-k8k8z",model="resnet50",rollouts_pod_template_hash="old"'


def _adapter() -> str:
    """As prometheus-adapter fills it in for the pods of a namespace."""
    (rule,) = yaml.safe_load(_ADAPTER.read_text())["rules"]["custom"]
    filled = {"<<.Series>>": _SERIES, "<<.GroupBy>>": "pod", "<<.LabelMatchers>>": 'namespace="models"'}
    query: str = rule["metricsQuery"]
    for word, value in filled.items():
        query = query.replace(word, value)
    return query


def _analysis() -> Iterator[tuple[str, str]]:
    """As Argo Rollouts fills them in for a new and an old hash."""
    arguments = {"namespace": "models", "model": "resnet50", "canary": "new", "stable": "old"}
    for metric in renderings.one("overlays/argo-rollout", "AnalysisTemplate")["spec"]["metrics"]:
        query = metric["provider"]["prometheus"]["query"]
        yield f"argo {metric['name']}", re.sub(r"\{\{args\.(\w+)\}\}", lambda found: arguments[found[1]], query)


def _flagger() -> Iterator[tuple[str, str]]:
    """As Flagger fills them in."""
    values = {"namespace": "models", "target": "resnet50", "interval": "5m", "variables.model": "resnet50"}
    for one in renderings.objects("overlays/flagger-canary"):
        if one["kind"] == "MetricTemplate":
            query = re.sub(r"\{\{ ([\w.]+) \}\}", lambda found: values[found[1]], one["spec"]["query"])
            yield f"flagger {one['metadata']['name']}", query


def _queue() -> str:
    triggers = renderings.one("overlays/queue-autoscaling", "ScaledObject")["spec"]["triggers"]
    return str(next(one["metadata"]["query"] for one in triggers if one["type"] == "prometheus"))


QUERIES = {"adapter": _adapter(), "keda": _queue(), **dict(_analysis()), **dict(_flagger())}


@pytest.mark.parametrize("name", QUERIES)
def test_prometheus_understands_it(name: str) -> None:
    done = run("promtool", "--experimental", "promql", "format", QUERIES[name])
    assert done.returncode == 0, done.stderr
    assert "{{" not in QUERIES[name]
    assert "<<" not in QUERIES[name]


@pytest.mark.parametrize("name", QUERIES)
def test_somebody_exports_what_it_names(name: str) -> None:
    known = {metric for metrics in yaml.safe_load((CASES / "metrics.yaml").read_text()).values() for metric in metrics}
    named = named_metrics(QUERIES[name])
    assert named
    assert named <= known | {rule["record"] for rule in rules() if "record" in rule}


def _durations(labels: str, *, slow: bool, each_minute: int) -> dict[str, str]:
    quick, all_of_them = ("0x30", f"0+{each_minute}x30") if slow else (f"0+{each_minute}x30",) * 2
    counts = {"0.1": quick, "1": all_of_them, "+Inf": all_of_them}
    series = {f'{_SERIES}{{{labels},le="{edge}"}}': values for edge, values in counts.items()}
    return series | {f"tidewaiter_request_duration_seconds_count{{{labels}}}": all_of_them}


def _requests(labels: str, answered: int, failed: int) -> dict[str, str]:
    return {
        f"nv_inference_request_success{{{labels}}}": f"0+{answered}x30",
        f'nv_inference_request_failure{{{labels},reason="OTHER"}}': f"0+{failed}x30",
    }


IDLE = _durations('namespace="models",pod="idle"', slow=False, each_minute=0)
BUSY = _durations('namespace="models",pod="busy"', slow=True, each_minute=60)
FAILING = {**_requests(_CANARY, 90, 10), **_requests(_STABLE, 100, 0)}
SLOWER = {**_durations(_CANARY, slow=True, each_minute=60), **_durations(_STABLE, slow=False, each_minute=60)}
FEW = {**_requests(_CANARY, 1, 1), **_durations(_CANARY, slow=True, each_minute=1)}
ANSWERS: list[Any] = [
    pytest.param("adapter", IDLE, [('{pod="idle"}', 0)], id="an idle pod counts as quick, and does not count as unknown"),
    pytest.param("adapter", BUSY, [('{pod="busy"}', 0.955)], id="a slow pod has its p95"),
    pytest.param("argo error-ratio", FAILING, [("{}", 0.1)], id="Argo sees the canary's failures and not the stable ones"),
    pytest.param("argo error-ratio", _requests(_CANARY, 0, 100), [("{}", 1)], id="Argo sees a canary that fails every request"),
    pytest.param("argo error-ratio", {**FEW, **_requests(_STABLE, 900, 0)}, [], id="Argo decides nothing on a handful"),
    pytest.param("argo p99-against-stable", SLOWER, [("{}", 10.01)], id="Argo compares with the stable pods"),
    pytest.param("argo p99-against-stable", {**SLOWER, **FEW}, [], id="Argo compares nothing on a handful"),
    pytest.param("flagger resnet50-error-percentage", FAILING, [("{}", 10)], id="Flagger sees the canary alone, in percent"),
    pytest.param("flagger resnet50-p99-seconds", SLOWER, [("{}", 0.991)], id="Flagger sees the p99 of the canary alone"),
    pytest.param("keda", {'nv_inference_pending_request_count{namespace="models",pod="resnet50-a",model="resnet50"}': "12x30",
                          'nv_inference_pending_request_count{namespace="models",pod="resnet50-b",model="resnet50"}': "4x30",
                          'nv_inference_pending_request_count{namespace="models",pod="resnet50-candidate-a",model="resnet50"}': "99x30",
                          'nv_inference_pending_request_count{namespace="other",pod="resnet50-a",model="resnet50"}': "99x30"},
                 [("{}", 16)], id="KEDA sees the queues of the pods that it scales"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "series", "expected"), ANSWERS)
def test_it_says_what_it_is_there_to_say(
    name: str, series: dict[str, str], expected: list[tuple[str, float]], tmp_path: Path
) -> None:
    case = {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"round({QUERIES[name]}, 0.001)",
                "eval_time": "20m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in expected],
            }
        ],
    }
    file = tmp_path / "case.yaml"
    file.write_text(yaml.safe_dump({"tests": [case]}))
    done = run("promtool", "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
