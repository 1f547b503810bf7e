"""The command line: each command is loaded only when it is called, since imports cost time."""

from __future__ import annotations

import importlib
import logging
import sys

import click

_COMMANDS = ("audit", "config", "exception", "gate", "model", "policy", "review", "scan", "serve", "why")


class _Commands(click.Group):
    def list_commands(self, _context: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"webhook.commands.{name}").command
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tidewaiter")
def main() -> None:
    """Boards every model pod as it enters a Kubernetes cluster.

    \b
    Start here:
      tidewaiter review deployment.yaml    what would happen to it, offline
      tidewaiter serve                     the webhook itself
      tidewaiter scan                      what already runs, by the rules of today
      tidewaiter why pod/NAME              what was done to it, and by which rule
    Shell completion:
      eval "$(_TIDEWAITER_COMPLETE=bash_source tidewaiter)"    (or zsh_source, fish_source)
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
