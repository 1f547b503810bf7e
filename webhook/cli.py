"""The command line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from admission.strict_yaml import DocumentError
from admission.validator import PolicyError
from webhook.cluster import ClusterUnavailableError
from webhook.cluster_files import ClusterFilesError
from webhook.serve import ClusterSource, engine_of, serve
from webhook.settings import Settings, load_settings

_BAD_INPUT = 2
_File = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tidewaiter")
def main() -> None:
    """Boards every model pod as it enters a Kubernetes cluster."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


@main.command(name="serve")
@click.option("--settings", "settings_file", type=_File, help="Settings file; without it, the defaults hold.")
@click.option("--kubeconfig", type=_File, help="Follow the cluster of this kubeconfig.")
@click.option("--in-cluster", is_flag=True, help="Follow the cluster that this pod runs in.")
@click.option("--cluster", type=click.Path(path_type=Path), help="Take the cluster's facts from manifests instead.")
@click.option(
    "--certificates",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where a certificate made at start is put (ca.crt, tls.crt, tls.key).",
)
def serve_command(
    settings_file: Path | None,
    kubeconfig: Path | None,
    in_cluster: bool,
    cluster: Path | None,
    certificates: Path | None,
) -> None:
    """Run the webhook. Without a cluster, a small sample cluster is taken.

    \b
    Examples:
      tidewaiter serve --certificates certs
      tidewaiter serve --settings settings.yaml --kubeconfig ~/.kube/config
    """
    with _sentences():
        source = ClusterSource(kubeconfig, in_cluster, cluster)
        serve(_settings(settings_file), source, certificates, _name(settings_file))


@main.group()
def config() -> None:
    """Check the settings, or print their schema."""


@config.command()
@click.argument("settings_file", type=_File)
def check(settings_file: Path) -> None:
    """Check a settings file; every problem is printed with its line.

    \b
    Example:
      tidewaiter config check settings.yaml
    """
    with _sentences():
        engine_of(load_settings(settings_file), settings_file.name)
        click.echo(f"{settings_file} is fine")


@config.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    click.echo(json.dumps(Settings.model_json_schema(by_alias=True), indent=2))


def _settings(settings_file: Path | None) -> Settings:
    return Settings() if settings_file is None else load_settings(settings_file)


def _name(settings_file: Path | None) -> str:
    return settings_file.name if settings_file is not None else "settings"


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn errors that a person can mend into sentences on standard error."""
    try:
        yield
    except (DocumentError, PolicyError, ClusterFilesError, ClusterUnavailableError, ValueError) as error:
        click.echo(str(error), err=True)
        sys.exit(_BAD_INPUT)
