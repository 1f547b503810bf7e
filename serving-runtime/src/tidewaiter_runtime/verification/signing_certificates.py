"""The certificate that a signature brings along: its chain to a given root, and whose it is.

A signature without a trusted time does not say when it was made. The chain is therefore
judged as of the first moment at which the signer's certificate was valid, as model-signing
does: models outlive the certificates of those who signed them.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509 import oid, verification

from tidewaiter_runtime.refusals import BadInput, SignatureRefused
from tidewaiter_runtime.verification.public_keys import PublicKey, supported


def load_roots(pem: bytes, source: str) -> list[x509.Certificate]:
    """The certificates of a PEM file that are trusted as roots."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise BadInput(
            f"{source} holds no certificate; use a PEM file of the roots that may vouch for signers"
        ) from None


def signer_key(chain: list[bytes], roots: list[x509.Certificate], identity: str) -> PublicKey:
    """The key of the first certificate of ``chain`` (DER), if a root vouches for it as ``identity``."""
    try:
        signer, *others = [x509.load_der_x509_certificate(one) for one in chain]
    except ValueError:
        raise SignatureRefused("the signature brings no readable certificate of its signer") from None
    policy = verification.PolicyBuilder().store(verification.Store(roots)).time(signer.not_valid_before_utc)
    policy = policy.extension_policies(
        ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(), ee_policy=verification.ExtensionPolicy.permit_all()
    )
    try:
        policy.build_client_verifier().verify(signer, others)
    except verification.VerificationError as error:
        raise SignatureRefused(
            f"no given root vouches for the signer's certificate ({signer.subject.rfc4514_string()}): {error}"
        ) from None
    if not _may_sign(signer):
        raise SignatureRefused("the signer's certificate is not one for digital signatures or code signing")
    names = _identities(signer)
    if identity not in names:
        raise SignatureRefused(
            f"the signer is another: expected {identity!r}, found {', '.join(map(repr, names)) or 'no name'}"
        )
    return supported(signer.public_key(), "the signer's certificate")


def _may_sign(certificate: x509.Certificate) -> bool:
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return True
    except x509.ExtensionNotFound:
        pass
    try:
        usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return oid.ExtendedKeyUsageOID.CODE_SIGNING in usages


def _identities(certificate: x509.Certificate) -> list[str]:
    """The alternative names; without any, the common name."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(oid.NameOID.COMMON_NAME)
        return [str(one.value) for one in common]
    kinds = (x509.RFC822Name, x509.DNSName, x509.UniformResourceIdentifier)
    return [str(name) for kind in kinds for name in names.get_values_for_type(kind)]
