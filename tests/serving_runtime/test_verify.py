"""A model is accepted only when its bytes are those that were approved or signed.

Signatures are made by the library model-signing and by openssl.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import model_signing.hashing
import model_signing.signing
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.serving_runtime.conftest import Ended, Runtime

_OTHER = "sha256:" + "0" * 64
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def _digest(runtime: Runtime, path: Path) -> str:
    return runtime("digest", path).out.strip()


def _write_keys(folder: Path, name: str, key: PrivateKey) -> tuple[Path, Path]:
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def _hashing(*ignored: Path) -> model_signing.hashing.Config:
    return model_signing.hashing.Config().set_ignored_paths(paths=ignored)


def _sign(model: Path, private: Path, signature: Path, config: model_signing.hashing.Config | None = None) -> Path:
    signing = model_signing.signing.Config().use_elliptic_key_signer(private_key=private)
    signing.set_hashing_config(config or _hashing()).sign(model, signature)
    return signature


@pytest.fixture(params=[ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def any_curve(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    return _write_keys(tmp_path, "signer", ec.generate_private_key(request.param))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return _write_keys(tmp_path, "signer", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def signature(model: Path, keys: tuple[Path, Path], tmp_path: Path) -> Path:
    return _sign(model, keys[0], tmp_path / "model.sig")


def _flip(path: Path) -> str:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return "'1/model.onnx': expected sha256:"


def _change_a_byte(model: Path) -> str:
    return _flip(model / "1" / "model.onnx")


def _truncate(model: Path) -> str:
    path = model / "1" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    return "(1,279,999 bytes)"


def _take_away(model: Path) -> str:
    (model / "1.txt").unlink()
    return "'1.txt' is missing"


def _add(model: Path) -> str:
    (model / "1" / "evil.py").write_text("import os\n")
    return "'1/evil.py' is not in the"


def _rename(model: Path) -> str:
    (model / "config.pbtxt").rename(model / "config.py")
    return "'config.pbtxt' is missing"


def _link_outside(model: Path) -> str:
    (model / "1.txt").unlink()
    (model / "1.txt").symlink_to("/etc/hostname")
    return "'1.txt' is a symbolic link to '/etc/hostname'"


CHANGES = [_change_a_byte, _truncate, _take_away, _add, _rename, _link_outside]
change = pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__.strip("_"))


def test_the_approved_bytes_are_accepted(runtime: Runtime, model: Path) -> None:
    digest = _digest(runtime, model)
    ended = runtime("verify", f"--path={model}", f"--digest={digest}")

    assert ended.code == 0, ended.err
    assert ended.out == f"verified {digest}: 5 files, 1,280,036 bytes\n"
    assert ended.termination == ""


@change
def test_other_bytes_are_refused_by_the_digest(runtime: Runtime, model: Path, change: Callable[[Path], str]) -> None:
    digest = _digest(runtime, model)
    change(model)
    ended = runtime("verify", f"--path={model}", f"--digest={digest}")

    assert ended.code == 1
    assert f"expected {digest}, found sha256:" in ended.err or "is a symbolic link" in ended.err
    assert ended.termination == ended.err.rstrip("\n")


@change
def test_the_manifest_names_the_file_that_differs(
    runtime: Runtime, model: Path, tmp_path: Path, change: Callable[[Path], str]
) -> None:
    digest = _digest(runtime, model)
    (tmp_path / "manifest").write_text(runtime("digest", model, "--format", "manifest").out)
    told = change(model)
    ended = runtime("verify", f"--path={model}", f"--digest={digest}", f"--manifest={tmp_path / 'manifest'}")

    assert ended.code == 1
    assert told in ended.err


def test_a_manifest_swapped_together_with_the_files_is_refused_by_the_digest(
    runtime: Runtime, model: Path, tmp_path: Path
) -> None:
    digest = _digest(runtime, model)
    _change_a_byte(model)
    (tmp_path / "manifest").write_text(runtime("digest", model, "--format", "manifest").out)
    ended = runtime("verify", f"--path={model}", f"--digest={digest}", f"--manifest={tmp_path / 'manifest'}")

    assert ended.code == 1
    assert f"the manifest is of another model: expected {digest}, found {_digest(runtime, model)}" in ended.err


def test_one_file_alone_is_verified_by_its_own_digest(runtime: Runtime, model: Path) -> None:
    file = model / "1" / "model.onnx"
    digest = _digest(runtime, file)

    assert runtime("verify", f"--path={file}", f"--digest={digest}").code == 0
    _flip(file)
    assert f"expected {digest}, found sha256:" in runtime("verify", f"--path={file}", f"--digest={digest}").err


def test_the_arguments_that_the_webhook_writes_are_understood(runtime: Runtime, model: Path) -> None:
    from admission.preloading import PreloadSettings

    digest = _digest(runtime, model)
    values = {"destination": str(model), "digest": digest}
    arguments = [one.format(**values) for one in PreloadSettings().verify_arguments]

    assert runtime(*arguments).code == 0
    _change_a_byte(model)
    assert runtime(*arguments).code == 1


def test_a_model_signed_by_the_openssf_library_is_accepted(
    runtime: Runtime, model: Path, any_curve: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = any_curve
    signature = _sign(model, private, tmp_path / "model.sig")
    digest = _digest(runtime, model)
    ended = runtime(
        "verify", f"--path={model}", f"--digest={digest}", f"--signature={signature}", f"--public-key={public}"
    )

    assert ended.code == 0, ended.err
    assert f"signed by {public}" in ended.out


def _verify_signed(runtime: Runtime, model: Path, signature: Path, *keys: Path) -> Ended:
    return runtime("verify", f"--path={model}", f"--signature={signature}", *(f"--public-key={key}" for key in keys))


@change
def test_other_bytes_are_refused_by_the_signature_which_names_the_file(
    runtime: Runtime, model: Path, keys: tuple[Path, Path], signature: Path, change: Callable[[Path], str]
) -> None:
    told = change(model)
    ended = _verify_signed(runtime, model, signature, keys[1])

    assert ended.code == 1
    assert told in ended.err
    assert ended.termination == ended.err.rstrip("\n")


def test_a_signature_by_another_key_is_refused(runtime: Runtime, model: Path, signature: Path, tmp_path: Path) -> None:
    _, other = _write_keys(tmp_path, "other", ec.generate_private_key(ec.SECP256R1()))
    ended = _verify_signed(runtime, model, signature, other)

    assert ended.code == 3
    assert f"was not signed by {other}" in ended.err


def test_any_of_several_keys_may_have_signed(
    runtime: Runtime, model: Path, keys: tuple[Path, Path], signature: Path, tmp_path: Path
) -> None:
    _, other = _write_keys(tmp_path, "other", ed25519.Ed25519PrivateKey.generate())
    ended = _verify_signed(runtime, model, signature, other, keys[1])

    assert ended.code == 0, ended.err
    assert f"signed by {keys[1]}" in ended.out


def _rewritten(signature: Path, edit: Callable[[dict], None]) -> None:
    bundle = json.loads(signature.read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    edit(statement)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    signature.write_text(json.dumps(bundle))


def test_a_list_of_files_swapped_inside_the_signature_is_refused(
    runtime: Runtime, model: Path, keys: tuple[Path, Path], signature: Path
) -> None:
    _rewritten(signature, lambda statement: statement["predicate"]["resources"].pop())
    (model / "größe.json").unlink()

    assert _verify_signed(runtime, model, signature, keys[1]).code == 3


def test_the_signature_of_another_model_is_refused(
    runtime: Runtime, model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "weights").write_text("x")
    ended = _verify_signed(runtime, model, _sign(other, keys[0], tmp_path / "other.sig"), keys[1])

    assert ended.code == 1
    assert "'weights' is missing" in ended.err


def test_a_valid_signature_does_not_replace_the_approved_digest(
    runtime: Runtime, model: Path, keys: tuple[Path, Path], signature: Path
) -> None:
    ended = runtime(
        "verify", f"--path={model}", f"--digest={_OTHER}", f"--signature={signature}", f"--public-key={keys[1]}"
    )

    assert ended.code == 1
    assert f"expected {_OTHER}, found {_digest(runtime, model)}" in ended.err


def test_a_signature_inside_the_folder_does_not_have_to_sign_itself(
    runtime: Runtime, model: Path, keys: tuple[Path, Path]
) -> None:
    inside = model / "resnet.sig"
    _sign(model, keys[0], inside, _hashing(inside))

    assert _verify_signed(runtime, model, inside, keys[1]).code == 0


def test_what_the_signer_left_out_may_be_there(
    runtime: Runtime, model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    (model / "notes").mkdir()
    (model / "notes" / "a.md").write_text("x")
    signature = _sign(model, keys[0], tmp_path / "m.sig", _hashing(model / "notes"))

    assert _verify_signed(runtime, model, signature, keys[1]).code == 0
    (model / "notes" / "b.md").write_text("y")
    assert _verify_signed(runtime, model, signature, keys[1]).code == 0


def test_git_files_that_were_signed_are_held_to_the_signature(
    runtime: Runtime, model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    (model / ".gitattributes").write_text("*.onnx lfs\n")
    everything = model_signing.hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
    signature = _sign(model, keys[0], tmp_path / "m.sig", everything)

    assert _verify_signed(runtime, model, signature, keys[1]).code == 0
    (model / ".gitattributes").write_text("changed\n")
    assert "'.gitattributes': expected sha256:" in _verify_signed(runtime, model, signature, keys[1]).err


def test_one_file_alone_may_be_signed(runtime: Runtime, model: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    file = model / "1" / "model.onnx"
    signature = _sign(file, keys[0], tmp_path / "m.sig")
    ended = _verify_signed(runtime, file, signature, keys[1])

    assert ended.code == 0, ended.err
    _flip(file)
    assert _verify_signed(runtime, file, signature, keys[1]).code == 1


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (_hashing().use_shard_serialization(), "serialization.method: found 'shards'; expected 'files'"),
        (_hashing().use_file_serialization(hashing_algorithm="blake3"), "hash_type: found 'blake3'; expected 'sha256'"),
    ],
    ids=["shards", "blake3"],
)
def test_a_kind_of_signature_that_is_not_read_is_named(
    runtime: Runtime,
    model: Path,
    keys: tuple[Path, Path],
    tmp_path: Path,
    config: model_signing.hashing.Config,
    told: str,
) -> None:
    signature = _sign(model, keys[0], tmp_path / "m.sig", config)
    ended = _verify_signed(runtime, model, signature, keys[1])

    assert ended.code == 3
    assert told in ended.err


class _Authority:
    """A root and its signers, as a company has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.root = folder / "root.pem"
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Model signing root")])
        self._certificate = self._made(self._name, self._key.public_key(), ca=True)
        self.root.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def sign(self, model: Path, email: str, *, may_sign: bool = True) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        private, _ = _write_keys(self.folder, "leaf", key)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
        leaf = self._made(name, key.public_key(), ca=False, email=email, may_sign=may_sign)
        (self.folder / "leaf.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        signature = self.folder / "certified.sig"
        signing = model_signing.signing.Config().use_certificate_signer(
            private_key=private, signing_certificate=self.folder / "leaf.pem", certificate_chain=[self.root]
        )
        signing.set_hashing_config(_hashing()).sign(model, signature)
        return signature

    def _made(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool, email: str = "", may_sign: bool = True
    ) -> x509.Certificate:
        start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start)
        builder = builder.not_valid_after(start + datetime.timedelta(days=10 if not ca else 3650))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        usage = dict.fromkeys(
            [
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ],
            False,
        )
        usage_of = x509.KeyUsage(
            digital_signature=not ca and may_sign,
            key_cert_sign=ca,
            crl_sign=ca,
            **{**usage, "key_agreement": not may_sign},
        )
        builder = builder.add_extension(usage_of, critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False).add_extension(issuer, critical=False)
        if email:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), critical=False)
            if may_sign:
                usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
                builder = builder.add_extension(usages, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _verify_certified(runtime: Runtime, model: Path, signature: Path, root: Path, identity: str) -> Ended:
    return runtime(
        "verify", f"--path={model}", f"--signature={signature}", f"--certificate-root={root}", f"--identity={identity}"
    )


def test_a_certificate_of_a_given_root_and_identity_is_accepted(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    authority = _Authority(tmp_path)
    signature = authority.sign(model, "ml@example.com")
    ended = _verify_certified(runtime, model, signature, authority.root, "ml@example.com")

    assert ended.code == 0, ended.err
    assert "signed by ml@example.com" in ended.out
    _change_a_byte(model)
    assert _verify_certified(runtime, model, signature, authority.root, "ml@example.com").code == 1


def test_somebody_else_of_the_same_root_is_refused(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    authority = _Authority(tmp_path)
    signature = authority.sign(model, "guest@example.com")
    ended = _verify_certified(runtime, model, signature, authority.root, "ml@example.com")

    assert ended.code == 3
    assert "expected 'ml@example.com', found 'guest@example.com'" in ended.err


def test_the_same_name_under_another_root_is_refused(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    trusted, forger = _Authority(tmp_path / "a"), _Authority(tmp_path / "b")
    signature = forger.sign(model, "ml@example.com")
    ended = _verify_certified(runtime, model, signature, trusted.root, "ml@example.com")

    assert ended.code == 3
    assert "no given root vouches" in ended.err


def test_a_certificate_that_is_not_for_signing_is_refused(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    authority = _Authority(tmp_path)
    signature = authority.sign(model, "ml@example.com", may_sign=False)
    ended = _verify_certified(runtime, model, signature, authority.root, "ml@example.com")

    assert ended.code == 3
    assert "not one for digital signatures" in ended.err


def test_a_keyless_signature_is_refused_by_name(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    authority = _Authority(tmp_path)
    signature = authority.sign(model, "ml@example.com")
    bundle = json.loads(signature.read_text())
    bundle["verificationMaterial"]["tlogEntries"] = [{"logIndex": "1"}]
    signature.write_text(json.dumps(bundle))
    ended = _verify_certified(runtime, model, signature, authority.root, "ml@example.com")

    assert ended.code == 3
    assert "keyless" in ended.err


@pytest.mark.parametrize("kind", ["P-256", "P-384", "ed25519"])
@pytest.mark.parametrize("encoded", [False, True], ids=["raw", "base64"])
def test_a_plain_signature_made_with_openssl_is_accepted(
    runtime: Runtime, model: Path, tmp_path: Path, kind: str, encoded: bool
) -> None:
    private, public, message, signature = (tmp_path / name for name in ("p.key", "p.pub", "digest.txt", "plain.sig"))
    if kind == "ed25519":
        _openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    else:
        _openssl("ecparam", "-name", kind, "-genkey", "-noout", "-out", private)
    _openssl("pkey", "-in", private, "-pubout", "-out", public)
    message.write_text(runtime("digest", model).out)
    if kind == "ed25519":
        _openssl("pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", message, "-out", signature)
    else:
        _openssl("dgst", {"P-256": "-sha256", "P-384": "-sha384"}[kind], "-sign", private, "-out", signature, message)
    if encoded:
        signature.write_bytes(base64.b64encode(signature.read_bytes()) + b"\n")

    assert _verify_signed(runtime, model, signature, public).code == 0
    (model / "1.txt").write_text("changed")
    ended = _verify_signed(runtime, model, signature, public)
    assert ended.code == 3
    assert f"is no signature by {public} of {_digest(runtime, model)}" in ended.err


def test_a_plain_signature_by_another_key_is_refused_before_the_model_is_read(runtime: Runtime, tmp_path: Path) -> None:
    _, public = _write_keys(tmp_path, "k", ed25519.Ed25519PrivateKey.generate())
    (tmp_path / "s").write_bytes(ed25519.Ed25519PrivateKey.generate().sign(f"{_OTHER}\n".encode()))
    ended = runtime(
        "verify", "--path=/nowhere", f"--digest={_OTHER}", f"--signature={tmp_path / 's'}", f"--public-key={public}"
    )

    assert ended.code == 3
    assert f"of {_OTHER}" in ended.err


_COSIGN = Path(__file__).parents[1] / "image_signatures" / "cosign-3.1.3"
"""Its blob bundle signs the text that would be the digest of 64 zeros."""


def test_the_bundle_of_cosign_sign_blob_is_a_plain_signature_too(runtime: Runtime, model: Path) -> None:
    bundle, key = _COSIGN / "blob-bundle.json", _COSIGN / "cosign.pub"
    arguments = ["verify", f"--path={model}", f"--signature={bundle}", f"--public-key={key}"]
    of_zeros = runtime(*arguments, f"--digest={_OTHER}")
    of_the_model = runtime(*arguments, f"--digest={_digest(runtime, model)}")

    assert of_zeros.code == 1, of_zeros.err
    assert f"expected {_OTHER}, found {_digest(runtime, model)}" in of_zeros.err
    assert of_the_model.code == 3
    assert f"is no signature by {key}" in of_the_model.err


def test_a_raw_signature_that_begins_like_a_bundle_is_still_a_signature(
    runtime: Runtime, model: Path, tmp_path: Path
) -> None:
    message = runtime("digest", model).out.encode()
    pairs = ((key, key.sign(message)) for key in (ed25519.Ed25519PrivateKey.generate() for _ in range(20000)))
    key, signature = next(pair for pair in pairs if pair[1].startswith(b"{"))
    _, public = _write_keys(tmp_path, "k", key)
    (tmp_path / "raw.sig").write_bytes(signature)

    assert _verify_signed(runtime, model, tmp_path / "raw.sig", public).code == 0


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *(str(one) for one in arguments)], check=True, capture_output=True, timeout=30)


_BAD_BUNDLES = [
    (b"{", "is not a Sigstore bundle"),
    (b"{}", "mediaType: found None"),
    (b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "messageSignature": {}}', "signs a blob"),
    (b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": {}}', "it has no"),
    (b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": 1}', "is not a Sigstore bundle"),
    (b'{"a":' * 100000, "is not a Sigstore bundle"),
    (b"  \n", "is empty"),
]


@pytest.mark.parametrize(("content", "told"), _BAD_BUNDLES)
def test_a_file_that_is_no_signature_is_bad_input_with_a_sentence(
    runtime: Runtime, model: Path, keys: tuple[Path, Path], tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "bad.sig").write_bytes(content)
    ended = _verify_signed(runtime, model, tmp_path / "bad.sig", keys[1])

    assert ended.code == 2
    assert told in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--digest=sha256:abc"], "--digest: found 'sha256:abc'; expected sha256: and 64"),
        (["--digest=" + "A" * 64], "expected sha256: and 64"),
        ([], "give --digest, --manifest or --signature"),
        (["--signature=x"], "says nothing without --public-key"),
        (["--public-key=x", "--digest=" + _OTHER], "give --signature"),
        (["--signature=x", "--certificate-root=r"], "belong together"),
        (["--manifest=/nowhere"], "/nowhere cannot be read: No such file"),
        (["--signature=/nowhere", "--public-key=/nowhere"], "/nowhere cannot be read"),
    ],
)
def test_arguments_that_cannot_be_used_are_bad_input(
    runtime: Runtime, model: Path, arguments: list[str], told: str
) -> None:
    ended = runtime("verify", f"--path={model}", *arguments)

    assert ended.code == 2
    assert told in ended.err


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (rsa.generate_private_key(65537, 2048), "is a key of another kind (RSAPublicKey)"),
        (ec.generate_private_key(ec.SECP256K1()), "(ECDSA on secp256k1)"),
    ],
    ids=["rsa", "secp256k1"],
)
def test_a_key_of_another_kind_is_named(
    runtime: Runtime, model: Path, tmp_path: Path, signature: Path, key: PrivateKey, told: str
) -> None:
    private, public = _write_keys(tmp_path, "odd", key)

    assert told in _verify_signed(runtime, model, signature, public).err
    assert "is a private key" in _verify_signed(runtime, model, signature, private).err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("nonsense\n", ":1: found 'nonsense'; expected 64 hex digits"),
        (f"{'0' * 64}  a\n{'0' * 64}  a\n", ":2: file 'a' stands there twice"),
    ],
)
def test_a_manifest_that_is_none_is_bad_input(
    runtime: Runtime, model: Path, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "manifest").write_text(text)
    ended = runtime("verify", f"--path={model}", f"--manifest={tmp_path / 'manifest'}")

    assert ended.code == 2
    assert told in ended.err


def test_a_long_reason_is_cut_to_what_the_kubelet_reads(runtime: Runtime, model: Path) -> None:
    for number in range(9):
        (model / ("é" * 100 + str(number))).symlink_to("ü" * 120)
    ended = runtime("verify", f"--path={model}", f"--digest={_OTHER}")

    assert len(ended.err.encode()) > 4096
    assert 4090 < len(ended.termination.encode()) <= 4096
    assert ended.err.startswith(ended.termination)


def test_outside_a_pod_no_termination_log_is_made(tmp_path: Path) -> None:
    from tidewaiter_runtime.termination_message import leave

    leave("reason", tmp_path / "termination-log")

    assert not (tmp_path / "termination-log").exists()


def test_our_digest_follows_from_the_list_of_a_signature(runtime: Runtime, model: Path, signature: Path) -> None:
    payload = json.loads(base64.b64decode(json.loads(signature.read_text())["dsseEnvelope"]["payload"]))
    lines = sorted((one["name"].encode(), one["digest"].encode()) for one in payload["predicate"]["resources"])
    manifest = b"".join(digest + b"  " + name + b"\n" for name, digest in lines)

    assert _digest(runtime, model) == f"sha256:{hashlib.sha256(manifest).hexdigest()}"
