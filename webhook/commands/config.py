"""``tidewaiter config``."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import click
import yaml

from webhook.commands.sentences import FILE, sentences, settings_of
from webhook.policy_engines import embedded_engines
from webhook.settings import Settings, load_settings
from webhook.webhook_configuration import all_configurations


@click.group(name="config")
def command() -> None:
    """Check the settings, print their schema, or the webhook configurations that come of them."""


@command.command()
@click.argument("settings_file", type=FILE)
def check(settings_file: Path) -> None:
    """Check a settings file; every problem is printed with its line.

    \b
    Example:
      tidewaiter config check settings.yaml
    """
    with sentences():
        embedded_engines(load_settings(settings_file), settings_file.name)
        click.echo(f"{settings_file} is fine")


@command.command()
def schema() -> None:
    """Print the JSON Schema of the settings file.

    \b
    Example, for an editor's completion:
      tidewaiter config schema > tidewaiter.schema.json
      # and as the first line of settings.yaml:
      # yaml-language-server: $schema=tidewaiter.schema.json
    """
    click.echo(json.dumps(Settings.model_json_schema(by_alias=True), indent=2))


@command.command()
@click.option("--settings", "settings_file", type=FILE, help="Settings file; without it, the defaults hold.")
@click.option("--ca-file", type=FILE, required=True, help="PEM file of the CA that signed the service's certificate.")
def webhooks(settings_file: Path | None, ca_file: Path) -> None:
    """Print the webhook configurations as YAML, ready for kubectl apply.

    \b
    Example:
      tidewaiter config webhooks --ca-file certs/ca.crt | kubectl apply -f -
    """
    with sentences():
        try:
            bundle = base64.b64encode(ca_file.read_bytes()).decode()
        except OSError as error:
            raise ValueError(f"{ca_file} cannot be read: {error.strerror}; give the PEM file of a CA") from None
        if b"-----BEGIN CERTIFICATE-----" not in base64.b64decode(bundle):
            raise ValueError(f"{ca_file} is no certificate: give the PEM file of the CA that signed the service's")
        configurations = all_configurations(settings_of(settings_file), bundle)
        click.echo(yaml.safe_dump_all(configurations, sort_keys=False, width=1000), nl=False)
