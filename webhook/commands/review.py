"""``tidewaiter review``."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from admission.admission_review import UserInfo
from webhook.cluster_files import cluster_objects, load_cluster_files, sample_cluster
from webhook.cluster_state import ClusterState
from webhook.commands.offline_reviewer import offline_reviewer
from webhook.commands.sentences import BAD_INPUT, FILE, PATH, name_of, sentences, settings_of
from webhook.governance.offline import OwnObjects
from webhook.manifests import Manifest, read_manifests
from webhook.offline_review import Reviewed, assume_environments, review_manifest
from webhook.policy_engines import embedded_engines
from webhook.rego.combined_engine import CombinedEngine
from webhook.review_formats.json_report import json_report
from webhook.review_formats.junit import junit
from webhook.review_formats.mutated import mutated
from webhook.review_formats.sarif import sarif
from webhook.review_formats.text import text
from webhook.settings import VALIDATORS

_REFUSED = 1
_PROGRESS_FROM = 50
"""Objects; fewer are done before anybody could look."""


@dataclass(frozen=True, slots=True)
class _Report:
    reviews: Sequence[Reviewed]
    problems: Sequence[str]
    assumed: Mapping[str, str]
    rules: Mapping[str, str]


_FORMATS: dict[str, Callable[[_Report], str]] = {
    "text": lambda report: text(report.reviews, report.problems, report.assumed),
    "json": lambda report: json_report(report.reviews, report.problems, report.assumed),
    "sarif": lambda report: sarif(report.reviews, report.problems, report.rules),
    "junit": lambda report: junit(report.reviews, report.problems),
    "yaml": lambda report: mutated(report.reviews),
}


@click.command(name="review")
@click.argument("manifests", nargs=-1, required=True, metavar="FILE|DIR|-...")
@click.option("--format", "form", type=click.Choice(list(_FORMATS)), default="text", show_default=True)
@click.option("--settings", "settings_file", type=FILE, help="Settings file; without it, the defaults hold.")
@click.option("-n", "--namespace", default="", help="Namespace of objects that name none.")
@click.option("-e", "--environment", default="", help="Judge every namespace as of this environment.")
@click.option("--cluster", type=PATH, help="Take the cluster's facts from manifests.")
@click.option("--kubeconfig", type=FILE, help="Take the cluster's facts from the cluster of this kubeconfig.")
@click.option("--as", "user", default="", help="Judge as if this user had applied it.")
@click.option("--as-group", "groups", multiple=True, help="Judge as if the user were in this group; may be repeated.")
@click.option(
    "--fail-on",
    type=click.Choice(["deny", "warn"]),
    default="deny",
    show_default=True,
    help="What ends with status 1: only refusals, or warnings too.",
)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def command(
    manifests: tuple[str, ...],
    form: str,
    settings_file: Path | None,
    namespace: str,
    environment: str,
    cluster: Path | None,
    kubeconfig: Path | None,
    user: str,
    groups: tuple[str, ...],
    fail_on: str,
    color: str,
) -> None:
    """Show what would happen to manifests, without applying them.

    Files, folders (searched for .yaml, .yml and .json) or - for standard input. A pod is
    shown as it would come out; a workload as the pods that would come of it.

    Approved PolicyException and ModelVersion objects count as they do in the cluster,
    whether they come from it, from --cluster or from the manifests themselves.

    Ends with 0 where everything would be admitted, 1 where something would be refused, 2
    where something could not be read.

    \b
    Examples:
      tidewaiter review deployment.yaml
      helm template ./chart | tidewaiter review - --environment production
      tidewaiter review manifests/ --settings settings.yaml --format sarif > tidewaiter.sarif
      tidewaiter review pod.yaml --format yaml | kubectl apply -f -
    """
    with sentences():
        settings = settings_of(settings_file)
        if environment and environment not in settings.environments:
            raise ValueError(
                f"--environment {environment}: there is no such environment; use {', '.join(settings.environments)}"
            )
        engine = embedded_engines(settings, name_of(settings_file))
        found, problems = read_manifests(manifests, sys.stdin)
        own = OwnObjects(settings.governance, settings.server.namespace)
        state = _facts(cluster, kubeconfig, own, settings.server.namespace)
        own.take(one.obj for one in found)
        reviewer = offline_reviewer(settings, state, engine, own)
        assumed = assume_environments(found, state, settings, namespace, environment, reviewer.workload_kind)
        asker = UserInfo(username=user, groups=groups)
        reviews = asyncio.run(_reviewed(found, lambda one: review_manifest(one, reviewer, namespace, asker)))
    report = _Report(reviews, problems, assumed, _descriptions(engine))
    click.echo(_FORMATS[form](report), nl=False, color=_coloured(color))
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(_status(reviews, problems, fail_on))


def _facts(cluster: Path | None, kubeconfig: Path | None, own: OwnObjects, own_namespace: str) -> ClusterState:
    state = ClusterState()
    if kubeconfig is None:
        path = cluster or sample_cluster()
        load_cluster_files(state, path)
        own.take(cluster_objects(path))
        return state
    from webhook.cluster import ClusterWatch, connect, governance_kinds  # the client takes half a second to import

    api = connect(kubeconfig)
    ClusterWatch(api, state).list_once()
    ClusterWatch(api, own.state, governance_kinds(own_namespace)).list_once()
    return state


async def _reviewed(manifests: Sequence[Manifest], review: Callable[[Manifest], Awaitable[Reviewed]]) -> list[Reviewed]:
    if len(manifests) < _PROGRESS_FROM or not sys.stderr.isatty():
        return [await review(one) for one in manifests]
    with click.progressbar(manifests, label="Reviewing", file=sys.stderr, show_pos=True) as bar:
        return [await review(one) for one in bar]


def _descriptions(engine: CombinedEngine) -> dict[str, str]:
    """The first sentence about each rule."""
    in_python = {one.id: inspect.getdoc(sys.modules[one.check.__module__]) or one.id for one in VALIDATORS}
    in_rego = {rule.id: rule.title for rule in engine.rules.values()}
    return {rule: about.splitlines()[0] for rule, about in {**in_python, **in_rego}.items()}


def _coloured(color: str) -> bool | None:
    if color == "auto":
        return False if os.environ.get("NO_COLOR") else None
    return color == "always"


def _status(reviews: Sequence[Reviewed], problems: Sequence[str], fail_on: str) -> int:
    if problems or any(one.problem for one in reviews):
        return BAD_INPUT
    refused = any(one.refused or (fail_on == "warn" and one.warned) for one in reviews)
    return _REFUSED if refused else 0
