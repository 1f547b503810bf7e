"""Preload refuses a model that the right signer has not signed, before it has its name.

Signatures are made by the library model-signing, and by a key alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import model_signing.hashing
import model_signing.signing
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.serving_runtime.conftest import Runtime
from tests.serving_runtime.preloading import Preload, folder_digest, sha256

FILES = {"config.pbtxt": b"platform", "1/model.onnx": b"onnx" * 1000}


class Signer:
    """A key, its public half in a file, and what it signs."""

    def __init__(self, folder: Path, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.private, self.public = folder / f"{name}.key", folder / f"{name}.pem"
        kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self.private.write_bytes(self._key.private_bytes(*kinds))
        self.public.write_bytes(
            self._key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def bundle(self, model: Path, signature: Path, *ignored: Path) -> Path:
        config = model_signing.signing.Config().use_elliptic_key_signer(private_key=self.private)
        config.set_hashing_config(model_signing.hashing.Config().set_ignored_paths(paths=ignored)).sign(
            model, signature
        )
        return signature

    def plain(self, digest: str, signature: Path) -> Path:
        signature.write_bytes(self._key.sign(f"{digest}\n".encode(), ec.ECDSA(hashes.SHA256())))
        return signature


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path, "signer")


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "claim" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "claim" / name).write_bytes(content)
    return tmp_path / "claim"


@pytest.fixture
def preload(tmp_path: Path) -> Preload:
    return Preload(tmp_path, tmp_path / "models")


def test_a_bundle_is_verified_without_an_approved_digest(
    preload: Preload, claim: Path, signer: Signer, tmp_path: Path
) -> None:
    bundle = signer.bundle(claim, tmp_path / "model.sig")
    done = preload(str(claim), f"--signature={bundle}", f"--public-key={signer.public}")

    assert done.code == 0, done.out
    assert f"verified {folder_digest(FILES)}, signed by {signer.public}" in done.out
    assert "NOT VERIFIED" not in done.out
    again = preload(str(claim), f"--signature={bundle}", f"--public-key={signer.public}")
    assert "was there already" in again.out


def test_a_bundle_may_lie_beside_the_model(preload: Preload, claim: Path, signer: Signer, tmp_path: Path) -> None:
    shutil.move(signer.bundle(claim, tmp_path / "made.sig"), claim / "model.sig")
    done = preload(str(claim), "--signature=source:model.sig", f"--public-key={signer.public}")

    assert done.code == 0, done.out
    assert preload.left == ["1", "1/model.onnx", "config.pbtxt"]
    missing = preload(str(claim), "--signature=source:other.sig", f"--public-key={signer.public}")
    assert missing.code == 2
    assert "has no file 'other.sig'" in missing.termination


def test_keys_come_from_a_mounted_folder(preload: Preload, claim: Path, signer: Signer, tmp_path: Path) -> None:
    """As the kubelet mounts a ConfigMap: links to a hidden folder. Any of the keys may have signed."""
    data = tmp_path / "keys" / "..2026_11_24"
    data.mkdir(parents=True)
    (tmp_path / "keys" / "..data").symlink_to(data.name)
    for one in (Signer(tmp_path, "another"), signer):
        shutil.copy(one.public, data)
        (tmp_path / "keys" / one.public.name).symlink_to(f"..data/{one.public.name}")
    bundle = signer.bundle(claim, tmp_path / "model.sig")
    done = preload(str(claim), f"--signature={bundle}", f"--public-key={tmp_path / 'keys'}")

    assert done.code == 0, done.out
    assert f"signed by {tmp_path / 'keys' / 'signer.pem'}" in done.out
    empty = preload(str(claim), f"--signature={bundle}", f"--public-key={claim}")
    assert empty.code == 2
    assert "has no file that ends in" in empty.termination


def _changed(claim: Path) -> None:
    (claim / "1" / "model.onnx").write_bytes(b"evil" * 1000)


def _missing(claim: Path) -> None:
    (claim / "config.pbtxt").unlink()


def _added(claim: Path) -> None:
    (claim / "1" / "model.py").write_text("evil")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_changed, f"'1/model.onnx': expected {sha256(FILES['1/model.onnx'])}, found {sha256(b'evil' * 1000)}"),
        (_missing, "'config.pbtxt' is missing"),
        (_added, "'1/model.py' is not in the signature"),
    ],
)
def test_a_model_that_is_not_the_signed_one_is_refused(
    preload: Preload, claim: Path, signer: Signer, tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    bundle = signer.bundle(claim, tmp_path / "model.sig")
    change(claim)
    done = preload(str(claim), f"--signature={bundle}", f"--public-key={signer.public}")

    assert done.code == 1, done.out
    assert told in done.termination
    assert preload.left == []


def test_what_the_signer_left_out_is_not_brought(preload: Preload, claim: Path, signer: Signer, tmp_path: Path) -> None:
    (claim / "notes.txt").write_text("nobody vouches for this")
    bundle = signer.bundle(claim, tmp_path / "model.sig", claim / "notes.txt")
    done = preload(str(claim), f"--signature={bundle}", f"--public-key={signer.public}")

    assert done.code == 0, done.out
    assert preload.left == ["1", "1/model.onnx", "config.pbtxt"]
    (preload.destination / "notes.txt").write_text("nor for this")
    again = preload(str(claim), f"--signature={bundle}", f"--public-key={signer.public}")
    assert again.code == 1
    assert "holds another model already" in again.termination


def test_a_wrong_signer_costs_no_download(preload: Preload, claim: Path, signer: Signer, tmp_path: Path) -> None:
    bundle = signer.bundle(claim, tmp_path / "model.sig")
    stranger = Signer(tmp_path, "stranger")
    done = preload("s3://nobody/asks", f"--signature={bundle}", f"--public-key={stranger.public}")

    assert done.code == 3
    assert f"was not signed by {stranger.public}" in done.termination
    assert preload.left == []


def test_a_signature_of_another_model_than_the_approved_one_costs_no_download(
    preload: Preload, claim: Path, signer: Signer, tmp_path: Path
) -> None:
    bundle = signer.bundle(claim, tmp_path / "model.sig")
    approved = sha256(b"other")
    done = preload("s3://nobody/asks", f"--signature={bundle}", f"--public-key={signer.public}", f"--digest={approved}")

    assert done.code == 1
    assert (
        f"signs another model than the approved one: expected {approved}, found {folder_digest(FILES)}"
        in done.termination
    )


@pytest.mark.parametrize("approved", [True, False])
def test_a_plain_signature_of_the_digest(
    preload: Preload, claim: Path, signer: Signer, tmp_path: Path, approved: bool
) -> None:
    digest = folder_digest(FILES)
    signature = signer.plain(digest, tmp_path / "plain.sig")
    more = [f"--digest={digest}"] if approved else []
    done = preload(str(claim), f"--signature={signature}", f"--public-key={signer.public}", *more)
    assert done.code == 0, done.out
    assert f"signed by {signer.public}" in done.out

    preload.destination = tmp_path / "second"
    _changed(claim)
    other = preload(str(claim), f"--signature={signature}", f"--public-key={signer.public}", *more)
    assert other.code == (1 if approved else 3)
    assert preload.left == []


def test_a_plain_signature_of_a_single_file(preload: Preload, signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "one.onnx").write_bytes(b"one")
    signature = signer.plain(sha256(b"one"), tmp_path / "plain.sig")
    done = preload(str(tmp_path / "one.onnx"), f"--signature={signature}", f"--public-key={signer.public}")

    assert done.code == 0, done.out


def test_a_sealed_model_is_signed_in_the_clear(
    runtime: Runtime, preload: Preload, claim: Path, signer: Signer, tmp_path: Path
) -> None:
    (tmp_path / "seal.key").write_bytes(bytes(32))
    bundle = signer.bundle(claim, tmp_path / "model.sig")
    runtime("seal", claim, tmp_path / "sealed", f"--key=file:{tmp_path / 'seal.key'}")
    arguments = (f"--key=file:{tmp_path / 'seal.key'}", f"--public-key={signer.public}", f"--signature={bundle}")
    done = preload(str(tmp_path / "sealed"), *arguments)

    assert done.code == 0, done.out


@pytest.mark.parametrize("change", [_changed, _missing, _added])
def test_a_tampered_signed_model_in_the_destination_is_refused(
    preload: Preload, claim: Path, signer: Signer, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    arguments = (f"--signature={signer.bundle(claim, tmp_path / 'model.sig')}", f"--public-key={signer.public}")
    preload(str(claim), *arguments)
    change(preload.destination)
    done = preload(str(claim), *arguments)

    assert done.code == 1
    assert "holds another model already" in done.termination


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--signature=/nonexistent", "--public-key={key}"], "/nonexistent cannot be read"),
        (["--signature={key}"], "--signature needs --public-key"),
        (["--public-key={key}"], "these need --signature"),
        (["--signature={key}", "--identity=ann@example.com"], "belong together"),
        (["--signature={key}", "--public-key={private}"], "is a private key"),
    ],
)
def test_signature_arguments_that_say_nothing_are_refused(
    preload: Preload, claim: Path, signer: Signer, arguments: list[str], told: str
) -> None:
    done = preload(str(claim), *(one.format(key=signer.public, private=signer.private) for one in arguments))

    assert done.code == 2, done.out
    assert told in done.termination
