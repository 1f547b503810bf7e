"""Folders, ConfigMaps and bundles; and which bundles are not taken."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from admission.validator import PolicyError
from tests.rego.opa import build_bundle, write_keys
from tests.rego.policies import SAYS, rule
from webhook.rego.bundle import bundle_files
from webhook.rego.sources import (
    BundleSource,
    FolderSource,
    built_in_policies,
    policies_of_config_map,
    policy_source,
)

DATA = b'a: {z: 1, "\xc3\xbc<&>": [1.50, null, true, "x"], b: -2e3}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "policies"
    (made / "team").mkdir(parents=True)
    (made / "says.rego").write_bytes(rule("says", SAYS))
    (made / "team" / "more.rego").write_bytes(rule("more", SAYS))
    (made / "team" / "data.yaml").write_bytes(DATA)
    return made


def test_a_folder_is_read_with_those_below_it(folder: Path) -> None:
    found = FolderSource(folder).read()

    assert set(found.rules) == {"says", "more"}
    assert found.data["team"]["a"]["z"] == 1


def test_a_mounted_config_map_is_read_once(tmp_path: Path) -> None:
    """The kubelet keeps the files in a hidden folder, behind links."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "says.rego").write_bytes(rule("says", SAYS))
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "says.rego").symlink_to("..data/says.rego")
    source = FolderSource(tmp_path)
    before = source.stamp()

    assert set(source.read().rules) == {"says"}
    (tmp_path / "..2027").mkdir()
    (tmp_path / "..2027" / "says.rego").write_bytes(rule("says", SAYS) + b"\n")
    (tmp_path / "..new").symlink_to("..2027")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert source.stamp() != before


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is no folder; give one of"):
        FolderSource(tmp_path / "nowhere").read()


def test_a_config_map_is_the_same_set_as_its_folder(folder: Path) -> None:
    data = {
        path.relative_to(folder).as_posix().replace("/", "__"): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.*")
    }

    assert policies_of_config_map("ns/name", data).revision == FolderSource(folder).read().revision


def test_the_shipped_policies_are_read() -> None:
    assert set(policy_source(None).read().rules) == {
        "allowed-runtimes", "host-access", "image-registry", "memory-limits",
    }  # fmt: skip


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_signed_bundle_of_opa_is_taken(folder: Path, tmp_path: Path, algorithm: str) -> None:
    private, public = write_keys(tmp_path, "ours", algorithm)
    bundle = build_bundle(folder, tmp_path / "b.tar.gz", private, algorithm)

    found = BundleSource(bundle, public).read()

    assert set(found.rules) == {"says", "more"}
    assert found.data == FolderSource(folder).read().data


def test_the_shipped_policies_are_taken_as_a_signed_bundle(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "ours")
    bundle = build_bundle(built_in_policies(), tmp_path / "b.tar.gz", private)

    assert BundleSource(bundle, public).read().rules.keys() == policy_source(None).read().rules.keys()


def repacked(bundle: Path, **changed: bytes | None) -> Path:
    """The bundle with files changed, added or (None) left out; a key has __ for / and _dot_ for its dot."""
    files = bundle_files("test", bundle.read_bytes())
    for key, content in changed.items():
        name = key.replace("__", "/").replace("_dot_", ".")
        files.pop(name, None)
        if content is not None:
            files[name] = content
    with tarfile.open(bundle, "w:gz") as archive:
        for name, content in files.items():
            about = tarfile.TarInfo(f"/{name}")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return bundle


def test_data_that_are_written_another_way_keep_their_signature(folder: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "ours")
    bundle = build_bundle(folder, tmp_path / "b.tar.gz", private)
    data = json.loads(bundle_files("test", bundle.read_bytes())["data.json"])

    assert BundleSource(repacked(bundle, data_dot_json=json.dumps(data, indent=3).encode()), public).read().data == data


REFUSED = {
    "a changed rule": ({"says_dot_rego": rule("says", SAYS) + b"# more"}, "says.rego was changed after it was signed"),
    "changed data": ({"data_dot_json": b"{}"}, "data.json was changed after it was signed"),
    "a file more": ({"evil_dot_rego": b""}, "evil.rego is not covered by its signature"),
    "a file less": ({"says_dot_rego": None}, "says.rego is signed and missing"),
    "no signature": ({"_dot_signatures_dot_json": None}, "it is not signed"),
    "a signature that is none": ({"_dot_signatures_dot_json": b"{}"}, "must hold one JSON Web Token"),
    "a token of no algorithm": (
        {"_dot_signatures_dot_json": b'{"signatures": ["eyJhbGciOiJub25lIn0.e30."]}'},
        "its signature is none; the public key takes RS256",
    ),
}


@pytest.mark.parametrize(("changed", "sentence"), REFUSED.values(), ids=list(REFUSED))
def test_a_bundle_that_was_tampered_with_is_refused(
    folder: Path, tmp_path: Path, changed: dict[str, bytes | None], sentence: str
) -> None:
    private, public = write_keys(tmp_path, "ours")
    bundle = build_bundle(folder, tmp_path / "b.tar.gz", private)
    names = bundle_files("test", bundle.read_bytes())
    moved = {
        next((name.replace("/", "__").replace(".", "_dot_") for name in names if name.endswith(key.replace("_dot_", ".")
         ) and not key.startswith("_dot_")), key): content
        for key, content in changed.items()
    }  # fmt: skip

    with pytest.raises(PolicyError, match=sentence):
        BundleSource(repacked(bundle, **moved), public).read()


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
def test_a_bundle_of_somebody_else_is_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    private, _ = write_keys(tmp_path, "theirs")
    _, public = write_keys(tmp_path, "ours", kind)
    bundle = build_bundle(folder, tmp_path / "b.tar.gz", private)

    with pytest.raises(PolicyError, match="its signature"):
        BundleSource(bundle, public).read()


def test_a_key_that_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "ours")
    bundle = build_bundle(folder, tmp_path / "b.tar.gz", private)
    public.write_text("no key")

    with pytest.raises(PolicyError, match="the public key is no PEM file"):
        BundleSource(bundle, public).read()


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.tar.gz").write_bytes(b"no bundle")

    with pytest.raises(PolicyError, match=r"is no \.tar\.gz"):
        BundleSource(tmp_path / "b.tar.gz").read()


def test_half_a_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    bundle = build_bundle(folder, tmp_path / "b.tar.gz")
    content = bundle.read_bytes()
    bundle.write_bytes(content[: len(content) // 2])

    with pytest.raises(PolicyError, match=r"is no \.tar\.gz"):
        BundleSource(bundle).read()


def test_a_bundle_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        about = tarfile.TarInfo("data.json")
        about.size = 40 << 20
        archive.addfile(about, io.BytesIO(bytes(about.size)))

    with pytest.raises(PolicyError, match="is too big"):
        BundleSource(tmp_path / "b.tar.gz").read()


def test_a_bundle_that_is_replaced_has_another_stamp(folder: Path, tmp_path: Path) -> None:
    source = BundleSource(build_bundle(folder, tmp_path / "b.tar.gz"))
    before = source.stamp()
    shutil.copy(tmp_path / "b.tar.gz", tmp_path / "c")
    (tmp_path / "c").rename(tmp_path / "b.tar.gz")

    assert source.stamp() != before
    (tmp_path / "b.tar.gz").unlink()
    assert source.stamp() != before
