"""``tidewaiter-runtime digest``, ``verify`` and ``preload``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from tidewaiter_runtime import termination_message
from tidewaiter_runtime.manifest import Manifest, hash_files, parse_digest, parse_manifest
from tidewaiter_runtime.model_files import list_model_files
from tidewaiter_runtime.preloading import Wanted, open_source, preload
from tidewaiter_runtime.public_keys import load_public_key
from tidewaiter_runtime.ranged_download import Pace
from tidewaiter_runtime.refusals import BadInput, Refusal
from tidewaiter_runtime.signing_certificates import load_roots
from tidewaiter_runtime.source_uri import parse_source
from tidewaiter_runtime.verification import Expected, Signers, verify

_LARGEST_INPUT = 64 << 20
"""Bytes of a signature, key or manifest; a signature lists some 150 bytes for each file."""
_EXIT_CODES = """\
exit codes: 0 done; 1 the model is not what was expected; 2 an argument cannot be used;
3 the signature is not accepted; 4 the storage or the source does not answer, or is full
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except Refusal as refusal:
        message = f"tidewaiter-runtime {options.command}: {refusal}"
        print(message, file=sys.stderr)
        termination_message.leave(message, options.termination_log)
        sys.exit(refusal.exit_code)
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidewaiter-runtime", epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    digest = commands.add_parser("digest", help="print the digest of a model")
    digest.add_argument("path", type=Path, metavar="PATH", help="folder or file of the model")
    digest.add_argument("--format", choices=("digest", "manifest", "json"), default="digest", help="what is printed")
    digest.set_defaults(run=_digest)

    check = commands.add_parser("verify", help="refuse a model that is not the expected one", epilog=_EXIT_CODES)
    check.add_argument("--path", type=Path, required=True, help="folder or file of the model")
    check.add_argument("--digest", default="", help="digest that the model must have: sha256:...")
    check.add_argument("--manifest", type=Path, help="what digest --format manifest wrote; names the file that differs")
    check.add_argument("--signature", type=Path, help="OpenSSF model signature, or a plain signature of the digest")
    check.add_argument(
        "--public-key", type=Path, action="append", default=[], help="PEM; any of several may have signed"
    )
    check.add_argument("--certificate-root", type=Path, help="PEM file of roots that vouch for signers")
    check.add_argument("--identity", default="", help="e-mail address, URI or name in the signer's certificate")
    check.set_defaults(run=_verify)
    for command in (digest, check):
        command.add_argument(
            "--workers", type=int, default=0, help="files read at a time; 0: one for each CPU, at most 8"
        )
    for command in (digest, check, _add_preload(commands)):
        command.add_argument(
            "--termination-log", type=Path, default=termination_message.DEFAULT, help="file for the reason of a failure"
        )
    return parser


def _add_preload(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    command = commands.add_parser("preload", help="bring a model to where its server looks", epilog=_EXIT_CODES)
    command.add_argument("--source", required=True, help="s3://, gs://, https://, hf://ORG/NAME[@REVISION] or file://")
    command.add_argument("--destination", type=Path, required=True, help="folder that the server mounts")
    command.add_argument(
        "--layout", choices=("files", "hub"), default="files", help="hub: the Hugging Face hub's cache"
    )
    command.add_argument("--digest", default="", help="digest that the model must have: sha256:...")
    command.add_argument("--connections", type=_positive, default=8, help="parts that are brought at a time")
    command.add_argument("--attempts", type=_positive, default=5, help="how often one part is asked for")
    command.set_defaults(run=_preload)
    return command


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


def _version() -> str:
    try:
        return version("tidewaiter-runtime")
    except PackageNotFoundError:  # run from its sources
        return "unknown"


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


def _verify(options: argparse.Namespace) -> None:
    if not options.digest and not options.manifest and not options.signature:
        raise BadInput("nothing to hold the model to; give --digest, --manifest or --signature")
    if bool(options.certificate_root) != bool(options.identity):
        raise BadInput(
            "--certificate-root and --identity belong together: without one, anybody of that root could sign"
        )
    if options.signature and not options.public_key and not options.certificate_root:
        raise BadInput("--signature says nothing without --public-key, or --certificate-root and --identity")
    if not options.signature and (options.public_key or options.certificate_root):
        raise BadInput("--public-key and --certificate-root ask for a signature; give --signature")
    keys = {str(path): load_public_key(_input(path), str(path)) for path in options.public_key}
    roots = (
        load_roots(_input(options.certificate_root), str(options.certificate_root)) if options.certificate_root else []
    )
    expected = Expected(
        digest=parse_digest(options.digest) if options.digest else "",
        manifest=_manifest(options.manifest) if options.manifest else None,
        signature=_signature(options.signature) if options.signature else b"",
        signature_path=options.signature,
        signers=Signers(keys, tuple(roots), options.identity),
    )
    verified = verify(options.path, expected, options.workers)
    signed = f", signed by {verified.signed_by}" if verified.signed_by else ""
    print(f"verified {verified.manifest.digest}: {verified.manifest.summary}{signed}")


def _signature(path: Path) -> bytes:
    found = _input(path)
    if not found.strip():
        raise BadInput(f"{path} is empty; expected a signature")
    return found


def _manifest(path: Path) -> Manifest:
    try:
        return parse_manifest(_input(path).decode(), str(path))
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8; expected what digest --format manifest wrote") from None


def _input(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            found = stream.read(_LARGEST_INPUT + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    if len(found) > _LARGEST_INPUT:
        raise BadInput(f"{path} is larger than {_LARGEST_INPUT:,} bytes; expected a key, a signature or a manifest")
    return found
