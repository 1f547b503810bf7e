from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.decision import MAX_DENIAL_LENGTH, MAX_WARNINGS_LENGTH, Decision, Injection, Purpose, Verdict
from admission.finding import Action, Finding, JudgedFinding


def judged(message: str, action: Action = Action.WARN, rule: str = "r") -> JudgedFinding:
    return JudgedFinding(Finding(rule, "spec.containers[0].image", message, "do this", "main"), action)


DECISION = Decision(uid="u", purpose=Purpose.VALIDATE, allowed=True)


@given(st.lists(st.text(max_size=1500), max_size=30), st.lists(st.text(min_size=1, max_size=300), max_size=10))
def test_warnings_stay_within_what_the_api_server_lets_through(messages: list[str], previews: list[str]) -> None:
    injection = Injection("m", tuple(previews), preview=True)
    warnings = replace(DECISION, findings=tuple(map(judged, messages)), injections=(injection,)).warnings()
    assert sum(map(len, warnings)) <= MAX_WARNINGS_LENGTH
    assert len(set(warnings)) == len(warnings)
    for warning in warnings:
        assert warning.strip()
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in warning)


def test_the_most_serious_warnings_come_first_and_what_is_left_out_is_said() -> None:
    findings = tuple(judged(f"{number} {'x' * 300}") for number in range(30))
    warnings = replace(DECISION, findings=findings).warnings()
    assert "0 xxx" in warnings[0]
    assert len(warnings) < 30
    assert "`tidewaiter review` shows it all" in warnings[-1]


def test_warnings_are_one_line_without_duplicates() -> None:
    findings = (judged("two\n\tlines \x1b[31m"), judged("two lines [31m"))
    assert len(replace(DECISION, findings=findings).warnings()) == 1


def test_only_findings_that_warn_and_previews_are_warnings() -> None:
    decision = replace(
        DECISION,
        findings=(judged("denies", Action.DENY), judged("warns"), judged("audits", Action.AUDIT)),
        injections=(Injection("a", ("did",)), Injection("b", ("add x", "add y"), preview=True)),
    )
    assert decision.warnings() == [
        "spec.containers[0].image (main): warns; do this (rule r)",
        "would add x; add y (mutator b, preview)",
    ]


def test_an_error_that_lets_the_request_through_is_a_warning() -> None:
    assert replace(DECISION, error="it broke").warnings() == ["it broke"]
    assert replace(DECISION, error="it broke", allowed=False).warnings() == []


def test_a_denial_is_every_finding_that_denies_a_line_each() -> None:
    one = replace(DECISION, allowed=False, findings=(judged("bad", Action.DENY), judged("meh")))
    assert one.denial() == "spec.containers[0].image (main): bad; do this (rule r)"
    two = replace(one, findings=(judged("bad", Action.DENY), judged("worse", Action.DENY, "s")))
    assert two.denial().splitlines() == [
        "[1/2] spec.containers[0].image (main): bad; do this (rule r)",
        "[2/2] spec.containers[0].image (main): worse; do this (rule s)",
    ]
    assert replace(two, error="it broke").denial() == "it broke"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.ALLOWED),
        ({"findings": (judged("x"),)}, Verdict.WARNED),
        ({"findings": (judged("x", Action.AUDIT),)}, Verdict.ALLOWED),
        ({"patch": ({"op": "remove"},), "findings": (judged("x"),)}, Verdict.MUTATED),
        ({"allowed": False}, Verdict.DENIED),
        ({"ignored": "no model pod"}, Verdict.IGNORED),
        ({"error": "it broke", "allowed": False}, Verdict.ERROR),
    ],
)
def test_a_verdict_is_one_word(changes: dict[str, object], verdict: Verdict) -> None:
    assert replace(DECISION, **changes).verdict is verdict  # type: ignore[arg-type]  # fields of the table


@pytest.mark.parametrize(
    ("path", "container", "message", "same"),
    [
        ("spec.containers[7].image", "main", "m", True),
        ("spec.initContainers[0].image", "main", "m", False),
        ("spec.containers[0].image", "other", "m", False),
        ("spec.containers[0].image", "main", "another value", False),
    ],
)
def test_a_finding_is_the_same_wherever_its_container_stands(
    path: str, container: str, message: str, same: bool
) -> None:
    one = Finding("r", "spec.containers[0].image", "m", "x", "main")
    assert (Finding("r", path, message, "y", container).identity == one.identity) is same


def test_a_denial_stays_readable_however_much_is_wrong() -> None:
    findings = tuple(judged(f"{number} {'x' * 5_000}", Action.DENY) for number in range(500))
    text = Decision(uid="u", purpose=Purpose.VALIDATE, allowed=False, findings=findings).denial()

    assert len(text) <= MAX_DENIAL_LENGTH
    *lines, last = text.splitlines()
    assert lines[0].startswith("[1/500] ")
    assert last == f"and {500 - len(lines)} more; `tidewaiter review` shows them all"


def test_an_error_that_repeats_what_was_sent_is_cut() -> None:
    decision = Decision(uid="u", purpose=Purpose.VALIDATE, allowed=False, error="x" * 1_000_000)
    assert len(decision.denial()) <= MAX_DENIAL_LENGTH


def test_findings_that_differ_beyond_the_cut_are_different() -> None:
    one, other = (Finding("r", "spec", f"image {'x' * 2_000}{end} is bad", "use another") for end in "ab")

    assert len(one.message) <= 1_000
    assert one.identity != other.identity
