from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.image_reference import ImageReference, parse_image

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", ("docker.io", "library/nginx", "", "")),
        ("nginx:1.27", ("docker.io", "library/nginx", "1.27", "")),
        ("acme/web", ("docker.io", "acme/web", "", "")),
        ("index.docker.io/nginx", ("docker.io", "library/nginx", "", "")),
        ("docker.io/acme/web", ("docker.io", "acme/web", "", "")),
        ("registry:443/img", ("registry:443", "img", "", "")),
        ("registry:443/img:v1", ("registry:443", "img", "v1", "")),
        ("localhost/img", ("localhost", "img", "", "")),
        ("ghcr.io/a/b/c:v@sha256:" + HEX, ("ghcr.io", "a/b/c", "v", f"sha256:{HEX}")),
        ("GHCR.IO/a", ("ghcr.io", "a", "", "")),
        ("ACME/web", ("acme", "web", "", "")),
        ("[::1]:5000/a", ("[::1]:5000", "a", "", "")),
        ("a__b/c-d.e_f", ("docker.io", "a__b/c-d.e_f", "", "")),
        ("x@sha512:" + "b" * 128, ("docker.io", "library/x", "", "sha512:" + "b" * 128)),
    ],
)
def test_a_reference_is_read_as_the_runtimes_read_it(text: str, expected: tuple[str, str, str, str]) -> None:
    assert parse_image(text) == ImageReference(*expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Nginx",
        "acme/Web",
        "acme/web ",
        " acme/web",
        "acme/web\n",
        "acme//web",
        "acme/web:",
        "acme/web:a:b",
        "acme/web:-tag",
        "acme/web:" + "t" * 129,
        "аcme/web",
        "acme/wеb",
        "ghcr.iо/acme/web",
        "acme/web@sha256:" + "a" * 63,
        "acme/web@sha256:" + "A" * 64,
        "acme/web@md5:" + "a" * 32,
        "acme/web@sha256",
        "https://ghcr.io/acme/web",
        "acme/../web",
        "a" * 513,
        "{{ image }}",
    ],
)
def test_what_no_runtime_would_accept_is_no_reference(text: str) -> None:
    assert parse_image(text) is None


def test_only_a_digest_pins() -> None:
    assert [parse_image(text).pinned for text in ("a", "a:v1", f"a@sha256:{HEX}")] == [False, False, True]  # type: ignore[union-attr]  # they parse


@given(st.text(alphabet="aA0./:@-_ é", max_size=40))
def test_any_text_is_a_whole_reference_or_none(text: str) -> None:
    image = parse_image(text)
    if image is not None:
        assert image.registry
        assert image.repository == image.repository.lower()
        assert parse_image(f"{image.registry}/{image.repository}") is not None
