"""Sending a new object of ours from the command line, or only showing it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from webhook.governance.connection_options import say_warnings
from webhook.governance.objects import ConflictError, Objects, RefusedError
from webhook.governance.proposal import as_yaml


def create(
    made: dict[str, Any], connect: Callable[[], Objects], role: str, *, twice: str, dry_run: bool, form: str, color: str
) -> dict[str, Any] | None:
    """The object as it is stored; None where it was only to be shown, or was printed for a program.

    ``role`` is what sending it takes, and ``twice`` the sentence where there is one of that name.
    Raises ``RefusedError``.
    """
    if dry_run:
        click.echo(json.dumps(made, indent=2) if form == "json" else as_yaml(made), nl=form == "json")
        return None
    objects = connect()
    try:
        stored = objects.create(made, role)
    except ConflictError:
        raise RefusedError(twice) from None
    say_warnings(objects, color)
    if form == "json":
        click.echo(json.dumps(stored, indent=2))
        return None
    return stored
