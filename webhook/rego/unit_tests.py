"""Runs the ``test_`` rules of ``_test.rego`` files, as ``opa test`` does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from admission.validator import PolicyError
from webhook.rego.embedded_engine import loaded_engine
from webhook.rego.policy_set import PolicySet, parsed, rule_names
from webhook.rego.regorus_error import sentence

_PREFIX = "test_"
_SKIPPED = "todo_test_"


class Outcome(StrEnum):
    """What became of one test."""

    PASS = "PASS"  # noqa: S105  # no password
    FAIL = "FAIL"
    ERROR = "ERROR"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test: its file, ``data.package.name``, outcome, reason of an error, and time."""

    __test__ = False  # no class of tests, whatever pytest makes of its name

    path: str
    name: str
    outcome: Outcome
    reason: str = ""
    milliseconds: float = 0.0


def run_tests(policies: PolicySet, only: str = "") -> Iterator[TestResult]:
    """Run every test whose name contains ``only``; raises ``PolicyError`` where a file cannot be read."""
    held = loaded_engine(policies)
    names: list[tuple[str, str]] = []
    for path, text in policies.tests.items():
        package, syntax = parsed(path, text)
        try:
            held.engine.add_policy(path, text)
        except Exception as error:  # noqa: BLE001  # regorus raises plain exceptions
            raise PolicyError(sentence(error)) from None
        names += [(path, f"{package}.{name}") for name in rule_names(syntax)]
    for path, name in names:
        last = name.rpartition(".")[2]
        if only not in name:
            continue
        if last.startswith(_SKIPPED):
            yield TestResult(path, name, Outcome.SKIPPED)
        elif last.startswith(_PREFIX):
            started = time.perf_counter()
            try:
                passed = json.loads(held.engine.eval_rule_as_json(name)) is True
                outcome, reason = (Outcome.PASS if passed else Outcome.FAIL), ""
            except Exception as error:  # noqa: BLE001  # regorus raises plain exceptions
                outcome, reason = Outcome.ERROR, sentence(error)
            yield TestResult(path, name, outcome, reason, (time.perf_counter() - started) * 1000)
