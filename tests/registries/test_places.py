from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registries.addresses import refused_address, refused_host
from registries.places import URL, Place, manifest_path, url_path

NAMES = st.text(st.one_of(st.sampled_from("./%\\\x00 a"), st.characters()), max_size=20)


@pytest.mark.parametrize(
    ("model", "version", "path"),
    [
        ("bert", "1", "bert/1/manifest.json"),
        ("org/name", "v1.0", "org/name/v1.0/manifest.json"),
        ("größe", "百", "größe/百/manifest.json"),
        ("bert", "../x", "bert/..%2Fx/manifest.json"),
        ("bert", "..", "bert/%2E%2E/manifest.json"),
        ("../../etc", "1", "%2E%2E/%2E%2E/etc/1/manifest.json"),
        ("a\\b", "50%", "a%5Cb/50%25/manifest.json"),
        ("a\nb", "\x00", "a%0Ab/%00/manifest.json"),
    ],
)
def test_a_manifest_lies_below_the_names_of_model_and_version(model: str, version: str, path: str) -> None:
    found = manifest_path(model, version)
    assert found is not None
    assert "/".join(found) == path


@pytest.mark.parametrize(
    ("model", "version"),
    [("", "1"), ("a", ""), ("/etc", "1"), ("a//b", "1"), ("a/", "1"), ("a" * 256, "1"), ("ü" * 128, "1"), ("a/" * 450 + "a", "1"), ("\ud800", "1")],
)  # fmt: skip
def test_names_that_no_path_can_have_have_none(model: str, version: str) -> None:
    assert manifest_path(model, version) is None


@given(NAMES, NAMES)
def test_no_path_leaves_its_folder(model: str, version: str) -> None:
    path = manifest_path(model, version)
    if path is None:
        return
    assert not {"", ".", ".."} & set(path)
    assert not any("/" in one or "\\" in one or "\x00" in one for one in path)
    # Not even for a server that decodes once more than it should.
    assert PurePosixPath("/root", unquote(url_path(path))).is_relative_to("/root")
    assert ".." not in unquote(url_path(path)).split("/")


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_different_names_have_different_paths(one: tuple[str, str], other: tuple[str, str]) -> None:
    paths = [manifest_path(*one), manifest_path(*other)]
    if one != other and None not in paths:
        # Only where a model's name ends and its version begins is not in the path; the manifest itself says it.
        assert paths[0] != paths[1] or "/".join(one) == "/".join(other)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("registry", "this is not a URL"),
        ("https://", "this is not a URL"),
        ("https://user:secret@host", "a URL holds no credentials"),
        ("https://host/?a=b", "a query or fragment has no meaning"),
        ("https://[::1", "this is not a URL"),
        ("https://host:port", "this is not a URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_a_reason(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        URL.read(text)


def test_places_are_read_by_their_type() -> None:
    assert Place.read("s3", "s3://models/a/b/") == Place("models", "/a/b")
    assert Place.read("gs", "gs://models") == Place("models", "")
    assert Place.read("https", "https://host:8443/a") == Place("", "/a", "host", "https://host:8443")
    assert Place.read("folder", "file:///data/models") == Place("", "/data/models")
    for kind, text in (
        ("s3", "gs://models"),
        ("s3", "s3://Models_/x"),
        ("https", "ftp://host"),
        ("folder", "s3://models"),
    ):
        with pytest.raises(ValueError, match=r"write|no bucket|a folder is"):
            Place.read(kind, text)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.170.23", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
     "100.100.100.200", "192.0.0.192", "168.63.129.16", "0.0.0.0", "::", "::ffff:169.254.169.254",
     "::169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "224.0.0.1", "ff02::1", "no address"],
)  # fmt: skip
def test_metadata_and_link_local_addresses_are_refused_in_every_form(address: str) -> None:
    assert refused_address(address)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "100.100.100.201", "100.64.0.1", "52.1.2.3", "2001:db8::1",
     "fd00::1", "::ffff:10.0.0.1", "64:ff9b::808:808"],
)  # fmt: skip
def test_other_addresses_private_ones_too_may_be_asked(address: str) -> None:
    assert not refused_address(address)


@pytest.mark.parametrize(
    "host",
    ["metadata.google.internal", "METADATA.google.internal.", "metadata", "metadata.goog", "instance-data",
     "169.254.169.254", "fe80::1", "::ffff:169.254.169.254", ""],
)  # fmt: skip
def test_metadata_hosts_are_refused_before_anything_is_resolved(host: str) -> None:
    assert refused_host(host)


@pytest.mark.parametrize("host", ["registry.example.com", "mlflow", "10.0.0.1", "metadata.example.com"])
def test_other_hosts_may_be_asked(host: str) -> None:
    assert refused_host(host) == ""
