"""Replace this process by a command that is killed when its parent dies.

Usage: die_with_parent.py PARENT_PID COMMAND [ARGUMENT...]

A program of its own instead of a `preexec_fn`, which is unsafe in a process that
has threads. Where the kernel has no such signal (macOS), the command simply runs.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the signal, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before the signal was asked for.
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
