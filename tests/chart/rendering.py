"""The chart as Helm renders it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.chart.generate import CHART
from tests.controlplane.binaries import locate

DIGEST = f"sha256:{'c' * 64}"
IMAGE = {"repository": "ghcr.io/acme/tidewaiter", "digest": DIGEST}
NAMESPACE = "boarding"
LIMIT_S = 60.0
Object = dict[str, Any]


class HelmError(Exception):
    """Helm failed; the text is what it said."""


def run_helm(*arguments: str, values: Mapping[str, Any] | None = None) -> str:
    """What Helm prints; `values` are handed over as a file. Raises HelmError."""
    given = () if values is None else ("--values", "-")
    done = subprocess.run(
        [str(locate("helm")), *arguments, *given],
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout


def with_image(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with an image, which every installation must name."""
    return {"image": IMAGE, **values}


def rendered(values: Mapping[str, Any]) -> list[Object]:
    """Every object of `helm template`, in its order."""
    text = run_helm("template", "tidewaiter", str(CHART), "--namespace", NAMESPACE, values=with_image(values))
    return [one for one in yaml.safe_load_all(text) if one]


def the(objects: Iterable[Object], kind: str, name: str = "tidewaiter") -> Object:
    """The only object of a kind with a name."""
    (found,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def write_settings(objects: Iterable[Object], folder: Path) -> Path:
    """The files that the ConfigMap brings, written to a folder; returns the settings file."""
    for name, text in the(objects, "ConfigMap", "tidewaiter-settings")["data"].items():
        (folder / name).write_text(text)
    return folder / "settings.yaml"
