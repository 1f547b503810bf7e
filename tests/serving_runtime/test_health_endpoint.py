"""What probes are told."""

from __future__ import annotations

import http.client

import pytest

from tests.serving_runtime.model_server import model_server
from tests.serving_runtime.tritonserver import free_ports


def _asked(host: str, port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_probes_reach_it_over_both_ip_families(host: str) -> None:
    from tidewaiter_runtime.triton.health_endpoint import Health, health_endpoint

    (port, nobody) = free_ports(2)
    with health_endpoint(Health(nobody, ""), port, ""):
        assert _asked(host, port, "/live") == (503, "tritonserver does not answer yet")


def test_readiness_ends_with_the_drain_and_liveness_does_not() -> None:
    from tidewaiter_runtime.triton.health_endpoint import Health

    with model_server() as triton:
        triton.files["/v2/health/ready"] = triton.files["/v2/health/live"] = b""
        health = Health(int(triton.url.rpartition(":")[2]), "")
        assert [health.answer(path)[0] for path in ("/startup", "/ready", "/live")] == [200, 200, 200]
        del triton.files["/v2/health/ready"]
        assert health.answer("/ready") == (503, "tritonserver answers 404")
        triton.files["/v2/health/ready"] = b""
        health.draining.set()
        assert [health.answer(path)[0] for path in ("/startup", "/ready", "/live")] == [503, 503, 200]
    assert health.answer("/live") == (200, "draining")
    assert health.answer("/x") == (404, "found /x; there are /live, /ready, /startup")
