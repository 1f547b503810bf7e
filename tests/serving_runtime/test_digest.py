"""What the digest of a model is, and what has none."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import model_signing.hashing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving_runtime.conftest import SOURCES, Runtime


def _digest(runtime: Runtime, path: Path) -> str:
    ended = runtime("digest", path)
    assert ended.code == 0, ended.err
    return ended.out.strip()


def test_the_digest_of_a_folder_is_reproduced_with_find_sort_and_sha256sum(runtime: Runtime, model: Path) -> None:
    script = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    printed = subprocess.run(["sh", "-c", script], cwd=model, capture_output=True, text=True, check=True).stdout

    assert _digest(runtime, model) == f"sha256:{printed.split()[0]}"


def test_the_digest_of_one_file_is_its_own(runtime: Runtime, model: Path) -> None:
    file = model / "1" / "model.onnx"

    assert _digest(runtime, file) == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def test_the_manifest_is_what_the_digest_is_of(runtime: Runtime, model: Path) -> None:
    manifest = runtime("digest", model, "--format", "manifest").out

    assert _digest(runtime, model) == f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    assert [line.split("  ")[1] for line in manifest.splitlines()] == sorted(
        [".hidden", "1.txt", "1/model.onnx", "config.pbtxt", "größe.json"], key=str.encode
    )


def test_the_root_of_an_openssf_signature_is_printed_beside_it(runtime: Runtime, model: Path) -> None:
    document = json.loads(runtime("digest", model, "--format", "json").out)
    descriptors = model_signing.hashing.hash(model).resource_descriptors()
    root = hashlib.sha256(b"".join(one.digest.digest_value for one in descriptors)).hexdigest()

    assert document["omsRootDigest"] == f"sha256:{root}"
    assert document["digest"] != document["omsRootDigest"]
    assert {one["name"]: one["size"] for one in document["files"]}["1/model.onnx"] == 256 * 5000


def test_a_renamed_file_changes_our_digest_but_not_the_openssf_root(runtime: Runtime, model: Path) -> None:
    before = json.loads(runtime("digest", model, "--format", "json").out)
    (model / "config.pbtxt").rename(model / "config.py")
    after = json.loads(runtime("digest", model, "--format", "json").out)

    assert before["omsRootDigest"] == after["omsRootDigest"]
    assert before["digest"] != after["digest"]


def test_two_files_with_their_contents_swapped_are_another_model(runtime: Runtime, model: Path) -> None:
    before = _digest(runtime, model)
    first, second = (model / "1.txt").read_bytes(), (model / "config.pbtxt").read_bytes()
    (model / "1.txt").write_bytes(second)
    (model / "config.pbtxt").write_bytes(first)

    assert _digest(runtime, model) != before


@pytest.mark.parametrize(
    "name",
    [".git/HEAD", ".gitattributes", ".gitignore", ".github/x", ".cache/huggingface/a", "lost+found/b", "model.sig"],
)
def test_files_of_the_stated_list_are_no_part_of_a_model(runtime: Runtime, model: Path, name: str) -> None:
    before = _digest(runtime, model)
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).write_text("anything")

    assert _digest(runtime, model) == before


@pytest.mark.parametrize("name", ["1/.gitignore", ".gitx", "1/model.sig", ".cache/other", "sub/.git/HEAD"])
def test_files_with_such_names_elsewhere_are_part_of_it(runtime: Runtime, model: Path, name: str) -> None:
    before = _digest(runtime, model)
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).write_text("anything")

    assert _digest(runtime, model) != before


def test_empty_folders_times_and_permissions_do_not_matter(runtime: Runtime, model: Path) -> None:
    before = _digest(runtime, model)
    (model / "empty" / "deeper").mkdir(parents=True)
    (model / "1.txt").chmod(0o700)
    os.utime(model / "1.txt", (1, 1))

    assert _digest(runtime, model) == before


def test_the_order_in_which_workers_finish_does_not_matter(runtime: Runtime, model: Path) -> None:
    results = {runtime("digest", model, "--workers", str(workers)).out for workers in (1, 2, 8)}

    assert len(results) == 1


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/etc/passwd", "a symbolic link to '/etc/passwd'"),
        ("1.txt", "a symbolic link to '1.txt'"),
        ("nowhere", "nowhere"),
    ],
)
def test_a_symbolic_link_is_refused_wherever_it_leads(runtime: Runtime, model: Path, target: str, told: str) -> None:
    (model / "weights.bin").symlink_to(target)
    ended = runtime("digest", model)

    assert ended.code == 1
    assert "'weights.bin'" in ended.err
    assert told in ended.err
    assert ended.termination == ended.err.rstrip("\n")


def test_a_link_to_a_folder_is_refused_and_not_followed(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("x")
    (model / "extra").symlink_to(tmp_path / "outside", target_is_directory=True)
    ended = runtime("digest", model)

    assert ended.code == 1
    assert "'extra' is a symbolic link" in ended.err
    assert "secret" not in ended.err


def test_a_path_that_is_itself_a_link_is_refused(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(model)

    assert runtime("digest", tmp_path / "latest").code == 1


def test_a_pipe_is_refused_without_waiting_for_a_writer(runtime: Runtime, model: Path) -> None:
    os.mkfifo(model / "pipe")

    assert "'pipe' is a socket, a pipe or a device" in runtime("digest", model).err


def test_a_socket_is_refused(runtime: Runtime, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)  # a socket's path has a small limit
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")

        assert "'s' is a socket, a pipe or a device" in runtime("digest", model).err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"gro\xcc\x88\xc3\x9fe", "normalization form C"),
        (b"bad\xff", "not UTF-8"),
        (b"two\nlines", "control character"),
        (b"back\\slash", "backslash"),
    ],
)
def test_a_name_that_two_machines_may_see_differently_is_refused(
    runtime: Runtime, model: Path, name: bytes, told: str
) -> None:
    Path(os.fsdecode(os.fsencode(model) + b"/" + name)).write_text("x")
    ended = runtime("digest", model)

    assert ended.code == 1
    assert told in ended.err


def test_every_such_name_is_told_at_once(runtime: Runtime, model: Path) -> None:
    (model / "a").symlink_to("x")
    (model / "1" / "b").symlink_to("y")
    ended = runtime("digest", model)

    assert "'a'" in ended.err
    assert "'1/b'" in ended.err


def test_a_folder_without_files_is_no_model(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "mount" / "lost+found").mkdir(parents=True)
    ended = runtime("digest", tmp_path / "mount")

    assert ended.code == 1
    assert "holds no files" in ended.err


def test_a_missing_path_is_bad_input(runtime: Runtime, tmp_path: Path) -> None:
    ended = runtime("digest", tmp_path / "nowhere")

    assert ended.code == 2
    assert "there is no such file or folder" in ended.err


def test_storage_that_fails_is_told_apart_from_a_wrong_model(runtime: Runtime) -> None:
    ended = runtime("digest", "/proc/self/mem")  # its first page cannot be read

    assert ended.code == 4
    assert "/proc/self/mem cannot be read: Input/output error" in ended.err


def test_a_file_that_vanishes_while_the_model_is_listed_is_no_missing_volume(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidewaiter_runtime.refusals import ModelRefused
    from tidewaiter_runtime.verification import model_files

    real = os.scandir

    def scandir(folder: Path) -> object:
        """A folder that is gone by the time it is opened."""
        if Path(folder).name == "1":
            (model / "1" / "model.onnx").unlink()
            (model / "1").rmdir()
        return real(folder)

    monkeypatch.setattr(model_files.os, "scandir", scandir)

    with pytest.raises(ModelRefused, match="1 was removed while the model was read"):
        model_files.list_model_files(model)


def test_a_file_that_grows_while_it_is_read_is_refused(model: Path) -> None:
    from tidewaiter_runtime.refusals import ModelRefused
    from tidewaiter_runtime.verification.manifest import hash_file
    from tidewaiter_runtime.verification.model_files import ModelFile

    seen_earlier = ModelFile("1.txt", model / "1.txt", 3)

    with pytest.raises(ModelRefused, match="expected 3 bytes, found 7"):
        hash_file(seen_earlier)


def test_a_file_replaced_by_a_link_between_listing_and_reading_is_not_followed(model: Path) -> None:
    from tidewaiter_runtime.refusals import Unreadable
    from tidewaiter_runtime.verification.manifest import hash_file
    from tidewaiter_runtime.verification.model_files import ModelFile

    (model / "late").symlink_to(model / "1.txt")

    with pytest.raises(Unreadable, match="late cannot be read"):
        hash_file(ModelFile("late", model / "late", 7))


def test_memory_stays_bounded_for_a_file_much_larger_than_its_bound(tmp_path: Path) -> None:
    large = tmp_path / "weights"
    with large.open("wb") as stream:
        stream.truncate(1 << 30)  # a gibibyte with no blocks on disk
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20));"
        "from tidewaiter_runtime.cli import main; main(['digest', sys.argv[1]])"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run(
        [sys.executable, "-c", limited, str(large)], env=environment, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "sha256:49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14"


_NAMES = st.text(st.sampled_from("ab.-/é"), min_size=1, max_size=6).filter(
    lambda name: all(part not in ("", ".", "..") for part in name.split("/"))
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(_NAMES, st.binary(max_size=3), min_size=2, max_size=6), st.data())
def test_different_models_have_different_digests(files: dict[str, bytes], data: st.DataObject) -> None:
    from tidewaiter_runtime.verification.manifest import Manifest

    def digest(content: dict[str, bytes]) -> str:
        return Manifest({name: hashlib.sha256(one).hexdigest() for name, one in content.items()}, {}).digest

    name = data.draw(st.sampled_from(sorted(files)))
    kind = data.draw(st.sampled_from(["byte", "name", "gone"]))
    other = dict(files)
    if kind == "byte":
        other[name] = files[name] + b"x"
    else:
        content = other.pop(name)
        if kind == "name":
            other[name + "z"] = content

    assert digest(other) != digest(files)
