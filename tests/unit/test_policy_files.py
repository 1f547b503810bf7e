"""Policies on disk: what is read, and what is refused with the file's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from admission.validator import PolicyError, Scope
from admission.workload import WorkloadClass
from webhook.policy_files import built_in_policies, read_policies

RULE = """# METADATA
# title: Pods are small
# description: |
#   Judges the number of containers.
# custom:
#   id: small-pods
package tidewaiter.small_pods

findings contains {"path": "spec", "message": "big"} if count(input.containers) > 2
"""


def folder(path: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (path / name).write_text(text, encoding="utf-8")
    return path


def test_a_folder_is_its_modules_and_its_data(tmp_path: Path) -> None:
    found = read_policies(folder(tmp_path, {"small.rego": RULE, "data.yaml": "settings: {small_pods: {most: 2}}\n"}))

    (module,) = found.modules
    assert (module.path, module.package, module.text) == ("small.rego", "small_pods", RULE)
    assert (module.rule.id, module.rule.title) == ("small-pods", "Pods are small")
    assert module.rule.description == "Judges the number of containers."
    assert found.data == {"settings": {"small_pods": {"most": 2}}}


def test_a_rule_without_scope_is_about_model_pods_of_every_class(tmp_path: Path) -> None:
    (module,) = read_policies(folder(tmp_path, {"small.rego": RULE})).modules

    assert module.rule.applies.scope is Scope.MODEL_POD
    assert module.rule.applies.workloads == frozenset(WorkloadClass)


def test_scope_and_classes_are_taken_from_the_metadata(tmp_path: Path) -> None:
    text = RULE.replace("id: small-pods", "id: small-pods\n#   scope: every-pod\n#   workloads: [inference]")

    (module,) = read_policies(folder(tmp_path, {"small.rego": text})).modules

    assert module.rule.applies.scope is Scope("every-pod")
    assert module.rule.applies.workloads == {WorkloadClass.INFERENCE}


def test_tests_of_policies_are_left_out(tmp_path: Path) -> None:
    found = read_policies(folder(tmp_path, {"small.rego": RULE, "small_test.rego": "package nothing\n"}))

    assert [one.path for one in found.modules] == ["small.rego"]


@pytest.mark.parametrize("changed", [{"small.rego": RULE + "# more\n"}, {"data.yaml": "a: 2\n"}])
def test_the_revision_is_that_of_the_content(tmp_path: Path, changed: dict[str, str]) -> None:
    files = {"small.rego": RULE, "data.yaml": "a: 1\n"}
    before = read_policies(folder(tmp_path, files)).revision

    assert read_policies(folder(tmp_path, files)).revision == before
    assert read_policies(folder(tmp_path, changed)).revision != before


def test_the_built_in_policies_are_read() -> None:
    assert {one.rule.id for one in read_policies(built_in_policies()).modules} >= {"image-registry", "host-access"}


MISTAKES = {
    "no policy at all": ({"data.yaml": "a: 1\n"}, "has no .rego file"),
    "a package of somebody else": (
        {"a.rego": RULE.replace("package tidewaiter.small_pods", "package other")},
        "a.rego: package other must begin with tidewaiter.",
    ),
    "no package": ({"a.rego": "# METADATA\n# title: x\n"}, r"a.rego: package \(none\) must begin with"),
    "no metadata": ({"a.rego": "package tidewaiter.a\n"}, "a.rego: # METADATA before the package needs title"),
    "no title": ({"a.rego": RULE.replace("# title: Pods are small\n", "")}, "a.rego: .*(?s:.)*title"),
    "no id": ({"a.rego": RULE.replace("#   id: small-pods\n", "#   {}\n")}, "a.rego: .*(?s:.)*custom.id"),
    "an id that is none": ({"a.rego": RULE.replace("small-pods", "Small Pods")}, "a.rego: .*(?s:.)*custom.id"),
    "an unknown scope": (
        {"a.rego": RULE.replace("id: small-pods", "id: small-pods\n#   scope: nodes")},
        "a.rego: .*(?s:.)*custom.scope",
    ),
    "metadata that is no YAML": ({"a.rego": RULE.replace("title: Pods", "title: [Pods")}, "a.rego: # METADATA"),
    "metadata that is no mapping": ({"a.rego": "# METADATA\n# - x\npackage tidewaiter.a\n"}, "a.rego: # METADATA"),
    "an id given twice": (
        {"a.rego": RULE, "b.rego": RULE.replace("package tidewaiter.small_pods", "package tidewaiter.b")},
        "rule id small-pods stands in more than one policy",
    ),
    "data that is no YAML": ({"a.rego": RULE, "data.yaml": "a: [\n"}, "data.yaml is not YAML"),
    "data that is a list": ({"a.rego": RULE, "data.yaml": "[1]\n"}, "data.yaml must be a mapping"),
}


@pytest.mark.parametrize(("files", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_file(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence):
        read_policies(folder(tmp_path, files))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_bytes(b"\xff\xfe")

    with pytest.raises(PolicyError, match="cannot be read"):
        read_policies(tmp_path)


def test_metadata_of_a_rule_below_the_package_is_not_the_policys(tmp_path: Path) -> None:
    text = RULE + "\n# METADATA\n# title: Another\npermitted := true\n"

    (module,) = read_policies(folder(tmp_path, {"small.rego": text})).modules

    assert module.rule.title == "Pods are small"
