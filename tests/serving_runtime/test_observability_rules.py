"""Alerts fire on all of their conditions together and on none of them alone, by Prometheus' own judgement."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serving_runtime.observability_files import CASES, ROOT, RULE_FILES, alerts, run

TESTS = tuple(sorted(CASES.glob("*.test.yaml")))
ALERTS = alerts()
_CONDITION = re.compile(r"^(?:and|unless) ", re.MULTILINE)
_RUNBOOK = "https://github.com/tidewaiter/tidewaiter/blob/main/"


def _conditions(expression: str) -> list[str]:
    """The expression's parts; each stands on lines of its own, and all but the first begin with the operator."""
    starts = [0, *(found.start() for found in _CONDITION.finditer(expression)), len(expression)]
    return [expression[begin:end] for begin, end in itertools.pairwise(starts)]


WEAKENED = [
    pytest.param(name, index, id=f"{name} without {part.split(chr(10))[0][:60]}")
    for name, rule in ALERTS.items()
    for index, part in enumerate(_conditions(rule["expr"]))
    if index
]


def test_promtool_finds_nothing_to_say_about_the_rules() -> None:
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    done = run("promtool", "test", "rules", *TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_case_that_fires_and_one_that_does_not(name: str) -> None:
    expected = [
        bool(one.get("exp_alerts"))
        for file in TESTS
        for case in yaml.safe_load(file.read_text())["tests"]
        for one in case["alert_rule_test"]
        if one["alertname"] == name
    ]
    assert set(expected) == {True, False}


@pytest.mark.parametrize(("name", "index"), WEAKENED)
def test_the_cases_would_notice_a_condition_that_is_gone(name: str, index: int, tmp_path: Path) -> None:
    """Without any one of its conditions, an alert fires where its cases say that it must not."""
    parts = _conditions(ALERTS[name]["expr"])
    weakened = "".join(parts[:index] + parts[index + 1 :])
    done = run("promtool", "test", "rules", _with(tmp_path, name, {"expr": weakened}))
    assert done.returncode != 0
    assert name in done.stdout + done.stderr


@pytest.mark.parametrize("name", [name for name, rule in ALERTS.items() if "for" in rule])
def test_nothing_wakes_anybody_at_once(name: str) -> None:
    assert re.fullmatch(r"[1-9]\d*[mh]", ALERTS[name]["for"])


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_it_is_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    assert said["runbook_url"].startswith(_RUNBOOK)
    page = ROOT / said["runbook_url"].removeprefix(_RUNBOOK)
    assert page.is_file()
    assert re.search(rf"\b{name}\b", page.read_text()), f"{page.name} does not speak of {name}"


def _with(folder: Path, name: str, changes: dict[str, Any]) -> Path:
    """The cases of one alert, on rules in which it is changed."""
    files = []
    for file in RULE_FILES:
        document = yaml.safe_load(file.read_text())
        for group in document["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == name:
                    rule.update(changes)
        (folder / file.name).write_text(yaml.safe_dump(document))
        files.append(file.name)
    (cases,) = (loaded for file in TESTS if _cases_of(name, loaded := yaml.safe_load(file.read_text())))
    cases["rule_files"] = files
    cases["tests"] = _cases_of(name, cases)
    (folder / "cases.yaml").write_text(yaml.safe_dump(cases))
    return folder / "cases.yaml"


def _cases_of(name: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in document["tests"] if one["alert_rule_test"][0]["alertname"] == name]
