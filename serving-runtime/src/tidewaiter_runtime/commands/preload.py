"""``tidewaiter-runtime preload``."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from tidewaiter_runtime.manifest import parse_digest
from tidewaiter_runtime.preloading import Wanted, open_source, preload
from tidewaiter_runtime.ranged_download import Pace
from tidewaiter_runtime.refusals import BadInput
from tidewaiter_runtime.source_uri import parse_source

SUMMARY = "bring a model to where its server looks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--source", required=True, help="s3://, gs://, https://, hf://ORG/NAME[@REVISION] or file://")
    parser.add_argument("--destination", type=Path, required=True, help="folder that the server mounts")
    parser.add_argument("--layout", choices=("files", "hub"), default="files", help="hub: the Hugging Face hub's cache")
    parser.add_argument("--digest", default="", help="digest that the model must have: sha256:...")
    parser.add_argument("--connections", type=_positive, default=8, help="parts that are brought at a time")
    parser.add_argument("--attempts", type=_positive, default=5, help="how often one part is asked for")
    parser.set_defaults(run=_preload)


def _positive(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"found {text[:20]!r}; expected a number from 1 to 64")
    return int(text)


def _preload(options: argparse.Namespace) -> None:
    uri = parse_source(options.source)
    digest = parse_digest(options.digest) if options.digest else ""
    if options.layout == "hub" and uri.scheme != "hf":
        raise BadInput(f"--layout=hub: {uri.shown} is not of the hub; use --layout=files")
    # The first process of a container has no default handler. What was brought so far stays.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    pace = Pace(connections=options.connections, attempts=options.attempts)
    wanted = Wanted(uri, options.destination, digest, hub=options.layout == "hub")
    brought = preload(wanted, open_source(uri, pace.connections, os.environ), pace, _tell)
    state = "was there already" if brought.already else f"is at {options.destination}"
    verified = (
        f"verified {brought.digest}" if digest else f"NOT VERIFIED, no digest was given {brought.digest}".rstrip()
    )
    print(f"{uri.shown} {state}: {brought.summary}; {verified}", flush=True)


def _tell(line: str) -> None:
    print(f"tidewaiter-runtime preload: {line}", flush=True)
