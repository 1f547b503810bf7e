"""The process from start to end: what it refuses to start with, what it reads again, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import yaml

from tests.controlplane.waiting import wait_until
from tests.http.conftest import REGISTRY, SETTINGS, with_registry
from tests.http.service import LIMIT_S, Service, pod, post, review, running, start

GOING = {**SETTINGS, "server": {"drainSeconds": 30, "readSeconds": 30}}


def verdict_on(service: Service, version: str) -> str:
    """What `/validate` says of the model's version."""
    response = service.post("/validate", review(pod(version))).response
    message: str = response["status"]["message"]
    return message


def test_sigterm_turns_not_ready_but_answers_until_the_drain_is_over(tmp_path: Path) -> None:
    settings = {**SETTINGS, "server": {"drainSeconds": 1, "readSeconds": 30}}
    with running(with_registry(tmp_path), settings) as service, service.connection() as old:
        assert post(old, "/mutate", review(pod(), "before")).status == 200

        service.process.send_signal(signal.SIGTERM)
        gone = wait_until(lambda: service.health("/readyz") if "ending" in service.log else None, "the drain")

        assert (gone.status, gone.body) == (503, b"the process is ending\n")
        assert service.health("/healthz").status == 200
        assert post(old, "/mutate", review(pod(), "during")).response["uid"] == "during"
        assert service.post("/mutate", review(pod(), "new")).response["uid"] == "new"
        assert service.process.wait(LIMIT_S) == 0
        assert [one["uid"] for one in service.records] == ["before", "during", "new"]
        assert "Traceback" not in service.log


def test_a_request_in_flight_is_finished_after_the_drain(tmp_path: Path) -> None:
    with (
        running(with_registry(tmp_path), {**SETTINGS, "server": {"readSeconds": 30}}) as service,
        service.connection() as slow,
        service.connection() as idle,
    ):
        assert post(idle, "/mutate", review(pod(), "idle")).status == 200
        sent = json.dumps(review(pod(), "slow")).encode()
        slow.putrequest("POST", "/mutate")
        slow.putheader("Content-Length", str(len(sent)))
        slow.endheaders()
        slow.send(sent[:10])
        wait_until(lambda: service.metric("tidewaiter_requests_in_flight"), "the request to be in flight")

        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not listens(service.port), "the listening socket to be closed")
        slow.send(sent[10:])
        with slow.getresponse() as answer:
            assert answer.status == 200
            assert json.load(answer)["response"]["uid"] == "slow"

        assert service.process.wait(LIMIT_S) == 0
        assert service.records[-1]["uid"] == "slow"


def test_sigterm_twice_ends_at_once(tmp_path: Path) -> None:
    with running(with_registry(tmp_path), GOING) as service, service.tls() as slow:
        slow.sendall(b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        wait_until(lambda: service.metric("tidewaiter_requests_in_flight"), "the request to be in flight")
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "ending" in service.log, "the drain to begin")

        assert service.end() == 0

        assert "the process ended before the review was made" in service.records[0]["error"]
        assert "Traceback" not in service.log


def test_sigint_ends_it_too(tmp_path: Path) -> None:
    with running(with_registry(tmp_path), SETTINGS) as service:
        assert service.end(signal.SIGINT) == 0
        assert "Traceback" not in service.log


def test_a_changed_registry_file_is_in_force_and_a_broken_one_is_told(tmp_path: Path) -> None:
    registry = with_registry(tmp_path) / "registry.yaml"
    with running(tmp_path, SETTINGS) as service:
        assert "resnet50:4 is not in the registry" in verdict_on(service, "4")

        registry.write_text(REGISTRY.replace('"3"', '"4"'), encoding="utf-8")
        wait_until(lambda: "resnet50:4" not in verdict_on(service, "4"), "version 4 to be approved")
        registry.write_text("models: [{name: resnet50, versions: 7}]\n", encoding="utf-8")
        wait_until(lambda: service.metric("tidewaiter_registry_refused") == 1, "the file to be refused")

        assert "resnet50:4" not in verdict_on(service, "4")
        assert "registry file is refused" in service.log
        assert "versions" in service.log

        registry.write_text(REGISTRY, encoding="utf-8")
        wait_until(lambda: service.metric("tidewaiter_registry_refused") == 0, "the file to be taken again")
        assert "resnet50:4 is not in the registry" in verdict_on(service, "4")
        assert "in force again" in service.log


REFUSED = {
    "an unknown key": ("serverr: {}\n", "serverr"),
    "a wrong type": ("server: {port: many}\n", "server.port"),
    "no YAML": ("server: [\n", "settings.yaml"),
    "a rule that there is not": ("rules: {no-such-rule: {action: {production: deny}}}\n", "no-such-rule"),
    "a certificate that is not there": ("server: {certificate: a.crt, key: a.key}\n", "a.crt"),
    "a certificate that is none": ("server: {certificate: settings.yaml, key: settings.yaml}\n", "cannot be used"),
    "policies that are not there": ("policies: {directory: nowhere}\n", "nowhere"),
}


@pytest.mark.parametrize(("text", "part"), REFUSED.values(), ids=REFUSED)
def test_settings_that_cannot_be_used_end_in_a_sentence(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "settings.yaml").write_text(text, encoding="utf-8")

    sentence = refusal(tmp_path, "--settings", str(tmp_path / "settings.yaml"))

    assert part in sentence


def test_a_key_that_may_not_be_read_ends_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("server: {certificate: tls, key: tls}\n", encoding="utf-8")
    (tmp_path / "tls").mkdir()

    assert "tls cannot be used" in refusal(tmp_path, "--settings", str(tmp_path / "settings.yaml"))


@pytest.mark.parametrize("port", ["port", "healthPort"])
def test_a_port_that_is_taken_ends_in_a_sentence(tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        server = {"address": "127.0.0.1", "port": 0, "healthPort": 0, port: number}
        (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"server": server}), encoding="utf-8")

        sentence = refusal(tmp_path, "--settings", str(tmp_path / "settings.yaml"))

    assert f"cannot listen on 127.0.0.1 port {number}" in sentence


def test_a_settings_file_that_is_not_there_ends_in_a_sentence(tmp_path: Path) -> None:
    assert "nowhere.yaml cannot be read" in refusal(tmp_path, "--settings", str(tmp_path / "nowhere.yaml"))


def test_a_kubeconfig_that_is_none_ends_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("nothing: here\n", encoding="utf-8")

    assert "kubeconfig" in refusal(tmp_path, "--kubeconfig", str(tmp_path / "kubeconfig"))


def test_manifests_that_are_not_there_end_in_a_sentence(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path, "--cluster", str(tmp_path / "nowhere"))


def test_a_cluster_that_does_not_answer_keeps_it_unready_and_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = taken.getsockname()[1]
    (tmp_path / "kubeconfig").write_text(kubeconfig(dead), encoding="utf-8")
    service = Service(with_registry(tmp_path), SETTINGS, "--kubeconfig", str(tmp_path / "kubeconfig"))
    try:
        service.wait_listening()

        answer = service.health("/readyz")
        wait_until(lambda: "following Namespace is interrupted" in service.log, "the reason")

        assert answer.status == 503
        assert b"not listed yet: Namespace" in answer.body
        assert service.health("/healthz").status == 200
        refused = service.post("/validate", review(pod())).response
        assert refused["allowed"] is False
        assert "namespace ml-production is not known yet and cannot be read" in refused["status"]["message"]
        assert service.end() == 0
        assert "Traceback" not in service.log
    finally:
        service.kill()


def kubeconfig(port: int) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
    )


def refusal(folder: Path, *arguments: str) -> str:
    """What it says on standard error when it ends with 2 instead of starting."""
    process = start(folder, *arguments)
    try:
        assert process.wait(LIMIT_S) == 2
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(LIMIT_S)
    said = (folder / "stderr").read_text(encoding="utf-8")
    assert "Traceback" not in said
    return said


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S):
            return True
    except OSError:
        return False
