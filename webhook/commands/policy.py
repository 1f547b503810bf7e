"""``tidewaiter policy``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import yaml

from admission.finding import Action
from admission.namespace import ENVIRONMENT_KEY, Namespace
from admission.validator import PolicyError, PolicyRule
from admission.workload import WorkloadClass
from webhook.commands.sentences import BAD_INPUT, FILE, PATH, sentences, settings_of
from webhook.policy_engines import every_source
from webhook.rego.effective_actions import EffectiveAction, effective_actions
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.gatekeeper import constraint, template
from webhook.rego.input_fields import unknown_fields
from webhook.rego.policy_set import PolicySet, parsed, rule_names
from webhook.rego.sources import PolicySource, policy_source
from webhook.rego.unit_tests import Outcome, TestResult, run_tests

_FAILED = 1
_COLOURS = {
    Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.ERROR: "red", Outcome.SKIPPED: "yellow",
    Action.DENY: "red", Action.WARN: "yellow", Action.AUDIT: "cyan", Action.OFF: "bright_black",
}  # fmt: skip

_Decorated = Callable[..., Any]


def _sourced(function: _Decorated) -> _Decorated:
    """Where the policies come from."""
    for option in (
        click.option("--public-key", type=FILE, help="PEM file; a bundle must be signed by its key."),
        click.option("--settings", "settings_file", type=FILE, help="Settings file; without it, the defaults hold."),
        click.option("--policies", type=PATH, help="Folder or OPA bundle, instead of what the settings say."),
    ):
        function = option(function)
    return function


def _formatted(function: _Decorated) -> _Decorated:
    return click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)(
        function
    )


def _source(policies: Path | None, settings_file: Path | None, public_key: Path | None) -> PolicySource:
    return (
        every_source(settings_of(settings_file).policies) if policies is None else policy_source(policies, public_key)
    )


@click.group(name="policy")
def command() -> None:
    """List, explain, test, check and export the rules in Rego."""


@command.command(name="list")
@_sourced
@_formatted
def list_rules(policies: Path | None, settings_file: Path | None, public_key: Path | None, form: str) -> None:
    """List the rules.

    \b
    Examples:
      tidewaiter policy list
      tidewaiter policy list --policies my-policies/ --format json
    """
    with sentences():
        found = _source(policies, settings_file, public_key).read()
    rules = [found.rules[rule] for rule in sorted(found.rules)]
    if form == "json":
        click.echo(json.dumps([_about(one) for one in rules], indent=2))
        return
    _table(
        ("RULE", "SEVERITY", "SCOPE", "WORKLOADS", "TITLE"),
        [(one.id, one.severity.value, one.applies.scope.value, _workloads(one), one.title) for one in rules],
    )


@command.command()
@click.argument("rule")
@_sourced
@_formatted
def show(rule: str, policies: Path | None, settings_file: Path | None, public_key: Path | None, form: str) -> None:
    """Show a rule: what it says of itself, its tests, and its source.

    \b
    Example:
      tidewaiter policy show host-access
    """
    with sentences():
        found = _source(policies, settings_file, public_key).read()
        if rule not in found.rules:
            raise ValueError(f"there is no rule {rule}; the rules are {', '.join(sorted(found.rules))}")
    module = found.module(rule)
    about, cases = found.rules[rule], _tests_of(found, module.package)
    if form == "json":
        click.echo(json.dumps({**_about(about), "file": module.path, "tests": cases, "source": module.text}, indent=2))
        return
    click.echo(f"{click.style(rule, bold=True)}: {about.title}\n\n{about.description}\n")
    for name, value in (
        ("severity", about.severity.value),
        ("scope", about.applies.scope.value),
        ("workloads", _workloads(about)),
        ("remedy", about.remedy),
        ("related", ", ".join(about.related)),
        ("file", module.path),
        ("tests", ", ".join(cases) or "none"),
    ):
        if value:
            click.echo(f"{name + ':':<11}{value}")
    click.echo(f"\n{module.text}", nl=False)


@command.command()
@_sourced
@click.option("--run", "only", default="", help="Only tests whose name contains this.")
@click.option("-v", "--verbose", is_flag=True, help="Name the tests that pass, too.")
@_formatted
def test(
    policies: Path | None,
    settings_file: Path | None,
    public_key: Path | None,
    only: str,
    verbose: bool,
    form: str,
) -> None:
    """Run the tests in _test.rego files. Ends with 1 where one fails.

    \b
    Examples:
      tidewaiter policy test --policies my-policies/
      tidewaiter policy test --policies my-policies/ --run host_port -v
    """
    with sentences():
        results = list(run_tests(_source(policies, settings_file, public_key).read(), only))
        if not results:
            raise ValueError("there are no tests; write rules test_... in files ..._test.rego")
    bad = any(one.outcome in (Outcome.FAIL, Outcome.ERROR) for one in results)
    if form == "json":
        click.echo(json.dumps([_outcome(one) for one in results], indent=2))
    else:
        for one in results:
            if verbose or one.outcome is not Outcome.PASS:
                reason = f" {one.reason}" if one.reason else ""
                click.echo(f"{one.path}: {one.name}: {_coloured(one.outcome)} ({one.milliseconds:.1f} ms){reason}")
        counts = Counter(one.outcome for one in results)
        for outcome, number in counts.items():
            click.echo(f"{_coloured(outcome)}: {number}/{len(results)}")
    sys.exit(_FAILED if bad else 0)


@command.command()
@_sourced
@_formatted
def check(policies: Path | None, settings_file: Path | None, public_key: Path | None, form: str) -> None:
    """Check policies before they are put in force. Ends with 2 where one is bad.

    Syntax, metadata, data, functions that do not exist, and fields of the input that no
    input has (policies/schemas/input.json).

    \b
    Example:
      tidewaiter policy check --policies my-policies/
    """
    with sentences():
        source = _source(policies, settings_file, public_key)
        problems, number = _problems(source)
    if form == "json":
        click.echo(json.dumps({"source": source.name, "rules": number, "problems": problems}, indent=2))
    elif problems:
        click.echo("\n".join(problems), err=True)
    else:
        click.echo(f"{source.name} is fine: {number} rules")
    sys.exit(BAD_INPUT if problems else 0)


@command.command()
@_sourced
@click.option("--gatekeeper", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write.")
@click.option(
    "--action",
    type=click.Choice([one.value for one in Action if one is not Action.OFF]),
    default="warn",
    show_default=True,
    help="What Gatekeeper does with a finding.",
)
def export(
    policies: Path | None, settings_file: Path | None, public_key: Path | None, gatekeeper: Path, action: str
) -> None:
    """Write the rules as Gatekeeper ConstraintTemplates and constraints.

    \b
    Example:
      tidewaiter policy export --gatekeeper gatekeeper/ && kubectl apply -f gatekeeper/templates
    """
    with sentences():
        found = _source(policies, settings_file, public_key).read()
        try:
            for module in found.modules:
                if module.rule is not None:
                    _write(gatekeeper / "templates" / f"{module.rule.id}.yaml", template(found, module))
                    _write(gatekeeper / "constraints" / f"{module.rule.id}.yaml", constraint(module, action))
        except OSError as error:
            raise ValueError(f"{error.filename} cannot be written: {error.strerror}") from None
    click.echo(f"wrote {len(found.rules)} templates and constraints to {gatekeeper}")


@command.command()
@_sourced
@click.option("-n", "--namespace", default="default", show_default=True, help="Whose actions to show.")
@click.option("-e", "--environment", default="", help="The namespace's environment, where the settings do not say.")
@_formatted
def status(
    policies: Path | None,
    settings_file: Path | None,
    public_key: Path | None,
    namespace: str,
    environment: str,
    form: str,
) -> None:
    """Show revision, source and problem of the policies, and what every rule does in a namespace.

    Ends with 1 where the policies have a problem.

    \b
    Examples:
      tidewaiter policy status --settings settings.yaml --namespace fraud
      tidewaiter policy status --environment production --format json
    """
    problem, revision, rules = "", "", dict[str, PolicyRule]()
    with sentences():
        settings = settings_of(settings_file)
        if environment and environment not in settings.environments:
            raise ValueError(
                f"--environment {environment}: there is no such environment; use {', '.join(settings.environments)}"
            )
        source = _source(policies, settings_file, public_key)
    try:
        found = source.read()
        EmbeddedEngine(found)
        revision, rules = found.revision, found.rules
    except PolicyError as error:
        problem = str(error)
    where = Namespace(namespace, {ENVIRONMENT_KEY: environment} if environment else {})
    actions = list(effective_actions(settings, rules, where, datetime.now(UTC).date()))
    if form == "json":
        shown: dict[str, Any] = {"source": source.name, "revision": revision, "problem": problem}
        shown["namespace"] = namespace
        shown["actions"] = {
            one.rule: {
                "language": one.language,
                "action": one.action.value,
                "denyAfter": one.deny_after.isoformat() if one.deny_after else None,
            }
            for one in actions
        }
        click.echo(json.dumps(shown, indent=2))
    else:
        click.echo(f"source:    {source.name}\nrevision:  {revision or 'none'}\nproblem:   {problem or 'none'}\n")
        _table(
            ("RULE", "LANGUAGE", f"IN {namespace}"),
            [(one.rule, one.language, _coloured(one.action) + _from_day(one)) for one in actions],
        )
    sys.exit(_FAILED if problem else 0)


def _from_day(one: EffectiveAction) -> str:
    return f", deny from {one.deny_after.isoformat()} on" if one.deny_after is not None else ""


def _problems(source: PolicySource) -> tuple[list[str], int]:
    try:
        found = source.read()
    except PolicyError as error:
        return str(error).splitlines(), 0
    problems = [one.text() for module in found.modules for one in unknown_fields(module)]
    for path, text in found.tests.items():
        try:
            parsed(path, text)
        except PolicyError as error:
            problems.append(str(error))
    try:
        EmbeddedEngine(found)
    except PolicyError as error:
        problems += str(error).splitlines()
    return problems, len(found.rules)


def _tests_of(found: PolicySet, package: str) -> list[str]:
    names: list[str] = []
    for path, text in found.tests.items():
        where, syntax = parsed(path, text)
        if where.removeprefix("data.tidewaiter.").removesuffix("_test") == package:
            names += [name for name in rule_names(syntax) if name.startswith("test_")]
    return names


def _about(rule: PolicyRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "title": rule.title,
        "description": rule.description,
        "severity": rule.severity.value,
        "scope": rule.applies.scope.value,
        "workloads": sorted(one.value for one in rule.applies.workloads),
        "remedy": rule.remedy,
        "related": list(rule.related),
    }


def _workloads(rule: PolicyRule) -> str:
    chosen = rule.applies.workloads
    return "all" if chosen == frozenset(WorkloadClass) else ",".join(sorted(one.value for one in chosen))


def _outcome(result: TestResult) -> dict[str, Any]:
    return {
        "file": result.path,
        "name": result.name,
        "outcome": result.outcome.value,
        "reason": result.reason,
        "milliseconds": round(result.milliseconds, 3),
    }


def _coloured(value: Outcome | Action) -> str:
    return click.style(value.value, fg=_COLOURS[value])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    rows = [tuple(row) for row in rows]
    widths = [max(len(click.unstyle(row[column])) for row in [tuple(heads), *rows]) for column in range(len(heads))]
    for row in [tuple(heads), *rows]:
        cells = (cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.dump(document, Dumper=_BlockDumper, sort_keys=False, width=1000), encoding="utf-8")


class _BlockDumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, so that Rego can be read."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # A block takes no tabs at the start of a line.
    value = value.replace("\t", "  ")
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_BlockDumper.add_representer(str, _text)
