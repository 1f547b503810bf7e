"""A sealed model opens only with its key, and only as it was sealed."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tidewaiter_runtime.preload.folder_source import FolderSource
from tidewaiter_runtime.preload.preloading import Wanted, preload
from tidewaiter_runtime.preload.ranged_download import Pace
from tidewaiter_runtime.preload.source_uri import parse_source
from tidewaiter_runtime.refusals import ModelRefused
from tidewaiter_runtime.sealing.key_wrapping import FileKey
from tidewaiter_runtime.sealing.sealed_source import SealedSource
from tidewaiter_runtime.sealing.sealing import seal

from tests.serving_runtime.conftest import Runtime
from tests.serving_runtime.preloading import Preload, folder_digest, sha256

CHUNK = 1024
KEY = FileKey(bytes(range(32)), "key")
FILES = {"config.pbtxt": b"platform", "1/model.onnx": bytes(range(256)) * 9000, "1/empty": b""}
ENVELOPE = "tidewaiter-seal.json"


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def _opened(sealed: Path, destination: Path, key: FileKey = KEY, digest: str = "") -> dict[str, bytes]:
    uri = parse_source(str(sealed))
    preload(
        Wanted(uri, destination, digest, hub=False), SealedSource(FolderSource(uri), key), Pace(2, 1), lambda _: None
    )
    return {str(one.relative_to(destination)): one.read_bytes() for one in destination.rglob("*") if one.is_file()}


contents = st.binary(max_size=64) | st.integers(0, 3).flatmap(
    lambda count: st.integers(-1, 1).map(lambda more: b"\x07" * max(0, count * CHUNK + more))
)
models = st.dictionaries(
    st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True), contents, min_size=1, max_size=4
).filter(lambda files: not any(f"{one.partition('/')[0]}" in files for one in files if "/" in one))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models)
def test_what_is_sealed_opens_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("model")
    sealed = seal(_write(folder / "plain", files), folder / "sealed", KEY, CHUNK)

    assert _opened(folder / "sealed", folder / "opened", digest=folder_digest(files)) == files
    assert sealed.manifest.digest == folder_digest(files)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed")
    two = {"a": b"\x01" * 3000, "b": b"\x02" * 3000}
    seal(_write(folder / "plain", two), folder / "sealed", KEY, CHUNK)
    return folder / "sealed"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["000000.sealed", "000001.sealed", ENVELOPE]), st.integers(0, 10**6), st.integers(0, 7))
def test_any_flipped_bit_is_refused(
    sealed: Path, tmp_path_factory: pytest.TempPathFactory, name: str, position: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    shutil.copytree(sealed, folder / "sealed")
    path = folder / "sealed" / name
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)
    if name == ENVELOPE and _same_document(content, (sealed / name).read_bytes()):
        return  # blanks between the words of the JSON, and bits of base64 that mean nothing

    with pytest.raises(
        Exception, match=r"changed|not as it was sealed|no envelope|expected|another key|sealed with"
    ) as told:
        _opened(folder / "sealed", folder / "opened")
    assert type(told.value).__name__ in ("ModelRefused", "BadInput")
    assert not list((folder / "opened").rglob("[ab]"))


def _same_document(one: bytes | bytearray, other: bytes) -> bool:
    def meaning(text: bytes | bytearray) -> Any:
        document = json.loads(text)
        wrapped, listed = document["key"].pop("wrapped"), document.pop("list")
        return document, base64.b64decode(wrapped, validate=True), base64.b64decode(listed, validate=True)

    try:
        return bool(meaning(one) == meaning(other))
    except (ValueError, KeyError, AttributeError, TypeError):
        return False


def _cut(folder: Path) -> None:
    path = folder / "000000.sealed"
    path.write_bytes(path.read_bytes()[:-1])


def _cut_at_a_chunk(folder: Path) -> None:
    path = folder / "000000.sealed"
    path.write_bytes(path.read_bytes()[: 2 * (CHUNK + 16)])


def _swap_chunks(folder: Path) -> None:
    path, step = folder / "000000.sealed", CHUNK + 16
    content = path.read_bytes()
    path.write_bytes(content[step : 2 * step] + content[:step] + content[2 * step :])


def _swap_files(folder: Path) -> None:
    first, second = folder / "000000.sealed", folder / "000001.sealed"
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def _lose_a_file(folder: Path) -> None:
    (folder / "000001.sealed").unlink()


def _add_a_file(folder: Path) -> None:
    (folder / "more.sealed").write_bytes(b"x" * 100)


def _add_bytes(folder: Path) -> None:
    with (folder / "000000.sealed").open("ab") as stream:
        stream.write(b"x" * (CHUNK + 16))


def _other_chunk_size(folder: Path) -> None:
    text = (folder / ENVELOPE).read_text().replace('"chunk": 1024', '"chunk": 2048')
    (folder / ENVELOPE).write_text(text)


def _list_of_another(folder: Path) -> None:
    """The envelope of another model with the same key, over this one's files."""
    other = folder.parent / "other"
    seal(_write(folder.parent / "o", {"a": b"\x03" * 3000, "b": b"\x04" * 3000}), other, KEY, CHUNK)
    shutil.copy(other / ENVELOPE, folder / ENVELOPE)


@pytest.mark.parametrize(
    "change",
    [
        _cut,
        _cut_at_a_chunk,
        _swap_chunks,
        _swap_files,
        _lose_a_file,
        _add_a_file,
        _add_bytes,
        _other_chunk_size,
        _list_of_another,
    ],
)
def test_a_sealed_model_that_was_changed_is_refused(sealed: Path, tmp_path: Path, change: Any) -> None:
    shutil.copytree(sealed, tmp_path / "sealed")
    change(tmp_path / "sealed")

    with pytest.raises(ModelRefused, match="sealed"):
        _opened(tmp_path / "sealed", tmp_path / "opened")
    assert not list((tmp_path / "opened").rglob("[ab]"))


def test_a_truncated_file_whose_size_is_hidden_is_seen_by_its_last_chunk() -> None:
    """The last chunk's flag, by itself: a first chunk is not accepted as a last one."""
    from tidewaiter_runtime.sealing.sealed_chunks import NotOpened, open_chunk, seal_chunk

    cipher = AESGCM(bytes(32))
    middle = seal_chunk(cipher, 0, b"x" * CHUNK, last=False)
    with pytest.raises(NotOpened):
        open_chunk(cipher, 0, middle, last=True)
    with pytest.raises(NotOpened):
        open_chunk(cipher, 1, middle, last=False)


def test_the_format_is_the_documented_one(tmp_path: Path) -> None:
    """Opened here by ``docs/encryption.md`` alone, with nothing of the program under test."""
    plain = _write(tmp_path / "plain", {"weights": bytes(range(256)) * 10})
    seal(plain, tmp_path / "sealed", KEY, CHUNK)
    document = json.loads((tmp_path / "sealed" / ENVELOPE).read_text())

    def hkdf(salt: bytes | None, info: str) -> bytes:
        return HKDF(SHA256(), 32, salt, info.encode()).derive(key)

    wrapped, listed = base64.b64decode(document["key"]["wrapped"]), base64.b64decode(document["list"])
    key = AESGCM(bytes(range(32))).decrypt(wrapped[:12], wrapped[12:], b"tidewaiter-seal/1 key")
    text = AESGCM(hkdf(None, "tidewaiter-seal/1 list")).decrypt(
        listed[:12], listed[12:], b"tidewaiter-seal/1 list 1024"
    )
    (file,) = json.loads(text)["files"]
    cipher = AESGCM(hkdf(bytes.fromhex(file["salt"]), "tidewaiter-seal/1 file weights"))
    content, opened = (tmp_path / "sealed" / file["stored"]).read_bytes(), b""
    for number, last in enumerate([0, 0, 1]):
        part, content = content[: 1024 + 16], content[1024 + 16 :]
        nonce = bytes(7) + number.to_bytes(4, "big") + bytes([last])
        opened += cipher.decrypt(nonce, part, b"tidewaiter-seal/1 chunk")

    assert opened == (plain / "weights").read_bytes()
    assert file == {**file, "name": "weights", "size": 2560, "sha256": hashlib.sha256(opened).hexdigest()}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.key"
    path.write_text(base64.b64encode(bytes(range(32))).decode() + "\n")
    return path


@pytest.fixture
def preloader(tmp_path: Path) -> Preload:
    return Preload(tmp_path, tmp_path / "models")


def test_seal_and_preload_are_counterparts(
    runtime: Runtime, preloader: Preload, tmp_path: Path, key_file: Path
) -> None:
    plain = _write(tmp_path / "plain", FILES)
    done = runtime("seal", plain, tmp_path / "sealed", f"--key=file:{key_file}")
    digest = folder_digest(FILES)

    assert done.code == 0, done.err
    assert digest in done.out
    stored = b"".join(one.read_bytes() for one in (tmp_path / "sealed").iterdir())
    assert b"onnx" not in stored
    assert b"config.pbtxt" not in stored
    brought = preloader(str(tmp_path / "sealed"), f"--digest={digest}", f"--key=file:{key_file}")
    assert brought.code == 0, brought.out
    assert {name: (preloader.destination / name).read_bytes() for name in FILES} == FILES
    again = preloader(str(tmp_path / "sealed"), f"--digest={digest}", f"--key=file:{key_file}")
    assert "was there already" in again.out


def test_a_single_file_is_sealed_under_its_name(
    runtime: Runtime, preloader: Preload, tmp_path: Path, key_file: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    assert runtime("seal", tmp_path / "model.onnx", tmp_path / "sealed", f"--key=file:{key_file}").code == 0

    done = preloader(str(tmp_path / "sealed"), f"--digest={sha256(b'onnx')}", f"--key=file:{key_file}")
    assert done.code == 0, done.out
    assert (preloader.destination / "model.onnx").read_bytes() == b"onnx"


def test_a_wrong_digest_costs_no_file(runtime: Runtime, preloader: Preload, tmp_path: Path, key_file: Path) -> None:
    """The plain digest is in the envelope: the sealed files may even be unreadable."""
    runtime("seal", _write(tmp_path / "plain", FILES), tmp_path / "sealed", f"--key=file:{key_file}")
    for one in (tmp_path / "sealed").glob("*.sealed"):
        one.write_bytes(b"\0" * one.stat().st_size)
    done = preloader(str(tmp_path / "sealed"), f"--digest={sha256(b'x')}", f"--key=file:{key_file}")

    assert done.code == 1
    assert f"expected {sha256(b'x')}, found {folder_digest(FILES)}" in done.termination
    assert preloader.left == []


@pytest.mark.parametrize(
    ("key", "code", "told"),
    [
        ("", 2, "is sealed; give its key: --key"),
        ("file:/nonexistent", 2, "/nonexistent cannot be read"),
        ("file:{other}", 2, "was sealed with file key"),
        ("file:{short}", 2, "is no key: expected 32 bytes"),
        ("vault:transit/models", 2, "VAULT_ADDR is ''"),
        ("command:false", 2, "was sealed with file key"),
        ("aws:arn", 2, "expected file:PATH, vault:MOUNT/KEY"),
    ],
)
def test_a_wrong_key_is_told(
    runtime: Runtime, preloader: Preload, tmp_path: Path, key_file: Path, key: str, code: int, told: str
) -> None:
    runtime("seal", _write(tmp_path / "plain", FILES), tmp_path / "sealed", f"--key=file:{key_file}")
    (tmp_path / "other").write_bytes(bytes(32))
    (tmp_path / "short").write_bytes(b"secret")
    key = key.format(other=tmp_path / "other", short=tmp_path / "short")
    done = preloader(str(tmp_path / "sealed"), *([f"--key={key}"] if key else []))

    assert done.code == code
    assert told in done.termination
    assert "secret" not in done.out
    assert preloader.left == []


def test_a_model_that_is_not_sealed_is_not_taken_for_one_that_is(
    preloader: Preload, tmp_path: Path, key_file: Path
) -> None:
    _write(tmp_path / "plain", FILES)
    done = preloader(str(tmp_path / "plain"), f"--key=file:{key_file}")

    assert done.code == 2
    assert "is not sealed: it has no tidewaiter-seal.json" in done.termination


def test_sealing_over_something_is_refused(runtime: Runtime, tmp_path: Path, key_file: Path) -> None:
    plain = _write(tmp_path / "plain", FILES)
    (tmp_path / "sealed").mkdir()

    assert "is there already" in runtime("seal", plain, tmp_path / "sealed", f"--key=file:{key_file}").err


COMMAND = """\
import sys
verb, data = sys.argv[-1], sys.stdin.buffer.read()
if verb not in ("wrap", "unwrap"): sys.exit("which?")
if "--deny" in sys.argv: sys.exit("AccessDenied: not for you")
sys.stdout.buffer.write(bytes(one ^ 0x5a for one in data))
"""


def test_a_command_wraps_the_key(runtime: Runtime, preloader: Preload, tmp_path: Path) -> None:
    (tmp_path / "kms.py").write_text(COMMAND)
    key = f"command:{sys.executable} {tmp_path / 'kms.py'}"
    done = runtime("seal", _write(tmp_path / "plain", FILES), tmp_path / "sealed", f"--key={key}")

    assert done.code == 0, done.err
    denied = preloader(str(tmp_path / "sealed"), f"--key={key} --deny")
    assert denied.code == 2
    assert "unwrap ended with 1: AccessDenied: not for you" in denied.termination
    assert preloader(str(tmp_path / "sealed"), f"--key={key}", f"--digest={folder_digest(FILES)}").code == 0


@contextmanager
def _vault(token: str, faults: list[int]) -> Iterator[str]:
    """Vault's transit engine as its API is documented; no real one could be built here."""
    key = AESGCM(bytes(32))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = 200, {}
            if faults:
                status = faults.pop()
            elif self.headers["X-Vault-Token"] != token or self.headers["X-Vault-Namespace"] != "ml":
                status, answer = 403, {"errors": ["permission denied"]}
            elif self.path == "/v1/team/transit/encrypt/models":
                sealed = key.encrypt(bytes(12), base64.b64decode(body["plaintext"]), None)
                answer = {"data": {"ciphertext": f"vault:v1:{base64.b64encode(sealed).decode()}", "key_version": 1}}
            elif self.path == "/v1/team/transit/decrypt/models":
                sealed = base64.b64decode(body["ciphertext"].removeprefix("vault:v1:"))
                answer = {"data": {"plaintext": base64.b64encode(key.decrypt(bytes(12), sealed, None)).decode()}}
            else:
                status, answer = 404, {"errors": []}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_vault_wraps_the_key(
    runtime: Runtime, preloader: Preload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[int] = []
    with _vault("s.token", faults) as address:
        variables = {"VAULT_ADDR": address, "VAULT_TOKEN": "s.token", "VAULT_NAMESPACE": "ml"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        done = runtime(
            "seal", _write(tmp_path / "plain", FILES), tmp_path / "sealed", "--key=vault:team/transit/models"
        )
        assert done.code == 0, done.err
        (tmp_path / "token").write_text("s.token\n")
        del variables["VAULT_TOKEN"]
        preloader.variables = {**variables, "VAULT_TOKEN_FILE": str(tmp_path / "token")}
        faults.append(503)
        brought = preloader(
            str(tmp_path / "sealed"), "--key=vault:team/transit/models", f"--digest={folder_digest(FILES)}"
        )
        assert brought.code == 0, brought.out
        preloader.destination = tmp_path / "second"
        preloader.variables = {**variables, "VAULT_TOKEN": "s.wrong"}
        denied = preloader(str(tmp_path / "sealed"), "--key=vault:team/transit/models")

    assert denied.code == 2
    assert "the credential does not permit it" in denied.termination
    assert "s.wrong" not in denied.out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 3000))
def test_any_range_of_plain_bytes_can_be_read(sealed: Path, one: int, other: int) -> None:
    """So a download goes on at the byte where it was cut, also within a chunk."""
    start, end = sorted((one, other))
    source = SealedSource(FolderSource(parse_source(str(sealed))), KEY)
    file = next(found for found in source.files() if found.name == "a")
    found = b"".join(source.read(file, start, end)) if start < end else b""

    assert found == (b"\x01" * 3000)[start:end]
