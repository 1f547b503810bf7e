"""What the commands about our own objects have in common: which cluster, and how to speak."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from webhook.commands.sentences import FILE, sentences
from webhook.governance.objects import Objects, RefusedError

_REFUSED = 1
_Decorated = Callable[..., Any]
COLOURS = {"approved": "green", "proposed": "yellow", "rejected": "red", "revoked": "red", "expired": "bright_black"}


def connected(function: _Decorated) -> _Decorated:
    """Options that say which cluster."""
    for option in (
        click.option("--context", default="", help="Context of the kubeconfig; without it, the current one."),
        click.option(
            "--kubeconfig", type=FILE, help="Kubeconfig; without it, the usual places, then this pod's own account."
        ),
    ):
        function = option(function)
    return function


def spoken(function: _Decorated) -> _Decorated:
    """Options that say how to print."""
    for option in (
        click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True),
        click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True),
    ):
        function = option(function)
    return function


@contextmanager
def refusals() -> Iterator[None]:
    """Print what the cluster refuses and end with 1; what cannot be read or reached ends with 2."""
    with sentences():
        try:
            yield
        except RefusedError as error:
            click.echo(str(error), err=True)
            sys.exit(_REFUSED)


def coloured(color: str) -> bool | None:
    """What ``click.echo`` wants to know."""
    if color == "auto":
        return False if os.environ.get("NO_COLOR") else None
    return color == "always"


def say_warnings(objects: Objects, color: str) -> None:
    """Print what the webhook said besides."""
    for one in objects.warnings:
        click.echo(click.style(f"Warning: {plain(one)}", fg="yellow"), err=True, color=coloured(color))


def plain(text: object) -> str:
    """What people wrote, in one line and without what would move a terminal's cursor."""
    return "".join(one if one.isprintable() else " " for one in str(text))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], state: int, color: str) -> None:
    """Columns in line; ``state`` is the column that has a colour."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]
    for number, row in enumerate((titles, *rows)):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if number:
            cells[state] = click.style(cells[state], fg=COLOURS.get(row[state], "white"))
        else:
            cells = [click.style(cell, bold=True) for cell in cells]
        click.echo("  ".join(cells).rstrip(), color=coloured(color))
