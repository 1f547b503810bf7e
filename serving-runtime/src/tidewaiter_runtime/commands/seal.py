"""``tidewaiter-runtime seal``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

SUMMARY = "encipher a model, so that only who has the key can preload it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("path", type=Path, metavar="MODEL", help="folder or file of the model")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="new folder for the sealed model")
    parser.add_argument("--key", required=True, help="file:PATH, vault:MOUNT/KEY or command:PROGRAM ARGUMENTS")
    parser.set_defaults(run=_seal)


def _seal(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.preload.source_files import Interrupted
    from tidewaiter_runtime.refusals import Unreadable
    from tidewaiter_runtime.sealing.key_wrapping import wrapping_key
    from tidewaiter_runtime.sealing.sealing import seal

    by = wrapping_key(options.key, os.environ)
    try:
        envelope = seal(options.path, options.output, by)
    except Interrupted as why:
        raise Unreadable(f"--key: {why}") from None
    manifest = envelope.manifest
    print(f"sealed {manifest.digest}: {manifest.summary}; {by.kind} key {by.name}; at {options.output}")
