"""With a client CA in the settings, nobody but its clients is answered."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

import pytest

from tests.controlplane.certificates import Authority
from tests.http.conftest import SETTINGS, with_registry
from tests.http.service import Service, pod, post, review, running


@pytest.fixture
def service(tmp_path: Path) -> Service:
    (tmp_path / "clients").mkdir()
    Authority(tmp_path / "clients").issue("tls", "kube-apiserver")
    settings = {**SETTINGS, "server": {"clientCA": "clients/ca.crt"}}
    with running(with_registry(tmp_path), settings) as found:
        yield found


def _connect(service: Service, client: Path | None) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(service.folder / "ca.crt"))
    if client is not None:
        context.load_cert_chain(client / "tls.crt", client / "tls.key")
    return http.client.HTTPSConnection("localhost", service.port, timeout=10, context=context)


def test_the_client_of_that_ca_is_answered(service: Service) -> None:
    connection = _connect(service, service.folder / "clients")

    assert post(connection, "/mutate", review(pod())).status == 200
    connection.close()


def test_a_client_without_a_certificate_and_one_of_another_ca_get_nothing(service: Service, tmp_path: Path) -> None:
    (tmp_path / "strangers").mkdir()
    Authority(tmp_path / "strangers").issue("tls", "kube-apiserver")

    for client in (None, tmp_path / "strangers"):
        connection = _connect(service, client)
        with pytest.raises((ssl.SSLError, OSError, http.client.RemoteDisconnected)):
            post(connection, "/validate", review(pod()))
        connection.close()
    assert service.records == []
    assert service.health("/healthz").status == 200
