"""Whether the model at a path is the one that was approved, or signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from tidewaiter_runtime.refusals import BadInput, ModelRefused, SignatureRefused, listed
from tidewaiter_runtime.verification.detached_signature import is_bundle_of_blob, is_json, verify_detached
from tidewaiter_runtime.verification.manifest import Manifest, hash_files
from tidewaiter_runtime.verification.model_files import is_ignored, list_model_files
from tidewaiter_runtime.verification.model_signature import Bundle, SignedModel, parse_bundle, verify_bundle
from tidewaiter_runtime.verification.public_keys import PublicKey
from tidewaiter_runtime.verification.signing_certificates import signer_key


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
    statement = read_signature(expected)
    never = (*statement.ignored, *_inside(path, expected.signature_path))
    files = list_model_files(path, always=statement.names, never=never)
    same_names(str(path), {one.name for one in files}, expected, statement)
    everything = hash_files(files, workers)
    _same_files_everywhere(str(path), everything, expected, statement)
    found = _without_ignored(everything)
    if expected.digest and found.digest != expected.digest:
        raise ModelRefused(_other_digest(path, found, expected.digest))
    return Verified(found, statement.signer or _signer_of(found, expected))


@dataclass(frozen=True, slots=True)
class Statement:
    """What a signature says before the model is read: nothing of its files where it signs a digest alone."""

    signed: SignedModel | None = None
    signer: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The files that it lists."""
        return frozenset(self.signed.manifest.digests) if self.signed else frozenset()

    @property
    def ignored(self) -> tuple[str, ...]:
        """Paths that the signer left out."""
        return self.signed.ignored if self.signed else ()

    @property
    def digest(self) -> str:
        """The digest of the model that it signs; empty where only the model can tell."""
        return _without_ignored(self.signed.manifest).digest if self.signed else ""


def hold_to_signature(shown: str, found: Manifest, expected: Expected, statement: Statement) -> str:
    """Hold files that were read already to their signature; returns who signed. Raises a ``Refusal``."""
    if not expected.signature:
        return ""
    same_names(shown, set(found.digests), expected, statement)
    _same_files_everywhere(shown, found, expected, statement)
    return statement.signer or _signer_of(_without_ignored(found), expected)


def same_names(shown: str, names: set[str], expected: Expected, statement: Statement) -> None:
    """Whether the model has exactly the files that are signed, before one of them is read."""
    for wanted, where in _wanted(expected, statement.signed):
        _same_names(shown, names, wanted, where)


def _same_files_everywhere(shown: str, found: Manifest, expected: Expected, statement: Statement) -> None:
    for wanted, where in _wanted(expected, statement.signed):
        _same_files(shown, found, wanted, where)


def _signer_of(found: Manifest, expected: Expected) -> str:
    if not expected.signature:
        return ""
    return verify_detached(expected.signature, found.digest, expected.signers.keys, str(expected.signature_path))


def read_signature(expected: Expected) -> Statement:
    """What is signed, by a signer that counts; a plain signature is verified at once where a digest is expected."""
    signed, signer = _signed(expected)
    return Statement(signed, signer)


def _signed(expected: Expected) -> tuple[SignedModel | None, str]:
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
    sizes = {one: manifest.sizes[one] for one in names if one in manifest.sizes}
    return Manifest({one: manifest.digests[one] for one in names}, sizes)


def _same_digest(manifest: Manifest, digest: str) -> None:
    if manifest.digest != digest:
        raise ModelRefused(f"the manifest is of another model: expected {digest}, found {manifest.digest}")


def _same_names(path: str, found: set[str], wanted: Manifest, where: str) -> None:
    problems = [f"{name!r} is missing" for name in sorted(wanted.digests.keys() - found)]
    problems += [f"{name!r} is not in the {where}" for name in sorted(found - wanted.digests.keys())]
    if problems:
        raise ModelRefused(
            f"{path} is not the model that was expected: expected {len(wanted.digests)} files, found {len(found)}: "
            + listed(problems)
        )


def _same_files(path: str, found: Manifest, wanted: Manifest, where: str) -> None:
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
