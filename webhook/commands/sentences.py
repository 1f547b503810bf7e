"""Errors that a person can mend, as sentences on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from admission.strict_yaml import DocumentError
from admission.validator import PolicyError
from webhook.cluster import ClusterUnavailableError
from webhook.cluster_files import ClusterFilesError
from webhook.settings import Settings, load_settings

BAD_INPUT = 2
FILE = click.Path(path_type=Path, dir_okay=False)
PATH = click.Path(path_type=Path)


@contextmanager
def sentences() -> Iterator[None]:
    """Print the error and end with status 2."""
    try:
        yield
    except (DocumentError, PolicyError, ClusterFilesError, ClusterUnavailableError, ValueError) as error:
        click.echo(str(error), err=True)
        sys.exit(BAD_INPUT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"{where}{error.strerror or error}; check the path and who may use it", err=True)
        sys.exit(BAD_INPUT)


def settings_of(settings_file: Path | None) -> Settings:
    """The settings of a file, or the defaults."""
    return Settings() if settings_file is None else load_settings(settings_file)


def name_of(settings_file: Path | None) -> str:
    """What error messages call the settings."""
    return settings_file.name if settings_file is not None else "settings"
