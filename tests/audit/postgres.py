"""A real PostgreSQL of the tests' own: made empty, run as a normal user, killed and started as a test likes."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.controlplane.waiting import wait_until

PASSWORD = "pass word'\\of the tests"
_HOW = "install PostgreSQL, for example with `apt-get install postgresql`, or put its bin folder into PATH"
_LIMIT_SECONDS = 60


def programs() -> Path:
    """The folder of ``initdb`` and ``postgres``; skips where there is none, and fails in CI."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    folders += [Path(found).parent] if found else []
    for folder in folders:
        if (folder / "postgres").exists():
            return folder
    if os.environ.get("CI"):
        pytest.fail(f"there is no PostgreSQL here: {_HOW}")
    pytest.skip(f"there is no PostgreSQL here: {_HOW}")


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", folder.parent.name))


class Postgres:
    """One server on a port of its own; ``url`` is without the password, which ``password_file`` holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bin = programs()
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.password_file = folder / "password"
        self.password_file.write_text(PASSWORD + "\n")
        # The server refuses to run as root.
        self._user = _ordinary_user() if os.geteuid() == 0 else None
        if self._user is not None:
            for path in (folder, self.password_file):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        self._run(
            "initdb", "--pgdata", self._data, "--username", "tidewaiter", "--auth", "scram-sha-256",
            "--pwfile", str(self.password_file), "--no-sync", "--encoding", "UTF8", "--locale", "C",
        )  # fmt: skip

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    @property
    def url(self) -> str:
        """Of the database ``postgres``."""
        return f"postgresql://tidewaiter@127.0.0.1:{self.port}/postgres"

    def connect(self) -> psycopg.Connection:
        """A connection of the test's own."""
        return psycopg.connect(self.url, password=PASSWORD, autocommit=True, connect_timeout=5)

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(
                    "postgres", "-D", self._data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                    "-c", "unix_socket_directories=", "-c", "fsync=off",
                ),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, user=self._uid, group=self._gid,
                extra_groups=None if self._user is None else [], start_new_session=True,
            )  # fmt: skip
        wait_until(self._answers, "PostgreSQL to answer", timeout_s=_LIMIT_SECONDS)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text(errors="replace")
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End every process of it at once, as a machine that is cut off does."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_LIMIT_SECONDS)
        self._process = None

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_LIMIT_SECONDS)
            self._process = None

    @property
    def _uid(self) -> int | None:
        return None if self._user is None else self._user.pw_uid

    @property
    def _gid(self) -> int | None:
        return None if self._user is None else self._user.pw_gid

    def _command(self, name: str, *arguments: str) -> Sequence[str]:
        return [str(self._bin / name), *arguments]

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(name, *arguments), capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False,
            cwd=self._folder, user=self._uid, group=self._gid, extra_groups=None if self._user is None else [],
        )  # fmt: skip
        assert done.returncode == 0, f"{name}: {done.stderr}{done.stdout}"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _ordinary_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server; its folder is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tidewaiter-postgres-"))
    try:
        server = Postgres(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
