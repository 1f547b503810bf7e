"""Thresholds that stand in the service's own settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from admission.strict_yaml import DocumentError
from webhook.cli import main
from webhook.settings import load_settings

METRICS = str(Path(__file__).parent / "samples" / "mlflow-metrics.json")
"""With ``accuracy_score`` 0.75."""


def written(folder: Path, name: str = "settings.yaml", **settings: Any) -> str:
    path = folder / name
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(path)


def run(*arguments: str, environment: str = "production") -> Result:
    about = ["--model", "resnet50", "--version", "3", "--env", environment]
    return CliRunner().invoke(main, ["gate", *about, *arguments, METRICS])


@pytest.mark.parametrize(("least", "status"), [(0.7, 0), (0.8, 1)])
def test_the_thresholds_of_the_settings_hold_as_those_of_a_file_of_gates(
    tmp_path: Path, least: float, status: int
) -> None:
    gates = {"production": {"metrics": {"accuracy_score": {"min": least}}}}
    settings = written(tmp_path, gates=gates, environments={"production": {"action": "deny"}})
    alone = written(tmp_path, "gates.yaml", gates=gates)

    by_settings, by_gates = run("--settings", settings), run("--gates", alone)

    assert by_settings.exit_code == by_gates.exit_code == status, by_settings.output
    assert by_settings.stdout == by_gates.stdout


def test_a_gate_of_no_environment_is_refused_by_the_settings(tmp_path: Path) -> None:
    settings = written(tmp_path, gates={"moon": {"dataValidation": True}})

    with pytest.raises(DocumentError, match=r"gates\.moon: there is no such environment; use development"):
        load_settings(Path(settings))


SENTENCES = {
    "no gates": ({}, "has no gate of that name; add it under gates"),
    "another environment": (
        {"gates": {"staging": {"dataValidation": True}}},
        "has no gate of that name; use staging",
    ),
    "a gate that asks for nothing": ({"gates": {"production": {}}}, "this gate asks for nothing"),
    "an unknown key": ({"gates": {"production": {"metric": {}}}}, "metric"),
}


@pytest.mark.parametrize("which", SENTENCES)
def test_settings_without_the_gate_end_in_a_sentence(tmp_path: Path, which: str) -> None:
    settings, sentence = SENTENCES[which]

    result = run("--settings", written(tmp_path, **settings))

    assert result.exit_code == 2
    assert sentence in result.stderr


def test_one_file_has_the_thresholds_and_not_two(tmp_path: Path) -> None:
    gates = written(tmp_path, "gates.yaml", gates={"production": {"dataValidation": True}})

    result = run("--settings", written(tmp_path), "--gates", gates)

    assert result.exit_code == 2
    assert "--gates and --settings exclude each other" in result.stderr
