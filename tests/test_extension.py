"""A rule is one file and its cases: shown by adding one in each language to a copy, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("admission", "audit", "mutators", "policies", "registries", "validators", "webhook")
PYTHON_RULE = '''"""No pod is named after a ship that sank.

Field: ``metadata.name``.
"""

from collections.abc import Iterable

from admission.context import ReviewContext
from admission.finding import Finding
from admission.pod import ModelPod
from admission.validator import RuleSettings, Validator


class UnluckyNameSettings(RuleSettings):
    """Settings of unlucky-name."""

    names: tuple[str, ...] = ("titanic",)
    """Names that nobody may use."""


def check(pod: ModelPod, _context: ReviewContext, settings: UnluckyNameSettings) -> Iterable[Finding]:
    """Find unlucky names."""
    name = (pod.obj.get("metadata") or {}).get("name")
    if name in settings.names:
        yield Finding("unlucky-name", "metadata.name", f"the pod is named {name!r}", "choose another name")


VALIDATOR = Validator(id="unlucky-name", check=check, settings=UnluckyNameSettings)
'''
PYTHON_CASES = """
cases:
  - name: an unlucky name is found
    pod: {metadata: {name: titanic, labels: {tidewaiter.dev/model: m}}, spec: {containers: []}}
    expect: [{path: metadata.name, message: "'titanic'"}]
  - name: another name passes
    pod: {metadata: {name: nina, labels: {tidewaiter.dev/model: m}}, spec: {containers: []}}
    expect: none
"""
REGO_RULE = """# METADATA
# title: Containers have a name that says something
# description: Judges the names of all containers.
# custom:
#   id: telling-name
#   severity: low
#   remedy: name it after what it does
package tidewaiter.telling_name

findings contains finding if {
	some container in input.containers
	container.name == "main"
	finding := {
		"path": sprintf("%s.name", [container.path]),
		"container": container.name,
		"message": "main says nothing",
		"remedy": "name it after what it does",
	}
}
"""
REGO_CASES = """
cases:
  - name: main says nothing
    pod: {metadata: {labels: {tidewaiter.dev/model: m}}, spec: {containers: [{name: main, image: a}, {name: ok, image: a}]}}
    expect: [{path: "spec.containers[0].name", container: main, message: says nothing}]
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: titanic, labels: {tidewaiter.dev/model: m}}
spec: {containers: [{name: main, image: a}]}
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's own code with the new files in it, and no other edit."""
    made = tmp_path_factory.mktemp("copy")
    unwanted = shutil.ignore_patterns("__pycache__", "*_test.rego")
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, made / package, ignore=unwanted)
    (made / "tests").mkdir()
    for path in (REPOSITORY / "tests").glob("*.py"):
        shutil.copy(path, made / "tests")
    shutil.copytree(REPOSITORY / "tests" / "cases", made / "tests" / "cases")
    shutil.copy(REPOSITORY / "pyproject.toml", made)
    (made / "validators" / "unlucky_name.py").write_text(PYTHON_RULE)
    (made / "tests" / "cases" / "validators" / "unlucky-name.yaml").write_text(PYTHON_CASES)
    (made / "policies" / "telling_name.rego").write_text(REGO_RULE)
    (made / "tests" / "cases" / "policies" / "telling-name.yaml").write_text(REGO_CASES)
    return made


def _run(copy: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=120, check=False, cwd=copy, env=environment
    )


def test_its_cases_are_found_and_run(copy: Path) -> None:
    done = _run(copy, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/test_cases.py", "-k", "unlucky or telling")

    assert done.returncode == 0, done.stdout
    for line in ("unlucky-name: an unlucky name is found", "unlucky-name: another name passes", "main says nothing"):
        assert f"{line}] PASSED" in done.stdout


def test_a_case_that_expects_something_else_fails(copy: Path) -> None:
    cases = copy / "tests" / "cases" / "validators" / "unlucky-name.yaml"
    cases.write_text(PYTHON_CASES.replace("expect: none", "expect: [{path: spec, message: x}]"))
    try:
        done = _run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_cases.py", "-k", "another")
        assert done.returncode == 1
    finally:
        cases.write_text(PYTHON_CASES)


def test_the_rules_are_in_force_with_settings_of_their_own(copy: Path) -> None:
    settings = copy / "settings.yaml"
    settings.write_text("rules: {unlucky-name: {action: deny, names: [titanic, vasa]}, telling-name: {action: warn}}\n")

    done = _run(copy, "-m", "webhook", "review", "-", "--settings", str(settings), stdin=POD)

    assert done.returncode == 1, done.stderr
    assert "deny  unlucky-name  metadata.name" in done.stdout
    assert "warn  telling-name  spec.containers[0].name (main)" in done.stdout
