"""Helm, built from source when it is missing (two minutes when cold)."""

from __future__ import annotations

import os
from pathlib import Path

from tests.controlplane.build_cache import cached, entry_name, run_step
from tests.controlplane.go_toolchain import go_command

VERSION = "v4.3.1"
_PACKAGE = "helm.sh/helm/v4/cmd/helm"
_GO = "1.26.0"


def helm() -> Path:
    """The path of `helm`; raises BuildError with one sentence when it cannot be had."""
    return cached(entry_name("helm", VERSION), _build) / "helm"


def _build(staging: Path) -> None:
    command = [str(go_command(_GO)), "install", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOBIN": str(staging)}
    entry = entry_name("helm", VERSION)
    run_step(f"building helm {VERSION}", entry, [*command, f"{_PACKAGE}@{VERSION}"], cwd=staging, env=environment)


if __name__ == "__main__":
    print(helm())
