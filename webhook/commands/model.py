"""``tidewaiter model``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from admission.approval import ApprovalState
from registries.model_version import object_name
from webhook.commands.sentences import FILE
from webhook.governance.connection_options import (
    COLOURS,
    coloured,
    connected,
    plain,
    refusals,
    say_warnings,
    spoken,
    table,
)
from webhook.governance.creation import create
from webhook.governance.expiry import until
from webhook.governance.objects import ConflictError, Objects, RefusedError, connect_as
from webhook.governance.proposal import manifest, metric_of_flag, proposal_of_file, proposal_of_flags

_RESOURCE = "modelversions"
_DEVELOPER, _VIEWER = "ClusterRole tidewaiter-model-developer", "ClusterRole tidewaiter-viewer"
_TRIES = 5
_Object = dict[str, Any]


@click.group(name="model")
def command() -> None:
    """Propose, approve, reject, revoke and list model versions in a cluster."""


@command.command()
@click.argument("reference", default="", metavar="MODEL:VERSION")
@click.option("-f", "--file", "path", type=FILE, help="Manifest of a ModelVersion, or its spec, as YAML.")
@click.option("--source", help="URI of the bytes.")
@click.option("--digest", help="What fixes them: sha256:...")
@click.option("--framework", help="What serves it.")
@click.option("--memory", help="GPU memory that it needs, for example 40Gi.")
@click.option("--training-run", help="Run that made it.")
@click.option("--data-version", help="Version of the data that it was trained on.")
@click.option("--commit", help="Commit of the training code.")
@click.option("--model-card", help="URI of its model card.")
@click.option("--metric", "metrics", multiple=True, help="Result with its threshold: accuracy=0.93>=0.9; repeatable.")
@click.option("--latency-p95", type=float, help="95th percentile of latency, milliseconds.")
@click.option("--dry-run", is_flag=True, help="Print the object and send nothing.")
@connected
@spoken
def propose(
    reference: str,
    path: Path | None,
    dry_run: bool,
    kubeconfig: Path | None,
    context: str,
    form: str,
    color: str,
    **flags: Any,
) -> None:
    """Propose a model version, from flags or a file. Somebody else approves it.

    \b
    Examples:
      tidewaiter model propose resnet50:3 --source s3://models/resnet50/3 --digest sha256:...
      tidewaiter model propose -f resnet50.yaml
      tidewaiter model propose -f resnet50.yaml --dry-run | kubectl apply -f -
    """
    with refusals():
        made = manifest(_proposal(reference, path, flags))
        name = f"{made['spec']['model']}:{made['spec']['version']}"
        stored = create(
            made,
            lambda: _objects(kubeconfig, context),
            _DEVELOPER,
            twice=f"{name} was proposed already, and a version never changes; propose another",
            dry_run=dry_run,
            form=form,
            color=color,
        )
    if stored is None:
        return
    click.echo(f"{name} is {_state('proposed')} by {stored['spec']['proposedBy']}.", color=coloured(color))
    click.echo(f"Somebody else approves it: tidewaiter model approve {name} --environment ENVIRONMENT")


def _decided(verb: str, state: ApprovalState, explanation: str, *, expires: bool) -> None:
    """One of the three commands that write an entry."""

    def decide(
        reference: str,
        environments: tuple[str, ...],
        reason: str,
        kubeconfig: Path | None,
        context: str,
        form: str,
        color: str,
        expires: str = "",
    ) -> None:
        with refusals():
            end = until(expires, datetime.now(UTC)) if expires else ""
            objects = _objects(kubeconfig, context)
            stored = _write_entries(objects, reference, dict.fromkeys(environments), state, reason, end)
            say_warnings(objects, color)
        if form == "json":
            click.echo(json.dumps(stored, indent=2))
            return
        for environment in dict.fromkeys(environments):
            click.echo(_outcome(stored, reference, environment), color=coloured(color))

    decide.__doc__ = explanation
    decorated = spoken(connected(decide))
    if expires:
        decorated = click.option("--expires", default="", help="90d, 12w, a day or a time; without it, for ever.")(
            decorated
        )
    for option in (
        click.option("--reason", default="", required=not expires, help="Why; everybody who is refused may read it."),
        click.option(
            "-e", "--environment", "environments", multiple=True, required=True, help="Environment; repeatable."
        ),
        click.argument("reference", metavar="MODEL:VERSION"),
    ):
        decorated = option(decorated)
    command.command(name=verb)(decorated)


_decided(
    "approve",
    ApprovalState.APPROVED,
    """Approve a version for environments. Nobody approves what they proposed.

    \b
    Example:
      tidewaiter model approve resnet50:3 --environment staging --expires 90d
    """,
    expires=True,
)
_decided(
    "reject",
    ApprovalState.REJECTED,
    """Reject a version for environments; you may approve it later.

    \b
    Example:
      tidewaiter model reject resnet50:3 -e production --reason "p95 above 40 ms"
    """,
    expires=False,
)
_decided(
    "revoke",
    ApprovalState.REVOKED,
    """Revoke a version for environments, for good: its pods are refused from now on.

    \b
    Example:
      tidewaiter model revoke resnet50:3 -e production --reason "poisoned data, INC-42"
    """,
    expires=False,
)


@command.command(name="list")
@click.argument("model", default="")
@click.option("-e", "--environment", default="", help="Only versions that somebody decided on for it.")
@connected
@spoken
def list_versions(model: str, environment: str, kubeconfig: Path | None, context: str, form: str, color: str) -> None:
    """List model versions, of one model or of all.

    \b
    Examples:
      tidewaiter model list
      tidewaiter model list resnet50 --environment production --format json
    """
    with refusals():
        found = _objects(kubeconfig, context).everything(_VIEWER)
    kept = [
        one
        for one in found
        if (not model or one["spec"]["model"] == model)
        and (not environment or any(entry["environment"] == environment for entry in _approvals(one)))
    ]
    kept.sort(key=lambda one: (one["spec"]["model"], one["spec"]["version"]))
    if form == "json":
        click.echo(json.dumps(kept, indent=2))
        return
    if not kept:
        click.echo(
            f"There is no version of {model or 'any model'}{f' decided on for {environment}' * bool(environment)}."
        )
        return
    rows = [
        (
            one["spec"]["model"],
            one["spec"]["version"],
            _status(one).get("state") or "proposed",
            ",".join(_status(one).get("environments") or ()) or "-",
            one["spec"].get("proposedBy") or "-",
        )
        for one in kept
    ]
    table(("MODEL", "VERSION", "STATE", "APPROVED FOR", "PROPOSED BY"), rows, 2, color)


@command.command()
@click.argument("reference", metavar="MODEL:VERSION")
@connected
@spoken
def show(reference: str, kubeconfig: Path | None, context: str, form: str, color: str) -> None:
    """Show a version: what was proposed, its evidence, and who decided what.

    \b
    Example:
      tidewaiter model show resnet50:3
    """
    with refusals():
        found = _version(_objects(kubeconfig, context), reference)
    if form == "json":
        click.echo(json.dumps(found, indent=2))
        return
    spec = found["spec"]
    click.echo(
        f"{click.style(reference, bold=True)}: {_state(_status(found).get('state') or 'proposed')}",
        color=coloured(color),
    )
    for key, value in _facts(spec):
        click.echo(f"  {plain(key) + ':':<16}{plain(value)}")
    for condition in _status(found).get("conditions") or ():
        environment = str(condition["type"]).removeprefix("Approved-")
        colour = "green" if condition["status"] == "True" else "yellow"
        click.echo(
            f"  {click.style(environment, bold=True)}: {click.style(plain(condition['message']), fg=colour)}",
            color=coloured(color),
        )
        for entry in _approvals(found):
            if entry["environment"] == environment:
                click.echo(f"    {_said(entry)}", color=coloured(color))


def _proposal(reference: str, path: Path | None, flags: dict[str, Any]) -> Any:
    given = {key: value for key, value in flags.items() if value not in (None, ())}
    if path is not None:
        if reference or given:
            what = "MODEL:VERSION" if reference else f"--{next(iter(given)).replace('_', '-')}"
            raise ValueError(f"-f {path.name} and {what}: give the version by a file or by flags, not by both")
        return proposal_of_file(path)
    model, version = _split(reference)
    spec: dict[str, Any] = {"model": model, "version": version}
    spec |= {key: given[key] for key in ("source", "digest", "framework", "memory") if key in given}
    if "model_card" in given:
        spec["modelCard"] = given["model_card"]
    lineage = {
        alias: given[key]
        for key, alias in (("training_run", "trainingRun"), ("data_version", "dataVersion"), ("commit", "commit"))
        if key in given
    }
    evidence: dict[str, Any] = {}
    if "metrics" in given:
        evidence["evaluation"] = [metric_of_flag(one) for one in given["metrics"]]
    if "latency_p95" in given:
        evidence["latencyP95Milliseconds"] = given["latency_p95"]
    spec |= {key: value for key, value in (("lineage", lineage), ("evidence", evidence)) if value}
    return proposal_of_flags(spec)


def _split(reference: str) -> tuple[str, str]:
    model, separator, version = reference.rpartition(":")
    if not separator or not model or not version:
        raise ValueError(f"{reference or 'MODEL:VERSION'}: give a model and its version, for example resnet50:3")
    return model, version


def _objects(kubeconfig: Path | None, context: str) -> Objects:
    return Objects(connect_as(kubeconfig, context), _RESOURCE)


def _version(objects: Objects, reference: str) -> _Object:
    model, version = _split(reference)
    found = objects.get(object_name(model, version), _VIEWER)
    if found is not None:
        return found
    known = [one["spec"]["version"] for one in objects.everything(_VIEWER) if one["spec"]["model"] == model]
    hint = f"; its versions are {', '.join(sorted(known))}" if known else f"; there is no version of {model} at all"
    raise RefusedError(f"there is no {reference}{hint}")


def _write_entries(
    objects: Objects, reference: str, environments: Iterable[str], state: ApprovalState, reason: str, expires: str
) -> _Object:
    """Write entries of ours beside those of others; again where somebody else was faster."""
    user, wanted = objects.user(), list(environments)
    for _ in range(_TRIES):
        found = _version(objects, reference)
        entries = [one for one in _approvals(found) if one["approver"] != user or one["environment"] not in wanted]
        for environment in wanted:
            entry = {"environment": environment, "approver": user, "state": state.value}
            entry |= {key: value for key, value in (("expires", expires), ("reason", reason)) if value}
            entries.append(entry)
        found.setdefault("status", {})["approvals"] = entries
        try:
            stored = objects.replace_status(found, f"ClusterRole tidewaiter-model-approver-{wanted[0]}")
        except ConflictError:
            continue
        if stored is not None:
            return stored
    raise RefusedError(f"{reference} is being changed by others all the time; try again")


def _outcome(stored: _Object, reference: str, environment: str) -> str:
    conditions = {one["type"]: one for one in _status(stored).get("conditions") or ()}
    condition = conditions.get(f"Approved-{environment}")
    if condition is None:
        return f"{reference}: written for {environment}."
    state = {"Approved": "approved", "Rejected": "rejected", "Revoked": "revoked"}.get(condition["reason"], "proposed")
    waiting = "not yet approved" if state == "proposed" else state
    return (
        f"{reference} is {click.style(waiting, fg=COLOURS[state])} for {environment} ({plain(condition['message'])})."
    )


def _facts(spec: _Object) -> Iterable[tuple[str, str]]:
    for key, what in (
        ("source", "source"),
        ("digest", "digest"),
        ("framework", "framework"),
        ("memory", "memory"),
        ("modelCard", "model card"),
        ("proposedBy", "proposed by"),
    ):
        if spec.get(key):
            yield what, str(spec[key])
    for key, value in (spec.get("lineage") or {}).items():
        yield key, str(value)
    evidence = spec.get("evidence") or {}
    for one in evidence.get("evaluation") or ():
        bounds = [f"{word} {one[key]}" for key, word in (("atLeast", "at least"), ("atMost", "at most")) if key in one]
        said = f" ({', '.join(bounds)})" if bounds else ""
        yield one["metric"], f"{one['value']}{said}"
    if "latencyP95Milliseconds" in evidence:
        yield "latency p95", f"{evidence['latencyP95Milliseconds']} ms"
    for key, what in (("vulnerabilityScan", "scan"), ("biasAudit", "bias audit"), ("dataValidation", "data")):
        if key in evidence:
            yield what, ", ".join(f"{name} {value}" for name, value in evidence[key].items())


def _said(entry: _Object) -> str:
    until_when = f", until {entry['expires']}" if entry.get("expires") else ""
    reason = f": {entry['reason']}" if entry.get("reason") else ""
    return _state(entry["state"]) + plain(f" by {entry['approver']} at {entry.get('at', '?')}{until_when}{reason}")


def _state(state: str) -> str:
    return click.style(state, fg=COLOURS.get(state, "white"))


def _status(obj: _Object) -> _Object:
    status = obj.get("status")
    return status if isinstance(status, dict) else {}


def _approvals(obj: _Object) -> list[_Object]:
    return list(_status(obj).get("approvals") or ())
