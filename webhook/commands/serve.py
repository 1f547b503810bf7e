"""``tidewaiter serve``."""

from __future__ import annotations

from pathlib import Path

import click

from webhook.commands.sentences import FILE, PATH, name_of, sentences, settings_of
from webhook.serve import ClusterSource, serve


@click.command(name="serve")
@click.option("--settings", "settings_file", type=FILE, help="Settings file; without it, the defaults hold.")
@click.option("--kubeconfig", type=FILE, help="Follow the cluster of this kubeconfig.")
@click.option("--in-cluster", is_flag=True, help="Follow the cluster that this pod runs in.")
@click.option("--cluster", type=PATH, help="Take the cluster's facts from manifests instead.")
@click.option(
    "--certificates",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where a certificate made at start is put (ca.crt, tls.crt, tls.key).",
)
def command(
    settings_file: Path | None,
    kubeconfig: Path | None,
    in_cluster: bool,
    cluster: Path | None,
    certificates: Path | None,
) -> None:
    """Run the webhook. Without a cluster, a small sample cluster is taken.

    Decision records go to standard output, a JSON line each; messages go to standard
    error.

    \b
    Examples:
      tidewaiter serve --certificates certs
      tidewaiter serve --settings settings.yaml --kubeconfig ~/.kube/config
    """
    with sentences():
        source = ClusterSource(kubeconfig, in_cluster, cluster)
        serve(settings_of(settings_file), source, certificates, name_of(settings_file))
