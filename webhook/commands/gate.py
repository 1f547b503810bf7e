"""``tidewaiter gate``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from webhook.commands.sentences import FILE, PATH, sentences, settings_of
from webhook.gate.binding import Wanted, image_digests
from webhook.gate.judgement import judge
from webhook.gate.outcome import Outcome
from webhook.gate.reading import read_evidence
from webhook.gate.reports.json_report import json_report
from webhook.gate.reports.junit import junit
from webhook.gate.reports.sarif import sarif
from webhook.gate.reports.text import text
from webhook.gate.thresholds import Gate, load_gates

_FAILED = 1
_GATES_FILE = Path("gates.yaml")
_FORMATS: dict[str, Callable[[Outcome], str]] = {
    "text": text,
    "json": json_report,
    "sarif": sarif,
    "junit": junit,
}


@click.command(name="gate")
@click.argument("evidence", nargs=-1, type=PATH, metavar="[FILE|DIR]...")
@click.option("--model", required=True, help="Name of the model.")
@click.option("--version", required=True, help="Its version. Evidence that names another one fails.")
@click.option("--digest", default="", help="Digest of the model (sha256:...), for evidence that names one.")
@click.option("--image", default="", help="Image that serves it, by digest; scans of another image fail.")
@click.option("--require-bound", is_flag=True, help="Fail evidence that does not name what it is about.")
@click.option("-e", "--env", "environment", required=True, help="Environment that the version shall be approved for.")
@click.option("--gates", "gates_file", type=FILE, help="Thresholds by environment.  [default: gates.yaml]")
@click.option("--settings", "settings_file", type=FILE, help="Settings file that has the thresholds (gates) instead.")
@click.option("--format", "form", type=click.Choice(list(_FORMATS)), default="text", show_default=True)
@click.option("--output", type=FILE, help="Write the report there, and the text to standard output.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def command(
    evidence: tuple[Path, ...],
    model: str,
    version: str,
    digest: str,
    image: str,
    require_bound: bool,
    environment: str,
    gates_file: Path | None,
    settings_file: Path | None,
    form: str,
    output: Path | None,
    color: str,
) -> None:
    """Hold the evidence about a model version to the thresholds of an environment.

    Evidence is read from files that other tools wrote, recognised by their content, and from
    folders of them; without any, from the folder evidence: Great Expectations, TensorFlow Data
    Validation, TFX Evaluator, Trivy, Grype, MLflow, perf_analyzer, model cards, and any flat
    JSON object of metrics. Evidence that names another model version, or a scan of another
    image, fails.

    Ends with 0 where every threshold holds, 1 where one does not or its evidence is missing, 2
    where something could not be read.

    \b
    Examples:
      tidewaiter gate --model resnet50 --version 3 --env production
      tidewaiter gate --model resnet50 --version 3 --env staging out/ README.md --format junit
      tidewaiter gate --model resnet50 --version 3 --env production --settings settings.yaml
    """
    with sentences():
        gate, source = _gate(gates_file, settings_file, environment)
        reading = read_evidence(evidence or (Path("evidence"),))
        gate = gate.model_copy(update={"bound": gate.bound or require_bound})
        wanted = Wanted(model, version, _sha256("--digest", digest), _sha256("--image", image))
        checks = judge(gate, reading.evidence, datetime.now(UTC), wanted)
        outcome = Outcome(model, version, environment, str(source), checks, reading.evidence, reading.skipped)
        report = _FORMATS[form](outcome)
        if output is not None:
            _write(output, report)
            report = text(outcome)
    click.echo(report, nl=False, color=_coloured(color))
    sys.exit(0 if outcome.passed else _FAILED)


def _gate(gates_file: Path | None, settings_file: Path | None, environment: str) -> tuple[Gate, Path]:
    """The environment's gate, and the file that has it."""
    if gates_file is not None and settings_file is not None:
        raise ValueError("--gates and --settings exclude each other; the thresholds stand in one file")
    source = settings_file or gates_file or _GATES_FILE
    gates = load_gates(source).gates if settings_file is None else settings_of(settings_file).gates
    if environment not in gates:
        known = f"use {', '.join(gates)}" if gates else "add it under gates"
        raise ValueError(f"--env {environment}: {source} has no gate of that name; {known}")
    return gates[environment], source


def _sha256(option: str, text: str) -> str:
    """The digest in what was given; an image may stand before it."""
    if not text:
        return ""
    found = image_digests(text)
    if not found or not text.endswith(found[0]):
        raise ValueError(f"{option} {text}: give a digest, sha256: and 64 hexadecimal digits")
    return found[0]


def _write(output: Path, report: str) -> None:
    try:
        output.write_text(click.unstyle(report), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--output {output} cannot be written: {error.strerror}") from None


def _coloured(color: str) -> bool | None:
    if color == "auto":
        return False if os.environ.get("NO_COLOR") else None
    return color == "always"
