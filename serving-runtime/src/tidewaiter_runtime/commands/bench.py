"""``tidewaiter-runtime bench``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

SUMMARY = "measure latency and throughput of a model server at rising concurrency"
_LARGEST_REQUEST = 256 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--url", required=True, help="http://HOST:PORT or grpc://HOST:PORT")
    parser.add_argument("--model", required=True, help="the model's name")
    parser.add_argument("--model-version", default="", help="without it, the version that the server chooses")
    parser.add_argument("--concurrency", default="1,2,4,8", help="levels: 1,4,16 or FIRST:LAST[:STEP] (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured at each level (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds before each level (%(default)s)")
    parser.add_argument("--request", type=Path, help="JSON inference request; else one is made up from the metadata")
    parser.add_argument("--metadata-url", default="", help="http://HOST:PORT for the metadata, where --url is gRPC")
    parser.add_argument("--shape", action="append", default=[], metavar="NAME:1,3,4", help="of an input of any length")
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text", help="csv is perf_analyzer's")
    parser.add_argument("--output", type=Path, help="file for the result; else it is printed")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.refusals import BadInput

    try:
        from tidewaiter_runtime.load_test.measurement import as_csv, as_json, as_text
        from tidewaiter_runtime.load_test.running import Test, run
    except ModuleNotFoundError as error:
        raise BadInput(f"{error.name} is not installed; pip install 'tidewaiter-runtime[bench]'") from None

    if not 0 < options.seconds <= 3600 or not 0 <= options.warm_up <= 3600:
        raise BadInput("--seconds and --warm-up: expected up to 3600, and some time to measure")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", options.model) or not re.fullmatch(r"\d*", options.model_version):
        raise BadInput("--model and --model-version: expected a model's name and a number")
    test = Test(
        options.url,
        options.model,
        options.model_version,
        _levels(options.concurrency),
        options.seconds,
        options.warm_up,
        _read(options.request) if options.request else None,
        str(options.request),
        options.metadata_url,
        dict(_shape(one) for one in options.shape),
    )
    levels = run(test)
    if options.format == "csv":
        text = as_csv(levels)
    elif options.format == "json":
        text = as_json(levels, {"url": test.url, "model": test.model, "version": test.version})
    else:
        text = as_text(levels)
    if options.output:
        try:
            options.output.write_text(text)
        except OSError as error:
            raise BadInput(f"--output {options.output}: cannot be written: {error.strerror}") from None
    else:
        sys.stdout.write(text)


def _levels(text: str) -> list[int]:
    from tidewaiter_runtime.refusals import BadInput

    found = re.fullmatch(r"(\d{1,4}):(\d{1,4})(?::(\d{1,4}))?", text)
    if found:
        levels = list(range(int(found[1]), int(found[2]) + 1, max(1, int(found[3] or 1))))
    else:
        levels = [int(one) for one in text.split(",")] if re.fullmatch(r"\d{1,4}(,\d{1,4})*", text) else []
    if not levels or min(levels) < 1:
        raise BadInput(f"--concurrency: found {text[:40]!r}; expected 1,4,16 or FIRST:LAST[:STEP]")
    return levels


def _shape(text: str) -> tuple[str, list[int]]:
    from tidewaiter_runtime.refusals import BadInput

    name, _, sizes = text.rpartition(":")
    if not name or not re.fullmatch(r"\d{1,9}(,\d{1,9})*", sizes):
        raise BadInput(f"--shape: found {text[:60]!r}; expected NAME:1,3,4")
    return name, [int(one) for one in sizes.split(",")]


def _read(path: Path) -> bytes:
    from tidewaiter_runtime.refusals import BadInput

    try:
        with path.open("rb") as stream:
            found = stream.read(_LARGEST_REQUEST + 1)
    except OSError as error:
        raise BadInput(f"--request {path}: cannot be read: {error.strerror}") from None
    if len(found) > _LARGEST_REQUEST:
        raise BadInput(f"--request {path}: is larger than {_LARGEST_REQUEST:,} bytes")
    return found
