"""The example of docs/policies.md is a policy that works."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from admission.finding import Finding
from tests.controlplane.binaries import locate
from tests.rego.policies import INPUT
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.input_fields import unknown_fields
from webhook.rego.policy_set import policy_set
from webhook.rego.sources import built_in_policies

TEXT = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")


def test_the_example_is_a_policy() -> None:
    (example,) = re.findall(r"```rego\n(.*?)```", TEXT, re.DOTALL)
    found = policy_set("docs", {"a.rego": example.encode(), "data.yaml": b"settings: {short_names: {longest: 3}}"})
    containers = [
        {"kind": "containers", "path": f"spec.containers[{index}]", "name": name}
        for index, name in enumerate(["abc", "abcd"])
    ]

    answers = EmbeddedEngine(found).evaluate_now({**INPUT, "containers": containers})

    assert answers == {
        "short-names": [
            Finding(
                "short-names", "spec.containers[1].name", 'name "abcd" is too long', "use at most 20 characters", "abcd"
            )
        ]
    }
    assert unknown_fields(found.modules[0]) == []


def test_the_misspelt_field_is_told_in_these_words() -> None:
    (sentence,) = re.findall(r"`names\.rego:(\d+:\d+: .*?\?)`", TEXT, re.DOTALL)
    example = re.findall(r"```rego\n(.*?)```", TEXT, re.DOTALL)[0].replace("container.name)", "container.nmae)", 1)
    (unknown,) = unknown_fields(policy_set("docs", {"names.rego": example.encode()}).modules[0])

    assert unknown.text() == f"names.rego:{' '.join(sentence.split())}"


def test_the_file_for_conftest_denies_what_the_rules_find(tmp_path: Path) -> None:
    (module,) = re.findall(r"```\n(package main.*?)```", TEXT, re.DOTALL)
    (tmp_path / "main.rego").write_text(module)
    (tmp_path / "input.json").write_text(json.dumps(INPUT))
    folder = str(built_in_policies())
    command = [str(locate("opa")), "eval", "--data", folder, "--data", str(tmp_path / "main.rego"), "--format", "json"]

    done = subprocess.run(
        [*command, "--input", str(tmp_path / "input.json"), "data.main.deny"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    denied = json.loads(done.stdout)["result"][0]["expressions"][0]["value"]
    assert "spec.hostPID: hostPID is true (rule host_access)" in denied
    assert len(denied) == 3
