"""Where built tools are kept: outside the work tree, one directory per version."""

import fcntl
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.controlplane.child_process import ChildProcess

PROGRESS_INTERVAL_S = 5.0
STEP_LIMIT_S = 3600.0
LOCK_LIMIT_S = 2 * STEP_LIMIT_S

GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class BuildError(Exception):
    """A tool cannot be had; the text is one sentence that says why and what to do."""


def cache_directory() -> Path:
    """`$TIDEWAITER_CACHE`, else `tidewaiter` in the user's cache directory."""
    if configured := os.environ.get("TIDEWAITER_CACHE"):
        return Path(configured).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "tidewaiter"


def entry_name(tool: str, version: str) -> str:
    """The directory of one tool, e.g. `etcd-v3.7.0-linux-amd64`."""
    machine = platform.machine()
    architecture = GO_ARCHITECTURES.get(machine, machine)
    return f"{tool}-{version}-{platform.system().lower()}-{architecture}"


def cached(entry: str, build: Callable[[Path], None]) -> Path:
    """The cache directory of `entry`; when absent, `build` fills it first.

    `build` gets an empty directory that becomes the entry only when it returns, so an
    interrupted build leaves nothing behind that looks complete. A second process waits.
    """
    cache = cache_directory()
    final = cache / entry
    if final.is_dir():
        return final
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(
            f"cannot create the cache directory {cache} ({error.strerror}): set TIDEWAITER_CACHE "
            "to a directory that you may write to"
        ) from error
    with (
        _lock(cache / f"{entry}.lock"),
        tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as scratch,
    ):
        if not final.is_dir():
            staging = Path(scratch) / entry
            staging.mkdir()
            build(staging)
            staging.rename(final)
    return final


def run_step(label: str, entry: str, command: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Run one long command with its output in a log and a sign of life on stderr.

    Raises BuildError, which names the log, when it fails or takes longer than an hour.
    """
    log = cache_directory() / f"{entry}.log"
    log.unlink(missing_ok=True)
    child = ChildProcess(label, command, log, cwd=cwd, env=env)
    started = time.monotonic()
    try:
        child.start()
        while (status := child.wait(PROGRESS_INTERVAL_S)) is None:
            elapsed = time.monotonic() - started
            _report(f"{label} ... {elapsed:.0f} s")
            if elapsed > STEP_LIMIT_S:
                raise BuildError(f"{label} took more than {STEP_LIMIT_S:.0f} s: see {log}")
    finally:
        child.stop()
    if status != 0:
        raise BuildError(
            f"{label} failed with exit status {status}: read {log}, check that the module proxy "
            "or package index answers and that some GB of disk are free, then run this again"
        )


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; it is released even when the process is killed."""
    with path.open("w") as handle:
        started = reported = time.monotonic()
        while not _try_lock(handle.fileno()):
            now = time.monotonic()
            if now - started > LOCK_LIMIT_S:
                raise BuildError(
                    f"another process has held {path} for {LOCK_LIMIT_S:.0f} s: end it, then run this again"
                )
            if now - reported > PROGRESS_INTERVAL_S:
                reported = now
                _report(f"waiting for another build ({path}) ... {now - started:.0f} s")
            time.sleep(0.2)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
