"""``tidewaiter-runtime preload``."""

from __future__ import annotations

import argparse
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tidewaiter_runtime.refusals import BadInput, Refusal

if TYPE_CHECKING:
    from tidewaiter_runtime.preload.preload_metrics import Tally
    from tidewaiter_runtime.preload.preloading import Brought
    from tidewaiter_runtime.preload.source_uri import SourceUri
    from tidewaiter_runtime.verification.verification import Expected

SUMMARY = "bring a model to where its server looks"
_IN_SOURCE = "source:"
_SIZE = re.compile(r"(\d{1,9})(Mi|Gi|Ti)")
_UNITS = {"Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_KEY_FILES = (".pem", ".pub")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--source",
        required=True,
        help="s3://, gs://, https://, hf://ORG/NAME[@REVISION], oci://HOST/REPOSITORY[:TAG][@DIGEST], "
        "models:/NAME/VERSION, runs:/RUN/PATH or file://",
    )
    parser.add_argument("--destination", type=Path, required=True, help="folder that the server mounts")
    parser.add_argument("--layout", choices=("files", "hub"), default="files", help="hub: the Hugging Face hub's cache")
    parser.add_argument("--digest", default="", help="digest that the model must have: sha256:...")
    parser.add_argument("--signature", default="", help="signature that the model must have: a file, or source:NAME")
    parser.add_argument(
        "--public-key", type=Path, action="append", default=[], help="PEM, or a folder of such; any may have signed"
    )
    parser.add_argument("--certificate-root", type=Path, help="PEM file of roots that vouch for signers")
    parser.add_argument("--identity", default="", help="e-mail address, URI or name in the signer's certificate")
    parser.add_argument(
        "--key", default="", help="opens a sealed model: file:PATH, vault:MOUNT/KEY or command:PROGRAM ARGUMENTS"
    )
    parser.add_argument("--cache", type=Path, help="folder on a volume that pods share; needs --digest")
    parser.add_argument("--cache-size", default="100Gi", help="size at which models are evicted from the cache")
    parser.add_argument("--metrics-file", type=Path, help="text file for Prometheus, written at the end")
    parser.add_argument("--connections", type=_positive, default=8, help="parts that are brought at a time")
    parser.add_argument("--attempts", type=_positive, default=5, help="how often one part is asked for")
    parser.set_defaults(run=_preload)


def _positive(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"found {text[:20]!r}; expected a number from 1 to 64")
    return int(text)


def _preload(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.preload.preload_metrics import Outcome, Tally, write_metrics
    from tidewaiter_runtime.preload.source_uri import parse_source

    uri, tally, began = parse_source(options.source), Tally(), time.monotonic()
    # The first process of a container has no default handler. What was brought so far stays.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    brought: Brought | None = None
    code = 1
    try:
        brought = _bring(options, uri, tally)
        code = 0
    except Refusal as refusal:
        code = refusal.exit_code
        raise
    finally:
        if options.metrics_file:
            size, origin = (brought.size, brought.origin) if brought is not None else (0, "")
            verified = brought is not None and bool(options.digest or brought.signer)
            seconds = time.monotonic() - began
            outcome = Outcome(uri.scheme, code, size, seconds, tally.retries, origin, verified)
            write_metrics(options.metrics_file, outcome)
    print(_told(options, uri, brought), flush=True)


def _bring(options: argparse.Namespace, uri: SourceUri, tally: Tally) -> Brought:
    from tidewaiter_runtime.preload.preloading import Wanted, preload
    from tidewaiter_runtime.preload.ranged_download import Pace
    from tidewaiter_runtime.preload.shared_cache import SharedCache
    from tidewaiter_runtime.preload.sources import open_source
    from tidewaiter_runtime.verification.manifest import parse_digest

    digest = parse_digest(options.digest) if options.digest else ""
    if options.layout == "hub" and uri.scheme != "hf":
        raise BadInput(f"--layout=hub: {uri.shown} is not of the hub; use --layout=files")
    if options.cache and not digest:
        raise BadInput("--cache: models are kept by their approved digest; give --digest")
    cache = SharedCache(options.cache, _size(options.cache_size)) if options.cache else None
    if cache is not None:
        os.umask(0o002)  # pods of one group share the cache's folders
    signature = _expected(options)
    pace = Pace(connections=options.connections, attempts=options.attempts, retried=tally.retried)
    source = open_source(uri, pace.connections, os.environ)
    if options.key:
        from tidewaiter_runtime.sealing.key_wrapping import wrapping_key
        from tidewaiter_runtime.sealing.sealed_source import SealedSource

        source = SealedSource(source, wrapping_key(options.key, os.environ))
    name = options.signature.removeprefix(_IN_SOURCE) if options.signature.startswith(_IN_SOURCE) else ""
    wanted = Wanted(uri, options.destination, digest, options.layout == "hub", signature, name)
    return preload(wanted, source, pace, _tell, cache)


def _expected(options: argparse.Namespace) -> Expected:
    """Whose signature is wanted; keys that cannot be read are refused before anything is brought."""
    from tidewaiter_runtime.input_files import read_input
    from tidewaiter_runtime.verification.public_keys import load_public_key
    from tidewaiter_runtime.verification.signing_certificates import load_roots
    from tidewaiter_runtime.verification.verification import Expected, Signers

    if bool(options.certificate_root) != bool(options.identity):
        raise BadInput(
            "--certificate-root and --identity belong together: without one, anybody of that root could sign"
        )
    by = bool(options.public_key or options.certificate_root)
    if bool(options.signature) != by:
        raise BadInput(
            "--signature needs --public-key, or --certificate-root and --identity; and these need --signature"
        )
    if not options.signature:
        return Expected()
    keys = {str(path): load_public_key(read_input(path), str(path)) for path in _key_files(options.public_key)}
    root = options.certificate_root
    roots = tuple(load_roots(read_input(root), str(root))) if root else ()
    content, path = b"", None
    if not options.signature.startswith(_IN_SOURCE):
        path = Path(options.signature)
        content = read_input(path)
        if not content.strip():
            raise BadInput(f"{path} is empty; expected a signature")
    return Expected(signature=content, signature_path=path, signers=Signers(keys, roots, options.identity))


def _key_files(paths: list[Path]) -> list[Path]:
    """A folder is a mounted ConfigMap or Secret: its files are links to a hidden folder."""
    found = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(one for one in path.iterdir() if one.is_file() and one.suffix in _KEY_FILES)
        if not inside:
            raise BadInput(f"--public-key: {path} has no file that ends in {', '.join(_KEY_FILES)}")
        found += inside
    return found


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise BadInput(f"--cache-size: found {text[:20]!r}; expected a number with Mi, Gi or Ti, such as 100Gi")
    return int(found[1]) * _UNITS[found[2]]


def _told(options: argparse.Namespace, uri: SourceUri, brought: Brought) -> str:
    state = "was there already" if brought.already else f"is at {options.destination}"
    cached = ", from the cache" if brought.origin == "cache" else ""
    signed = f", signed by {brought.signer}" if brought.signer else ""
    if options.digest or brought.signer:
        verified = f"verified {brought.digest}{signed}"
    else:
        verified = f"NOT VERIFIED, no digest was given {brought.digest}".rstrip()
    return f"{uri.shown} {state}{cached}: {brought.summary}; {verified}"


def _tell(line: str) -> None:
    print(f"tidewaiter-runtime preload: {line}", flush=True)
