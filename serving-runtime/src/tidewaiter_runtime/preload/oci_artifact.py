"""Which files a manifest stands for: ORAS artifacts, CNCF ModelPack, and KServe's modelcars.

- A layer with a name (``org.opencontainers.image.title``, ``org.cncf.model.filepath``) is that file, unless it is
  an archive (ORAS says so by an annotation, ModelPack by the media type).
- An image (its configuration has an image's media type) is a modelcar: what lies below ``/models`` in it.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from typing import Any

from tidewaiter_runtime.preload.oci_registry import Document
from tidewaiter_runtime.preload.source_files import Archive, SourceFile
from tidewaiter_runtime.refusals import BadInput, ModelRefused

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_IMAGES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_NAMES = ("org.cncf.model.filepath", "org.cnai.model.filepath", "org.opencontainers.image.title")
_UNPACK = "io.deis.oras.content.unpack"
_MODEL_TYPE = re.compile(r"application/vnd\.(?:cncf|cnai)\.model\.[\w.]+\.v1\.(raw|tar(?:\+\w+)?|\w+)")
_ARCHIVE = re.compile(r".*[.+](tar|tar\+gzip|tar\.gzip|tar\+zstd|tar\.zstd)")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
_MODELS = "models"
_MOST_LAYERS = 10_000


def chosen(index: Document, shown: str, machine: str = "") -> str:
    """The digest of the manifest in ``index`` that is for this machine; an index of one needs no platform."""
    architecture = _ARCHITECTURES.get(machine or platform.machine(), machine or platform.machine())
    listed = index.content.get("manifests")
    entries = [one for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)]
    for_us = [one for one in entries if _platform(one) == ("linux", architecture)]
    without = [one for one in entries if not one.get("platform")]
    found = for_us[:1] or (without if len(without) == 1 else [])
    if not found:
        there = ", ".join(sorted({"/".join(_platform(one)) for one in entries})) or "nothing"
        raise BadInput(f"{shown} has nothing for linux/{architecture}: found {there}; name the manifest by its digest")
    digest = found[0].get("digest")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ModelRefused(f"{shown}: the index names a manifest without a SHA-256 digest: {str(digest)[:80]!r}")
    return digest


def _platform(entry: dict[str, Any]) -> tuple[str, str]:
    said = entry.get("platform")
    said = said if isinstance(said, dict) else {}
    return str(said.get("os", "any")), str(said.get("architecture", "any"))


def layers_of(manifest: Document, shown: str) -> list[tuple[SourceFile, str]]:
    """The files and archives of a manifest, each with its digest; ``location`` is left to the caller."""
    layers = manifest.content.get("layers")
    if not isinstance(layers, list) or not layers or len(layers) > _MOST_LAYERS:
        raise ModelRefused(f"{shown}: the manifest ({manifest.media_type[:80]}) has no list of layers")
    configuration = manifest.content.get("config") or {}
    image = isinstance(configuration, dict) and configuration.get("mediaType") in _IMAGES
    named = [_name(one, shown) for one in layers]
    modelcar = image and not any(named)
    found = [
        _layer(one, name, number, shown, modelcar=modelcar)
        for number, (one, name) in enumerate(zip(layers, named, strict=True))
    ]
    _no_name_twice([one for one, _ in found], shown)
    return found


def _name(layer: Any, shown: str) -> str:
    if not isinstance(layer, dict):
        raise ModelRefused(f"{shown}: the manifest has a layer that is no object")
    annotations = layer.get("annotations")
    names = annotations if isinstance(annotations, dict) else {}
    return next((str(names[one]) for one in _NAMES if names.get(one)), "")


def _layer(layer: dict[str, Any], name: str, number: int, shown: str, *, modelcar: bool) -> tuple[SourceFile, str]:
    digest, size, kind = layer.get("digest"), layer.get("size"), str(layer.get("mediaType") or "")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise ModelRefused(f"{shown}: layer {number} has no SHA-256 digest or no size")
    sha256 = digest.removeprefix("sha256:")
    packing = _packing(layer, kind, modelcar=modelcar)
    if packing:
        below = _MODELS if modelcar else ""
        archive = Archive(packing, below, number)
        return SourceFile(f".layer-{number:05}", "", size, digest, sha256=sha256, archive=archive), digest
    if not name:
        raise ModelRefused(f"{shown}: layer {number} ({kind[:80]}) is neither an archive nor has the name of a file")
    return SourceFile(name.removeprefix("./"), "", size, digest, sha256=sha256), digest


def _packing(layer: dict[str, Any], kind: str, *, modelcar: bool) -> str:
    """``tar``, ``tar+gzip`` or ``tar+zstd`` for an archive; nothing for a file as it is."""
    known = _MODEL_TYPE.fullmatch(kind)
    annotations = layer.get("annotations")
    unpack = isinstance(annotations, dict) and str(annotations.get(_UNPACK, "")).lower() == "true"
    if known is not None:
        return known[1] if known[1].startswith("tar") else ""
    if not modelcar and not unpack:
        return ""
    archive = _ARCHIVE.fullmatch(kind)
    return archive[1].replace("tar.", "tar+") if archive else "tar+gzip"


def _no_name_twice(files: Sequence[SourceFile], shown: str) -> None:
    names = [one.name for one in files]
    twice = sorted({one for one in names if names.count(one) > 1}) if len(set(names)) != len(names) else []
    if twice:
        raise ModelRefused(f"{shown}: two layers have the name {twice[0]!r}")
