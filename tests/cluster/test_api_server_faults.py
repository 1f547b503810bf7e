"""The registry ``cluster`` while the API server is gone, silent or speaks nonsense: decisions and records.

Between the service and the real API server stands a relay that breaks as it is told; three
services, each behind a relay of its own, so that what ages does so once.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.cluster.conftest import opted_in
from tests.cluster.manifests import DIGEST
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.waiting import wait_until
from tests.http.service import Service, pod, review, running
from webhook.governance.roles import roles

NAMESPACE, MODEL = "faults", "governed-faults"
FAULTS = ("killed", "silent", "garbage")
ROLES = {"fay": "model-developer", "uma": "model-approver-production", "ula": "model-approver-production"}
_FRESH_S, _STALE_S = 20, 30
_CHUNK = 64 * 1024


class Relay:
    """Bytes to and from the API server, until ``fail`` says how that ends."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._fault = ""
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def fail(self, fault: str) -> None:
        """Cut what is open; whoever connects from now on meets the fault."""
        self._fault = fault
        if fault == "killed":
            self._end(self._listener)
        for one in list(self._open):
            self._end(one)

    def _start(self, work: Any, *about: Any) -> None:
        threading.Thread(target=work, args=about, name="relay", daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.add(client)
                if self._fault == "garbage":
                    client.sendall(b"<html>proxy login</html>\r\n\r\n")
                    self._end(client)
                elif not self._fault:
                    server = socket.create_connection(self._target)
                    self._open.add(server)
                    self._start(self._pipe, client, server)
                    self._start(self._pipe, server, client)

    def _pipe(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
        self._end(source)
        self._end(sink)

    def _end(self, one: socket.socket) -> None:
        self._open.discard(one)
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@pytest.fixture(scope="module")
def approved(plane: ControlPlane) -> ControlPlane:
    """Version 3 of the model is approved by two people, version 4 only proposed."""
    opted_in(plane, NAMESPACE)
    plane.apply(*roles(("production",), "tidewaiter"))
    for person, role in ROLES.items():
        binding = ("create", "clusterrolebinding", f"faults-{person}")
        plane.kubectl(*binding, f"--clusterrole=tidewaiter-{role}", f"--user={person}")
    source = ["--source", f"s3://models/{MODEL}", "--digest", DIGEST]
    for version in ("3", "4"):
        _model(plane, "fay", "propose", f"{MODEL}:{version}", *source)
    for person in ("uma", "ula"):
        _model(plane, person, "approve", f"{MODEL}:3", "-e", "production", "--reason", "ok")
    return plane


def _model(plane: ControlPlane, person: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "webhook", "model", *arguments]
    command += ["--kubeconfig", str(plane.user_kubeconfig(person))]
    subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


@contextlib.contextmanager
def _behind(relay: Relay, plane: ControlPlane, folder: Path) -> Iterator[Service]:
    """A service that follows the cluster through a relay, and a file beside it."""
    folder.mkdir()
    kubeconfig = yaml.safe_load(plane.kubeconfig.read_text(encoding="utf-8"))
    kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig), encoding="utf-8")
    (folder / "registry.yaml").write_text(
        'models: [{name: resnet50, versions: [{version: "3", state: approved, environments: [production]}]}]\n'
    )
    cluster = {"name": "own", "type": "cluster", "models": ["governed-*"]}
    settings = {
        "environments": {"development": {}, "production": {"action": "audit"}},
        "rules": {"approved-version": {"action": "deny"}},
        "governance": {"approvers": {"production": 2}},
        "registries": [
            {**cluster, "freshSeconds": _FRESH_S, "staleSeconds": _STALE_S},
            {"name": "file", "type": "file", "path": "registry.yaml"},
        ],
    }
    with running(folder, settings, "--kubeconfig", str(folder / "kubeconfig")) as service:
        yield service


def _judged(service: Service, version: str, model: str = MODEL) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is said of the version (its approval), and of the pod."""
    obj = pod(version)
    obj["metadata"]["labels"]["tidewaiter.dev/model"] = model
    obj["spec"]["containers"][0]["args"] = ["tritonserver"]
    uid = f"{model}-{version}-{len(service.records)}"
    response = service.post("/validate", review(obj, uid, namespace=NAMESPACE)).response
    record = wait_until(lambda: next((one for one in service.records if one["uid"] == uid), None), f"record {uid}")
    return record["approval"], response


def _is(service: Service, freshness: str) -> bool:
    found: bool = _judged(service, "3")[0]["freshness"] == freshness
    return found


def test_what_the_api_server_last_said_ages_and_then_nobody_can_say(approved: ControlPlane, tmp_path: Path) -> None:
    server = urlsplit(
        yaml.safe_load(approved.kubeconfig.read_text(encoding="utf-8"))["clusters"][0]["cluster"]["server"]
    )
    assert server.hostname
    assert server.port
    with contextlib.ExitStack() as ending:
        relays = {fault: Relay((server.hostname, server.port)) for fault in FAULTS}
        services = {
            fault: ending.enter_context(_behind(relay, approved, tmp_path / fault)) for fault, relay in relays.items()
        }
        for fault, service in services.items():
            relays[fault].fail(fault)
            said, _ = _judged(service, "3")
            assert (said["registry"], said["state"], said["freshness"]) == ("own", "approved", "fresh")

        for service in services.values():
            wait_until(partial(_is, service, "stale"), "it to be stale")
            said, _ = _judged(service, "3")
            assert (said["state"], said["freshness"], said["cause"]) == ("approved", "stale", "unheard")
            assert _FRESH_S < said["age_seconds"] <= _STALE_S

        for service in services.values():
            wait_until(partial(_is, service, "unavailable"), "it to be too old")
            said, response = _judged(service, "3")
            assert response["allowed"] is False
            reason = "registry own has not heard from the cluster's API server for 3"
            assert f"nobody can say whether {MODEL}:3 is approved: {reason}" in response["status"]["message"]
            assert said["cause"] == "unheard"
            other, _ = _judged(service, "3", "resnet50")
            assert (other["registry"], other["freshness"]) == ("file", "fresh")
            assert service.metric("tidewaiter_errors_total") == 0
            assert "Traceback" not in service.log
