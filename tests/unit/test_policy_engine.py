"""The embedded engine: a rule that fails is an error, never a silence."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from admission.decision import Purpose
from admission.finding import Action, Finding
from admission.namespace import Namespace
from admission.validator import PolicyError, RuleSettings
from tests.http.service import pod, review
from webhook.cluster_state import ClusterState
from webhook.policy_engine import EmbeddedEngine
from webhook.policy_files import built_in_policies, read_policies
from webhook.reviewer import Reviewer
from webhook.settings import Settings

HEAD = """# METADATA
# title: A rule
# description: Judges.
# custom:
#   id: a-rule
package tidewaiter.a_rule

"""
INPUT = {"path": "", "containers": [{"name": "c", "image": "i"}], "spec": {"volumes": []}, "operation": "CREATE"}


def engine(folder: Path, body: str, settings: dict[str, RuleSettings] | None = None) -> EmbeddedEngine:
    (folder / "a.rego").write_text(HEAD + body, encoding="utf-8")
    return EmbeddedEngine(read_policies(folder), settings or {})


def test_findings_come_out_by_rule(tmp_path: Path) -> None:
    body = """
    findings contains finding if {
        some one in input.containers
        finding := {"path": "spec", "message": sprintf("%s is bad", [one.name]), "remedy": "mend", "container": one.name}
    }
    """

    assert engine(tmp_path, body).evaluate_now(INPUT) == {
        "a-rule": [Finding("a-rule", "spec", "c is bad", "mend", container="c")]
    }


def test_a_rule_without_complaint_has_no_entry(tmp_path: Path) -> None:
    assert engine(tmp_path, 'findings contains {"message": "x"} if input.never').evaluate_now(INPUT) == {}


def test_what_a_finding_leaves_out_is_filled_in(tmp_path: Path) -> None:
    (finding,) = engine(tmp_path, 'findings contains {"message": "x"}').evaluate_now(INPUT)["a-rule"]

    assert (finding.path, finding.remedy, finding.container) == ("object", "see the rule's description", "")


def test_one_input_leaves_nothing_behind_for_the_next(tmp_path: Path) -> None:
    found = engine(tmp_path, 'findings contains {"message": input.say}')

    assert found.evaluate_now({**INPUT, "say": "a"})["a-rule"][0].message == "a"
    assert found.evaluate_now({**INPUT, "say": "b"})["a-rule"][0].message == "b"
    assert found.evaluate_now(INPUT) == {}


def test_a_flood_of_findings_is_bounded(tmp_path: Path) -> None:
    body = 'findings contains {"message": sprintf("%d", [n])} if some n in numbers.range(1, 500)'

    assert len(engine(tmp_path, body).evaluate_now(INPUT)["a-rule"]) == 100


MISTAKES = {
    "no Rego": ("findings contains {", "policy a.rego is refused"),
    "an unknown function": ('findings contains {"message": nowhere.f(1)}', "could not find function nowhere.f"),
    "a finding that is a text": ('findings contains "bad"', "rule a-rule answered 'bad'; findings have path, message"),
    "a finding without a message": ('findings contains {"path": "spec"}', "rule a-rule answered"),
    "no findings": ("other := 1", "rule a-rule failed"),
    "two values of one function": (
        'findings contains {"message": f(1)}\nf(x) := "a" if x > 0\nf(x) := "b" if x < 2',
        "rule a-rule failed",
    ),
}


@pytest.mark.parametrize(("body", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_policy_that_does_not_work_is_refused_at_start(tmp_path: Path, body: str, sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence):
        engine(tmp_path, body)


FAILS_LATER = """
findings contains {"message": f(input.level)}

f(x) := "a" if x > 0

f(x) := "b" if x > 1
"""


def test_a_rule_that_fails_on_one_input_raises(tmp_path: Path) -> None:
    found = engine(tmp_path, FAILS_LATER)

    assert found.evaluate_now({**INPUT, "level": 1})["a-rule"]
    with pytest.raises(PolicyError, match="rule a-rule failed"):
        found.evaluate_now({**INPUT, "level": 2})
    assert found.evaluate_now({**INPUT, "level": 1})["a-rule"]


def test_a_review_whose_rule_fails_is_refused_counted_and_written_down(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    state = ClusterState()
    state.put_namespace(Namespace("ml-production", {"tidewaiter.dev/environment": "production"}, {}))
    body = FAILS_LATER.replace("input.level", "count(input.containers)")
    reviewer = Reviewer(Settings(), state, engine(tmp_path, body), record=records.append)
    two = pod()
    two["spec"]["containers"].append({"name": "other", "image": "other"})

    answer = asyncio.run(reviewer.answer(json.dumps(review(two)).encode(), Purpose.VALIDATE))

    response = json.loads(answer.body)["response"]
    assert (response["uid"], response["allowed"]) == ("u-1", False)
    assert response["status"]["code"] == 500
    assert "rule a-rule failed" in response["status"]["message"]
    assert (records[0]["verdict"], records[0]["uid"]) == ("error", "u-1")
    assert b'tidewaiter_errors_total{cause="policy",webhook="validate"} 1.0' in reviewer.metrics.exposition()
    assert b'tidewaiter_reviews_total{verdict="error",webhook="validate"} 1.0' in reviewer.metrics.exposition()


def test_the_settings_say_what_a_rule_does() -> None:
    policies = read_policies(built_in_policies())
    settings = {"host-access": RuleSettings(action={"*": Action.DENY})}

    found = EmbeddedEngine(policies, settings)

    assert found.revision == policies.revision
    assert found.rules["host-access"].settings.action == {"*": Action.DENY}
    assert found.rules["image-registry"].settings.action == {}
