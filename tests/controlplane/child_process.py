"""One child process: its own group, its output in a file, and an end in every case."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")


class ChildProcess:
    """A command that runs in a session of its own and never holds the terminal.

    Standard output and error are appended to `log`. The kernel kills the process when
    the thread that started it ends, so start it from the main thread (or one as long-lived).
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = tuple(command)
        self._cwd = cwd
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def exit_status(self) -> int | None:
        """The status it ended with; None while it runs and before it was started."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id; None before it was started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the command; does nothing while it already runs."""
        if self.running:
            return
        launcher = (sys.executable, "-E", "-S", str(DIE_WITH_PARENT), str(os.getpid()))
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*launcher, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env=self._env,
                start_new_session=True,
            )

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end; returns the exit status, or None when it still runs."""
        assert self._process is not None, f"{self.name} was not started"
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Ask the whole group to end, without waiting."""
        self._signal(signal.SIGTERM)

    def stop(self, grace_s: float = 5.0) -> None:
        """End the whole group: ask, wait up to `grace_s` seconds, then kill."""
        if self._process is None:
            return
        self.terminate()
        if self.wait(grace_s) is None:
            self._signal(signal.SIGKILL)
            self.wait(grace_s)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of what it printed."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            # It leads its own session, so its pid is also its group's id.
            os.killpg(self._process.pid, number)
