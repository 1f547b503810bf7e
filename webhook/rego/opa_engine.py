"""The OPA engine: an OPA server evaluates, in one query per review.

Which rules there are is read from the same policies on disk (docs/adr/0009): a server that
is down, or has not loaded its bundle, must not make rules disappear.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from admission.finding import Finding
from admission.validator import PolicyAnswers, PolicyError, PolicyInput, PolicyRule, RuleFailure, RuleSettings
from webhook.rego.answers import OnFailure, findings_of, ignore_failure
from webhook.rego.circuit_breaker import CircuitBreaker
from webhook.rego.embedded_engine import rules_with_settings
from webhook.rego.opa_client import BoundedOpaClient, OpaAnswer, OpaAnswerError, OpaServer
from webhook.rego.policy_set import PolicySet

_ROOT = "tidewaiter"
_OK = 200
_EVALUATION_FAILED = 500
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class OpaLimits:
    """``deadline_seconds`` for a review, both attempts; then the circuit breaker's failures and pause."""

    deadline_seconds: float = 1.0
    failures: int = 5
    pause_seconds: float = 5.0


_Answers = dict[str, "list[Finding] | RuleFailure"]


class _NoAnswerError(Exception):
    """OPA did not answer; the text is the end of a sentence that begins with OPA."""

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(reason)
        self.cause = cause


class OpaEngine:
    """The rules of ``policies``, evaluated by ``server``."""

    def __init__(
        self,
        policies: PolicySet,
        server: OpaServer,
        settings: Mapping[str, RuleSettings] | None = None,
        on_failure: OnFailure = ignore_failure,
        limits: OpaLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or OpaLimits()
        self._client = BoundedOpaClient(server, self._limits.deadline_seconds)
        self._breaker = CircuitBreaker(self._limits.failures, self._limits.pause_seconds, clock)
        self._paths = {one.rule.id: one.package.replace(".", "/") for one in policies.modules if one.rule is not None}
        self._on_failure = on_failure
        self._revision = policies.revision
        self._loaded = ""
        self.rules: Mapping[str, PolicyRule] = rules_with_settings(policies, settings or {})
        self.problem = ""

    @property
    def revision(self) -> str:
        """That of the policies on disk and, once OPA has named it, that of its bundles."""
        return f"{self._revision}/{self._loaded}" if self._loaded else self._revision

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close_connection()

    async def evaluate(self, policy_input: PolicyInput) -> PolicyAnswers:
        """What each rule answers. Whatever is wrong with OPA is a ``RuleFailure`` of every rule."""
        if not self._breaker.enter():
            return self._all_failed(f"is not asked: it failed {self._limits.failures} times in a row", "open")
        try:
            async with asyncio.timeout(self._limits.deadline_seconds):
                answers = await self._answers(orjson.dumps({"input": policy_input}))
        except TimeoutError:
            self._breaker.fail()
            return self._all_failed(f"did not answer within {self._limits.deadline_seconds:g} s", "timeout")
        except _NoAnswerError as error:
            self._breaker.fail()
            return self._all_failed(str(error), error.cause)
        except PolicyError as error:
            self._breaker.fail()
            return self._all_failed(f"cannot be asked: {error}", "unreachable")
        except BaseException:
            self._breaker.leave()
            raise
        self._breaker.succeed()
        return answers

    async def _answers(self, body: bytes) -> PolicyAnswers:
        answer = await self._ask(_ROOT, body)
        if answer.status == _EVALUATION_FAILED:
            # Some rule failed, and took the whole document with it: ask for each alone.
            return await self._one_by_one(body)
        self._expect_ok(answer)
        self._note_revision(answer.document)
        result = answer.document.get("result")
        if result is None:
            return self._all_failed("has no policy of Tidewaiter loaded; look at its bundle", "not-loaded")
        if not isinstance(result, dict):
            raise _NoAnswerError("answered something else than packages", "garbage")
        answers: _Answers = {}
        for rule, path in self._paths.items():
            self._take(rule, _at(result, path.split("/")), answers)
        self.problem = next((one.reason for one in answers.values() if isinstance(one, RuleFailure)), "")
        return {rule: one for rule, one in answers.items() if one}

    async def _one_by_one(self, body: bytes) -> PolicyAnswers:
        asked = await asyncio.gather(*(self._ask(f"{_ROOT}/{path}/findings", body) for path in self._paths.values()))
        answers: _Answers = {}
        for rule, answer in zip(self._paths, asked, strict=True):
            if answer.status == _EVALUATION_FAILED:
                self._fail([rule], f"rule {rule} failed: {_place(answer.document)}", "error", answers)
            else:
                self._expect_ok(answer)
                self._take(rule, answer.document.get("result"), answers)
        self.problem = next((one.reason for one in answers.values() if isinstance(one, RuleFailure)), "")
        return {rule: one for rule, one in answers.items() if one}

    async def _ask(self, path: str, body: bytes) -> OpaAnswer:
        """Ask, and once more where the connection broke or something between answered for OPA."""
        failure = _NoAnswerError("did not answer", "unreachable")
        for _ in range(_ATTEMPTS):
            try:
                answer = await self._client.ask(path, body)
            except OpaAnswerError as error:
                failure = _NoAnswerError(str(error), "garbage")
            except aiohttp.ClientError as error:
                failure = _NoAnswerError(f"cannot be reached: {_short(error)}", "unreachable")
            else:
                if answer.status < _EVALUATION_FAILED or "errors" in answer.document:
                    return answer
                failure = _NoAnswerError(f"answered {answer.status}", "unreachable")
        raise failure

    def _expect_ok(self, answer: OpaAnswer) -> None:
        if answer.status == _OK:
            return
        hint = "; give it a token that it accepts" if answer.status in (401, 403) else ""
        raise _NoAnswerError(f"answered {answer.status}{hint}", "refused")

    def _note_revision(self, document: Mapping[str, Any]) -> None:
        provenance = document.get("provenance")
        bundles = provenance.get("bundles") if isinstance(provenance, dict) else None
        if isinstance(bundles, dict):
            revisions = [one.get("revision") for one in bundles.values() if isinstance(one, dict)]
            self._loaded = ",".join(sorted(str(one)[:64] for one in revisions if one))

    def _take(self, rule: str, findings: Any, answers: _Answers) -> None:
        if findings is None:
            self._fail([rule], f"rule {rule} is not loaded by OPA; look at its bundle", "not-loaded", answers)
            return
        answers[rule] = made = findings_of(self.rules[rule], findings)
        if isinstance(made, RuleFailure):
            self._on_failure(rule, "garbage")

    def _all_failed(self, reason: str, cause: str) -> PolicyAnswers:
        answers: _Answers = {}
        self.problem = f"OPA {reason}"
        self._fail(self.rules, self.problem, cause, answers)
        return answers

    def _fail(self, rules: Iterable[str], reason: str, cause: str, answers: _Answers) -> None:
        for rule in rules:
            answers[rule] = RuleFailure(reason)
            self._on_failure(rule, cause)


def _at(document: Any, path: Iterable[str]) -> Any:
    for part in (*path, "findings"):
        document = document.get(part) if isinstance(document, dict) else None
    return document


def _place(document: Mapping[str, Any]) -> str:
    """Where it failed; OPA's own words may quote the input."""
    errors = document.get("errors")
    one = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    place = one.get("location")
    where = f"{place.get('file')}:{place.get('row')}:{place.get('col')}: " if isinstance(place, dict) else ""
    return f"{where}{one.get('code') or 'evaluation failed'}"[:300]


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
