"""All policies of the settings, as the command line sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from admission.validator import PolicyError
from webhook.cli import main
from webhook.policy_engines import embedded_engines, every_source
from webhook.settings import Settings, load_settings

RULE = """# METADATA
# title: A title
# description: A description.
# custom:
#   id: ID
#   severity: low
#   remedy: mend it
package tidewaiter.own_rule

findings contains {"path": "spec", "message": data.own.word} if input.operation
"""


def _settings(folder: Path, more: str = "", identifier: str = "own-rule") -> Path:
    (folder / "own").mkdir()
    (folder / "own" / "own_rule.rego").write_text(RULE.replace("ID", identifier))
    (folder / "own" / "data.yaml").write_text("own: {word: hello}\n")
    (folder / "settings.yaml").write_text(f"policies: {{directory: own}}\n{more}")
    return folder / "settings.yaml"


def test_a_teams_rules_stand_beside_the_shipped_ones_with_their_data(tmp_path: Path) -> None:
    found = every_source(load_settings(_settings(tmp_path)).policies).read()

    assert {"own-rule", "host-access"} <= set(found.rules)
    assert found.data["own"] == {"word": "hello"}
    assert "image_registry" in found.data["settings"]


def test_the_shipped_rules_can_be_left_out(tmp_path: Path) -> None:
    file = _settings(tmp_path)
    file.write_text("policies: {directory: own, builtIn: false}\n")

    assert set(every_source(load_settings(file).policies).read().rules) == {"own-rule"}


def test_a_rule_with_the_id_of_a_shipped_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="host-access stands in two sources"):
        embedded_engines(load_settings(_settings(tmp_path, identifier="host-access")))


def test_without_settings_there_are_the_shipped_rules() -> None:
    assert "host-access" in every_source(Settings().policies).read().rules


def test_status_says_what_each_rule_does_and_from_when_it_denies(tmp_path: Path) -> None:
    file = _settings(tmp_path, "rules: {own-rule: {denyAfter: 2999-01-01}, image-pinned: {action: audit}}\n")

    result = CliRunner().invoke(
        main, ["policy", "status", "--settings", str(file), "-e", "production", "--format", "json"]
    )

    actions = json.loads(result.stdout)["actions"]
    assert actions["own-rule"] == {"language": "Rego", "action": "warn", "denyAfter": "2999-01-01"}
    assert actions["image-pinned"] == {"language": "Python", "action": "audit", "denyAfter": None}


def test_two_places_for_a_teams_policies_are_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("policies: {directory: own, configMap: policies}\n")

    result = CliRunner().invoke(main, ["config", "check", str(file)])

    assert result.exit_code == 2
    assert "in one place: directory, bundle or configMap" in result.stderr
