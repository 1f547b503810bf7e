"""Image signatures as cosign makes them: real ones, and ones made here in its documented formats."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from registries.image_signatures import (
    SIGNATURE_ANNOTATION,
    NotSigned,
    Outcome,
    Signed,
    VerificationKey,
    load_verification_key,
    repository,
    verify_attestation,
    verify_bundle,
    verify_image_signature,
)

_COSIGN = Path(__file__).parent / "cosign-3.1.3"
_IMAGE = "sha256:aa7ed07dc646df0671ed0f087d28f30d002d13ae5e16f930cdb42fdb497c7427"
_OTHER = "sha256:" + "1" * 64
_EVALUATION = "https://example.com/evaluation/v1"
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
_EC = ec.generate_private_key(ec.SECP256R1())


def _public(key: PrivateKey, name: str = "team") -> VerificationKey:
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return load_verification_key(pem, name)


@pytest.fixture
def cosign_key() -> VerificationKey:
    return load_verification_key((_COSIGN / "cosign.pub").read_text(), "cosign.pub")


def _cosign_signature() -> tuple[bytes, str]:
    layer = json.loads((_COSIGN / "signature-manifest.json").read_text())["layers"][0]
    return (_COSIGN / "payload.json").read_bytes().rstrip(b"\n"), layer["annotations"][SIGNATURE_ANNOTATION]


def _reason(outcome: Outcome) -> str:
    assert isinstance(outcome, NotSigned)
    return outcome.reason


def test_a_signature_that_cosign_made_is_accepted_with_its_annotations(cosign_key: VerificationKey) -> None:
    payload, signature = _cosign_signature()
    outcome = verify_image_signature(
        _IMAGE, payload, signature, [cosign_key], reference="127.0.0.1:5055/models/resnet:1"
    )

    assert outcome == Signed("cosign.pub", "127.0.0.1:5055/models/resnet", {"team": "vision"})


def test_it_does_not_count_for_another_image(cosign_key: VerificationKey) -> None:
    payload, signature = _cosign_signature()

    assert _reason(verify_image_signature(_OTHER, payload, signature, [cosign_key])) == (
        f"the signature is of another image: expected {_OTHER}, found {_IMAGE}"
    )


def test_it_does_not_count_for_another_repository(cosign_key: VerificationKey) -> None:
    payload, signature = _cosign_signature()
    outcome = verify_image_signature(_IMAGE, payload, signature, [cosign_key], reference="example.com/models/resnet:1")

    assert "expected example.com/models/resnet, found 127.0.0.1:5055/models/resnet" in _reason(outcome)


def test_it_does_not_count_by_another_key(cosign_key: VerificationKey) -> None:
    payload, signature = _cosign_signature()

    assert "by none of the keys team" in _reason(verify_image_signature(_IMAGE, payload, signature, [_public(_EC)]))
    assert "no key is given" in _reason(verify_image_signature(_IMAGE, payload, signature, []))
    assert isinstance(verify_image_signature(_IMAGE, payload, signature, [_public(_EC), cosign_key]), Signed)


def test_a_changed_payload_does_not_count(cosign_key: VerificationKey) -> None:
    payload, signature = _cosign_signature()
    changed = payload.replace(b"vision", b"speech")

    assert "was changed since" in _reason(verify_image_signature(_IMAGE, changed, signature, [cosign_key]))


def test_an_attestation_that_cosign_made_is_accepted_with_its_predicate(cosign_key: VerificationKey) -> None:
    envelope = (_COSIGN / "attestation.json").read_bytes()
    outcome = verify_attestation(_IMAGE, envelope, [cosign_key], predicate_type=_EVALUATION)

    assert outcome == Signed("cosign.pub", predicate_type=_EVALUATION, predicate={"findings": []})
    assert "about another image" in _reason(verify_attestation(_OTHER, envelope, [cosign_key]))
    assert "predicateType: found" in _reason(verify_attestation(_IMAGE, envelope, [cosign_key], predicate_type="x"))


def test_a_bundle_that_cosign_3_made_is_accepted(cosign_key: VerificationKey) -> None:
    bundle = (_COSIGN / "bundle.json").read_bytes()

    assert isinstance(verify_bundle(_IMAGE, bundle, [cosign_key]), Signed)
    assert "about another image" in _reason(verify_bundle(_OTHER, bundle, [cosign_key]))
    assert "by none of the keys" in _reason(verify_bundle(_IMAGE, bundle, [_public(_EC)]))


def test_the_bundle_of_a_blob_is_no_signature_of_an_image(cosign_key: VerificationKey) -> None:
    bundle = (_COSIGN / "blob-bundle.json").read_bytes()

    assert "it signs a blob" in _reason(verify_bundle(_IMAGE, bundle, [cosign_key]))


def _payload(**changes: Any) -> bytes:
    critical: dict[str, Any] = {
        "identity": {"docker-reference": "example.com/models/resnet"},
        "image": {"docker-manifest-digest": _IMAGE},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": {**critical, **changes}, "optional": None}).encode()


def _signature(key: PrivateKey, message: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    algorithm = algorithm or hashes.SHA256()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), algorithm)
    return key.sign(message, ec.ECDSA(algorithm))


def _judge(payload: bytes, key: PrivateKey = _EC, reference: str | None = None) -> Outcome:
    signature = base64.b64encode(_signature(key, payload)).decode()
    return verify_image_signature(_IMAGE, payload, signature, [_public(key)], reference=reference)


@pytest.mark.parametrize(
    "key",
    [
        _EC,
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-256", "P-384", "P-521", "ed25519", "rsa"],
)
def test_every_kind_of_key_that_cosign_takes_is_verified(key: PrivateKey) -> None:
    assert isinstance(_judge(_payload(), key), Signed)


def test_a_curve_may_sign_with_its_own_hash_as_in_bundles() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    signature = base64.b64encode(_signature(key, _payload(), hashes.SHA384())).decode()

    assert isinstance(verify_image_signature(_IMAGE, _payload(), signature, [_public(key)]), Signed)


def test_the_same_key_signing_something_else_does_not_sign_an_image() -> None:
    assert "critical.type: found 'atomic container signature'" in _reason(
        _judge(_payload(type="atomic container signature"))
    )


def test_a_payload_without_a_name_counts_only_where_none_is_asked_for() -> None:
    payload = _payload(identity={"docker-reference": ""})

    assert isinstance(_judge(payload), Signed)
    assert "found none" in _reason(_judge(payload, reference="example.com/models/resnet"))


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"not json", "payload: it is not JSON"),
        (b"[]", "payload: found '[]'; expected an object"),
        (b"{}", "payload: critical: found 'None'"),
        (_payload(image={}), "found None"),
        (_payload(image=3), "critical.image: found '3'"),
        (_payload(identity=[]), "critical.identity: found '[]'"),
        (b"[" * 100000, "payload: it is not JSON"),
        (b" " * ((16 << 20) + 1), "16,777,216 are allowed"),
    ],
)
def test_a_signed_payload_that_is_not_understood_does_not_count(payload: bytes, told: str) -> None:
    assert told in _reason(_judge(payload))


@pytest.mark.parametrize("signature", ["", "???", "AAAA"])
def test_a_signature_that_is_none_does_not_count(signature: str) -> None:
    outcome = verify_image_signature(_IMAGE, _payload(), signature, [_public(_EC)])

    assert "expected base64" in _reason(outcome) or "by none of the keys" in _reason(outcome)


@pytest.mark.parametrize("digest", ["", "latest", "sha256:ABC", _IMAGE + "\n", "sha512:" + "1" * 128])
def test_a_digest_that_is_none_is_never_signed(digest: str) -> None:
    payload = _payload(image={"docker-manifest-digest": digest})
    signature = base64.b64encode(_signature(_EC, payload)).decode()

    assert "image digest: found" in _reason(verify_image_signature(digest, payload, signature, [_public(_EC)]))


def _envelope(statement: Any, **changes: Any) -> bytes:
    payload = statement if isinstance(statement, bytes) else json.dumps(statement).encode()
    kind = "application/vnd.in-toto+json"
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    signature = base64.b64encode(_signature(_EC, message)).decode()
    envelope = {
        "payloadType": kind,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(b"someone else's").decode()}, {"sig": signature}],
    }
    return json.dumps({**envelope, **changes}).encode()


_STATEMENT = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"digest": {"sha512": "1"}}, {"digest": {"sha256": _IMAGE.removeprefix("sha256:")}}],
    "predicateType": _EVALUATION,
    "predicate": {"passed": True},
}


def test_one_of_several_signatures_and_subjects_is_enough() -> None:
    assert isinstance(verify_attestation(_IMAGE, _envelope(_STATEMENT), [_public(_EC)]), Signed)


@pytest.mark.parametrize(
    ("envelope", "told"),
    [
        (b"[]", "envelope: found '[]'"),
        (_envelope(_STATEMENT, payloadType="text/plain"), "payloadType: found 'text/plain'"),
        (_envelope(_STATEMENT, signatures=[]), "it has no signatures"),
        (_envelope(_STATEMENT, signatures=[1]), "envelope: signature: found '1'"),
        (_envelope(_STATEMENT, payload="e30="), "by none of the keys"),
        (_envelope({**_STATEMENT, "_type": "x"}), "_type: found 'x'"),
        (_envelope({**_STATEMENT, "subject": None}), "subject: expected a list"),
        (_envelope({**_STATEMENT, "subject": []}), "found none"),
        (_envelope({**_STATEMENT, "subject": [{"name": "a"}]}), "subject: digest: found 'None'"),
        (_envelope(b"\xff"), "statement: it is not JSON"),
    ],
)
def test_an_attestation_that_is_not_understood_does_not_count(envelope: bytes, told: str) -> None:
    assert told in _reason(verify_attestation(_IMAGE, envelope, [_public(_EC)]))


def test_an_attestation_in_a_bundle_is_not_taken_for_a_signature() -> None:
    bundle = json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "dsseEnvelope": json.loads(_envelope(_STATEMENT)),
        }
    ).encode()

    assert "predicateType: found" in _reason(verify_bundle(_IMAGE, bundle, [_public(_EC)]))
    assert isinstance(verify_bundle(_IMAGE, bundle, [_public(_EC)], predicate_type=_EVALUATION), Signed)
    assert "mediaType: found 'None'" in _reason(verify_bundle(_IMAGE, b"{}", [_public(_EC)]))


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("resnet", "docker.io/library/resnet"),
        ("index.docker.io/acme/resnet:1", "docker.io/acme/resnet"),
        ("acme/resnet@sha256:" + "1" * 64, "docker.io/acme/resnet"),
        ("localhost:5000/resnet:1", "localhost:5000/resnet"),
        ("example.com:5000/a/b:tag@sha256:" + "1" * 64, "example.com:5000/a/b"),
    ],
)
def test_references_are_compared_by_their_repository(reference: str, name: str) -> None:
    assert repository(reference) == name


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        _EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ec.generate_private_key(ec.SECP256K1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        rsa.generate_private_key(65537, 1024)  # noqa: S505  # too small on purpose
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["empty", "private", "secp256k1", "small rsa"],
)
def test_a_key_that_cannot_be_used_is_named(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"^key team: "):
        load_verification_key(pem, "team")


def _paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(one for key, child in children for one in _paths(child, (*path, key)))]


def _replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]), st.just({}), st.just([{}]), st.just([1])
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_bundle_with_any_other_value_inside_its_envelope_does_not_count(data: st.DataObject) -> None:
    key = load_verification_key((_COSIGN / "cosign.pub").read_text(), "cosign.pub")
    bundle = json.loads((_COSIGN / "bundle.json").read_text())
    path = data.draw(st.sampled_from([one for one in _paths(bundle) if one[:1] != ("verificationMaterial",)]))
    changed = _replaced(bundle, path, data.draw(_VALUES))

    assert isinstance(verify_bundle(_IMAGE, json.dumps(changed).encode(), [key]), Signed) is (changed == bundle)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_signed_payload_of_any_shape_is_judged_without_a_traceback(data: st.DataObject) -> None:
    document = json.loads(_payload())
    path = data.draw(st.sampled_from(_paths(document)))
    outcome = _judge(
        json.dumps(_replaced(document, path, data.draw(_VALUES))).encode(), reference="example.com/models/resnet"
    )

    assert isinstance(outcome, Signed) is (path == ("optional",))
