"""The CustomResourceDefinitions that the manifests are held to, as their projects publish them.

Each comes from a Go module, kept in the cache as built tools are. KServe's own are taken from the
folder of `TIDEWAITER_CRDS` (or `../shared/crds`) where there is one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import corpus
from tests.controlplane.binaries import MODULE
from tests.controlplane.build_cache import BuildError, cached
from tests.controlplane.go_toolchain import go_command

_DOWNLOAD_LIMIT_S = 300
_KSERVE = "serving.kserve.io_*.yaml"


@dataclass(frozen=True)
class Published:
    """Files of one version of one module; `replaced_by` names those that a folder may have instead."""

    module: str
    version: str
    files: tuple[str, ...]
    replaced_by: str = ""


PUBLISHED = (
    Published("istio.io/api", "v1.31.4", ("kubernetes/customresourcedefinitions.gen.yaml",)),
    Published("sigs.k8s.io/gateway-api", "v1.4.1", ("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",)),
    Published("github.com/kedacore/keda/v2", "v2.21.0", ("config/crd/bases/keda.sh_scaledobjects.yaml",)),
    Published(
        "github.com/argoproj/argo-rollouts",
        "v1.8.3",
        ("manifests/crds/rollout-crd.yaml", "manifests/crds/analysis-template-crd.yaml"),
    ),
    Published("github.com/fluxcd/flagger", "v1.36.1", ("artifacts/flagger/crd.yaml",)),
    Published(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        (
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        ),
    ),
    Published(
        "github.com/kserve/kserve",
        "v0.16.0",
        (
            "config/crd/full/serving.kserve.io_clusterservingruntimes.yaml",
            "config/crd/full/serving.kserve.io_inferencegraphs.yaml",
            "config/crd/full/serving.kserve.io_inferenceservices.yaml",
        ),
        replaced_by=_KSERVE,
    ),
)


def definition_files() -> list[Path]:
    """Every file; downloaded first where the cache has none.

    Raises BuildError when a module cannot be had.
    """
    folder = corpus.folder("TIDEWAITER_CRDS", "crds")
    found: list[Path] = []
    for one in PUBLISHED:
        instead = sorted(folder.glob(one.replaced_by)) if folder is not None and one.replaced_by else []
        found += instead or files_of(one)
    return found


def files_of(published: Published) -> list[Path]:
    """Its files in the cache; downloaded first where they are missing."""
    entry = f"crds-{published.module.replace('/', '-')}-{published.version}"

    def fill(staging: Path) -> None:
        source = _downloaded(published)
        for name in published.files:
            shutil.copyfile(source / name, staging / Path(name).name)

    folder = cached(entry, fill)
    return [folder / Path(name).name for name in published.files]


def _downloaded(published: Published) -> Path:
    wanted = f"{published.module}@{published.version}"
    asked = subprocess.run(
        [str(go_command("1.26.0")), "mod", "download", "-json", wanted],
        cwd=MODULE,
        capture_output=True,
        text=True,
        timeout=_DOWNLOAD_LIMIT_S,
        check=False,
    )
    if asked.returncode != 0:
        raise BuildError(f"cannot download {wanted}: {asked.stderr.strip() or asked.stdout.strip()}")
    return Path(json.loads(asked.stdout)["Dir"])
