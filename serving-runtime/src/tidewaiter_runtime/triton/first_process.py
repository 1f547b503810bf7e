"""The first process of a container: it starts one server, passes signals on and reaps every orphan."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tidewaiter_runtime.refusals import BadInput

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.5
_ENDS = (signal.SIGTERM, signal.SIGINT)
_PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_WAITED_FOR = {*_ENDS, *_PASSED_ON, signal.SIGCHLD}


@contextmanager
def signals_held() -> Iterator[None]:
    """Keep signals for ``run_as_first_process``; also those that come before, which process 1 would not notice.

    Threads that are started inside keep them as well, so none of them takes the signal away.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_as_first_process(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    drain: Callable[[], float],
    kill_seconds: float,
) -> int:
    """Run ``command`` until it ends; its exit status, 128 and the signal's number where a signal ended it.

    The first SIGTERM or SIGINT calls ``drain``, which says how many seconds later it is passed on; a second
    one is passed on at once. ``kill_seconds`` after it was passed on, a server that is still there is killed.
    Orphans become children of this process, be it process 1 or not, and are reaped. To be called with
    ``signals_held``.
    """
    _adopt_orphans()
    return _wait(_start(command, environment), drain, kill_seconds)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> int:
    try:
        # A blocked signal stays blocked in what is started: the server must get its SIGTERM.
        return os.posix_spawn(command[0], list(command), dict(environment), setpgroup=0, setsigmask=())
    except OSError as error:
        raise BadInput(f"{command[0]} cannot be started: {error.strerror}") from None


def _wait(child: int, drain: Callable[[], float], kill_seconds: float) -> int:
    term_at: float | None = None
    kill_at: float | None = None
    while True:
        status = _reap(child)
        if status is not None:
            return status
        now = time.monotonic()
        if term_at is not None and kill_at is None and now >= term_at:
            os.kill(child, signal.SIGTERM)
            kill_at = now + kill_seconds
        if kill_at is not None and now >= kill_at:
            os.killpg(child, signal.SIGKILL)
            kill_at = now + kill_seconds
        received = signal.sigtimedwait(_WAITED_FOR, _POLL_S)
        number = received.si_signo if received is not None else 0
        if number in _ENDS:
            term_at = time.monotonic() + drain() if term_at is None else time.monotonic()
        elif number in _PASSED_ON:
            os.kill(child, number)


def _reap(child: int) -> int | None:
    """Reap everything that has ended; the status of ``child`` if it was among it."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _adopt_orphans() -> None:
    """Orphans below this process come to it, as they do to process 1; the kernel may not know how."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
