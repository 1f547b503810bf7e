"""For people: a line for each threshold, then one of sums."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from webhook.gate.check import Check
from webhook.gate.outcome import Outcome

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def text(outcome: Outcome) -> str:
    """The whole report, with terminal colours; whoever prints it strips them where none are wanted."""
    lines = [click.style(_shown(f"{outcome.name} for {outcome.environment}"), bold=True)]
    for check in outcome.checks:
        lines += _check(check)
    lines += [click.style(f"  not read, of no known format: {_shown(one)}", dim=True) for one in outcome.skipped]
    if outcome.unbound:
        named = _shown(", ".join(outcome.unbound))
        lines.append(click.style(f"  nothing says that these are about {_shown(outcome.name)}: {named}", dim=True))
    lines.append(_sums(outcome))
    return "\n".join(lines) + "\n"


def _check(check: Check) -> Iterator[str]:
    verdict = click.style("pass", fg="green") if check.passed else click.style("FAIL", fg="red", bold=True)
    yield f"  {verdict}  {click.style(_shown(check.id), bold=True)}: {_shown(check.message)}"
    if check.remedy:
        yield f"        {click.style(check.remedy, fg='cyan')}"


def _shown(text: str) -> str:
    """Without what moves a terminal's cursor: names and texts come out of files that others wrote."""
    return _CONTROL.sub("?", text)


def _sums(outcome: Outcome) -> str:
    count = len(outcome.evidence)
    files = f"{count} file{'s' if count != 1 else ''} of evidence"
    if outcome.passed:
        return click.style(f"PASSED: {len(outcome.checks)} thresholds hold ({files})", fg="green", bold=True)
    failed = f"{len(outcome.failed)} of {len(outcome.checks)} thresholds do not hold ({files})"
    return click.style(f"FAILED: {failed}", fg="red", bold=True)
