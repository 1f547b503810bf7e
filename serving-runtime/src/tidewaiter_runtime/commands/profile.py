"""``tidewaiter-runtime profile``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

SUMMARY = "write the reference that the exporter compares live inputs with"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("data", type=Path, help="CSV with a header, or .npz; columns are features")
    parser.add_argument("--model", required=True, help="the model's name")
    parser.add_argument("--model-version", required=True, help="its version")
    parser.add_argument("--prediction", default="", metavar="COLUMN", help="the column that is the model's output")
    parser.add_argument("--features", default="", metavar="A,B", help="only these columns")
    parser.add_argument("--bins", type=int, default=10, help="bins of equal count, 2 to 100 (%(default)s)")
    parser.add_argument("--registered", default="", metavar="TIME", help="RFC 3339; without it, now")
    parser.add_argument("--output", type=Path, help="file for the profile; else it is printed")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.refusals import BadInput

    try:
        from tidewaiter_runtime.drift.profile import Profile, feature_profile, read_columns, write_profile
    except ModuleNotFoundError as error:
        raise BadInput(f"{error.name} is not installed; pip install 'tidewaiter-runtime[exporter]'") from None

    if not 2 <= options.bins <= 100:
        raise BadInput(f"--bins: found {options.bins}; expected 2 to 100")
    columns = read_columns(options.data)
    wanted = [one for one in options.features.split(",") if one] or list(columns)
    if options.prediction and options.prediction not in wanted:
        wanted.append(options.prediction)
    missing = [one for one in wanted if one not in columns]
    if missing:
        raise BadInput(f"{options.data} has no column of numbers named {missing[0]!r}; it has {', '.join(columns)}")
    features = {name: feature_profile(name, columns[name], options.bins) for name in wanted}
    registered = _time(options.registered) if options.registered else datetime.now(UTC)
    profile = Profile(
        options.model, options.model_version, registered.isoformat(timespec="seconds"), features, options.prediction
    )
    text = write_profile(profile)
    if options.output:
        try:
            options.output.write_text(text)
        except OSError as error:
            raise BadInput(f"--output {options.output}: cannot be written: {error.strerror}") from None
    else:
        sys.stdout.write(text)


def _time(text: str) -> datetime:
    from tidewaiter_runtime.refusals import BadInput

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BadInput(f"--registered: found {text[:40]!r}; expected a time with its zone, as 2026-01-31T12:00:00Z")
    return found
