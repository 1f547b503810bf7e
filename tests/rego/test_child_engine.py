"""Policies of a team in a child process: neither time nor memory of theirs becomes ours."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from admission.finding import Finding
from admission.validator import PolicyError, RuleFailure
from tests.rego.policies import DIVIDES, GROWS, INPUT, LOOPS, SAYS, Failures, labelled, rules, run
from webhook.rego.child_engine import ChildEngine, ChildLimits
from webhook.rego.evaluation_process import IDLE
from webhook.rego.policy_set import PolicySet

PATIENT = ChildLimits(rule_seconds=30, review_seconds=50)


def said(text: str, rule: str = "says") -> list[Finding]:
    return [Finding(rule, "spec", text, "see the rule's description")]


def pid(engine: ChildEngine) -> int:
    assert engine._child is not None
    return engine._child._process.pid


async def started(policies: PolicySet, failures: Failures | None = None, limits: ChildLimits = PATIENT) -> ChildEngine:
    engine = ChildEngine(policies, on_failure=failures or Failures(), limits=limits)
    await engine.start()
    return engine


def test_findings_come_back() -> None:
    async def main() -> None:
        engine = await started(rules(says=SAYS))
        assert await engine.evaluate(labelled(say="ü")) == {"says": said("ü")}
        assert await engine.evaluate(INPUT) == {}
        await engine.close()

    run(main)


def test_many_reviews_at_once_get_each_its_own_answer() -> None:
    async def main() -> None:
        engine = await started(rules(says=SAYS))
        found = await asyncio.gather(*(engine.evaluate(labelled(say=str(number))) for number in range(200)))
        assert found == [{"says": said(str(number))} for number in range(200)]
        await engine.close()

    run(main)


def test_a_review_that_is_given_up_does_not_answer_the_next() -> None:
    async def main() -> None:
        engine = await started(rules(says=SAYS))
        for number in range(50):
            given_up = asyncio.create_task(engine.evaluate(labelled(say="old")))
            await asyncio.sleep(0)
            given_up.cancel()
            assert await engine.evaluate(labelled(say=str(number))) == {"says": said(str(number))}
        assert engine.restarts == 0
        await engine.close()

    run(main)


def test_a_rule_that_does_not_end_fails_alone() -> None:
    async def main() -> None:
        failures = Failures()
        limits = ChildLimits(rule_seconds=0.2, review_seconds=30)
        engine = await started(rules(says=SAYS, loops=LOOPS, and_more=SAYS), failures, limits)
        first = pid(engine)

        found = await engine.evaluate(labelled(say="x", loop="y"))

        assert found["loops"] == RuleFailure("rule loops did not end within 200 ms")
        assert (found["says"], found["and-more"]) == (said("x"), said("x", "and-more"))
        assert failures.seen == [("loops", "timeout")]
        assert engine.restarts == 1
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        assert await engine.evaluate(labelled(say="y")) == {"says": said("y"), "and-more": said("y", "and-more")}
        await engine.close()

    run(main)


def test_the_event_loop_goes_on_while_a_rule_does_not_end() -> None:
    async def main() -> None:
        engine = await started(rules(loops=LOOPS), limits=ChildLimits(rule_seconds=0.3, review_seconds=30))
        turns = 0
        review = asyncio.create_task(engine.evaluate(labelled(loop="x")))
        while not review.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert isinstance((await review)["loops"], RuleFailure)
        assert turns > 10
        await engine.close()

    run(main)


def test_a_rule_that_takes_too_much_memory_fails_alone() -> None:
    async def main() -> None:
        failures = Failures()
        limits = ChildLimits(rule_seconds=30, review_seconds=50, memory_bytes=64 << 20)
        engine = await started(rules(says=SAYS, grows=GROWS), failures, limits)

        found = await engine.evaluate(labelled(say="x", grow="y"))

        assert found["grows"] == RuleFailure("rule grows ended its process; it may use 64 MiB of memory")
        assert found["says"] == said("x")
        assert failures.seen == [("grows", "killed")]
        await engine.close()

    run(main)


def test_a_rule_that_fails_is_told_with_its_place() -> None:
    async def main() -> None:
        failures = Failures()
        engine = await started(rules(says=SAYS, divides=DIVIDES), failures)
        found = await engine.evaluate(labelled(say="x", divide="y"))
        assert found["divides"] == RuleFailure("rule divides failed: divides.rego:11:7: divide by zero")
        assert found["says"] == said("x")
        assert (failures.seen, engine.restarts) == ([("divides", "error")], 0)
        await engine.close()

    run(main)


def test_a_child_that_somebody_kills_is_replaced_without_losing_an_answer() -> None:
    async def main() -> None:
        engine = await started(rules(says=SAYS))
        for number in range(3):
            os.kill(pid(engine), signal.SIGKILL)
            found = await asyncio.gather(*(engine.evaluate(labelled(say=f"{number}{one}")) for one in range(5)))
            assert found == [{"says": said(f"{number}{one}")} for one in range(5)]
        assert engine.restarts == 3
        await engine.close()

    run(main)


def test_a_rule_that_is_ended_again_and_again_rests() -> None:
    async def main() -> None:
        now = [0.0]
        failures = Failures()
        limits = ChildLimits(rule_seconds=0.1, review_seconds=30, strikes=2, rest_seconds=10)
        engine = ChildEngine(rules(says=SAYS, loops=LOOPS), {}, failures, limits, lambda: now[0])
        await engine.start()
        for _ in range(2):
            await engine.evaluate(labelled(loop="x"))

        found = await engine.evaluate(labelled(say="x", loop="x"))

        assert found == {"says": said("x"), "loops": RuleFailure("rule loops was ended 2 times in a row and rests")}
        assert [cause for _, cause in failures.seen] == ["timeout", "timeout", "resting"]
        assert engine.restarts == 2
        now[0] = 10.0
        assert await engine.evaluate(labelled(say="x")) == {"says": said("x")}
        await engine.close()

    run(main)


def test_a_review_that_waits_too_long_fails_every_rule() -> None:
    async def main() -> None:
        failures = Failures()
        engine = await started(
            rules(says=SAYS, loops=LOOPS), failures, ChildLimits(rule_seconds=30, review_seconds=0.3)
        )
        found = await engine.evaluate(labelled(loop="x", say="x"))
        assert found["loops"] == RuleFailure("rule loops was not evaluated within 0.3 s")
        assert ("loops", "busy") in failures.seen
        await engine.close()

    run(main)


def test_a_policy_that_never_works_is_refused_at_start() -> None:
    async def main() -> None:
        engine = ChildEngine(rules(aa='findings contains {"path": "p", "message": nowhere.f(1)}'), limits=PATIENT)
        with pytest.raises(PolicyError, match=r"could not find function nowhere\.f"):
            await engine.start()

    run(main)


def test_a_policy_that_does_not_end_on_an_empty_pod_is_refused_at_start() -> None:
    async def main() -> None:
        body = LOOPS.replace("\tinput.labels.loop\n", "")
        engine = ChildEngine(rules(loops=body), limits=ChildLimits(rule_seconds=0.1, review_seconds=30))
        with pytest.raises(PolicyError, match="rule loops did not end within 1000 ms"):
            await engine.start()

    run(main)


def test_a_rule_that_waits_for_the_machine_is_not_ended() -> None:
    async def main() -> None:
        engine = await started(rules(loops=LOOPS, says=SAYS), limits=ChildLimits(rule_seconds=0.3, review_seconds=50))
        assert engine._child is not None
        review = asyncio.create_task(engine.evaluate(labelled(say="x", loop="y")))
        while engine._child.rule_under_evaluation == IDLE:  # noqa: ASYNC110  # another process sets it
            await asyncio.sleep(0.001)
        os.kill(pid(engine), signal.SIGSTOP)
        done, _ = await asyncio.wait([review], timeout=1.5)
        assert not done
        assert engine.restarts == 0
        os.kill(pid(engine), signal.SIGCONT)
        assert (await review)["says"] == said("x")
        assert engine.restarts == 1
        await engine.close()

    run(main)


def test_the_child_does_not_have_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEWAITER_PASSWORD", "hunter2")

    async def main() -> None:
        engine = await started(rules(says=SAYS))
        environment = Path(f"/proc/{pid(engine)}/environ").read_bytes()  # noqa: ASYNC240  # no disk behind it
        assert b"PATH=" in environment
        assert b"hunter2" not in environment
        await engine.close()

    run(main)


def test_no_child_is_left_behind() -> None:
    async def main() -> None:
        engine = await started(rules(says=SAYS))
        child = pid(engine)
        await engine.close()
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)

    run(main)


def test_many_rules_answer_in_groups() -> None:
    async def main() -> None:
        engine = await started(rules(**{f"rule_{number}": SAYS for number in range(60)}))
        for word in ("x", "y"):
            found = await engine.evaluate(labelled(say=word))
            assert found == {rule: said(word, rule) for rule in engine.rules}
            assert len(found) == 60
        await engine.close()

    run(main)
