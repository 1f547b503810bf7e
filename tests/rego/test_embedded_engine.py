"""The embedded engine: a rule that fails is a failure of that rule, never a silence."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from admission.finding import Action, Finding
from admission.validator import PolicyAnswers, PolicyError, RuleFailure, RuleSettings
from tests.rego.policies import DIVIDES, INPUT, SAYS, Failures, labelled, rule, rules
from webhook.rego import regorus_engine
from webhook.rego.combined_engine import CombinedEngine
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.policy_set import policy_set


def answers(engine: Any, given: dict[str, Any]) -> PolicyAnswers:
    found: PolicyAnswers = asyncio.run(engine.evaluate(given))
    return found


def test_findings_come_by_rule_with_the_remedy_of_the_metadata() -> None:
    text = rule(
        "a-rule", 'findings contains {"path": "spec", "message": "bad", "container": "c"}', "#   remedy: mend\n"
    )
    engine = EmbeddedEngine(policy_set("test", {"a.rego": text}))

    assert answers(engine, INPUT) == {"a-rule": [Finding("a-rule", "spec", "bad", "mend", "c")]}


def test_a_finding_may_have_a_remedy_of_its_own() -> None:
    body = 'findings contains {"path": "spec", "message": "bad", "remedy": "own"}'
    engine = EmbeddedEngine(policy_set("test", {"a.rego": rule("a-rule", body, "#   remedy: mend\n")}))

    found = answers(engine, INPUT)["a-rule"]
    assert isinstance(found, list)
    assert found[0].remedy == "own"


def test_a_rule_without_findings_is_absent() -> None:
    assert answers(EmbeddedEngine(rules(aa=SAYS)), INPUT) == {}


def test_one_input_leaves_nothing_behind_for_the_next() -> None:
    engine = EmbeddedEngine(rules(aa=SAYS))

    assert "aa" in answers(engine, labelled(say="x"))
    assert answers(engine, INPUT) == {}


def test_a_rule_that_fails_on_an_input_fails_alone_and_is_counted() -> None:
    failures = Failures()
    engine = EmbeddedEngine(rules(aa=SAYS, bb=DIVIDES), on_failure=failures)

    found = answers(engine, labelled(say="x", divide="y"))

    assert found["aa"] == [Finding("aa", "spec", "x", "see the rule's description")]
    assert found["bb"] == RuleFailure("rule bb failed: bb.rego:11:7: divide by zero")
    assert failures.seen == [("bb", "error")]


def test_a_failure_does_not_repeat_what_the_author_wrote() -> None:
    body = 'findings contains {"path": "p", "message": "m"} if to_number(input.labels.n) + input.labels.secret > 0'
    found = answers(EmbeddedEngine(rules(aa=body)), labelled(n="1", secret="hunter2"))["aa"]

    assert isinstance(found, RuleFailure)
    assert "hunter2" not in found.reason


SHAPES = {
    "a text": ('"bad"', "answered a text as a finding"),
    "no message": ('{"path": "spec"}', "answered a finding without message"),
    "no path": ('{"message": "bad"}', "answered a finding without path"),
    "a path that is a number": ('{"path": 1, "message": "bad"}', "answered a finding without path"),
    "a remedy that is a list": ('{"path": "p", "message": "m", "remedy": []}', "whose remedy is a list"),
}


@pytest.mark.parametrize(("finding", "sentence"), SHAPES.values(), ids=list(SHAPES))
def test_a_finding_of_another_shape_is_a_failure(finding: str, sentence: str) -> None:
    engine = EmbeddedEngine(rules(aa=f"findings contains {finding} if input.labels.say"))

    found = answers(engine, labelled(say="x"))["aa"]
    assert isinstance(found, RuleFailure)
    assert sentence in found.reason


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('findings contains {"path": "p", "message": nowhere.f(1)}', "aa.rego:8:53: could not find function nowhere.f"),
        ("findings contains x if { x := y }\ny := z\nz := y", "recursion detected"),
    ],
)
def test_a_policy_that_never_works_is_refused_when_it_is_loaded(body: str, sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence):
        EmbeddedEngine(rules(aa=body))


def test_a_flood_of_findings_is_cut_with_a_word_about_it() -> None:
    body = 'findings contains {"path": "p", "message": sprintf("%d", [n])} if some n in numbers.range(1, 500)'
    found = answers(EmbeddedEngine(rules(aa=f"{body}")), INPUT)["aa"]

    assert isinstance(found, list)
    assert len(found) == 100
    assert found[-1].message == "and 401 more findings of this rule"


def test_the_settings_say_what_a_rule_does() -> None:
    engine = EmbeddedEngine(rules(aa=SAYS), {"aa": RuleSettings(action={"*": Action.DENY})})

    assert engine.rules["aa"].settings.action == {"*": Action.DENY}


def test_a_library_serves_several_rules() -> None:
    body = 'import data.lib.words\n\nfindings contains {"path": "p", "message": words.bad}'
    files = {
        "lib/words.rego": b'package lib.words\n\nbad := "bad"',
        "a.rego": rule("aa", body),
        "b.rego": rule("bb", body),
    }

    assert set(answers(EmbeddedEngine(policy_set("test", files)), INPUT)) == {"aa", "bb"}


def test_two_engines_answer_as_one() -> None:
    combined = CombinedEngine([EmbeddedEngine(rules(aa=SAYS)), EmbeddedEngine(rules(bb=SAYS))])

    assert set(combined.rules) == {"aa", "bb"}
    assert set(answers(combined, labelled(say="x"))) == {"aa", "bb"}
    assert combined.revision.count("+") == 1


def test_two_engines_with_one_rule_are_refused() -> None:
    with pytest.raises(PolicyError, match="rule id aa stands in two sources"):
        CombinedEngine([EmbeddedEngine(rules(aa=SAYS)), EmbeddedEngine(rules(aa=SAYS))])


def test_many_rules_are_evaluated_in_groups_and_all_of_them_answer() -> None:
    many = rules(**{f"rule_{number}": SAYS for number in range(60)})

    assert [len(one.rules) for one in many.groups()] == [24, 24, 12]
    assert set(answers(EmbeddedEngine(many), labelled(say="x"))) == set(many.rules)


def test_rules_that_read_each_other_stay_together() -> None:
    reads = 'findings contains {"path": "p", "message": "m"} if count(data.tidewaiter.rule_59.findings) > 0'
    many = rules(**{f"rule_{number}": SAYS for number in range(60)}, reads=reads)

    assert len(many.groups()) == 1
    assert "reads" in answers(EmbeddedEngine(many), labelled(say="x"))


def test_an_engine_whose_last_reference_goes_in_another_thread_ends_in_its_own() -> None:
    """The collector runs in any thread; what it finds there must not be a regorus engine."""
    unraisable: list[Any] = []
    held = [EmbeddedEngine(policy_set("test", {"a.rego": rule("a-rule", SAYS)}))]
    before = sys.unraisablehook
    sys.unraisablehook = unraisable.append
    try:
        other = threading.Thread(target=held.clear)
        other.start()
        other.join(timeout=10)
    finally:
        sys.unraisablehook = before

    assert not held
    assert not unraisable


def test_engines_that_nobody_holds_are_ended_and_not_kept() -> None:
    kept = regorus_engine._ENGINES.by_number
    EmbeddedEngine(policy_set("test", {"a.rego": rule("a-rule", SAYS)}))
    before = len(kept)
    held = [EmbeddedEngine(policy_set("test", {"a.rego": rule("a-rule", SAYS)}))]
    assert len(kept) > before
    other = threading.Thread(target=held.clear)
    other.start()
    other.join(timeout=10)

    EmbeddedEngine(policy_set("test", {"a.rego": rule("a-rule", SAYS)}))

    assert len(kept) == before
