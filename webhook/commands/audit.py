"""``tidewaiter audit``: reads decision records and checks that none was touched."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import click

from audit.chain import Entry
from audit.checkpoint import load_public_keys
from audit.following import following
from audit.presentation import LISTS, STATISTICS, VERIFIED, list_text, show_text
from audit.selection import Selection
from audit.verification import Damaged, verify
from webhook.commands.record_source import SOURCE, opened
from webhook.commands.sentences import FILE, sentences

_NOT_INTACT = 1
_LOOK_SECONDS = 1.0
_AGO = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_VERDICTS = ("allowed", "mutated", "warned", "denied", "ignored", "error")


class _Time(click.ParamType[datetime]):
    """A time, or how long ago it was."""

    name = "TIME"

    def convert(self, value: Any, _param: click.Parameter | None, _context: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        ago = _AGO.fullmatch(str(value))
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is no time; give 2026-06-01, 2026-06-01T12:00:00Z, or how long ago, as 90m, 24h or 7d"
            )
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


_TIME = _Time()


_Command = Callable[..., None]


def _source(command: _Command) -> _Command:
    return click.option(
        "-r",
        "--records",
        "source",
        type=SOURCE,
        default="-",
        envvar="TIDEWAITER_RECORDS",
        show_envvar=True,
        help="SQLite file, postgresql:// URL (PGPASSWORD or PGPASSFILE hold its password), or JSON lines as "
        "`tidewaiter serve` prints them; - for standard input.",
    )(command)


def _color(command: _Command) -> _Command:
    return click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)(
        command
    )


def _filters(command: _Command) -> _Command:
    for option in reversed(
        (
            click.option("-n", "--namespace", default="", help="Only this namespace."),
            click.option("--model", default="", help="Only this model."),
            click.option("--user", default="", help="Only requests of this user."),
            click.option("--rule", default="", help="Only where this rule had something to say."),
            click.option("--verdict", type=click.Choice(_VERDICTS), help="Only what ended so."),
            click.option("--since", type=_TIME, help="Not before this time, or so long ago: 24h."),
            click.option("--until", type=_TIME, help="Before this time, or so long ago."),
            click.option("--text", default="", help="Only records with this text anywhere, in any case of letters."),
        )
    ):
        command = option(command)
    return command


def _form(forms: Any) -> Callable[[_Command], _Command]:
    return click.option("--format", "form", type=click.Choice(list(forms)), default="text", show_default=True)


def _limit(number: int) -> Callable[[_Command], _Command]:
    return click.option(
        "--limit", type=click.IntRange(1, 1_000_000), default=number, show_default=True, help="So many at most."
    )


@click.group(name="audit")
def command() -> None:
    """Read decision records, and check that none was edited or removed.

    \b
    Examples:
      kubectl logs deploy/tidewaiter -n tidewaiter | tidewaiter audit search --verdict denied
      tidewaiter audit search -r audit.db --namespace models --since 24h
      tidewaiter audit verify -r audit.db --public-key audit.pub
    """


@command.command()
@_source
@_filters
@_limit(20)
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come, a line each, until interrupted.")
@_form(LISTS)
@_color
def tail(source: Path | str, limit: int, form: str, color: str, *, follow: bool, **filters: Any) -> None:
    """Show the newest records, the newest last.

    \b
    Examples:
      tidewaiter audit tail -f -r audit.db --verdict denied
      kubectl logs -f deploy/tidewaiter -n tidewaiter | tidewaiter audit tail -f
    """
    if follow and form == "csv":
        raise click.UsageError("--follow prints text, or JSON lines with --format json")
    with sentences(), opened(source) as records:
        if not follow:
            found = records.search(_selection(filters), limit)
            _print(LISTS[form](found[::-1]), color)
            return
        with contextlib.suppress(KeyboardInterrupt):
            for entry in following(records, _selection(filters), limit, lambda: time.sleep(_LOOK_SECONDS)):
                _print(entry.line.decode("utf-8", "replace") + "\n" if form == "json" else list_text([entry]), color)
                sys.stdout.flush()


@command.command()
@_source
@_filters
@_limit(100)
@_form(LISTS)
@_color
def search(source: Path | str, limit: int, form: str, color: str, **filters: Any) -> None:
    """Show the records that have all that is asked for, the newest first."""
    with sentences(), opened(source) as records:
        found = records.search(_selection(filters), limit + 1)
        _print(LISTS[form](found[:limit]), color)
    if len(found) > limit:
        click.echo(f"there are more than {limit}; give --limit, or ask for less", err=True)


@command.command()
@click.argument("identifier", metavar="ID")
@_source
@_form(("text", "json"))
@_color
def show(identifier: str, source: Path | str, form: str, color: str) -> None:
    """Show all that the records with this id say, or with this uid of a review."""
    with sentences(), opened(source) as records:
        found = records.find(identifier)
        if not found:
            raise ValueError(
                f"there is no record {identifier}; `tidewaiter audit search` shows ids at the end of a line"
            )
        text = LISTS["json"](found) if form == "json" else "\n".join(show_text(entry) for entry in found)
        _print(text, color)


@command.command()
@_source
@_filters
@_form(STATISTICS)
@_color
def stats(source: Path | str, form: str, color: str, **filters: Any) -> None:
    """Count records by verdict, namespace, model, user and rule; the ten most frequent of each."""
    with sentences(), opened(source) as records:
        _print(STATISTICS[form](records.statistics(_selection(filters))), color)


@command.command(name="verify")
@_source
@click.option(
    "--public-key", "keys", type=FILE, multiple=True, help="PEM file of a key that signs; more than one after a change."
)
@click.option(
    "--checkpoints",
    type=FILE,
    help="JSON lines from another place, whose checkpoints the records must agree with.",
)
@click.option(
    "--uncovered",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="With --public-key: so many records at the end of a chain may be without a checkpoint.",
)
@_form(VERIFIED)
@_color
def verify_command(
    source: Path | str, keys: tuple[Path, ...], checkpoints: Path | None, uncovered: int, form: str, color: str
) -> None:
    """Find records that were edited, removed, moved or cut off, and name the first of each chain.

    Without --public-key the checkpoints are believed as they are. Ends with 0 where all is
    intact, 1 where it is not, 2 where something cannot be read.
    """
    with sentences(), opened(source) as records, _checkpoints(checkpoints) as others:
        public = load_public_keys(keys)
        verified = verify(
            chain(others, records.entries()), public, whole=records.whole, uncovered=uncovered if public else None
        )
        _print(VERIFIED[form](verified), color)
    sys.exit(_NOT_INTACT if verified.all_problems else 0)


@command.command()
@_source
@click.option("--output", type=FILE, help="Write there; unset: standard output.")
def export(source: Path | str, output: Path | None) -> None:
    """Write all records and checkpoints as JSON lines, which `verify` can check."""
    with sentences(), opened(source) as records:
        try:
            with _written(output) as out:
                damaged = 0
                for entry in records.entries():
                    if isinstance(entry, Entry):
                        out.write(entry.line + b"\n")
                    else:
                        damaged += 1
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ValueError(f"--output {output} cannot be written: {error.strerror}") from None
    if damaged:
        click.echo(f"{damaged} damaged records were left out; `tidewaiter audit verify` names them", err=True)


def _selection(filters: dict[str, Any]) -> Selection:
    return Selection(**{**filters, "verdict": filters["verdict"] or ""})


@contextlib.contextmanager
def _checkpoints(path: Path | None) -> Iterator[list[Entry | Damaged]]:
    if path is None:
        yield []
        return
    with opened(path) as records:
        yield [one for one in records.entries() if isinstance(one, Entry) and "signature" in one.value]


@contextlib.contextmanager
def _written(output: Path | None) -> Iterator[Any]:
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with output.open("wb") as file:
        yield file


def _print(text: str, color: str) -> None:
    coloured = {"always": True, "never": False}.get(color, False if os.environ.get("NO_COLOR") else None)
    click.echo(text, nl=False, color=coloured)
