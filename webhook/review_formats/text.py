"""For people: the findings, what is injected as a coloured diff, then one line of sums."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click
import yaml

from admission.decision import Decision
from admission.finding import Action, JudgedFinding
from webhook.offline_review import Reviewed

_COLOURS = {Action.DENY: "red", Action.WARN: "yellow", Action.AUDIT: "cyan"}
_CONTEXT_LINES = 2


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # in C where there is one
    """No anchors: a diff with ``&id001`` in it is hard to read."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def dump(obj: Any) -> str:
    """``obj`` as YAML, in the order it came in."""
    text: str = yaml.dump(obj, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text


def text(reviews: Sequence[Reviewed], problems: Sequence[str], assumed: Mapping[str, str]) -> str:
    """The whole report, with terminal colours; whoever prints it strips them where none are wanted."""
    lines: list[str] = []
    for reviewed in reviews:
        if reviewed.looked_at or reviewed.problem:
            lines += [*_object(reviewed), ""]
    lines += _notes(reviews, assumed)
    lines.append(_sums(reviews, problems))
    return "\n".join(lines) + "\n"


def coloured_diff(before: Any, after: Any, indent: str = "    ") -> Iterator[str]:
    """A unified diff of two objects as YAML, line by line."""
    pairs = difflib.unified_diff(
        dump(before).splitlines(), dump(after).splitlines(), lineterm="", n=_CONTEXT_LINES, fromfile="", tofile=""
    )
    for number, line in enumerate(pairs):
        if number < 2:
            continue  # the two header lines name files, and there are none
        if line.startswith("@@"):
            yield indent + click.style("...", dim=True)
        elif line.startswith("+"):
            yield indent + click.style(line, fg="green")
        elif line.startswith("-"):
            yield indent + click.style(line, fg="red")
        else:
            yield indent + click.style(line, dim=True)


def _object(reviewed: Reviewed) -> Iterator[str]:
    manifest = reviewed.manifest
    where = click.style(f"{manifest.source}:{manifest.line()}", dim=True)
    name = click.style(f"{manifest.kind} {reviewed.namespace}/{manifest.name or '(no name)'}", bold=True)
    if reviewed.problem:
        yield f"{name}  {where}"
        yield f"  {click.style('not reviewed', fg='red', bold=True)}: {reviewed.problem}"
        return
    decision = reviewed.decision
    if decision is None:
        return
    yield f"{name}  {where}"
    yield f"  {_verdict(reviewed)}  {click.style(_facts(decision), dim=True)}"
    if decision.findings:
        yield ""
        yield "  Found:"
        for judged in decision.findings:
            yield from _finding(judged, reviewed)
    yield from _injections(reviewed, decision)


def _verdict(reviewed: Reviewed) -> str:
    if reviewed.refused:
        return click.style("REFUSED", fg="red", bold=True)
    if reviewed.warned:
        return click.style("ADMITTED, with warnings", fg="yellow", bold=True)
    return click.style("ADMITTED", fg="green", bold=True)


def _facts(decision: Decision) -> str:
    where = f"environment {decision.environment}" if decision.environment else "namespace not opted in"
    what = f"{decision.workload}, recognised by {decision.recognised}" if decision.recognised else "no model pod"
    model = f", model {decision.model.text}" if decision.model.name else ""
    return f"({where}; {what}{model})"


def _injections(reviewed: Reviewed, decision: Decision) -> Iterator[str]:
    applied = [one for one in decision.injections if not one.preview]
    said = [one for one in decision.injections if one.preview]
    if said:
        yield ""
        yield "  Left as it is:"
        for one in said:
            for change in one.changes:
                yield f"    {click.style(one.mutator, fg='cyan')}: would {change}{_of(one.role)}"
    if applied:
        yield ""
        yield "  Injected" + (":" if reviewed.is_pod else " into its pods, the object itself stays:")
        for one in applied:
            for change in one.changes:
                yield f"    {click.style(one.mutator, fg='green')}: {change}{_of(one.role)}"
        for pod in reviewed.pods:
            if pod.role:
                yield f"    {click.style(f'pod of {pod.role}', bold=True)}"
            yield from coloured_diff(pod.written, pod.admitted)


def _of(role: str) -> str:
    return f" (pod of {role})" if role else ""


def _finding(judged: JudgedFinding, reviewed: Reviewed) -> Iterator[str]:
    finding = judged.finding
    action = click.style(judged.action.value.ljust(5), fg=_COLOURS.get(judged.action, "white"), bold=True)
    container = f" ({finding.container})" if finding.container else ""
    line = click.style(f"line {reviewed.manifest.line(finding.path)}", dim=True)
    yield f"    {action} {click.style(finding.rule, bold=True)}  {finding.path}{container}  {line}"
    yield f"          {finding.message}"
    yield f"          -> {finding.remedy}"
    if judged.exception:
        yield click.style(f"          excused by exception {judged.exception}", fg="green")
    if judged.deny_after is not None:
        yield click.style(f"          refused from {judged.deny_after.isoformat()} on", fg="red")


def _notes(reviews: Iterable[Reviewed], assumed: Mapping[str, str]) -> Iterator[str]:
    for namespace, environment in assumed.items():
        yield (
            f"Namespace {namespace} is not known here, and was judged as {environment}. Choose with "
            "--environment, or give the cluster with --cluster or --kubeconfig."
        )
    skipped: dict[str, int] = {}
    for one in reviews:
        if one.skipped:
            skipped[one.skipped] = skipped.get(one.skipped, 0) + 1
    if skipped:
        yield f"Passed over: {'; '.join(f'{count} ({why})' for why, count in skipped.items())}."


def _sums(reviews: Sequence[Reviewed], problems: Sequence[str]) -> str:
    judged = [one for one in reviews if one.looked_at]
    refused, warned = sum(one.refused for one in judged), sum(one.warned for one in judged)
    broken = len(problems) + sum(bool(one.problem) for one in reviews)
    parts = [
        click.style(f"{refused} refused", fg="red" if refused else None),
        click.style(f"{warned} with warnings", fg="yellow" if warned else None),
        f"{len(judged) - refused - warned} without",
    ]
    if broken:
        parts.append(click.style(f"{broken} could not be read", fg="red"))
    objects = "object" if len(reviews) == 1 else "objects"
    return f"{len(reviews)} {objects}, {len(judged)} judged: {', '.join(parts)}."
