"""A mutating webhook in this process: somebody else's, or one that only looks."""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.components import LOCALHOST

Request = dict[str, Any]
Answer = Callable[[str, Request], list[dict[str, Any]]]
"""From the URL's path and the review's request to the operations of a JSON Patch."""


class WebhookServer:
    """Serves `NAME.webhooks.svc` over HTTPS. Use as a context manager.

    Reviews are also kept, as they came, in `reviews`: (path, body).
    """

    def __init__(self, plane: ControlPlane, name: str, answer: Answer = lambda _path, _request: []) -> None:
        self.name = name
        self.reviews: list[tuple[str, bytes]] = []
        self._plane = plane
        pair = plane.service_certificate("webhooks", name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self._server = ThreadingHTTPServer((LOCALHOST, 0), _handler(answer, self.reviews))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._plane.register_service("webhooks", self.name, (LOCALHOST, self._server.server_port))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._plane.kubectl("delete", "mutatingwebhookconfiguration", self.name, "--ignore-not-found", check=False)
        self._plane.unregister_service("webhooks", self.name)
        self._server.shutdown()
        self._server.server_close()

    def configuration(self, *webhooks: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration, named like the service, of webhooks given by `name` (also the URL's path) and what differs.

        API servers call mutating webhooks in the order of their configurations' names.
        """
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": self.name},
            "webhooks": [self._webhook(**one) for one in webhooks],
        }

    def _webhook(self, *, name: str, **more: Any) -> dict[str, Any]:
        pods = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
        return {
            "name": f"{name}.{self.name}.svc",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "rules": [pods],
            "clientConfig": {
                "service": {"namespace": "webhooks", "name": self.name, "path": f"/{name}"},
                "caBundle": self._plane.ca_bundle,
            },
            **more,
        }


def _handler(answer: Answer, reviews: list[tuple[str, bytes]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet: in two, the second waits 40 ms for an acknowledgement.
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path.partition("?")[0].strip("/")
            reviews.append((path, body))
            request = json.loads(body)["request"]
            response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
            patch = answer(path, request)
            if patch:
                response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
            review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
            content = json.dumps(review).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    return Handler
