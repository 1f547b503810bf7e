"""Children end with their parent and leave their output in a file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.controlplane.child_process import ChildProcess
from tests.controlplane.waiting import wait_until

PARENT = """
import os, sys
from pathlib import Path
from tests.controlplane.child_process import ChildProcess
child = ChildProcess("sleeper", ["sleep", "600"], Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
sys.stdin.read()
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A killed orphan may wait for a busy init to be reaped.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel signal exists on Linux only")
def test_a_child_is_killed_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()

    wait_until(lambda: not alive(child), "the child to be killed", 10)


def test_stop_ends_a_child_that_ignores_the_request(tmp_path: Path) -> None:
    script = 'trap "" TERM; echo ready; while :; do sleep 0.1; done'
    child = ChildProcess("stubborn", ["sh", "-c", script], tmp_path / "log")
    child.start()
    wait_until(lambda: "ready" in child.log_tail(), "the shell to be ready", 10)

    child.stop(grace_s=0.2)

    assert not child.running
    assert child.exit_status == -9
