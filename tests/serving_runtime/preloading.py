"""``tidewaiter-runtime preload`` as a process of its own, with the environment of a bare container."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.serving_runtime.conftest import SOURCES

LIMIT_S = 120.0
STAGING = ".tidewaiter-preload"
_LAUNCHER = """
import atexit, pathlib, sys
peak = pathlib.Path(sys.argv.pop(1))
atexit.register(lambda: peak.write_text(pathlib.Path("/proc/self/status").read_text()))
from tidewaiter_runtime.cli import main
main()
"""
"""Leaves the kernel's own account behind: what wait4 tells begins with the memory of this process."""


@dataclass(frozen=True)
class Done:
    """How it ended; ``termination`` is what kubectl describe would show, ``peak`` the memory in bytes (0: killed)."""

    code: int
    out: str
    termination: str
    peak: int


@dataclass
class Running:
    """A process that has been started."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> str:
        """Standard output and error so far."""
        return (self.folder / "output").read_text()

    def end(self) -> Done:
        """Wait for it."""
        code = self.process.wait(LIMIT_S)
        status = self.folder / "status"
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
        peak = int(found[1]) * 1024 if found else 0
        return Done(code, self.out, (self.folder / "termination-log").read_text(), peak)


@dataclass
class Preload:
    """Starts it; ``variables`` are its environment beside the path of our sources."""

    folder: Path
    destination: Path
    variables: dict[str, str] = field(default_factory=dict)
    started: int = 0

    def __call__(self, source: str, *more: str) -> Done:
        with self.start(source, *more) as running:
            return running.end()

    @contextmanager
    def start(self, source: str, *more: str, before: tuple[str, ...] = ()) -> Iterator[Running]:
        """Start it; it is killed at the end where it still runs."""
        self.started += 1
        folder = self.folder / str(self.started)
        folder.mkdir()
        (folder / "termination-log").write_text("")
        layout = () if any(one.startswith("--layout") for one in more) else ("--layout=files",)
        command = [
            *(*before, sys.executable, "-c", _LAUNCHER, str(folder / "status"), "preload"),
            *(f"--source={source}", f"--destination={self.destination}", *layout, *more),
            f"--termination-log={folder / 'termination-log'}",
        ]
        environment = {"PYTHONPATH": str(SOURCES), "HOME": "/nonexistent", "PATH": os.environ["PATH"], **self.variables}
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd="/")
        try:
            yield Running(process, folder)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait(10)

    @property
    def left(self) -> list[str]:
        """Everything at the destination."""
        if not self.destination.exists():
            return []
        return sorted(str(one.relative_to(self.destination)) for one in self.destination.rglob("*"))


def sha256(content: bytes) -> str:
    """A digest as an argument."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def folder_digest(files: dict[str, bytes]) -> str:
    """The digest of a folder with these files, calculated here and not by the program under test."""
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n".encode() for name in sorted(files, key=str.encode)]
    return sha256(b"".join(lines))
