"""``tidewaiter policy``, as a person and as a script use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.rego.opa import build_bundle, write_keys
from tests.rego.policies import SAYS, rule
from webhook.cli import main

TESTS = """package tidewaiter.says_test

import data.tidewaiter.says

test_says if says.findings with input as {"labels": {"say": "x"}}

test_wrong if count(says.findings) == 7

test_fails if to_number("x") == 1

todo_test_later if false
"""


def policy(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["policy", *arguments])


def answer(*arguments: str, status: int = 0) -> Any:
    done = policy(*arguments, "--format", "json")
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "policies"
    made.mkdir()
    (made / "says.rego").write_bytes(rule("says", SAYS, "#   severity: low\n#   workloads: [training, batch]\n"))
    (made / "says_test.rego").write_text(TESTS)
    return made


def test_list_shows_the_shipped_rules() -> None:
    lines = policy("list").stdout.splitlines()

    assert lines[0].split() == ["RULE", "SEVERITY", "SCOPE", "WORKLOADS", "TITLE"]
    assert [line.split()[0] for line in lines[1:]] == [
        "allowed-runtimes",
        "host-access",
        "image-registry",
        "memory-limits",
    ]
    assert "high" in lines[2]


def test_list_for_scripts(folder: Path) -> None:
    assert answer("list", "--policies", str(folder)) == [
        {
            "id": "says", "title": "says", "description": "Judges.", "severity": "low", "scope": "model-pod",
            "workloads": ["batch", "training"], "remedy": "", "related": [],
        }
    ]  # fmt: skip


def test_show_tells_all_of_a_rule(folder: Path) -> None:
    shown = policy("show", "says", "--policies", str(folder)).stdout

    assert "severity:  low\nscope:     model-pod\nworkloads: batch,training\n" in shown
    assert "tests:     test_says, test_wrong, test_fails" in shown
    assert shown.endswith(SAYS + "\n")
    assert answer("show", "says", "--policies", str(folder))["file"] == "says.rego"


def test_show_of_no_rule_names_those_there_are() -> None:
    done = policy("show", "host-acces")

    assert (done.exit_code, "the rules are allowed-runtimes, host-access" in done.stderr) == (2, True)


def test_the_shipped_tests_pass() -> None:
    done = policy("test")

    assert (done.exit_code, done.stdout.strip()) == (0, "PASS: 26/26")


def test_tests_that_fail_are_named_and_counted(folder: Path) -> None:
    done = policy("test", "--policies", str(folder))

    assert done.exit_code == 1
    assert "says_test.rego: data.tidewaiter.says_test.test_wrong: FAIL" in done.stdout
    assert "test_fails: ERROR" in done.stdout
    assert "could not parse string as number" in done.stdout
    assert "todo_test_later: SKIPPED" in done.stdout
    assert "test_says" not in done.stdout
    assert {"PASS: 1/4", "FAIL: 1/4", "ERROR: 1/4", "SKIPPED: 1/4"} <= set(done.stdout.splitlines())


def test_tests_for_scripts(folder: Path) -> None:
    found = answer("test", "--policies", str(folder), "--run", "test_says")

    assert [(one["name"], one["outcome"]) for one in found] == [("data.tidewaiter.says_test.test_says", "PASS")]


def test_no_tests_are_no_success(folder: Path) -> None:
    done = policy("test", "--policies", str(folder), "--run", "nothing")

    assert (done.exit_code, "there are no tests" in done.stderr) == (2, True)


def test_check_of_good_policies() -> None:
    assert policy("check").stdout.endswith("is fine: 4 rules\n")


BAD = {
    "syntax": (rule("bad") + b"x if {", "bad.rego:9:"),
    "metadata": (b"package tidewaiter.bad\nfindings contains 1", "bad.rego:1: there is no # METADATA"),
    "an unknown field": (
        rule("bad", 'findings contains {"path": "p", "message": input.lables}'),
        "bad.rego:8:50: input.lables does not exist; did you mean labels?",
    ),
    "an unknown function": (
        rule("bad", 'findings contains {"path": "p", "message": f(1)}'),
        "bad.rego:8:45: could not find function f",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=list(BAD))
def test_check_of_bad_policies(folder: Path, text: bytes, sentence: str) -> None:
    (folder / "bad.rego").write_bytes(text)

    done = policy("check", "--policies", str(folder))

    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert sentence in "\n".join(answer("check", "--policies", str(folder), status=2)["problems"])


def test_a_test_file_that_cannot_be_read_is_found(folder: Path) -> None:
    (folder / "says_test.rego").write_text("package x\nbroken {")

    assert "says_test.rego:2:" in policy("check", "--policies", str(folder)).stderr


def test_a_bundle_is_checked_with_its_signature(folder: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "ours")
    _, other = write_keys(tmp_path, "other")
    bundle = str(build_bundle(folder, tmp_path / "b.tar.gz", private))

    assert policy("check", "--policies", bundle, "--public-key", str(public)).exit_code == 0
    refused = policy("check", "--policies", bundle, "--public-key", str(other))
    assert (refused.exit_code, "does not belong to the public key" in refused.stderr) == (2, True)


def test_status_has_the_effective_action_of_every_rule(tmp_path: Path) -> None:
    settings = {
        "environments": {"production": {"action": "deny"}, "development": {"action": "audit"}},
        "rules": {"host-access": {"action": {"production": "warn"}}, "image-pinned": {"action": "off"}},
        "namespaces": {"fraud": {"environment": "production", "actions": {"memory-limits": "audit"}}},
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))

    found = answer("status", "--settings", str(tmp_path / "settings.yaml"), "--namespace", "fraud")

    assert found["problem"] == ""
    assert len(found["revision"]) == 12
    wanted = {"host-access": "warn", "image-pinned": "off", "memory-limits": "audit", "image-registry": "deny"}
    assert {rule_id: found["actions"][rule_id]["action"] for rule_id in wanted} == wanted
    assert {found["actions"][one]["language"] for one in ("image-pinned", "host-access")} == {"Python", "Rego"}


def test_status_of_broken_policies_says_what_is_wrong(folder: Path) -> None:
    (folder / "bad.rego").write_text("broken")

    found = answer("status", "--policies", str(folder), status=1)

    assert found["problem"].startswith("bad.rego:1:1:")
    assert "image-pinned" in found["actions"]


def test_status_of_an_unknown_environment_is_refused() -> None:
    done = policy("status", "--environment", "prod")

    assert (done.exit_code, "use development, staging, production" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", ["list", "show", "test", "check", "export", "status"])
def test_help_has_an_example(name: str) -> None:
    assert f"tidewaiter policy {name}" in policy(name, "--help").stdout
