"""``make run``: what a new user sees first."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    state = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-m", "examples.run", "--once", "--state", str(state)]
    command += ["--port", str(_free_port()), "--health-port", str(_free_port()), "--page-port", str(_free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (state / "decisions.jsonl").read_text().count('"webhook":"validate"') == len(_examples())
    return done.stdout


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _examples() -> list[Path]:
    return sorted(Path("examples/pods").glob("*.yaml"))


def _of(output: str, example: str) -> str:
    return next(part for part in re.split(r"\n-{78}\n", output) if part.startswith(example))


def test_a_plain_model_pod_is_shown_with_what_was_injected_and_admitted(output: str) -> None:
    shown = _of(output, "1-triton")

    assert "+  - name: tidewaiter-preload" in shown
    assert "+    key: nvidia.com/gpu" in shown
    assert shown.rstrip().endswith("ADMITTED")


def test_an_unapproved_version_is_shown_with_every_reason_for_its_refusal(output: str) -> None:
    shown = _of(output, "3-unapproved")

    assert "REFUSED" in shown
    assert "resnet50:4 is proposed" in shown
    assert "is not pinned by digest" in shown


def test_a_plain_web_pod_is_shown_to_be_left_alone(output: str) -> None:
    shown = _of(output, "6-web")

    assert "nothing is changed" in shown
    assert "Warning" not in shown


def test_every_example_is_shown(output: str) -> None:
    for example in _examples():
        assert re.search(r"(ADMITTED|REFUSED)", _of(output, example.stem))


def test_a_port_that_is_taken_is_a_sentence_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        command = [sys.executable, "-m", "examples.run", "--port", str(port), "--health-port", str(_free_port())]
        command += ["--page-port", str(_free_port())]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert f"port {port} of this machine is taken" in done.stderr
    assert "make run RUN=" in done.stderr
