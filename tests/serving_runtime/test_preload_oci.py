"""Models in an image registry: artifacts, model packs and modelcars, from the distribution project's own server."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tidewaiter_runtime.preload.oci_artifact import chosen, layers_of
from tidewaiter_runtime.preload.oci_registry import Document
from tidewaiter_runtime.refusals import BadInput, ModelRefused

from tests.controlplane.certificates import Authority
from tests.serving_runtime.image_registry import (
    EMPTY_CONFIG,
    IMAGE_CONFIG,
    INDEX,
    MANIFEST,
    TAR_GZIP,
    TITLE,
    ImageRegistry,
    image_registry,
    special,
    tar,
    token_service,
)
from tests.serving_runtime.model_server import Asked, Fault, model_server
from tests.serving_runtime.preloading import Done, Preload, folder_digest, sha256

WEIGHTS = random.Random(5).randbytes(40 << 20)  # noqa: S311  # the same bytes each time; more than one part
FILES = {"config.json": b"{}", "1/weights": b"weights" * 5000}
OCTETS = "application/octet-stream"
PACK = "application/vnd.cncf.model"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[ImageRegistry]:
    folder = tmp_path_factory.mktemp("images") / "storage"
    folder.mkdir()
    with token_service(authority) as tokens, image_registry(folder, authority, tokens) as server:
        yield server


@pytest.fixture
def preload(tmp_path: Path, registry: ImageRegistry, authority: Authority) -> Preload:
    registry.tokens.asked.clear()
    credential = base64.b64encode(f"{registry.tokens.user}:{registry.tokens.password}".encode()).decode()
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {f"https://{registry.host}/v1/": {"auth": credential}}}))
    variables = {"SSL_CERT_FILE": str(authority.pair.certificate), "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    return Preload(tmp_path, tmp_path / "models", variables)


def _brought(preload: Preload) -> dict[str, bytes]:
    found = [one for one in preload.destination.rglob("*") if one.is_file()]
    return {str(one.relative_to(preload.destination)): one.read_bytes() for one in found}


def _artifact(registry: ImageRegistry, repository: str, files: dict[str, bytes], tag: str = "") -> str:
    return registry.push(repository, [(content, OCTETS, {TITLE: name}) for name, content in files.items()], tag)


def test_an_artifact_is_its_named_layers(preload: Preload, registry: ImageRegistry) -> None:
    files = {**FILES, "1/weights": WEIGHTS}
    digest = _artifact(registry, "models/artifact", files)
    done = preload(f"oci://{registry.host}/models/artifact@{digest}", f"--digest={folder_digest(files)}")

    assert done.code == 0, done.out
    assert _brought(preload) == files
    queries = [query for query, _ in registry.tokens.asked]
    assert queries == [{"service": ["models"], "scope": ["repository:models/artifact:pull"]}]


def test_a_tag_is_followed_and_the_digest_decides(preload: Preload, registry: ImageRegistry) -> None:
    _artifact(registry, "models/tagged", FILES, "v1")
    source = f"oci://{registry.host}/models/tagged:v1"

    assert preload(source, f"--digest={folder_digest(FILES)}").code == 0
    _artifact(registry, "models/tagged", {"config.json": b"{}", "1/weights": b"other"}, "v1")
    preload.destination = preload.folder / "second"
    done = preload(source, f"--digest={folder_digest(FILES)}")
    assert done.code == 1
    assert f"expected {folder_digest(FILES)}, found sha256:" in done.termination
    assert preload.left == []


def test_oras_unpacks_a_folder_where_it_is_told_to(preload: Preload, registry: ImageRegistry) -> None:
    folder = tar([special("model", tarfile.DIRTYPE), ("model/config.json", b"{}"), ("model/1/weights", b"w")])
    layers = [
        (folder, TAR_GZIP, {TITLE: "model", "io.deis.oras.content.unpack": "true"}),
        (b"read me", "application/vnd.oci.image.layer.v1.tar", {TITLE: "README"}),
    ]
    digest = registry.push("models/oras", layers)
    expected = {"model/config.json": b"{}", "model/1/weights": b"w", "README": b"read me"}
    done = preload(f"oci://{registry.host}/models/oras@{digest}", f"--digest={folder_digest(expected)}")

    assert done.code == 0, done.out
    assert _brought(preload) == expected


def test_a_model_pack_has_raw_and_packed_layers(preload: Preload, registry: ImageRegistry) -> None:
    path = "org.cncf.model.filepath"
    layers = [
        (b"raw weights", f"{PACK}.weight.v1.raw", {path: "model.safetensors"}),
        (tar([("config.json", b"{}")], packed=False), f"{PACK}.weight.config.v1.tar", {path: "config.json"}),
        (tar([("docs/card.md", b"# card")]), f"{PACK}.doc.v1.tar+gzip", {path: "docs"}),
    ]
    digest = registry.push("models/pack", layers, "", f"{PACK}.config.v1+json", f"{PACK}.manifest.v1+json")
    expected = {"model.safetensors": b"raw weights", "config.json": b"{}", "docs/card.md": b"# card"}
    done = preload(f"oci://{registry.host}/models/pack@{digest}", f"--digest={folder_digest(expected)}")

    assert done.code == 0, done.out
    assert _brought(preload) == expected


def _modelcar(registry: ImageRegistry, repository: str, *layers: bytes) -> str:
    return registry.push(repository, [(one, TAR_GZIP, {}) for one in layers], "", IMAGE_CONFIG)


def test_a_modelcar_is_what_lies_below_models(preload: Preload, registry: ImageRegistry) -> None:
    base = tar([special("bin/sh", tarfile.SYMTYPE, "/bin/busybox"), ("bin/busybox", b"elf"), ("etc/passwd", b"root")])
    first = tar(
        [("models/config.json", b"old"), ("models/gone/a", b"a"), ("models/cleared/b", b"b"), ("models/x", b"x")]
    )
    second = tar(
        [
            *(("models/config.json", b"{}"), ("models/1/weights", b"w"), ("models/.wh.gone", b"")),
            *(("models/cleared/.wh..wh..opq", b""), ("models/cleared/new", b"n"), ("models/.wh.x", b"")),
        ]
    )
    digest = _modelcar(registry, "models/car", base, first, second)
    expected = {"config.json": b"{}", "1/weights": b"w", "cleared/new": b"n"}
    done = preload(f"oci://{registry.host}/models/car@{digest}", f"--digest={folder_digest(expected)}")

    assert done.code == 0, done.out
    assert _brought(preload) == expected


def test_an_index_gives_the_image_of_this_machine(preload: Preload, registry: ImageRegistry) -> None:
    ours = _modelcar(registry, "models/many", tar([("models/m", b"amd64")]))
    theirs = _modelcar(registry, "models/many", tar([("models/m", b"s390x")]))
    entries = [
        {"mediaType": MANIFEST, "digest": theirs, "size": 1, "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": MANIFEST, "digest": ours, "size": 1, "platform": {"os": "linux", "architecture": _here()}},
    ]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    digest = registry.push_manifest("models/many", index)
    done = preload(f"oci://{registry.host}/models/many@{digest}", f"--digest={sha256(b'amd64')}")
    assert done.code == 0, done.out

    alone = registry.push_manifest("models/many", {**index, "manifests": entries[:1]})
    preload.destination = preload.folder / "second"
    other = preload(f"oci://{registry.host}/models/many@{alone}")
    assert other.code == 2
    assert "found linux/s390x; name the manifest by its digest" in other.termination


def _here() -> str:
    import platform

    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def test_a_blob_that_lies_elsewhere_is_fetched_without_the_token(
    preload: Preload, registry: ImageRegistry, authority: Authority
) -> None:
    files = {"config.json": b"{}", "weights": WEIGHTS}
    digest = _artifact(registry, "models/cdn", files)
    with model_server(authority) as cdn:
        for content in files.values():
            name = hashlib.sha256(content).hexdigest()
            cdn.files[f"/docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"] = content
        redirecting = image_registry(registry.storage, authority, registry.tokens, "redirecting", cdn.url)
        with redirecting as front:
            (preload.folder / "auth.json").write_text(
                json.dumps({"auths": {front.host: {"username": "puller", "password": registry.tokens.password}}})
            )
            done = preload(f"oci://{front.host}/models/cdn@{digest}", f"--digest={folder_digest(files)}")

        assert done.code == 0, done.out
        assert len(cdn.asked) >= 3
        assert not any("authorization" in one.headers for one in cdn.asked)


def test_a_token_that_the_registry_does_not_accept_ends_it(preload: Preload, registry: ImageRegistry) -> None:
    digest = _artifact(registry, "models/expired", FILES)
    registry.tokens.lifetime_s = -3600
    try:
        done = preload(f"oci://{registry.host}/models/expired@{digest}")
    finally:
        registry.tokens.lifetime_s = 300

    assert done.code == 2
    assert "401 Unauthorized: the credential does not permit it" in done.termination
    assert len(registry.tokens.asked) == 1


def _no_credential(preload: Preload) -> None:
    del preload.variables["REGISTRY_AUTH_FILE"]


def _wrong_password(preload: Preload) -> None:
    path = Path(preload.variables["REGISTRY_AUTH_FILE"])
    document = json.loads(path.read_text())
    for entry in document["auths"].values():
        entry["auth"] = base64.b64encode(b"puller:hunter2").decode()
    path.write_text(json.dumps(document))


def _broken_file(preload: Preload) -> None:
    Path(preload.variables["REGISTRY_AUTH_FILE"]).write_text("[]")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_no_credential, "it asks for a credential, and none was given"),
        (_wrong_password, "the credential does not permit it"),
        (_broken_file, "is no file of registry credentials"),
    ],
)
def test_a_missing_or_wrong_credential_is_told_at_once(
    preload: Preload, registry: ImageRegistry, change: Callable[[Preload], None], told: str
) -> None:
    change(preload)
    done = preload(f"oci://{registry.host}/models/artifact:v1")

    assert done.code == 2
    assert told in done.termination
    assert "attempts" not in done.termination
    assert "hunter2" not in done.out
    assert len(registry.tokens.asked) <= 1


@pytest.mark.parametrize(
    "reference", ["models/nothing:v1", "models/tagged:nothing", f"models/tagged@sha256:{'0' * 64}"]
)
def test_a_wrong_name_is_told_at_once(preload: Preload, registry: ImageRegistry, reference: str) -> None:
    _artifact(registry, "models/tagged", FILES, "v0")
    done = preload(f"oci://{registry.host}/{reference}")

    assert done.code == 2
    assert "404 Not Found: there is nothing of that name" in done.termination


LINK, HARD, DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([("models/../../outside", b"x")], "is not a path below the model's folder"),
        ([("../models/outside", b"x"), ("models/a", b"x")], None),
        ([("/models/absolute", b"x"), ("models/a", b"x")], None),
        ([("models//twice", b"x")], "is not a path below the model's folder"),
        ([special("models/link", LINK, "/etc/passwd"), ("models/a", b"x")], "is a link to '/etc/passwd'"),
        ([("models/a", b"x"), special("models/hard", HARD, "models/a")], "is a link to 'models/a'"),
        ([special("models/null", DEVICE)], "is a device or a pipe"),
        ([special("models/pipe", tarfile.FIFOTYPE)], "is a device or a pipe"),
        ([special("models", LINK, "/tmp"), ("models/a", b"x")], "/models is no folder"),
        ([("models/.tidewaiter-preload/lock", b"x")], "has the name of the preloader's own folder"),
        ([("models/new\nline", b"x")], "has a control character"),
        ([("etc/passwd", b"root")], "holds no files of a model"),
    ],
)
def test_an_archive_gets_nothing_out_of_its_folder(
    preload: Preload, registry: ImageRegistry, entries: list[Any], told: str | None
) -> None:
    digest = _modelcar(registry, "models/hostile", tar(entries))
    done = preload(f"oci://{registry.host}/models/hostile@{digest}")

    if told is None:  # it lies elsewhere in the image, and is no part of the model
        assert done.code == 0, done.out
        assert preload.left == ["a"]
    else:
        assert done.code == 1, done.out
        assert told in done.termination
        assert preload.left == []
    assert not (preload.folder / "outside").exists()


def _bomb() -> bytes:
    return tar([special("models/zeros", tarfile.REGTYPE, size=1300 << 20)])


def _long_header() -> bytes:
    info = tarfile.TarInfo("models/a")
    info.pax_headers = {"comment": "x" * (2 << 20)}
    return tar([info])


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (_bomb, "an archive of a model does not"),
        (_long_header, "has a header of"),
        (lambda: b"no archive", "is no tar+gzip archive"),
        (lambda: tar([("models/a", b"x" * 5000)])[:-30], "is no tar+gzip archive"),
    ],
)
def test_an_archive_that_is_a_trap_is_refused(
    preload: Preload, registry: ImageRegistry, layer: Callable[[], bytes], told: str
) -> None:
    digest = _modelcar(registry, "models/trap", layer())
    done = preload(f"oci://{registry.host}/models/trap@{digest}")

    assert done.code == 1, done.out
    assert told in done.termination
    assert done.peak < 256 << 20
    assert preload.left == []


def test_a_layer_that_cannot_be_told_is_refused(preload: Preload, registry: ImageRegistry) -> None:
    nameless = registry.push("models/nameless", [(b"x", OCTETS, {})])
    zstd = registry.push("models/zstd", [(b"x", f"{PACK}.weight.v1.tar+zstd", {})], "", f"{PACK}.config.v1+json")
    twice = registry.push("models/twice", [(b"x", OCTETS, {TITLE: "a"}), (b"y", OCTETS, {TITLE: "a"})])
    ends = [
        preload(f"oci://{registry.host}/models/{name}")
        for name in (f"nameless@{nameless}", f"zstd@{zstd}", f"twice@{twice}")
    ]

    assert [one.code for one in ends] == [1, 1, 1]
    assert "is neither an archive nor has the name of a file" in ends[0].termination
    assert "is tar+zstd; expected tar or tar+gzip" in ends[1].termination
    assert "two layers have the name 'a'" in ends[2].termination


@pytest.fixture
def lying(tmp_path: Path, authority: Authority) -> Iterator[tuple[Preload, Any, str]]:
    """A registry that sends other bytes than their digests; no real one does."""
    with model_server(authority) as server:
        layer = {"mediaType": OCTETS, "digest": sha256(b"good"), "size": 4, "annotations": {TITLE: "m"}}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": EMPTY_CONFIG}, "layers": [layer]}
        content = json.dumps(manifest).encode()
        server.files["/v2/models/m/manifests/v1"] = content
        server.files[f"/v2/models/m/manifests/{sha256(b'other')}"] = content
        preload = Preload(tmp_path, tmp_path / "models", {"SSL_CERT_FILE": str(authority.pair.certificate)})
        yield preload, server, f"oci://{server.url.removeprefix('https://')}/models/m"


def test_a_manifest_with_another_digest_is_refused(lying: tuple[Preload, Any, str]) -> None:
    preload, _, source = lying
    done = preload(f"{source}@{sha256(b'other')}")

    assert done.code == 1
    assert f"the registry sent another manifest: expected {sha256(b'other')}, found sha256:" in done.termination


def test_a_blob_with_another_digest_is_refused_also_without_an_approved_one(lying: tuple[Preload, Any, str]) -> None:
    preload, server, source = lying
    server.files[f"/v2/models/m/blobs/{sha256(b'good')}"] = b"evil"
    done = preload(f"{source}:v1")

    assert done.code == 1
    assert f"'m': expected {sha256(b'good')}, found {sha256(b'evil')}" in done.termination
    assert preload.left == []


def test_a_busy_registry_is_asked_again(lying: tuple[Preload, Any, str]) -> None:
    preload, server, source = lying
    server.files[f"/v2/models/m/blobs/{sha256(b'good')}"] = b"good"
    busy = iter([503, 503])
    server.fault = lambda _: Fault(status=next(busy, 0))
    done: Done = preload(f"{source}:v1", f"--digest={sha256(b'good')}")

    assert done.code == 0, done.out
    assert len(server.asked) == 4


def test_a_token_that_expires_meanwhile_is_asked_for_again(lying: tuple[Preload, Any, str]) -> None:
    preload, server, source = lying
    blob = f"/v2/models/m/blobs/{sha256(b'good')}"
    server.files |= {blob: b"good", "/token": b'{"token": "first"}'}
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="x"'}

    def accepts(asked: Asked) -> Fault | None:
        if asked.path == "/token":
            return None
        if asked.path == blob:
            server.files["/token"] = b'{"token": "second"}'
        good = {"authorization": "Bearer second" if asked.path == blob else "Bearer first"}
        return None if good.items() <= asked.headers.items() else Fault(status=401, headers=challenge)

    server.fault = accepts
    done = preload(f"{source}:v1", f"--digest={sha256(b'good')}")

    assert done.code == 0, done.out
    assert [one.path for one in server.asked].count("/token") == 2


def test_a_token_service_without_tls_gets_no_password(lying: tuple[Preload, Any, str]) -> None:
    preload, server, source = lying
    challenge = {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:9/token",service="x"'}
    server.fault = lambda _: Fault(status=401, headers=challenge)
    done = preload(f"{source}:v1")

    assert done.code == 2
    assert "token service is not at https://" in done.termination


_LAYER = {"digest": f"sha256:{'a' * 64}", "size": 1, "mediaType": "application/octet-stream"}


@pytest.mark.parametrize("manifests", [5, "x", [5], [{"platform": "linux"}, {"platform": []}], [{"digest": 5}]])
def test_an_index_of_any_shape_is_refused_with_a_sentence(manifests: object) -> None:
    with pytest.raises((BadInput, ModelRefused), match=r"registry\.example\.com/m"):
        chosen(Document({"manifests": manifests}, "", ""), "registry.example.com/m")


@pytest.mark.parametrize("layers", [5, [5], [{**_LAYER, "annotations": []}], [{**_LAYER, "annotations": "x"}], [{}]])
def test_layers_of_any_shape_are_refused_with_a_sentence(layers: object) -> None:
    with pytest.raises((BadInput, ModelRefused), match=r"registry\.example\.com/m"):
        layers_of(Document({"layers": layers}, "", ""), "registry.example.com/m")
