"""Whatever stands in a file of evidence, the outcome is a judgement or a sentence, never a traceback."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webhook.gate.binding import Wanted
from webhook.gate.evidence import EvidenceError
from webhook.gate.judgement import judge
from webhook.gate.outcome import Outcome
from webhook.gate.reading import read_evidence
from webhook.gate.reports.json_report import json_report
from webhook.gate.reports.junit import junit
from webhook.gate.reports.sarif import sarif
from webhook.gate.reports.text import text
from webhook.gate.thresholds import Gate

SAMPLES = Path(__file__).parent / "samples"
_JSON = sorted(one.name for one in SAMPLES.glob("*.json"))
_NOW = datetime(2026, 11, 25, tzinfo=UTC)
_GATE = Gate.model_validate(
    {
        "metrics": {"accuracy_score": {"min": 0.5}},
        "latency": {"p95": "1s"},
        "vulnerabilities": {"allowed": {"critical": 0, "unknown": 0}},
        "dataValidation": True,
        "modelValidation": True,
        "modelCard": {"sections": ["Direct Use"], "metadata": ["license"]},
        "maxAge": "30d",
    }
)
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}), st.just([{}])
)


def _paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(one for key, child in children for one in _paths(child, (*path, key)))]


def _replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


def _judged(file: Path) -> None:
    try:
        reading = read_evidence([file])
    except EvidenceError as error:
        assert str(file) in str(error)
        return
    checks = judge(_GATE, reading.evidence, _NOW, Wanted("m", "1", f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"))
    outcome = Outcome("m", "1", "production", "gates.yaml", checks, reading.evidence, reading.skipped)
    assert [report(outcome) for report in (text, json_report, sarif, junit)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_may_be_replaced_by_any_other(tmp_path: Path, data: st.DataObject) -> None:
    document = json.loads((SAMPLES / data.draw(st.sampled_from(_JSON))).read_text())
    path = data.draw(st.sampled_from(_paths(document)))
    file = tmp_path / "evidence.json"
    file.write_text(json.dumps(_replaced(document, path, data.draw(_SCALARS))))

    _judged(file)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_file_may_be_cut_or_have_anything_in_it(tmp_path: Path, data: st.DataObject) -> None:
    content = (SAMPLES / data.draw(st.sampled_from([*_JSON, "model-card.md", "perf-analyzer.csv"]))).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(start + 40, len(content))))
    file = tmp_path / "evidence.txt"
    file.write_bytes(content[:start] + data.draw(st.binary(max_size=6)) + content[end:])

    _judged(file)


@pytest.mark.parametrize(
    "front_matter",
    ["a: &a [*a]", "? [1, 2]\n: b", "a: !!python/object:os.system x", "date: 2026-02-30", "a: " + "[" * 2000],
)
def test_front_matter_that_would_hurt_a_careless_reader(tmp_path: Path, front_matter: str) -> None:
    file = tmp_path / "card.md"
    file.write_text(f"---\n{front_matter}\n---\n# Direct Use\ntext\n")

    _judged(file)
