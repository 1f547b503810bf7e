"""Images that must be signed, in the running service, with a registry that works, fails and is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.controlplane.waiting import wait_until
from tests.http.registry_server import RegistryServer, garbage, registry_server, silent
from tests.http.service import Service, pod, review, running
from tests.registries.oci_server import COSIGN, COSIGN_IMAGE, Images, public_pem

REPOSITORY = "models/resnet"
TEAM = ec.generate_private_key(ec.SECP256R1())
SIGNED, UNSIGNED, LATE = COSIGN_IMAGE, f"sha256:{'2' * 64}", f"sha256:{'3' * 64}"


@pytest.fixture
def images() -> Images:
    held = Images()
    held.hold_cosigns_bundle(REPOSITORY)
    return held


@pytest.fixture
def registry(images: Images) -> Iterator[RegistryServer]:
    with registry_server(images.answer) as server:
        yield server


def host(registry: RegistryServer) -> str:
    return registry.url.partition("//")[2]


def settings(folder: Path, registry: RegistryServer, **more: Any) -> dict[str, Any]:
    """Production wants images of the registry signed by cosign's key or the team's."""
    (folder / "cosign.pub").write_bytes((COSIGN / "cosign.pub").read_bytes())
    (folder / "team.pub").write_bytes(public_pem(TEAM))
    return {
        "environments": {"development": {}, "staging": {}, "production": {"action": "audit"}},
        "rules": {"image-signed": {"action": {"production": "deny"}}},
        "imageSignatures": {
            "keys": {"cosign": "cosign.pub", "team": "team.pub"},
            "registries": [{"host": host(registry), "url": registry.url, "breaker": {"failures": 1000}}],
            "require": [{"images": [f"{host(registry)}/models/*"]}],
            "deadlineSeconds": 0.5,
            "unsignedSeconds": 0,
            **more,
        },
    }


def judged(service: Service, image: str) -> dict[str, Any]:
    """The answer to a pod that runs the image."""
    obj = pod()
    obj["spec"]["containers"][0]["image"] = image
    response: dict[str, Any] = service.post("/validate", review(obj)).response
    return response


def refusal(service: Service, image: str) -> str:
    response = judged(service, image)
    assert response["allowed"] is False, response
    message: str = response["status"]["message"]
    return message


def test_a_signed_image_comes_in_and_an_unsigned_one_does_not(tmp_path: Path, registry: RegistryServer) -> None:
    with running(tmp_path, settings(tmp_path, registry)) as service:
        where = f"{host(registry)}/{REPOSITORY}"

        assert judged(service, f"{where}@{SIGNED}")["allowed"] is True
        message = refusal(service, f"{where}@{UNSIGNED}")
        assert "spec.containers[0].image (triton)" in message
        assert "is not signed as it must be: it has no signature by cosign or team" in message
        assert "rule image-signed" in message
        assert "a signature belongs to one" in refusal(service, f"{where}:latest")
        assert judged(service, f"registry.example.com/{REPOSITORY}@{UNSIGNED}")["allowed"] is True
        assert service.metric("tidewaiter_registry_questions_total", registry=host(registry), result="signed") == 1
        assert "Traceback" not in service.log


def test_a_workload_is_told_of_its_pods_image(tmp_path: Path, registry: RegistryServer) -> None:
    template = {"metadata": pod()["metadata"], "spec": pod()["spec"]}
    template["spec"]["containers"][0]["image"] = f"{host(registry)}/{REPOSITORY}@{UNSIGNED}"
    obj = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "resnet"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    kind = {"group": "apps", "version": "v1", "kind": "Deployment"}
    with running(tmp_path, settings(tmp_path, registry)) as service:
        response = service.post("/validate", review(obj, kind=kind)).response

    assert response["allowed"] is False
    assert "spec.template.spec.containers[0].image (triton)" in response["status"]["message"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("killed", "cannot be reached"),
        ("silent", "did not answer in time"),
        ("garbage", "answers with what is not JSON"),
    ],
)
def test_a_registry_that_fails_holds_up_new_images_only(
    tmp_path: Path, registry: RegistryServer, fault: str, reason: str
) -> None:
    with running(tmp_path, settings(tmp_path, registry)) as service:
        where = f"{host(registry)}/{REPOSITORY}"
        assert judged(service, f"{where}@{SIGNED}")["allowed"] is True
        if fault == "killed":
            registry.kill()
        else:
            registry.answer = {"silent": silent, "garbage": garbage}[fault]

        assert judged(service, f"{where}@{SIGNED}")["allowed"] is True
        message = refusal(service, f"{where}@{LATE}")
        assert f'nobody can say whether image "{where}@{LATE}" is signed: registry {host(registry)} {reason}' in message
        assert "try again once its registry answers" in message
        assert service.metric("tidewaiter_errors_total") == 0
        assert "Traceback" not in service.log


def test_an_image_that_is_signed_after_its_refusal_comes_in(
    tmp_path: Path, registry: RegistryServer, images: Images
) -> None:
    with running(tmp_path, settings(tmp_path, registry)) as service:
        image = f"{host(registry)}/{REPOSITORY}@{LATE}"
        refusal(service, image)

        images.sign(REPOSITORY, LATE, TEAM)

        wait_until(lambda: judged(service, image)["allowed"], "the signature to be seen")
