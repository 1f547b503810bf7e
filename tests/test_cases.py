"""Runs every mutator and rule alone over its table of cases (``tests/cases/README.md``)."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import regorus
import yaml

from admission.finding import Finding
from admission.json_patch import diff
from admission.mutator import Change, MutatorSettings
from admission.pod import ModelPod
from admission.pod_schema import check_shape
from admission.policy_input import policy_input
from admission.validator import RuleSettings
from admission.workload_kinds.workload_pod import WorkloadPod
from tests.kernel import MUTATORS, VALIDATORS, case_context, case_pod

CASES = Path(__file__).parent / "cases"
POLICIES = Path(__file__).parent.parent / "policies"
CASE_KEYS = {
    "name", "why", "pod", "expect", "settings", "environment", "namespace", "cluster", "pools", "approvals",
    "operation", "path", "owner", "missing", "mutators", "data", "username", "groups", "by_controller", "may_deploy",
    "signatures",
}  # fmt: skip
POLICY_IDS = {path.stem.replace("_", "-") for path in POLICIES.glob("*.rego") if not path.name.endswith("_test.rego")}
IDS = {"mutators": set(MUTATORS), "validators": set(VALIDATORS), "policies": POLICY_IDS}

Case = Mapping[str, Any]


def cases(folder: str) -> list[Any]:
    found = []
    for path in sorted((CASES / folder).glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for case in document["cases"]:
            found.append(
                pytest.param(path.stem, {**document.get("common", {}), **case}, id=f"{path.stem}: {case['name']}")
            )
    return found


@pytest.mark.parametrize("folder", sorted(IDS))
def test_every_rule_has_cases_and_every_case_file_a_rule(folder: str) -> None:
    assert {path.stem for path in (CASES / folder).glob("*.yaml")} == IDS[folder]


@pytest.mark.parametrize(("_rule", "case"), [entry for folder in sorted(IDS) for entry in cases(folder)])
def test_a_case_has_no_unknown_key_and_a_pod_of_the_right_shape(_rule: str, case: Case) -> None:
    assert set(case) <= CASE_KEYS
    check_shape(case["pod"])


@pytest.mark.parametrize("path", sorted(CASES.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_names_of_cases_are_unique(path: Path) -> None:
    names = [case["name"] for case in yaml.safe_load(path.read_text(encoding="utf-8"))["cases"]]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(("mutator_id", "case"), cases("mutators"))
def test_mutator(mutator_id: str, case: Case) -> None:
    expect = case["expect"]
    expected = copy.deepcopy(case["pod"])
    for pointer, value in (expect.get("set") or {}).items():
        put(expected, pointer, value)
    for pointer in expect.get("remove", ()):
        take(expected, pointer)

    mutated, changes = mutate(mutator_id, case)

    assert mutated == expected
    assert bool(diff(case["pod"], mutated)) == any(change.applied for change in changes)
    texts("applied", expect, [change.summary for change in changes if change.applied])
    texts("said", {"said": (), **expect}, [change.summary for change in changes if not change.applied])
    assert jsonpatch.apply_patch(copy.deepcopy(case["pod"]), diff(case["pod"], mutated)) == mutated
    again, changes = mutate(mutator_id, {**case, "pod": mutated})
    assert again == mutated
    assert not [change.summary for change in changes if change.applied]


@pytest.mark.parametrize(("rule", "case"), cases("validators"))
def test_rule(rule: str, case: Case) -> None:
    validator = VALIDATORS[rule]
    settings: RuleSettings = validator.settings.model_validate(case.get("settings", {}))
    context = case_context(case)
    pod = case_pod(case, context)
    found = list(validator.check(pod, context, settings)) if validator.applies.covers(pod, context) else []
    assert pod.obj == case["pod"]
    compare(case["expect"], found, rule, case.get("path", ""))


@pytest.mark.parametrize(("rule", "case"), cases("policies"))
def test_policy(rule: str, case: Case) -> None:
    context = case_context(case)
    pod = case_pod(case, context)
    answers = evaluate(rule, policy_input(pod, context), case.get("data"))
    found = [Finding(rule, one["path"], one["message"], one["remedy"], one.get("container", "")) for one in answers]
    compare(case["expect"], found, rule, case.get("path", ""))


def mutate(mutator_id: str, case: Case) -> tuple[dict[str, Any], list[Change]]:
    mutator = MUTATORS[mutator_id]
    settings: MutatorSettings = mutator.settings.model_validate(case.get("settings", {}))
    context = case_context(case)
    pod: ModelPod = case_pod(case, context)
    changes = list(mutator.mutate(pod, context, settings))
    return pod.obj, changes


def compare(expect: Any, found: Iterable[Finding], rule: str, template: str) -> None:
    """Each expected entry has ``path``, part of the ``message``, and may have ``container`` and ``remedy``.

    ``template`` is where the pod stands in the author's object: expected paths begin with it.
    """
    origin = WorkloadPod({}, origins=(("", template),))
    found = [replace(one, path=origin.authored(one.path)) for one in found]
    actual = sorted(found, key=lambda one: (one.path, one.message))
    wanted = [] if expect == "none" else sorted(expect, key=lambda one: (one["path"], one["message"]))
    shown = "\n".join(one.text() for one in actual)
    assert [one.path for one in actual] == [one["path"] for one in wanted], shown
    for one, entry in zip(actual, wanted, strict=True):
        assert one.rule == rule
        assert one.remedy
        assert entry["message"] in one.message
        assert entry.get("remedy", "") in one.remedy
        assert entry.get("container", one.container) == one.container


def texts(key: str, expect: Mapping[str, Any], actual: list[str]) -> None:
    """Where the case names them, each expected text is a part of one actual, in order."""
    if key not in expect:
        return
    assert len(actual) == len(expect[key]), actual
    for part, text in zip(expect[key], actual, strict=True):
        assert part in text


def parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def put(obj: Any, pointer: str, value: Any) -> None:
    """Set the value at a JSON pointer: parents are made, ``-`` appends, an index replaces."""
    *parents, last = parts(pointer)
    for part, following in zip(parents, [*parents[1:], last], strict=True):
        if isinstance(obj, list):
            obj = obj[int(part)]
        else:
            if obj.get(part) is None:
                obj[part] = [] if following == "-" else {}
            obj = obj[part]
    if last == "-":
        obj.append(value)
    elif isinstance(obj, list):
        obj[int(last)] = value
    else:
        obj[last] = value


def take(obj: Any, pointer: str) -> None:
    *parents, last = parts(pointer)
    for part in parents:
        obj = obj[int(part)] if isinstance(obj, list) else obj[part]
    del obj[int(last) if isinstance(obj, list) else last]


@functools.cache
def engine(rule: str, data: str) -> regorus.Engine:
    made = regorus.Engine()
    path = POLICIES / f"{rule.replace('-', '_')}.rego"
    made.add_policy(path.name, path.read_text(encoding="utf-8"))
    made.add_data(json.loads(data))
    return made


def evaluate(rule: str, given: Mapping[str, Any], data: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """The findings of one policy; ``data`` stands over that of data.yaml."""
    settings = yaml.safe_load((POLICIES / "data.yaml").read_text(encoding="utf-8"))["settings"]
    policy = engine(rule, json.dumps({"settings": {**settings, **(data or {})}}))
    policy.set_input(given)
    answers: list[dict[str, str]] = json.loads(
        policy.eval_rule_as_json(f"data.tidewaiter.{rule.replace('-', '_')}.findings")
    )
    return answers
