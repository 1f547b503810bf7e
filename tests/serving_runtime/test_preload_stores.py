"""Preloading from a real S3 server (versitygw), which checks signatures, and from folders."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.registries.servers import RealServer, s3_server
from tests.serving_runtime.model_server import Fault, ModelServer, model_server
from tests.serving_runtime.preloading import Preload, folder_digest, sha256

ACCESS, SECRET = "tidewaiter-test", "not a secret at all"
CLIENT = Path(__file__).parents[1] / "registries" / "s3_client.py"
FILES = {"config.pbtxt": "platform", "1/model.onnx": "onnx" * 1000, "größe & %41+x.txt": "labels"}
CONTENT = {name: text.encode() for name, text in FILES.items()}
LARGE = 70 << 20
LISTING = (
    "<ListBucketResult><Name>models</Name><Prefix>bert/</Prefix><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>"
    "<Contents><Key>bert/weights</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;first&quot;"
    "</ETag><Size>{size}</Size></Contents></ListBucketResult>"
)


@dataclass
class Bucket:
    """A bucket with models."""

    server: RealServer
    folder: Path

    def put(self, key: str, body: str) -> None:
        command = json.dumps([["put_object", {"Bucket": "models", "Key": key, "Body": body}]])
        self.server.client(CLIENT, self.server.url, ACCESS, SECRET, command)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder, ACCESS, SECRET) as server:
        commands = [["create_bucket", {"Bucket": "models"}]]
        objects = {f"bert/{name}": text for name, text in FILES.items()} | {"bert-large/x": "x", "one.onnx": "one"}
        commands += [["put_object", {"Bucket": "models", "Key": key, "Body": body}] for key, body in objects.items()]
        server.client(CLIENT, server.url, ACCESS, SECRET, json.dumps(commands))
        yield Bucket(server, folder / "buckets" / "models")


@pytest.fixture
def preload(tmp_path: Path, bucket: Bucket) -> Preload:
    variables = {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": bucket.server.url,
    }
    return Preload(tmp_path, tmp_path / "models", variables)


def test_all_objects_below_a_prefix_are_the_model(preload: Preload) -> None:
    done = preload("s3://models/bert", f"--digest={folder_digest(CONTENT)}")

    assert done.code == 0, done.out
    assert {name: (preload.destination / name).read_bytes() for name in FILES} == CONTENT
    assert sorted(one.name for one in preload.destination.iterdir()) == ["1", "config.pbtxt", "größe & %41+x.txt"]


def test_one_object_is_a_model(preload: Preload) -> None:
    assert preload("s3://models/one.onnx", f"--digest={sha256(b'one')}").code == 0
    assert preload.left == ["one.onnx"]


def test_a_large_object_comes_in_parts(bucket: Bucket, preload: Preload) -> None:
    bucket.put("large/weights", "w" * 1000)
    with (bucket.folder / "large" / "weights").open("wb") as stream:
        stream.truncate(LARGE)
    done = preload("s3://models/large", f"--digest={sha256(bytes(LARGE))}")

    assert done.code == 0, done.out
    assert (preload.destination / "weights").stat().st_size == LARGE


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("s3://models/nowhere", "there is no such bucket, object or prefix"),
        ("s3://models/bert/conf", "there is no such bucket, object or prefix"),
        ("s3://nowhere/bert", "NoSuchBucket"),
    ],
)
def test_a_wrong_name_is_told_at_once(preload: Preload, source: str, told: str) -> None:
    done = preload(source)

    assert done.code == 2
    assert f"{source}: " in done.termination
    assert told in done.termination
    assert "attempts" not in done.termination
    assert preload.left == []


def test_a_missing_credential_is_told_at_once(preload: Preload) -> None:
    del preload.variables["AWS_ACCESS_KEY_ID"], preload.variables["AWS_SECRET_ACCESS_KEY"]
    done = preload("s3://models/bert")

    assert done.code == 2
    assert "no credential was given (AccessDenied); set AWS_ACCESS_KEY_ID" in done.termination


def test_a_wrong_credential_is_told_at_once_and_not_repeated(preload: Preload) -> None:
    preload.variables["AWS_SECRET_ACCESS_KEY"] = "topsecret"
    done = preload("s3://models/bert")

    assert done.code == 2
    assert "the credential is wrong or does not permit it" in done.termination
    assert "topsecret" not in done.out
    assert ACCESS not in done.out


def test_a_store_that_does_not_answer_is_given_up(preload: Preload) -> None:
    preload.variables["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    done = preload("s3://models/bert", "--attempts=2")

    assert done.code == 4
    assert "did not answer in 2 attempts; the last: no connection to the store: Connection refused" in done.termination


def test_a_credential_file_that_is_missing_is_told(preload: Preload) -> None:
    preload.variables["GOOGLE_APPLICATION_CREDENTIALS"] = "/nonexistent/key.json"
    done = preload("gs://models/bert")

    assert done.code == 2
    assert "/nonexistent/key.json" in done.termination


@pytest.fixture(params=["s3", "gs"])
def bad_store(request: pytest.FixtureRequest, preload: Preload, tmp_path: Path) -> Iterator[tuple[ModelServer, str]]:
    """A bucket with one object, as a server plays it that can fail; no real one cuts connections when asked to."""
    with model_server() as server:
        server.files["/models/bert/weights"] = CONTENT["1/model.onnx"]
        server.etags["/models/bert/weights"] = '"first"'
        server.files["/models"] = LISTING.format(size=len(CONTENT["1/model.onnx"])).encode()
        key = {
            "type": "service_account",
            "client_email": "tidewaiter@example.com",
            "private_key": rsa.generate_private_key(65537, 2048)
            .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            .decode(),
            "private_key_id": "",
            "gcs_base_url": server.url,
            "disable_oauth": True,
        }
        (tmp_path / "key.json").write_text(json.dumps(key))
        preload.variables["GOOGLE_SERVICE_ACCOUNT"] = str(tmp_path / "key.json")
        preload.variables["AWS_ENDPOINT_URL"] = server.url
        yield server, f"{request.param}://models/bert"


def test_a_store_that_cuts_is_asked_for_the_rest(preload: Preload, bad_store: tuple[ModelServer, str]) -> None:
    server, source = bad_store
    content = random.Random(7).randbytes(5 << 20)  # noqa: S311  # the same bytes each time
    server.files["/models/bert/weights"] = content
    server.files["/models"] = LISTING.format(size=len(content)).encode()
    server.fault = lambda asked: Fault(cut_after=3 << 20) if asked.start == 0 else None
    done = preload(source, f"--digest={folder_digest({'weights': content})}")

    assert done.code == 0, done.out
    first, second = [one.start for one in server.asked if one.path.endswith("weights")]
    assert first == 0
    assert second is not None
    assert 2 << 20 <= second <= 3 << 20  # the store's client keeps what is less than a mebibyte to itself


def test_a_store_that_is_busy_is_asked_again_and_then_given_up(
    preload: Preload, bad_store: tuple[ModelServer, str]
) -> None:
    server, source = bad_store
    server.fault = lambda _: Fault(status=503)
    done = preload(source, "--attempts=2")

    assert done.code == 4
    assert "did not answer in 2 attempts; the last: status 503" in done.termination
    assert len(server.asked) == 2


def test_an_object_that_changes_meanwhile_is_refused(preload: Preload, bad_store: tuple[ModelServer, str]) -> None:
    server, source = bad_store
    server.fault = lambda asked: Fault(status=412) if asked.headers.get("if-match") == '"first"' else None
    done = preload(source)

    assert done.code == 4
    assert "was changed while it was brought" in done.termination
    assert "weights" not in preload.left


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    for name, content in CONTENT.items():
        path = tmp_path / "claim" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "claim" / "lost+found").mkdir()
    return tmp_path / "claim"


@pytest.mark.parametrize("scheme", ["file://", ""])
def test_a_mounted_folder_is_a_source(preload: Preload, claim: Path, scheme: str) -> None:
    done = preload(f"{scheme}{claim}", f"--digest={folder_digest(CONTENT)}")

    assert done.code == 0, done.out
    assert (preload.destination / "1" / "model.onnx").read_bytes() == CONTENT["1/model.onnx"]


def test_a_link_in_a_folder_is_refused(preload: Preload, claim: Path) -> None:
    (claim / "passwd").symlink_to("/etc/passwd")
    done = preload(f"file://{claim}")

    assert done.code == 1
    assert "'passwd' is a symbolic link" in done.termination
    assert preload.left == []


def test_a_run_killed_while_it_names_the_files_is_finished_by_the_next(preload: Preload, claim: Path) -> None:
    staged = preload.destination / ".tidewaiter-preload" / "files"
    staged.mkdir(parents=True)
    (preload.destination / "1").mkdir()
    (preload.destination / "1" / "model.onnx").write_bytes(CONTENT["1/model.onnx"])
    for name in ("config.pbtxt", "größe & %41+x.txt"):
        (staged / name).write_bytes(CONTENT[name])
    (staged.parent / "naming").write_text(json.dumps(["1", "config.pbtxt", "größe & %41+x.txt"]))
    done = preload(f"file://{claim}", f"--digest={folder_digest(CONTENT)}")

    assert done.code == 0, done.out
    assert "was there already" in done.out
    assert ".tidewaiter-preload" not in preload.left


def test_a_destination_that_is_not_writable_is_told(preload: Preload, claim: Path) -> None:
    preload.destination = Path("/proc/models")
    done = preload(f"file://{claim}")

    assert done.code == 4
    assert "cannot be written" in done.termination
    assert f"writable for uid {os.getuid()}" in done.termination


def test_without_a_digest_the_same_names_and_sizes_are_not_brought_again(preload: Preload, claim: Path) -> None:
    preload(f"file://{claim}")
    done = preload(f"file://{claim}")
    (claim / "more").write_bytes(b"x")
    other = preload(f"file://{claim}")

    assert (done.code, other.code) == (0, 1)
    assert "was there already: 3 files; NOT VERIFIED" in done.out
    assert "holds other files than" in other.termination
