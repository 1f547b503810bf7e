"""The export to Gatekeeper, judged by Gatekeeper: the same pods, the same findings."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from admission.pod import ModelPod
from admission.policy_input import policy_input
from tests.controlplane.binaries import locate
from tests.kernel import context
from tests.rego.policies import rule
from webhook.cli import main
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.sources import FolderSource, built_in_policies

PODS: dict[str, Mapping[str, Any]] = {
    "clean": {"containers": [{"name": "c", "image": "nginx", "resources": {"limits": {"memory": "1Gi"}}}]},
    "host-namespaces": {"hostPID": True, "hostNetwork": True, "hostIPC": False, "containers": [{"name": "c", "image": "nginx"}]},
    "every-kind": {
        "initContainers": [{"name": "i", "image": "evil.io/a", "securityContext": {"privileged": True}}],
        "containers": [
            {"name": "c", "image": "evil.io/b", "ports": [{"containerPort": 1, "hostPort": 80}]},
            {"name": "d", "image": "ghcr.io/x", "securityContext": {"privileged": False}},
        ],
    },
    "volumes": {
        "containers": [{"name": "c", "image": "nginx"}],
        "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/etc"}}],
    },
}  # fmt: skip


def verify(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(locate("gator")), "verify", "-v", f"{folder}/..."],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def export(folder: Path, *arguments: str) -> None:
    done = CliRunner().invoke(main, ["policy", "export", "--gatekeeper", str(folder), *arguments])
    assert done.exit_code == 0, done.output


def write_suite(folder: Path, source: Path) -> int:
    """A test for each rule and pod with what the embedded engine finds; answers how many findings that are."""
    engine = EmbeddedEngine(FolderSource(source).read())
    tests, number = [], 0
    for name, spec in PODS.items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "models"}, "spec": spec}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(pod))
    for rule_id in engine.rules:
        checks = []
        for name, spec in PODS.items():
            found = engine.evaluate_now(policy_input(ModelPod({"spec": dict(spec)}, "models"), context())).get(
                rule_id, []
            )
            assert isinstance(found, list)
            number += len(found)
            assertions: list[dict[str, Any]] = [{"violations": len(found) or "no"}]
            for one in found:
                message = f"{one.path}{f' ({one.container})' if one.container else ''}: {one.message}; {one.remedy}"
                assertions.append({"violations": 1, "message": re.escape(message).replace("\\ ", " ")})
            checks.append({"name": name, "object": f"{name}.yaml", "assertions": assertions})
        tests.append(
            {
                "name": rule_id,
                "template": f"templates/{rule_id}.yaml",
                "constraint": f"constraints/{rule_id}.yaml",
                "cases": checks,
            }
        )
    suite = {"kind": "Suite", "apiVersion": "test.gatekeeper.sh/v1alpha1", "tests": tests}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    return number


def test_gatekeeper_finds_what_we_find(tmp_path: Path) -> None:
    export(tmp_path)
    assert write_suite(tmp_path, built_in_policies()) > 8

    done = verify(tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_team_s_rule_with_library_and_data_is_exported(tmp_path: Path) -> None:
    source = tmp_path / "policies"
    source.mkdir()
    (source / "words.rego").write_text(
        "package lib.words\n\nimport data.settings.words\n\nbad(name) if name in words\n"
    )
    body = """import data.lib.words
import data.settings.words as known

findings contains finding if {
	some c in input.containers
	words.bad(c.name)
	finding := {"path": c.path, "message": sprintf("%s is one of %d, and %s", [c.name, count(known), data.settings.more])}
}
"""
    (source / "a.rego").write_bytes(rule("bad-names", body, "#   remedy: rename it\n"))
    (source / "data.yaml").write_text("settings: {words: [c, x], more: [1]}\n")
    folder = tmp_path / "gatekeeper"
    export(folder, "--policies", str(source))
    assert write_suite(folder, source) == 4

    done = verify(folder)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("action", "theirs"), [("deny", "deny"), ("warn", "warn"), ("audit", "dryrun")])
def test_the_action_is_gatekeeper_s_word(tmp_path: Path, action: str, theirs: str) -> None:
    export(tmp_path, "--action", action)

    document = yaml.safe_load((tmp_path / "constraints" / "host-access.yaml").read_text())
    assert document["spec"]["enforcementAction"] == theirs


def test_data_without_a_name_are_not_exported(tmp_path: Path) -> None:
    body = 'findings contains {"path": "p", "message": data["settings"].x}'
    (tmp_path / "a.rego").write_bytes(rule("a-rule", body))
    arguments = ["policy", "export", "--gatekeeper", str(tmp_path / "out"), "--policies", str(tmp_path)]

    done = CliRunner().invoke(main, arguments)

    assert (done.exit_code, "a.rego: data[...] cannot be exported" in done.stderr) == (2, True)
