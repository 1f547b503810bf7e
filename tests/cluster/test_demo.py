"""The demo does what it prints, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.corpus import REPOSITORY
from tests.controlplane.child_process import ChildProcess
from tests.controlplane.waiting import wait_until

START_LIMIT_S = 90.0


@dataclass
class Demo:
    process: ChildProcess
    kubeconfig: str
    folder: Path

    def run(self, command: str) -> str:
        """One of the printed commands, as a person would type it."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={**os.environ, "KUBECONFIG": self.kubeconfig},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    log = tmp_path / "demo.log"
    process = ChildProcess("demo", [sys.executable, "-u", "-m", "tests.controlplane.demo"], log, cwd=REPOSITORY)
    process.start()
    try:
        wait_until(
            lambda: not process.running or "Ctrl-C ends it all" in log.read_text(), "the demo to start", START_LIMIT_S
        )
        printed = log.read_text()
        found = re.search(r"export KUBECONFIG=(\S+)\s+cd (\S+)", printed)
        assert found, printed
        yield Demo(process, found[1], Path(found[2]))
    finally:
        process.stop(30)


def test_the_printed_commands_do_what_is_printed_and_ctrl_c_ends_it_cleanly(demo: Demo) -> None:
    demo.run("kubectl apply -n models -f resnet50.yaml")
    demo.run("kubectl apply -n elsewhere -f resnet50.yaml")
    assert "successfully rolled out" in demo.run("kubectl rollout status -n models deploy/resnet50 --timeout=40s")
    assert "gpu-t4" in demo.run("kubectl get pods -n models -o wide")
    wait_until(lambda: "untolerated taint" in demo.run("kubectl describe pods -n elsewhere"), "the pod to stay Pending")

    refused = demo.run("kubectl apply -n models -f next-version.yaml")
    assert "resnet50:4 is proposed" in refused
    assert "Warning: " in demo.run("kubectl apply -n lab -f next-version.yaml")
    assert "is not pinned by digest" in demo.run(
        "kubectl run server -n models --image=nvcr.io/nvidia/tritonserver:25.09-py3"
    )
    demo.run(
        "sed 's/state: proposed/state: approved, environments: [production]/' registry.yaml > new && mv new registry.yaml"
    )
    wait_until(lambda: "created" in demo.run("kubectl apply -n models -f next-version.yaml"), "the approval to hold")

    assert demo.process.pid is not None
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.process.wait(30) == 0, demo.process.log_tail()
    assert not demo.folder.exists()
    assert "Traceback" not in demo.process.log.read_text()
