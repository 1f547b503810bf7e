"""``tidewaiter why``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import NOT_FOUND
from pathlib import Path
from typing import Any

import click
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from admission.review_mark import REVIEW_KEY
from audit.object_history import history_of, kind_named
from audit.presentation import LISTS, show_text
from audit.records import JsonLines, Records
from webhook.commands.record_source import SOURCE, opened
from webhook.governance.connection_options import coloured, connected, refusals, spoken
from webhook.governance.objects import connect_as

_NOTHING = 1
_SELECTOR = "app.kubernetes.io/name=tidewaiter"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@click.command(name="why")
@click.argument("reference", metavar="KIND/NAME")
@click.option("-n", "--namespace", default="", help="Its namespace; without it, that of the kubeconfig's context.")
@click.option(
    "-r",
    "--records",
    "source",
    type=SOURCE,
    default=None,
    envvar="TIDEWAITER_RECORDS",
    show_envvar=True,
    help="SQLite file, postgresql:// URL, JSON lines, or - for standard input; without it, the logs of the "
    "service's pods.",
)
@click.option(
    "--service-namespace", default="tidewaiter", show_default=True, help="Where the service runs, to read its logs."
)
@connected
@spoken
def command(
    reference: str,
    namespace: str,
    source: Path | str | None,
    service_namespace: str,
    kubeconfig: Path | None,
    context: str,
    form: str,
    color: str,
) -> None:
    """Say what was done to a live object, by which rule, and who approved its model.

    \b
    Examples:
      tidewaiter why pod/triton-5f6c8-x2x9k -n models
      kubectl tidewaiter why deploy/triton -n models -r audit.db
    """
    kind, _, name = reference.partition("/")
    with refusals():
        if not kind or not name:
            raise ValueError(f"{reference}: give a kind and a name, for example pod/triton-0")
        kind = kind_named(kind)
        api = connect_as(kubeconfig, context)
        namespace = namespace or _own_namespace(kubeconfig, context)
        review = _review_of(api, namespace, name) if kind == "pod" else ""
        with _records(source, api, service_namespace) as records:
            found = history_of(records, kind, namespace, name, review)
    if not list(found):
        where = f"the logs of the service's pods in namespace {service_namespace}" if source is None else str(source)
        click.echo(
            f"there is no record of {kind} {namespace}/{name} in {where}: it came in before they begin, "
            "nobody reviewed it, or it has another name",
            err=True,
        )
        sys.exit(_NOTHING)
    if form == "json":
        click.echo(LISTS["json"](found), nl=False)
        return
    text = "\n".join(show_text(one) for one in found)
    click.echo(text if coloured(color) is not False else _COLOUR.sub("", text), nl=False, color=coloured(color))


@contextmanager
def _records(source: Path | str | None, api: client.ApiClient, service_namespace: str) -> Iterator[Records]:
    if source is None:
        yield JsonLines(list(_logs(api, service_namespace)))
        return
    with opened(source, asked_again=True) as records:
        yield records


def _own_namespace(kubeconfig: Path | None, context: str) -> str:
    """The namespace that kubectl would take."""
    try:
        contexts, active = config.list_kube_config_contexts(  # type: ignore[no-untyped-call]
            str(kubeconfig) if kubeconfig else None
        )
    except config.ConfigException:
        return "default"
    chosen = next((one for one in contexts if one["name"] == context), active) if context else active
    return str(chosen["context"].get("namespace") or "default")


def _review_of(api: client.ApiClient, namespace: str, name: str) -> str:
    """What the pod says of the review that changed it; "" where there is no such pod any more."""
    try:
        pod = client.CoreV1Api(api).read_namespaced_pod(name, namespace, _request_timeout=10)
    except ApiException as error:
        if error.status != NOT_FOUND:
            click.echo(
                f"pod {namespace}/{name} cannot be read ({error.status} {error.reason}): by its name alone", err=True
            )
        return ""
    except HTTPError:
        click.echo("the cluster does not answer: the pod is looked for by its name alone", err=True)
        return ""
    annotations = pod.metadata.annotations if pod.metadata is not None else None
    return str((annotations or {}).get(REVIEW_KEY) or "")


def _logs(api: client.ApiClient, namespace: str) -> Iterator[bytes]:
    core = client.CoreV1Api(api)
    try:
        pods = core.list_namespaced_pod(namespace, label_selector=_SELECTOR, _request_timeout=10).items
        if not pods:
            raise ValueError(
                f"no pod in namespace {namespace} has label {_SELECTOR}; say where the service runs "
                "(--service-namespace), or give its records (-r)"
            )
        for pod in pods:
            name = pod.metadata.name if pod.metadata is not None else None
            # As it comes: what the client makes of it is one text with line ends of its own.
            answer: Any = core.read_namespaced_pod_log(
                name or "", namespace, _preload_content=False, _request_timeout=60
            )
            yield from answer.data.splitlines()
    except HTTPError:
        raise ValueError("the cluster does not answer; give the records (-r)") from None
    except ApiException as error:
        raise ValueError(
            f"the logs in namespace {namespace} cannot be read: {error.status} {error.reason}; give the records (-r)"
        ) from None
