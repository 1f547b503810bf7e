"""``tidewaiter exception``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from registries.model_version import UnreadableObjectError, moment
from webhook.governance.connection_options import coloured, connected, refusals, say_warnings, spoken, table
from webhook.governance.creation import create
from webhook.governance.expiry import until
from webhook.governance.objects import ConflictError, Objects, RefusedError, connect_as
from webhook.governance.policy_exceptions import KIND
from webhook.governance.proposal import API_VERSION

_RESOURCE = "policyexceptions"
_REQUESTER, _APPROVER = "Role tidewaiter-exception-requester", "Role tidewaiter-exception-approver"
_TRIES = 5
_Object = dict[str, Any]
_OWN_NAMESPACE = click.option(
    "-n",
    "--namespace",
    "own_namespace",
    default="tidewaiter",
    show_default=True,
    help="Namespace of Tidewaiter itself, the only one whose exceptions hold.",
)


@click.group(name="exception")
def command() -> None:
    """Request, approve and list exceptions from rules in a cluster."""


@command.command()
@click.argument("name")
@click.option("--rule", "rules", multiple=True, required=True, help="Id of a rule, * for any part; repeatable.")
@click.option("--for-namespace", "namespaces", multiple=True, required=True, help="Where it is to hold; repeatable.")
@click.option("--for-kind", "kinds", multiple=True, help="Kinds of object; without it, every kind.")
@click.option("--for-name", "names", multiple=True, help="Names of objects; without it, every name.")
@click.option("--for-label", "labels", multiple=True, help="Label of the pod, KEY=VALUE; repeatable, all must fit.")
@click.option("--expires", required=True, help="30d, 4w, a day or a time.")
@click.option("--reason", required=True, help="Why.")
@click.option("--ticket", default="", help="Where it is followed up.")
@click.option("--dry-run", is_flag=True, help="Print the object and send nothing.")
@_OWN_NAMESPACE
@connected
@spoken
def request(
    name: str,
    labels: tuple[str, ...],
    expires: str,
    reason: str,
    ticket: str,
    dry_run: bool,
    own_namespace: str,
    kubeconfig: Path | None,
    context: str,
    form: str,
    color: str,
    **matched: tuple[str, ...],
) -> None:
    """Request that rules do not hold for some objects until a date. Somebody else approves it.

    \b
    Example:
      tidewaiter exception request old-image --rule image-pinned --for-namespace vision
        --for-name 'legacy-*' --expires 30d --reason "vendor image" --ticket OPS-7
    """
    with refusals():
        match: _Object = {key: list(matched[key]) for key in ("namespaces", "kinds", "names") if matched[key]}
        if labels:
            match["labels"] = dict(_label(one) for one in labels)
        spec: _Object = {"rules": list(matched["rules"]), "match": match, "reason": reason}
        spec["expires"] = until(expires, datetime.now(UTC))
        if ticket:
            spec["ticket"] = ticket
        metadata = {"name": name, "namespace": own_namespace}
        made = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
        stored = create(
            made,
            lambda: _objects(kubeconfig, context, own_namespace),
            _REQUESTER,
            twice=f"there is an exception {name} already; choose another name",
            dry_run=dry_run,
            form=form,
            color=color,
        )
    if stored is None:
        return
    click.echo(f"Exception {name} is requested until {spec['expires']}, and does not hold yet.")
    click.echo(f"Somebody else approves it: tidewaiter exception approve {name}")


@command.command()
@click.argument("name")
@click.option("--reason", default="", help="Why.")
@_OWN_NAMESPACE
@connected
@spoken
def approve(
    name: str, reason: str, own_namespace: str, kubeconfig: Path | None, context: str, form: str, color: str
) -> None:
    """Approve an exception. Nobody approves what they requested.

    \b
    Example:
      tidewaiter exception approve old-image --reason "until the vendor signs its images"
    """
    with refusals():
        objects = _objects(kubeconfig, context, own_namespace)
        stored = _approved(objects, name, reason)
        say_warnings(objects, color)
    if form == "json":
        click.echo(json.dumps(stored, indent=2))
        return
    click.echo(
        f"Exception {name} is {click.style('approved', fg='green')} and holds until {stored['spec']['expires']}.",
        color=coloured(color),
    )


@command.command(name="list")
@_OWN_NAMESPACE
@connected
@spoken
def list_exceptions(own_namespace: str, kubeconfig: Path | None, context: str, form: str, color: str) -> None:
    """List exceptions: which hold, which wait for an approval, which have expired.

    \b
    Example:
      tidewaiter exception list --format json
    """
    with refusals():
        found = _objects(kubeconfig, context, own_namespace).everything(_REQUESTER)
    if form == "json":
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo(f"There are no exceptions in namespace {own_namespace}.")
        return
    now = datetime.now(UTC)
    rows = [
        (
            one["metadata"]["name"],
            _state(one, now),
            ",".join(one["spec"]["rules"]),
            ",".join(one["spec"]["match"]["namespaces"]),
            one["spec"]["expires"],
            one["spec"].get("requestedBy") or "-",
            (_approval(one) or {}).get("approvedBy") or "-",
        )
        for one in sorted(found, key=lambda one: str(one["spec"]["expires"]))
    ]
    table(("NAME", "STATE", "RULES", "NAMESPACES", "EXPIRES", "REQUESTED BY", "APPROVED BY"), rows, 1, color)


def _approved(objects: Objects, name: str, reason: str) -> _Object:
    for _ in range(_TRIES):
        found = objects.get(name, _APPROVER)
        if found is None:
            known = sorted(one["metadata"]["name"] for one in objects.everything(_APPROVER))
            raise RefusedError(
                f"there is no exception {name} in namespace {objects.namespace}; there are {', '.join(known) or 'none'}"
            )
        # Who and when is Tidewaiter's to write; both are required by the schema.
        approval = {"approvedBy": objects.user(), "approvedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        found["status"] = {"approval": {**approval, **({"reason": reason} if reason else {})}}
        try:
            stored = objects.replace_status(found, _APPROVER)
        except ConflictError:
            continue
        if stored is not None:
            return stored
    raise RefusedError(f"exception {name} is being changed by others all the time; try again")


def _state(obj: _Object, now: datetime) -> str:
    try:
        expires = moment(obj["spec"]["expires"], "expires")
    except UnreadableObjectError:
        expires = None
    if expires is None or expires <= now:
        return "expired"
    return "approved" if _approval(obj) else "proposed"


def _approval(obj: _Object) -> _Object | None:
    approval = (obj.get("status") or {}).get("approval")
    return approval if isinstance(approval, dict) else None


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ValueError(f"--for-label {text}: write KEY=VALUE")
    return key, value


def _objects(kubeconfig: Path | None, context: str, own_namespace: str) -> Objects:
    return Objects(connect_as(kubeconfig, context), _RESOURCE, own_namespace)
