"""``tidewaiter scan``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from admission.finding import Action
from admission.workload_kinds.kinds import WORKLOAD_KINDS
from webhook.cluster_state import ClusterState
from webhook.commands.offline_reviewer import offline_reviewer
from webhook.commands.sentences import BAD_INPUT, FILE, name_of, settings_of
from webhook.governance.connection_options import coloured, connected, refusals
from webhook.governance.objects import connect_as
from webhook.governance.offline import OwnObjects
from webhook.policy_engines import embedded_engines
from webhook.scan.live_objects import live_objects
from webhook.scan.reports import FORMATS
from webhook.scan.standing import Scan, scan

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_FOUND = 1
_TOLD_EVERY = 500


@click.command(name="scan")
@click.option("-n", "--namespace", default="", help="Only this namespace; without it, all.")
@click.option("--settings", "settings_file", type=FILE, help="Settings file; without it, the defaults hold.")
@click.option("--format", "form", type=click.Choice(list(FORMATS)), default="text", show_default=True)
@click.option(
    "--fail-on",
    type=click.Choice(["deny", "warn", "never"]),
    default="deny",
    show_default=True,
    help="What ends with status 1: what would be refused, warnings too, or nothing.",
)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
@connected
def command(
    namespace: str,
    settings_file: Path | None,
    form: str,
    fail_on: str,
    color: str,
    kubeconfig: Path | None,
    context: str,
) -> None:
    """Judge what already runs in a cluster by the rules of today, and change nothing.

    Models whose approval was revoked or has expired stand first. Findings of a workload's pods
    stand under the workload. For manifests that are not in a cluster yet: `tidewaiter review DIR`.

    Ends with 0 where everything may go on, 1 where something would be refused today, 2 where
    something could not be read.

    \b
    Examples:
      tidewaiter scan
      tidewaiter scan -n models --format json
      tidewaiter scan --format policyreport --fail-on never | kubectl apply -f -
    """
    with refusals():
        settings = settings_of(settings_file)
        engine = embedded_engines(settings, name_of(settings_file))
        api = connect_as(kubeconfig, context)
        state = ClusterState()
        own = OwnObjects(settings.governance, settings.server.namespace)
        _take_in(api, state, own, settings.server.namespace)
        reviewer = offline_reviewer(settings, state, engine, own)
        result = Scan()
        kinds = [*WORKLOAD_KINDS, *(settings.custom_kinds.values())]
        found = live_objects(api, kinds, namespace, result.problems)
        asyncio.run(scan(_told(found), reviewer, state.owner_of, result))
    click.echo(FORMATS[form](result), nl=False, color=coloured(color))
    for problem in result.problems:
        click.echo(problem, err=True)
    sys.exit(_status(result, fail_on))


def _take_in(api: ApiClient, state: ClusterState, own: OwnObjects, own_namespace: str) -> None:
    from webhook.cluster import ClusterWatch, governance_kinds

    ClusterWatch(api, state).list_once()
    ClusterWatch(api, own.state, governance_kinds(own_namespace)).list_once()


def _told(objects: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same, with a line on the terminal now and then: nobody knows how many there are."""
    show = sys.stderr.isatty()
    number = 0
    for number, obj in enumerate(objects, 1):
        if show and number % _TOLD_EVERY == 0:
            click.echo(f"\r{number:,} objects ...", nl=False, err=True)
        yield obj
    if show and number >= _TOLD_EVERY:
        click.echo("\r\x1b[K", nl=False, err=True)


def _status(result: Scan, fail_on: str) -> int:
    if result.problems:
        return BAD_INPUT
    if fail_on == "never":
        return 0
    bad = result.places_with(Action.DENY) or any(one.lapsed for one in result.found)
    return _FOUND if bad or (fail_on == "warn" and result.places_with(Action.WARN)) else 0
