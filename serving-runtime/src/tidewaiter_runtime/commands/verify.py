"""``tidewaiter-runtime verify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from tidewaiter_runtime.input_files import read_input
from tidewaiter_runtime.refusals import BadInput
from tidewaiter_runtime.verification.manifest import Manifest, parse_digest, parse_manifest
from tidewaiter_runtime.verification.public_keys import load_public_key
from tidewaiter_runtime.verification.signing_certificates import load_roots
from tidewaiter_runtime.verification.verification import Expected, Signers, verify

SUMMARY = "refuse a model that is not the expected one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--path", type=Path, required=True, help="folder or file of the model")
    parser.add_argument("--digest", default="", help="digest that the model must have: sha256:...")
    parser.add_argument(
        "--manifest", type=Path, help="what digest --format manifest wrote; names the file that differs"
    )
    parser.add_argument("--signature", type=Path, help="OpenSSF model signature, or a plain signature of the digest")
    parser.add_argument(
        "--public-key", type=Path, action="append", default=[], help="PEM; any of several may have signed"
    )
    parser.add_argument("--certificate-root", type=Path, help="PEM file of roots that vouch for signers")
    parser.add_argument("--identity", default="", help="e-mail address, URI or name in the signer's certificate")
    parser.add_argument("--workers", type=int, default=0, help="files read at a time; 0: one for each CPU, at most 8")
    parser.set_defaults(run=_verify)


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
    keys = {str(path): load_public_key(read_input(path), str(path)) for path in options.public_key}
    roots = (
        load_roots(read_input(options.certificate_root), str(options.certificate_root))
        if options.certificate_root
        else []
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
    found = read_input(path)
    if not found.strip():
        raise BadInput(f"{path} is empty; expected a signature")
    return found


def _manifest(path: Path) -> Manifest:
    try:
        return parse_manifest(read_input(path).decode(), str(path))
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8; expected what digest --format manifest wrote") from None
