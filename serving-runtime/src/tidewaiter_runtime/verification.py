"""Whether the model at a path is the one that was approved, or signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from tidewaiter_runtime.detached_signature import is_bundle_of_blob, is_json, verify_detached
from tidewaiter_runtime.manifest import Manifest, hash_files
from tidewaiter_runtime.model_files import is_ignored, list_model_files
from tidewaiter_runtime.model_signature import Bundle, SignedModel, parse_bundle, verify_bundle
from tidewaiter_runtime.public_keys import PublicKey
from tidewaiter_runtime.refusals import BadInput, ModelRefused, SignatureRefused, listed
from tidewaiter_runtime.signing_certificates import signer_key


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose signatures count: keys by name, or roots together with the identity that they vouch for."""

    keys: Mapping[str, PublicKey]
    roots: tuple[x509.Certificate, ...] = ()
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the model must be. Empty fields ask for nothing; names are for sentences."""

    digest: str = ""
    manifest: Manifest | None = None
    signature: bytes = b""
    signature_path: Path | None = None
    signers: Signers = Signers({})


@dataclass(frozen=True, slots=True)
class Verified:
    """The model as it was found, and who had signed it."""

    manifest: Manifest
    signed_by: str = ""


def verify(path: Path, expected: Expected, workers: int = 0) -> Verified:
    """Read the model at ``path`` and hold it to ``expected``; raises a ``Refusal``.

    What can be refused without reading the model is refused first.
    """
    if expected.manifest is not None and expected.digest:
        _same_digest(expected.manifest, expected.digest)
    signed, signer = _signed(expected)
    listed_names = frozenset(signed.manifest.digests) if signed else frozenset()
    never = (*(signed.ignored if signed else ()), *_inside(path, expected.signature_path))
    files = list_model_files(path, always=listed_names, never=never)
    for wanted, where in _wanted(expected, signed):
        _same_names(path, {one.name for one in files}, wanted, where)
    everything = hash_files(files, workers)
    for wanted, where in _wanted(expected, signed):
        _same_files(path, everything, wanted, where)
    found = _without_ignored(everything)
    if expected.digest and found.digest != expected.digest:
        raise ModelRefused(_other_digest(path, found, expected.digest))
    if expected.signature and signed is None and not signer:
        signer = verify_detached(expected.signature, found.digest, expected.signers.keys, str(expected.signature_path))
    return Verified(found, signer)


def _signed(expected: Expected) -> tuple[SignedModel | None, str]:
    """What a bundle signs; for a detached signature, who signed the expected digest, where there is one."""
    if not expected.signature:
        return None, ""
    source = str(expected.signature_path)
    if is_json(expected.signature) and not is_bundle_of_blob(expected.signature):
        bundle = parse_bundle(expected.signature, source)
        signed, signer = verify_bundle(bundle, _keys(bundle, expected.signers, source), source)
        return signed, signer
    if not expected.signers.keys:
        raise BadInput(f"{source} is a plain signature; give the key that made it: --public-key")
    if expected.digest:
        return None, verify_detached(expected.signature, expected.digest, expected.signers.keys, source)
    return None, ""


def _keys(bundle: Bundle, signers: Signers, source: str) -> Mapping[str, PublicKey]:
    if not bundle.certificates:
        if not signers.keys:
            raise BadInput(f"{source} was signed with a key; give it: --public-key")
        return signers.keys
    if bundle.logged:
        raise SignatureRefused(
            f"{source} is a keyless signature, made with a certificate of minutes and a transparency log; "
            "these are not verified here: sign with a key or with a certificate"
        )
    if not signers.roots:
        raise BadInput(f"{source} was signed with a certificate; give --certificate-root and --identity")
    return {signers.identity: signer_key(bundle.certificates, list(signers.roots), signers.identity)}


def _inside(path: Path, signature: Path | None) -> tuple[str, ...]:
    """The signature's own name, where it lies in the model's folder: it cannot sign itself."""
    if signature is None:
        return ()
    try:
        return (signature.resolve().relative_to(path.resolve()).as_posix(),)
    except ValueError:
        return ()


def _wanted(expected: Expected, signed: SignedModel | None) -> list[tuple[Manifest, str]]:
    wanted = [(signed.manifest, f"signature {expected.signature_path}")] if signed else []
    return [*wanted, *([(expected.manifest, "manifest")] if expected.manifest else [])]


def _without_ignored(manifest: Manifest) -> Manifest:
    names = [name for name in manifest.digests if not is_ignored(name)]
    return Manifest({one: manifest.digests[one] for one in names}, {one: manifest.sizes[one] for one in names})


def _same_digest(manifest: Manifest, digest: str) -> None:
    if manifest.digest != digest:
        raise ModelRefused(f"the manifest is of another model: expected {digest}, found {manifest.digest}")


def _same_names(path: Path, found: set[str], wanted: Manifest, where: str) -> None:
    problems = [f"{name!r} is missing" for name in sorted(wanted.digests.keys() - found)]
    problems += [f"{name!r} is not in the {where}" for name in sorted(found - wanted.digests.keys())]
    if problems:
        raise ModelRefused(
            f"{path} is not the model that was expected: expected {len(wanted.digests)} files, found {len(found)}: "
            + listed(problems)
        )


def _same_files(path: Path, found: Manifest, wanted: Manifest, where: str) -> None:
    problems = [
        f"{name!r}: expected sha256:{digest}, found sha256:{found.digests[name]} ({found.sizes[name]:,} bytes)"
        for name, digest in sorted(wanted.digests.items())
        if found.digests[name] != digest
    ]
    if problems:
        raise ModelRefused(f"{path} differs from the {where}: {listed(problems)}")


def _other_digest(path: Path, found: Manifest, digest: str) -> str:
    single = len(found.digests) == 1 and "." in found.digests
    hint = "" if single else "; which file differs shows with --manifest or --signature"
    return f"{path} is not the model that was expected: expected {digest}, found {found.digest} ({found.summary}){hint}"
