"""``tidewaiter-runtime digest``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tidewaiter_runtime.verification.manifest import Manifest, hash_files
from tidewaiter_runtime.verification.model_files import list_model_files

SUMMARY = "print the digest of a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("path", type=Path, metavar="PATH", help="folder or file of the model")
    parser.add_argument("--format", choices=("digest", "manifest", "json"), default="digest", help="what is printed")
    parser.add_argument("--workers", type=int, default=0, help="files read at a time; 0: one for each CPU, at most 8")
    parser.set_defaults(run=_digest)


def _digest(options: argparse.Namespace) -> None:
    manifest = hash_files(list_model_files(options.path), options.workers)
    if options.format == "digest":
        print(manifest.digest)
    elif options.format == "manifest":
        sys.stdout.write(manifest.text.decode())
    else:
        print(json.dumps(_document(manifest), indent=2, ensure_ascii=False))


def _document(manifest: Manifest) -> dict[str, object]:
    return {
        "digest": manifest.digest,
        "omsRootDigest": manifest.oms_root,
        "files": [
            {"name": name, "size": manifest.sizes[name], "sha256": manifest.digests[name]}
            for name in sorted(manifest.digests, key=str.encode)
        ],
    }
