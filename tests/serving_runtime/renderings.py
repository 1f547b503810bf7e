"""What `kubectl kustomize` makes of the manifests of the serving runtime."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.binaries import locate

MANIFESTS = Path(__file__).parents[2] / "serving-runtime" / "manifests"
_LIMIT_S = 60

Object = dict[str, Any]


def names() -> list[str]:
    """Every folder that a user can apply, by its path below the manifests."""
    folders = (path.parent for path in sorted(MANIFESTS.rglob("kustomization.yaml")))
    return [str(one.relative_to(MANIFESTS)) for one in folders if "components" not in one.parts]


@functools.cache
def rendered(name: str) -> str:
    """The YAML text of one folder, by its path below the manifests (or beside them: ``../observability``)."""
    done = subprocess.run(
        [str(locate("kubectl")), "kustomize", str(MANIFESTS / name)],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{name}: {done.stderr}"
    return done.stdout


def objects(name: str) -> list[Object]:
    """The objects of one folder."""
    return list(yaml.safe_load_all(rendered(name)))


def one(name: str, kind: str, named: str = "resnet50") -> Object:
    """The object of one folder with a kind and a name."""
    found = [obj for obj in objects(name) if obj["kind"] == kind and obj["metadata"]["name"] == named]
    assert len(found) == 1, f"{name} has {len(found)} of {kind}/{named}"
    return found[0]
