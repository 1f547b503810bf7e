"""What the evidence about an image proves: who signed what, and whether that is what the settings ask for.

Pure, besides the time that verifying takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from admission.image_signature import ImageNotSigned, ImageSigned
from registries.image_registry import Evidence, Form
from registries.image_signature_settings import SignedImages
from registries.image_signatures import (
    SIGN_PREDICATE,
    NotSigned,
    Outcome,
    VerificationKey,
    verify_attestation,
    verify_bundle,
    verify_image_signature,
)

_REASONS = 2


@dataclass(frozen=True, slots=True)
class Proof:
    """A key signed the image, or (``predicate_type``) an attestation about it."""

    key: str
    predicate_type: str = ""


@dataclass(frozen=True, slots=True)
class Proofs:
    """All that holds of one image; ``refused`` are sentences about what does not count."""

    proofs: frozenset[Proof] = frozenset()
    refused: tuple[str, ...] = ()


def proofs_of(digest: str, evidence: Iterable[Evidence], keys: Sequence[VerificationKey]) -> Proofs:
    """Verify everything against each key alone, so that it is known which ones signed."""
    proofs: set[Proof] = set()
    refused: dict[str, None] = {}
    for one in evidence:
        outcomes = [_verified(digest, one, [key]) for key in keys]
        signed = [found for found in outcomes if not isinstance(found, NotSigned)]
        for found in signed:
            predicate = "" if found.predicate_type == SIGN_PREDICATE else found.predicate_type
            proofs.add(Proof(found.key, predicate))
        if not signed:
            every = _verified(digest, one, keys)
            refused |= {every.reason: None} if isinstance(every, NotSigned) else {}
    return Proofs(frozenset(proofs), tuple(refused)[:_REASONS])


def judged(found: Proofs, required: SignedImages, all_keys: Iterable[str]) -> ImageSigned | ImageNotSigned:
    """Whether the proofs are what an entry of the settings asks for."""
    keys = required.keys or tuple(all_keys)
    signers: list[str] = []
    for predicate_type in required.predicate_types or ("",):
        signer = next((key for key in keys if Proof(key, predicate_type) in found.proofs), None)
        if signer is None:
            what = f"attestation of type {predicate_type}" if predicate_type else "signature"
            others = sorted({one.key for one in found.proofs if one.predicate_type == predicate_type})
            why = f"; it has one by {', '.join(others)}" if others else ""
            why += "".join(f"; {one}" for one in found.refused)
            return ImageNotSigned(
                f"it has no {what.removeprefix('an ').removeprefix('a ')} by {' or '.join(keys)}{why}"
            )
        signers.append(signer)
    return ImageSigned(signers[0])


def _verified(digest: str, one: Evidence, keys: Sequence[VerificationKey]) -> Outcome:
    if one.form is Form.SIGNATURE:
        return verify_image_signature(digest, one.document, one.signature, keys)
    if one.form is Form.ATTESTATION:
        return verify_attestation(digest, one.document, keys)
    return verify_bundle(digest, one.document, keys, predicate_type=None)
