"""What a run leaves for Prometheus, and that space is looked at first."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.controlplane.certificates import Authority
from tests.serving_runtime.model_server import Fault, ModelServer, model_server
from tests.serving_runtime.preloading import Preload, sha256

CONTENT = b"onnx" * 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ModelServer]:
    (tmp_path / "ca").mkdir()
    with model_server(Authority(tmp_path / "ca")) as running:
        running.files["/m.onnx"] = CONTENT
        yield running


@pytest.fixture
def preload(tmp_path: Path) -> Preload:
    return Preload(tmp_path, tmp_path / "models", {"SSL_CERT_FILE": str(tmp_path / "ca" / "ca.crt")})


def _metrics(path: Path) -> dict[str, tuple[float, dict[str, str]]]:
    families = text_string_to_metric_families(path.read_text())
    return {one.name: (one.samples[0].value, one.samples[0].labels) for one in families}


def test_a_run_leaves_its_metrics(preload: Preload, server: ModelServer, tmp_path: Path) -> None:
    faults = iter([503])
    server.fault = lambda _: Fault(status=next(faults, 0))
    path = tmp_path / "metrics" / "preload.prom"
    done = preload(f"{server.url}/m.onnx", f"--digest={sha256(CONTENT)}", f"--metrics-file={path}")
    found = _metrics(path)

    assert done.code == 0, done.out
    assert found["tidewaiter_preload_success"] == (1, {"scheme": "https"})
    assert found["tidewaiter_preload_verified"][0] == 1
    assert found["tidewaiter_preload_model_bytes"][0] == len(CONTENT)
    assert found["tidewaiter_preload_retries"][0] == 1
    assert found["tidewaiter_preload_origin"] == (1, {"scheme": "https", "origin": "source"})
    assert found["tidewaiter_preload_duration_seconds"][0] > 0
    assert [one.name for one in path.parent.iterdir()] == ["preload.prom"]
    preload(f"{server.url}/m.onnx", f"--digest={sha256(CONTENT)}", f"--metrics-file={path}")
    assert _metrics(path)["tidewaiter_preload_origin"][1]["origin"] == "destination"


def test_a_failure_leaves_its_exit_code(preload: Preload, server: ModelServer, tmp_path: Path) -> None:
    path = tmp_path / "preload.prom"
    done = preload(f"{server.url}/m.onnx", f"--digest={sha256(b'other')}", f"--metrics-file={path}")
    found = _metrics(path)

    assert done.code == 1
    assert found["tidewaiter_preload_success"][0] == 0
    assert found["tidewaiter_preload_exit_code"][0] == 1
    assert found["tidewaiter_preload_verified"][0] == 0
    assert "tidewaiter_preload_origin" not in found


def test_what_does_not_fit_is_refused_before_it_is_asked_for(preload: Preload, server: ModelServer) -> None:
    """The server tells a size that no disk has."""
    server.fault = lambda _: Fault(total=1 << 60)
    done = preload(f"{server.url}/m.onnx")

    assert done.code == 4
    assert re.search(
        r"is too small: 1,152,921,504,606,846,976 bytes are still to be brought, [\d,]+ are free", done.out
    )
    assert server.ranges("/m.onnx") == []


def test_a_disk_that_is_full_is_told(preload: Preload, server: ModelServer) -> None:
    """A real small file system, where this user may mount one in a namespace of its own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare here")
    preload.destination.mkdir()
    script = f'mount -t tmpfs -o size=64k tmpfs {preload.destination} && exec "$@"'
    before = (unshare, "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    trial = subprocess.run([*before, "true"], capture_output=True, text=True, timeout=30, check=False)
    if trial.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {trial.stderr.strip()}")
    server.files["/large"] = bytes(100_000)
    with preload.start(f"{server.url}/large", before=before) as running:
        done = running.end()

    assert done.code == 4
    assert "is too small: 100,000 bytes are still to be brought, 65," in done.termination
