"""Policies as files: what is read of them, and the sentences about what is wrong."""

from __future__ import annotations

import pytest

from admission.validator import PolicyError, Scope, Severity
from tests.rego.policies import rule, rules
from webhook.rego.policy_set import merged_data, policy_set

HEAD = rule("a-rule").decode()


def test_metadata_describe_the_rule() -> None:
    custom = "#   severity: high\n#   remedy: mend it\n#   scope: every-pod\n#   workloads: [training]\n"
    text = rule("a-rule", custom=custom).replace(
        b"# custom:", b"# related_resources:\n#   - https://a.example\n#   - ref: https://b.example\n# custom:"
    )
    found = policy_set("test", {"a.rego": text}).rules["a-rule"]

    assert (found.title, found.description, found.severity, found.remedy) == (
        "a-rule", "Judges.", Severity.HIGH, "mend it",
    )  # fmt: skip
    assert found.applies.scope is Scope.EVERY_POD
    assert [one.value for one in found.applies.workloads] == ["training"]
    assert found.related == ("https://a.example", "https://b.example")


MISTAKES = {
    "syntax": (HEAD + "broken if {", "a.rego:9:"),
    "no package": ("findings contains 1", "a.rego:1:1: expecting `package`"),
    "no metadata": ("package tidewaiter.a\nfindings contains 1", "a.rego:1: there is no # METADATA"),
    "metadata that are no YAML": (HEAD.replace("title: a-rule", "title: [a"), "a.rego:"),
    "a severity that does not exist": (
        HEAD.replace("#   id: a-rule", "#   id: a-rule\n#   severity: grave"),
        "a.rego:6: # METADATA: custom.severity: Input should be 'low', 'medium', 'high' or 'critical', found 'grave'",
    ),
    "an id with capitals": (HEAD.replace("id: a-rule", "id: A"), "a.rego:5: # METADATA: custom.id"),
    "an unknown key": (HEAD.replace("#   id: a-rule", "#   id: a-rule\n#   sevrity: low"), "a.rego:6: # METADATA"),
    "no title": (HEAD.replace("# title: a-rule\n", ""), "# METADATA: title: Field required"),
    "another package": (HEAD.replace("tidewaiter.a_rule", "mine.a"), "package mine.a is neither a rule nor a library"),
    "no findings": (HEAD.replace("findings", "found"), "package tidewaiter.a_rule has no set `findings`"),
    "deep nesting": (HEAD + "x := " + "[" * 100 + "]" * 100, "a.rego:9: brackets are nested more than 40 deep"),
}


@pytest.mark.parametrize(("text", "sentence"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_told_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy_set("test", {"a.rego": text.encode()})

    assert sentence in str(caught.value)
    assert "Stack backtrace" not in str(caught.value)


def test_every_problem_of_every_file_is_told_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        policy_set("test", {"a.rego": b"broken", "b.rego": b"broken", "data.json": b"[1]"})

    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["a.rego", "b.rego", "data.json"]


def test_one_id_in_two_files_is_refused() -> None:
    other = rule("a-rule").replace(b"tidewaiter.a_rule", b"tidewaiter.b")

    with pytest.raises(PolicyError, match=r"b/b\.rego: rule id a-rule stands in a\.rego too"):
        policy_set("test", {"a.rego": rule("a-rule"), "b/b.rego": other})


def test_one_package_in_two_files_is_refused() -> None:
    other = rule("other").replace(b"tidewaiter.other", b"tidewaiter.a_rule")

    with pytest.raises(PolicyError, match=r"b\.rego: package a_rule stands in a\.rego too"):
        policy_set("test", {"a.rego": rule("a-rule"), "b.rego": other})


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(PolicyError, match=r"a\.rego: byte 0 is not UTF-8"):
        policy_set("test", {"a.rego": b"\xff"})


def test_a_source_without_rules_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"test has no \.rego file"):
        policy_set("test", {"readme.txt": b""})
    with pytest.raises(PolicyError, match="every package is a library"):
        policy_set("test", {"a.rego": b"package lib.a\nx := 1"})


def test_a_source_that_is_too_big_is_refused() -> None:
    with pytest.raises(PolicyError, match="too big: at most 2000 files of 16 MiB"):
        policy_set("test", {"data.json": b" " * (17 << 20)})


def test_data_of_folders_stand_below_their_names() -> None:
    texts = {"data.yaml": "a: {b: 1}", "a/data.json": '{"c": 2}', "a/d/data.yml": "e: 3"}

    assert merged_data(texts) == {"a": {"b": 1, "c": 2, "d": {"e": 3}}}


def test_a_value_that_is_set_twice_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"data\.yaml: data\.a\.c is set in another data file too"):
        merged_data({"a/data.json": '{"c": 2}', "data.yaml": "a: {c: 3}"})


def test_data_that_cannot_be_read_are_told_with_their_line() -> None:
    with pytest.raises(PolicyError, match=r"data\.yaml:3:1: the data cannot be read"):
        merged_data({"data.yaml": "a: 1\nb: [\n"})


def test_the_revision_follows_rules_and_data_and_not_tests() -> None:
    files = {"a.rego": rule("a-rule"), "data.yaml": b"a: 1"}
    revision = policy_set("test", files).revision

    assert policy_set("elsewhere", {**files, "a_test.rego": b"package x"}).revision == revision
    assert policy_set("test", {**files, "data.yaml": b"a: 2"}).revision != revision
    assert policy_set("test", {**files, "a.rego": rule("a-rule") + b"#"}).revision != revision


def test_a_rule_may_stand_in_a_package_of_a_team() -> None:
    text = rule("a-rule").replace(b"tidewaiter.a_rule", b"tidewaiter.fraud.a_rule")

    assert policy_set("test", {"a.rego": text}).queries == {"a-rule": "data.tidewaiter.fraud.a_rule.findings"}


def test_tests_are_kept_apart() -> None:
    found = policy_set("test", {"a.rego": rule("a-rule"), "a_test.rego": b"package t"})

    assert (list(found.rules), list(found.tests)) == (["a-rule"], ["a_test.rego"])
    assert not rules(a_rule='findings contains {"path": "p", "message": "m"}').tests
