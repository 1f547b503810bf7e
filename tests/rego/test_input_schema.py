"""The published schema of the input: it has what the input has, and finds what it has not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from admission.pod import ModelPod
from admission.policy_input import policy_input
from tests.controlplane.binaries import locate
from tests.kernel import context
from tests.rego.policies import rule
from webhook.rego.embedded_engine import WARM_UP
from webhook.rego.input_fields import input_schema, unknown_fields
from webhook.rego.policy_set import policy_set
from webhook.rego.sources import FolderSource, built_in_policies

CONTAINER = {
    "name": "c", "image": "nvcr.io/nvidia/tritonserver:1", "securityContext": {"privileged": True},
    "ports": [{"containerPort": 1, "hostPort": 1, "hostIP": "0.0.0.0", "name": "a", "protocol": "TCP"}],
    "resources": {"limits": {"cpu": 1}, "requests": {"cpu": "1"}, "claims": [{"name": "a", "request": "b"}]},
}  # fmt: skip
FULL = {
    "metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}},
    "spec": {
        "hostNetwork": True, "hostPID": True, "hostIPC": True, "serviceAccountName": "a", "runtimeClassName": "b",
        "nodeName": "c", "volumes": [{"name": "v", "hostPath": {"path": "/", "type": "Directory"}}],
        "initContainers": [CONTAINER], "containers": [CONTAINER], "ephemeralContainers": [CONTAINER],
    },
}  # fmt: skip


def made_of(pod: dict[str, Any]) -> dict[str, Any]:
    return policy_input(ModelPod(pod, "models"), context(groups=("g",)))


def fields(value: Any, place: str = "input") -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from fields(one, f"{place}[]")
    elif isinstance(value, dict):
        for key, one in value.items():
            yield f"{place}.{key}"
            yield from fields(one, f"{place}.{key}")


def described(schema: Mapping[str, Any], place: str = "input") -> Iterator[str]:
    for key, one in schema.get("properties", {}).items():
        yield f"{place}.{key}"
        yield from described(one, f"{place}.{key}")
    if "items" in schema:
        yield from described(schema["items"], f"{place}[]")


def open_mappings(schema: Mapping[str, Any], place: str = "input") -> Iterator[str]:
    if isinstance(schema.get("additionalProperties"), dict):
        yield place
    for key, one in schema.get("properties", {}).items():
        yield from open_mappings(one, f"{place}.{key}")
    if "items" in schema:
        yield from open_mappings(schema["items"], f"{place}[]")


def test_schema_and_input_have_the_same_fields() -> None:
    free = tuple(f"{place}." for place in open_mappings(input_schema()))
    given = {one for one in fields(made_of(FULL)) if not one.startswith(free)}

    assert given == set(described(input_schema()))


def test_what_the_schema_requires_is_there_in_the_smallest_pod() -> None:
    given = set(fields(made_of({"spec": {"containers": [{}], "volumes": [{"hostPath": {}}]}})))

    def required(schema: Mapping[str, Any], place: str) -> Iterator[str]:
        for key in schema.get("required", ()):
            yield f"{place}.{key}"
        for key, one in schema.get("properties", {}).items():
            yield from required(one, f"{place}.{key}")
        if "items" in schema:
            yield from required(schema["items"], f"{place}[]")

    wanted = set(required(input_schema(), "input"))
    assert {"input.containers[].path", "input.spec.volumes[].index", "input.model.uri"} <= wanted
    assert wanted <= given


def test_the_input_of_the_first_evaluation_has_every_field_of_a_bare_pod() -> None:
    assert set(fields(WARM_UP)) == set(fields(made_of({"spec": {}})))


def test_opa_finds_a_misspelt_field_by_the_schema(tmp_path: Path) -> None:
    schemas = built_in_policies() / "schemas"
    text = rule("a-rule", 'findings contains {"path": "p", "message": "m"} if input.spec.hostPid')
    (tmp_path / "a.rego").write_bytes(text.replace(b"# custom:", b"# schemas:\n#   - input: schema.input\n# custom:"))

    def check(folder: Path) -> subprocess.CompletedProcess[str]:
        command = [str(locate("opa")), "check", "--strict", "--schema", str(schemas), str(folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert "undefined ref: input.spec.hostPid" in check(tmp_path).stderr
    shipped = check(built_in_policies())
    assert (shipped.returncode, shipped.stderr) == (0, "")


UNKNOWN = {
    "of the input": ("input.lables.team", "input.lables", "labels"),
    "of a container": ("some c in input.containers\n\tc.imge", "input.containers[_].imge", "image"),
    "by an index": ("input.containers[0].imge", "input.containers[_].imge", "image"),
    "by a name in brackets": ('input["spec"]["hostPid"]', "input.spec.hostPid", "hostPID"),
    "through a variable": ("s := input.spec\n\ts.hostPid", "input.spec.hostPid", "hostPID"),
    "in a comprehension": ("count([c.imge | some c in input.containers]) > 0", "input.containers[_].imge", "image"),
    "in every": ("every c in input.containers { c.imge }", "input.containers[_].imge", "image"),
    "by object.get": ('object.get(input.spec, "hostPid", false)', "input.spec.hostPid", "hostPID"),
    "in a negation": ("not input.spec.hostPid", "input.spec.hostPid", "hostPID"),
}


@pytest.mark.parametrize(("condition", "read", "close"), UNKNOWN.values(), ids=list(UNKNOWN))
def test_a_field_that_no_input_has_is_found(condition: str, read: str, close: str) -> None:
    body = f'findings contains {{"path": "p", "message": "m"}} if {{\n\t{condition}\n}}'
    (found,) = unknown_fields(policy_set("test", {"a.rego": rule("a-rule", body)}).modules[0])

    assert found.text().endswith(f"{read} does not exist; did you mean {close}?")
    assert found.text().startswith(f"a.rego:{9 + condition.count(chr(10))}:")


def test_an_import_of_the_input_is_followed() -> None:
    body = 'import input.spec as s\nimport input.model\n\nfindings contains {"path": s.hostPid, "message": model.nam}'
    found = unknown_fields(policy_set("test", {"a.rego": rule("a-rule", body)}).modules[0])

    assert {one.read for one in found} == {"input.spec.hostPid", "input.model.nam"}


def test_what_exists_is_left_alone() -> None:
    body = """
findings contains {"path": "p", "message": "m"} if {
	input.labels.anything
	input.annotations["a/b"]
	some c in input.containers
	c.resources.limits["nvidia.com/gpu"] > 0
	some key, limit in c.resources.limits
	some input_ in ["spec"]
	input[input_]
	c := {"imge": 1}
	c.imge == 1
	data.other.imge
}
"""
    assert unknown_fields(policy_set("test", {"a.rego": rule("a-rule", body)}).modules[0]) == []


def test_the_shipped_policies_read_what_exists() -> None:
    for module in FolderSource(built_in_policies()).read().modules:
        assert unknown_fields(module) == []


def test_the_schema_is_json() -> None:
    text = (built_in_policies() / "schemas" / "input.json").read_text(encoding="utf-8")
    assert json.loads(text)["additionalProperties"] is False
