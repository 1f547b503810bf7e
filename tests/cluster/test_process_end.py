"""The end of the process: the kubelet's SIGTERM is an order, not an accident."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.cluster.conftest import REGISTRY, SETTINGS
from tests.controlplane.components import LOCALHOST, answers
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import wait_until


def test_sigterm_ends_the_process_with_status_0_and_a_word_in_its_log(tidewaiter: Tidewaiter, tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    # Not entered: it would take the place of the registered one.
    process = (second := Tidewaiter(tidewaiter.plane, tmp_path, SETTINGS)).process
    process.start()
    try:
        wait_until(lambda: answers(f"http://{LOCALHOST}:{second.health_port}/readyz"), "the process to be ready")
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        status = process.wait(20)
    finally:
        process.stop()

    log = process.log.read_text()
    assert status == 0, log
    assert "ending" in log
    assert "Traceback" not in log
