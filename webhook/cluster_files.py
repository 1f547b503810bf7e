"""The cluster's facts from manifests, where no cluster is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Taking(Protocol):
    """Whoever is told of objects."""

    def put(self, obj: Mapping[str, Any]) -> None:
        """One object; kinds that are not for it are passed over."""


class ClusterFilesError(Exception):
    """The manifests cannot be used; the text says which file and why."""


def sample_cluster() -> Path:
    """The small sample cluster that comes with Tidewaiter."""
    return Path(str(files("webhook").joinpath("embedded", "cluster.yaml")))


def load_cluster_files(state: Taking, path: Path) -> None:
    """Put every object of a manifest, or of the manifests of a folder, into ``state``."""
    for obj in cluster_objects(path):
        state.put(obj)


def cluster_objects(path: Path) -> Iterator[dict[str, Any]]:
    """Every object of a manifest, or of the manifests of a folder."""
    if not path.exists():
        raise ClusterFilesError(f"{path} does not exist; give a manifest or a folder of manifests")
    paths = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
    for one in paths:
        yield from _objects(one)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    try:
        documents = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=_Loader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClusterFilesError(f"{path}: cannot be read as YAML: {error}") from None
    for document in documents:
        for obj in document.get("items", [document]) if isinstance(document, dict) else []:
            if not isinstance(obj, dict) or not (obj.get("metadata") or {}).get("name"):
                raise ClusterFilesError(f"{path}: an object has no metadata.name; give Kubernetes manifests")
            yield obj
