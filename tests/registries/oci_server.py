"""An image registry in the tests' own server: the part of the distribution API that cosign's signatures need."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.registries.http_server import Reply, Request, reply

COSIGN = Path(__file__).parents[1] / "image_signatures" / "cosign-3.1.3"
COSIGN_IMAGE = "sha256:aa7ed07dc646df0671ed0f087d28f30d002d13ae5e16f930cdb42fdb497c7427"
"""The image that cosign itself signed, in ``models/resnet``."""
EVALUATION = "https://example.com/evaluation/v1"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_EMPTY = b"{}"
_SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
Key = ec.EllipticCurvePrivateKey


def digest_of(body: bytes) -> str:
    """``sha256:`` and the digits."""
    return f"sha256:{sha256(body).hexdigest()}"


def public_pem(key: Key) -> bytes:
    """As ``cosign generate-key-pair`` writes it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Images:
    """What the registry holds, by path. ``referrers`` says whether it has that API."""

    referrers: bool = True
    held: dict[str, bytes] = field(default_factory=dict)

    def answer(self, request: Request) -> Reply:
        """What it holds, else 404."""
        body = self.held.get(request.target.partition("?")[0])
        if body is None:
            return reply(b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}', "404 Not Found")
        return reply(body, Content_Type="application/json")

    def sign(self, repository: str, image: str, key: Key, about: str = "") -> None:
        """As ``cosign sign --new-bundle-format=false``; ``about`` is another image that the payload names."""
        payload = json.dumps(
            {
                "critical": {
                    "identity": {"docker-reference": f"registry.example.com/{repository}"},
                    "image": {"docker-manifest-digest": about or image},
                    "type": "cosign container image signature",
                },
                "optional": None,
            }
        ).encode()
        signature = base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
        self._tag(repository, f"{image.replace(':', '-')}.sig", payload, _SIMPLE_SIGNING, signature)

    def hold_cosigns_signature(self, repository: str) -> None:
        """What cosign 3.1.3 wrote with ``--new-bundle-format=false``."""
        manifest = (COSIGN / "signature-manifest.json").read_bytes()
        payload = (COSIGN / "payload.json").read_bytes().rstrip(b"\n")
        self.held[f"/v2/{repository}/manifests/{COSIGN_IMAGE.replace(':', '-')}.sig"] = manifest
        self.held[f"/v2/{repository}/blobs/{json.loads(manifest)['layers'][0]['digest']}"] = payload

    def hold_cosigns_attestation(self, repository: str) -> None:
        """What ``cosign attest`` wrote, of the type ``EVALUATION``."""
        envelope, tag = (COSIGN / "attestation.json").read_bytes(), f"{COSIGN_IMAGE.replace(':', '-')}.att"
        self._tag(repository, tag, envelope, "application/vnd.dsse.envelope.v1+json")

    def hold_cosigns_bundle(self, repository: str) -> None:
        """What cosign 3 writes by default, among the referrers or under their tag."""
        bundle = (COSIGN / "bundle.json").read_bytes()
        manifest = self._manifest(repository, bundle, _BUNDLE)
        found = digest_of(manifest)
        self.held[f"/v2/{repository}/manifests/{found}"] = manifest
        about = {"mediaType": MANIFEST, "artifactType": _BUNDLE, "digest": found, "size": len(manifest)}
        sbom = {**about, "artifactType": "application/spdx+json", "digest": digest_of(b"sbom"), "size": 4}
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [sbom, about]})
        where = f"referrers/{COSIGN_IMAGE}" if self.referrers else f"manifests/{COSIGN_IMAGE.replace(':', '-')}"
        self.held[f"/v2/{repository}/{where}"] = index.encode()

    def _tag(self, repository: str, tag: str, blob: bytes, media_type: str, signature: str = "") -> None:
        self.held[f"/v2/{repository}/manifests/{tag}"] = self._manifest(repository, blob, media_type, signature)

    def _manifest(self, repository: str, blob: bytes, media_type: str, signature: str = "") -> bytes:
        layer: dict[str, Any] = {"mediaType": media_type, "size": len(blob), "digest": digest_of(blob)}
        if signature:
            layer["annotations"] = {"dev.cosignproject.cosign/signature": signature}
        self.held[f"/v2/{repository}/blobs/{layer['digest']}"] = blob
        self.held[f"/v2/{repository}/blobs/{digest_of(_EMPTY)}"] = _EMPTY
        config = {"mediaType": "application/vnd.oci.empty.v1+json", "size": len(_EMPTY), "digest": digest_of(_EMPTY)}
        return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}).encode()
