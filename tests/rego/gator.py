"""Gatekeeper's own test runner, built from source when it is missing (minutes when cold)."""

from __future__ import annotations

import os
from pathlib import Path

from tests.controlplane.build_cache import cached, entry_name, run_step
from tests.controlplane.go_toolchain import go_command

VERSION = "v3.23.1"
_PACKAGE = "github.com/open-policy-agent/gatekeeper/v3/cmd/gator"
_GO = "1.26.0"


def gator() -> Path:
    """The path of `gator`; raises BuildError with one sentence when it cannot be had."""
    return cached(entry_name("gator", VERSION), _build) / "gator"


def _build(staging: Path) -> None:
    command = [str(go_command(_GO)), "install", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOBIN": str(staging)}
    entry = entry_name("gator", VERSION)
    run_step(f"building gator {VERSION}", entry, [*command, f"{_PACKAGE}@{VERSION}"], cwd=staging, env=environment)


if __name__ == "__main__":
    print(gator())
