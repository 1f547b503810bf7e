"""The engine for a team's own policies: regorus in a child process, with limits.

regorus has no limit of time or memory, and would hold the event loop. Here a rule that
does not end is ended with its process; that rule alone fails, and the others are asked
again in a new one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from admission.finding import Finding
from admission.validator import PolicyAnswers, PolicyError, PolicyInput, PolicyRule, RuleFailure, RuleSettings
from webhook.rego.answers import OnFailure, findings_of, ignore_failure
from webhook.rego.embedded_engine import WARM_UP, rules_with_settings
from webhook.rego.evaluation_child import ChildAnswer, ChildEndedError, EvaluationChild
from webhook.rego.evaluation_process import IDLE
from webhook.rego.policy_set import PolicySet


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """``rule_seconds`` for one rule, ``review_seconds`` for all rules and for waiting one's turn.

    A rule that was ended ``strikes`` times in a row fails at once for ``rest_seconds``,
    so that it does not cost every review its time.
    """

    rule_seconds: float = 0.1
    review_seconds: float = 1.0
    memory_bytes: int = 256 * 1024 * 1024
    strikes: int = 3
    rest_seconds: float = 30.0


def _patient(limits: ChildLimits) -> ChildLimits:
    """For the first evaluation, when nobody waits and the machine may be busy with starting."""
    return replace(limits, rule_seconds=max(limits.rule_seconds, 1), review_seconds=max(limits.review_seconds, 20))


_Answers = dict[str, "list[Finding] | RuleFailure"]


class _RuleEndedError(Exception):
    """A rule was ended; the number is its place among those asked, ``IDLE`` where no rule was at work."""

    def __init__(self, number: int, cause: str) -> None:
        super().__init__(cause)
        self.number = number
        self.cause = cause


class ChildEngine:
    """Policies of one set in one child. ``start`` before use, ``close`` after it."""

    def __init__(
        self,
        policies: PolicySet,
        settings: Mapping[str, RuleSettings] | None = None,
        on_failure: OnFailure = ignore_failure,
        limits: ChildLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policies = policies
        self._on_failure = on_failure
        self._limits = limits or ChildLimits()
        self._clock = clock
        self._child: EvaluationChild | None = None
        self._turn = asyncio.Lock()
        self._strikes: dict[str, int] = {}
        self._rests_until: dict[str, float] = {}
        self.rules: Mapping[str, PolicyRule] = rules_with_settings(policies, settings or {})
        self.revision = policies.revision
        self.restarts = 0

    async def start(self) -> None:
        """Start the child; raises ``PolicyError`` where a policy does not work at all."""
        self._child = await EvaluationChild.start(self._policies, self._limits.memory_bytes)
        limits, self._limits = self._limits, _patient(self._limits)
        answers = await self.evaluate(WARM_UP)
        self._limits = limits
        failed = [one.reason for one in answers.values() if isinstance(one, RuleFailure)]
        if failed:
            await self.close()
            raise PolicyError("\n".join(failed))

    async def close(self) -> None:
        """End the child."""
        async with self._turn:
            if self._child is not None:
                await self._child.end()
                self._child = None

    async def evaluate(self, policy_input: PolicyInput) -> PolicyAnswers:
        """What each rule answers, within the limits; never raises for a rule."""
        answers: _Answers = {}
        asked = [rule for rule in self.rules if not self._rests(rule, answers)]
        try:
            async with asyncio.timeout(self._limits.review_seconds), self._turn:
                await self._evaluate(orjson.dumps(policy_input).decode(), asked, answers)
        except TimeoutError:
            self._fail(
                [rule for rule in asked if rule not in answers],
                answers,
                f"was not evaluated within {self._limits.review_seconds:g} s",
                "busy",
            )
        except (PolicyError, OSError) as error:
            self._fail([rule for rule in asked if rule not in answers], answers, f"failed: {error}", "restart")
        return {rule: answer for rule, answer in answers.items() if answer}

    async def _evaluate(self, policy_input: str, asked: Sequence[str], answers: _Answers) -> None:
        """Ask until every rule has answered, each time without the rule that ended the child."""
        lost = 0
        while left := [rule for rule in asked if rule not in answers]:
            if self._child is None:
                self._child = await EvaluationChild.start(self._policies, self._limits.memory_bytes)
                self.restarts += 1
            try:
                answer = await self._ask(self._child, policy_input, left)
            except _RuleEndedError as error:
                child, self._child = self._child, None
                await child.end()
                if error.number == IDLE:
                    lost += 1
                    if lost > 1:
                        self._fail(left, answers, "failed: its process was ended twice from outside", "killed")
                else:
                    self._strike(left[error.number], answers, error.cause)
                continue
            self._take(left, answer, answers)

    async def _ask(self, child: EvaluationChild, policy_input: str, rules: Sequence[str]) -> ChildAnswer:
        answer = child.ask(policy_input, rules)
        before, used = IDLE - 1, child.cpu_seconds()
        try:
            while True:
                done, _ = await asyncio.wait([answer], timeout=self._limits.rule_seconds)
                if done:
                    return answer.result()
                # Only a rule that was at work the whole time has used up its own limit; on a
                # busy machine it may have waited instead.
                now, cpu = child.rule_under_evaluation, child.cpu_seconds()
                if now == before != IDLE and cpu - used >= self._limits.rule_seconds / 2:
                    raise _RuleEndedError(now, "timeout")
                if now != before:
                    before, used = now, cpu
        except ChildEndedError:
            raise _RuleEndedError(child.rule_under_evaluation, "killed") from None
        finally:
            if not answer.done():
                answer.cancel()

    def _take(self, rules: Sequence[str], answer: ChildAnswer, answers: _Answers) -> None:
        for rule in rules:
            if rule in answer.failed:
                self._fail([rule], answers, f"failed: {answer.failed[rule]}", "error")
                continue
            answers[rule] = made = findings_of(self.rules[rule], answer.found.get(rule, []))
            self._strikes.pop(rule, None)
            if isinstance(made, RuleFailure):
                self._on_failure(rule, "error")

    def _strike(self, rule: str, answers: _Answers, cause: str) -> None:
        limits = self._limits
        self._strikes[rule] = self._strikes.get(rule, 0) + 1
        if self._strikes[rule] >= limits.strikes:
            self._rests_until[rule] = self._clock() + limits.rest_seconds
        reason = (
            f"did not end within {limits.rule_seconds * 1000:g} ms"
            if cause == "timeout"
            else f"ended its process; it may use {limits.memory_bytes >> 20} MiB of memory"
        )
        self._fail([rule], answers, reason, cause)

    def _rests(self, rule: str, answers: _Answers) -> bool:
        until = self._rests_until.get(rule)
        if until is None:
            return False
        if self._clock() >= until:
            del self._rests_until[rule]
            return False
        self._fail([rule], answers, f"was ended {self._limits.strikes} times in a row and rests", "resting")
        return True

    def _fail(self, rules: Sequence[str], answers: _Answers, reason: str, cause: str) -> None:
        for rule in rules:
            answers[rule] = RuleFailure(f"rule {rule} {reason}")
            self._on_failure(rule, cause)
