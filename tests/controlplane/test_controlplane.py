"""What the control plane must be able to do before anything is tested on it."""

import json
import os
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.controlplane.cluster import ControlPlane, ControlPlaneError, KubectlError
from tests.controlplane.egress_proxy import Address
from tests.controlplane.waiting import wait_until

GPU_TAINT = "nvidia.com/gpu=present:NoSchedule"
GPU_TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
DENIAL = "spec.containers[0]: no model pods today"

Object = dict[str, Any]


class DenyingHandler(BaseHTTPRequestHandler):
    """Denies every admission review."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer the review with its own uid."""
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = {"code": 403, "reason": "Forbidden", "message": DENIAL}
        review["response"] = {
            "uid": review.pop("request")["uid"],
            "allowed": False,
            "status": status,
        }
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def denying_webhook(control_plane: ControlPlane) -> Iterator[Address]:
    """A local HTTPS server with a certificate for `denier.webhooks.svc`."""
    pair = control_plane.service_certificate("webhooks", "denier")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), DenyingHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield "127.0.0.1", server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def guarded_namespace(control_plane: ControlPlane, denying_webhook: Address) -> Iterator[str]:
    """A namespace whose pods the webhook judges; the webhook is known to be active."""
    name = "guarded"
    if control_plane.get("namespace", name) is None:
        control_plane.create_namespace(name)
    control_plane.register_service("webhooks", "denier", denying_webhook)
    control_plane.apply(webhook_configuration(control_plane, name))
    wait_until(lambda: DENIAL in dry_run(control_plane, name), "the webhook to deny")
    yield name
    control_plane.kubectl("delete", "validatingwebhookconfiguration", "denier")
    control_plane.unregister_service("webhooks", "denier")


def webhook_configuration(control_plane: ControlPlane, namespace: str) -> Object:
    service = {"namespace": "webhooks", "name": "denier", "path": "/validate"}
    webhook = {
        "name": "denier.webhooks.svc",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["pods"],
                "operations": ["CREATE"],
            }
        ],
        "clientConfig": {"service": service, "caBundle": control_plane.ca_bundle},
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "denier"},
        "webhooks": [webhook],
    }


def pod(name: str, namespace: str, **spec: object) -> Object:
    resources = {"limits": {"nvidia.com/gpu": "1"}}
    container = {"name": "model", "image": "example.com/model:1", "resources": resources}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], **spec},
    }


def dry_run(control_plane: ControlPlane, namespace: str) -> str:
    """What kubectl prints on stderr when a pod is created without being stored."""
    manifest = json.dumps(pod("probe", namespace))
    arguments = ("create", "--dry-run=server", "-f", "-")
    return control_plane.kubectl(*arguments, input=manifest, check=False).stderr


def unschedulable_message(control_plane: ControlPlane, name: str, namespace: str) -> str:
    stored = control_plane.get("pod", name, namespace) or {}
    conditions = stored.get("status", {}).get("conditions", ())
    return "".join(
        condition.get("message", "")
        for condition in conditions
        if condition["type"] == "PodScheduled" and condition["status"] == "False"
    )


def test_only_the_pod_with_a_toleration_runs_on_a_tainted_gpu_node(
    control_plane: ControlPlane,
) -> None:
    control_plane.add_gpu_node(
        "gpu-1",
        labels={"nvidia.com/gpu.product": "NVIDIA-L4"},
        taints=(GPU_TAINT,),
        capacity={"nvidia.com/gpu": "4"},
    )
    control_plane.create_namespace("gpu")
    control_plane.apply(pod("tolerant", "gpu", tolerations=[GPU_TOLERATION]), pod("intolerant", "gpu"))

    running = "--for=jsonpath={.status.phase}=Running"
    control_plane.kubectl("wait", running, "pod/tolerant", "-n", "gpu", "--timeout=30s")
    message = wait_until(
        lambda: unschedulable_message(control_plane, "intolerant", "gpu"),
        "the scheduler to refuse the other pod",
    )

    tolerant = control_plane.get("pod", "tolerant", "gpu")
    intolerant = control_plane.get("pod", "intolerant", "gpu")
    assert tolerant is not None
    assert tolerant["spec"]["nodeName"] == "gpu-1"
    assert intolerant is not None
    assert intolerant["status"]["phase"] == "Pending"
    assert "untolerated taint" in message


def test_a_webhook_by_service_is_reached_and_its_denial_reaches_the_user(
    control_plane: ControlPlane, guarded_namespace: str
) -> None:
    with pytest.raises(KubectlError, match=r"denied the request: .*no model pods today"):
        control_plane.apply(pod("model", guarded_namespace))

    assert control_plane.get("pod", "model", guarded_namespace) is None


def test_an_unregistered_service_fails_the_webhook_call(control_plane: ControlPlane, guarded_namespace: str) -> None:
    control_plane.unregister_service("webhooks", "denier")

    assert 'failed calling webhook "denier.webhooks.svc"' in dry_run(control_plane, guarded_namespace)


def test_a_service_registered_again_leads_to_its_new_address(
    control_plane: ControlPlane, guarded_namespace: str, denying_webhook: Address
) -> None:
    # Nobody listens on port 1.
    control_plane.register_service("webhooks", "denier", ("127.0.0.1", 1))
    down = dry_run(control_plane, guarded_namespace)
    control_plane.register_service("webhooks", "denier", denying_webhook)

    assert "failed calling webhook" in down
    assert DENIAL in dry_run(control_plane, guarded_namespace)


def test_a_user_may_do_what_rbac_grants_and_nothing_else(control_plane: ControlPlane) -> None:
    control_plane.create_namespace("team")
    control_plane.user_kubeconfig("ada", groups=("model-developers",))
    control_plane.kubectl(
        "create", "rolebinding", "developers", "-n", "team", "--clusterrole=edit",
        "--group=model-developers",
    )  # fmt: skip

    control_plane.kubectl("create", "configmap", "notes", "-n", "team", user="ada")

    with pytest.raises(KubectlError, match='User "ada" cannot create resource "configmaps"'):
        control_plane.kubectl("create", "configmap", "notes", "-n", "default", user="ada")


def test_a_process_that_does_not_start_is_reported_with_its_log_and_nothing_stays(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    broken = ControlPlane(tmp_path_factory.mktemp("broken"), api_server_flags=("--no-such-flag",))

    expected = r"(?s)kube-apiserver ended with status 1.*unknown flag: --no-such-flag"
    with pytest.raises(ControlPlaneError, match=expected), broken:
        pass

    etcd = broken.pid("etcd")
    assert etcd is not None
    with pytest.raises(ProcessLookupError):
        os.kill(etcd, 0)
