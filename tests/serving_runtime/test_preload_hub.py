"""Preloading from the Hugging Face hub, as a server that speaks its documented interface plays it.

What is brought is read with the hub's own library, offline, as model servers do.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serving_runtime.model_server import Fault, ModelServer, model_server
from tests.serving_runtime.preloading import Preload, folder_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = "model.safetensors"
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "onnx/model quantized.onnx": b"onnx",
    LARGE: b"weights" * 1000,
    "copy.safetensors": b"weights" * 1000,
}
BESIDE = {".gitattributes": b"*.safetensors filter=lfs"}
ROOT = "models--org--bert"


@dataclass
class Hub:
    """The hub, and the server of its large files."""

    api: ModelServer
    cdn: ModelServer
    preload: Preload

    def publish(self, files: dict[str, bytes]) -> None:
        self.api.publish_on_hub("org/bert", COMMIT, files, (LARGE, "copy.safetensors"), self.cdn)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with model_server() as api, model_server() as cdn:
        variables = {"HF_ENDPOINT": api.url, "HF_TOKEN": "hf_topsecret"}
        running = Hub(api, cdn, Preload(tmp_path, tmp_path / "models", variables))
        running.publish(FILES | BESIDE)
        yield running


def _with_the_hubs_library(hub: Hub, code: str, **variables: str) -> str:
    environment = {"HF_HUB_CACHE": str(hub.preload.destination), "HF_ENDPOINT": hub.api.url, **variables}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_hubs_own_library_reads_our_server(hub: Hub) -> None:
    code = (
        "import huggingface_hub, json; found = huggingface_hub.HfApi().model_info('org/bert', files_metadata=True);"
        "print(json.dumps([found.sha, {one.rfilename: [one.size, one.lfs and one.lfs.sha256]"
        " for one in found.siblings}]))"
    )
    commit, files = json.loads(_with_the_hubs_library(hub, code))

    assert commit == COMMIT
    assert files["config.json"] == [len(FILES["config.json"]), None]
    assert files[LARGE] == [7000, hashlib.sha256(FILES[LARGE]).hexdigest()]


@pytest.mark.parametrize("revision", ["", "@v1", f"@{COMMIT}"])
def test_the_hubs_own_library_finds_the_model_offline(hub: Hub, revision: str) -> None:
    done = hub.preload(f"hf://org/bert{revision}", "--layout=hub", f"--digest={folder_digest(FILES)}")
    assert done.code == 0, done.out
    for asked in ("None", repr(revision[1:] or "main")):
        code = (
            "import huggingface_hub, pathlib;"
            f"root = pathlib.Path(huggingface_hub.snapshot_download('org/bert', revision={asked}));"
            "print({str(one.relative_to(root)): one.read_bytes() for one in root.rglob('*') if one.is_file()})"
        )
        read = _with_the_hubs_library(hub, code, HF_HUB_OFFLINE="1")

        assert dict(eval(read)) == FILES  # noqa: S307  # what our own line has printed


def test_files_of_a_snapshot_are_relative_links_to_blobs(hub: Hub) -> None:
    hub.preload("hf://org/bert@v1", "--layout=hub")
    root = hub.preload.destination / ROOT
    blob = hashlib.sha256(FILES[LARGE]).hexdigest()

    assert (root / "snapshots" / COMMIT / LARGE).readlink() == Path(f"../../blobs/{blob}")
    assert (root / "snapshots" / COMMIT / "onnx" / "model quantized.onnx").read_bytes() == b"onnx"
    assert sorted(one.name for one in (root / "refs").iterdir()) == ["main", "v1"]
    assert {(root / "refs" / one).read_text() for one in ("main", "v1")} == {COMMIT}
    assert [one.name for one in hub.preload.destination.iterdir()] == [ROOT]


def test_the_other_layout_has_plain_files(hub: Hub) -> None:
    done = hub.preload("hf://org/bert", f"--digest={folder_digest(FILES)}")

    assert done.code == 0, done.out
    assert {name: (hub.preload.destination / name).read_bytes() for name in FILES} == FILES


def test_a_model_that_is_there_needs_no_hub(hub: Hub) -> None:
    digest = f"--digest={folder_digest(FILES)}"
    hub.preload("hf://org/bert", "--layout=hub", digest)
    hub.api.fault = lambda _: Fault(status=404)
    done = hub.preload("hf://org/bert", "--layout=hub", digest)

    assert done.code == 0, done.out
    assert "was there already" in done.out


def test_a_link_that_leads_elsewhere_is_not_taken_for_the_model(hub: Hub, tmp_path: Path) -> None:
    digest = f"--digest={folder_digest(FILES)}"
    hub.preload("hf://org/bert", "--layout=hub", digest)
    link = hub.preload.destination / ROOT / "snapshots" / COMMIT / "config.json"
    link.unlink()
    (tmp_path / "outside").write_bytes(FILES["config.json"])
    link.symlink_to(tmp_path / "outside")
    done = hub.preload("hf://org/bert", "--layout=hub", digest)

    assert done.code == 1
    assert "does not lead to a blob" in done.termination


def test_a_wrong_digest_is_refused_before_the_large_files_are_brought(hub: Hub) -> None:
    done = hub.preload("hf://org/bert", "--layout=hub", f"--digest=sha256:{'0' * 64}")

    assert done.code == 1
    assert f"found {folder_digest(FILES)}" in done.termination
    assert hub.cdn.asked == []
    assert hub.preload.left == []


def test_bytes_that_are_not_those_of_the_listing_are_refused_without_a_digest_too(hub: Hub) -> None:
    for path in hub.cdn.files:
        hub.cdn.files[path] = b"WEIGHTS" * 1000
    done = hub.preload("hf://org/bert")

    assert done.code == 1
    assert "sent other bytes than it lists" in done.termination
    assert hub.preload.left == []


def test_the_token_goes_to_the_hub_alone_and_is_never_told(hub: Hub) -> None:
    done = hub.preload("hf://org/bert")

    assert {one.headers.get("authorization") for one in hub.api.asked} == {"Bearer hf_topsecret"}
    assert {one.headers.get("authorization") for one in hub.cdn.asked} == {None}
    assert "secret" not in done.out


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (401, "RepoNotFound", "401 RepoNotFound: the credential does not permit it, or there is no such thing"),
        (403, "GatedRepo", "403 GatedRepo: the credential does not permit it"),
        (404, "RevisionNotFound", "404 RevisionNotFound: there is nothing of that name"),
    ],
)
def test_what_the_hub_refuses_is_told_at_once(hub: Hub, status: int, code: str, told: str) -> None:
    hub.api.fault = lambda _: Fault(status=status, headers={"X-Error-Code": code})
    done = hub.preload("hf://org/bert")

    assert done.code == 2
    assert f"hf://org/bert: the server answered {told}" in done.termination
    assert len(hub.api.asked) == 1
    assert hub.preload.left == []


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "a//b", ".tidewaiter-preload/lock", "a\\b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(hub: Hub, name: str) -> None:
    hub.publish({**FILES, name: b"x"})
    done = hub.preload("hf://org/bert")

    assert done.code == 1
    assert f"{name!r}" in done.termination
    assert hub.preload.left == []


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"[]", b"{}", b'{"sha": "../../x", "siblings": []}', b'{"sha": "%s", "siblings": [1]}'],
)
def test_an_answer_that_is_not_the_hubs_is_refused_with_a_sentence(hub: Hub, answer: bytes) -> None:
    hub.api.files["/api/models/org/bert/revision/main"] = answer.replace(b"%s", COMMIT.encode())
    done = hub.preload("hf://org/bert")

    assert done.code in (1, 2)
    assert done.termination.startswith("tidewaiter-runtime preload: hf://org/bert: ")
    assert "Traceback" not in done.out


def test_the_hubs_layout_is_for_the_hub(hub: Hub) -> None:
    done = hub.preload("s3://models/bert", "--layout=hub")

    assert done.code == 2
    assert "is not of the hub; use --layout=files" in done.termination


def test_files_that_the_hub_gives_one_blob_keep_what_was_verified(hub: Hub) -> None:
    files = {"config.json": b"{}", "zz.json": b"[]"}
    hub.api.publish_on_hub("org/bert", COMMIT, files, (), hub.cdn)
    listed = f"/api/models/org/bert/revision/{COMMIT}"
    listing = json.loads(hub.api.files[listed])
    for one in listing["siblings"]:
        one["blobId"] = "a" * 40
    hub.api.files.update(
        {path: json.dumps(listing).encode() for path in hub.api.files if path.startswith("/api/models")}
    )

    done = hub.preload(f"hf://org/bert@{COMMIT}", "--layout=hub", f"--digest={folder_digest(files)}")

    snapshot = hub.preload.destination / ROOT / "snapshots" / COMMIT
    assert done.code == 0, done.out
    assert {one.name: one.read_bytes() for one in snapshot.iterdir()} == files
