"""`tidewaiter serve` beside a control plane, registered by `service:` as in a cluster."""

import base64
import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.controlplane.child_process import ChildProcess
from tests.controlplane.cluster import ControlPlane, ControlPlaneError
from tests.controlplane.components import LOCALHOST, answers
from tests.controlplane.waiting import wait_until
from webhook.settings import load_settings
from webhook.webhook_configuration import webhook_configurations

REPOSITORY = Path(__file__).parents[2]
NAME = "tidewaiter"
KINDS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
# The API server takes the service's Service as the address; nobody listens on port 1.
NOBODY = (LOCALHOST, 1)
STOP_LIMIT_S = 30.0
_SERVER = """
server: {port: %d, healthPort: %d, address: 127.0.0.1, drainSeconds: 0}
"""
_PROBE_PATH = "/api/v1/namespaces/default/pods?dryRun=All"
_PROBE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "probe"},
    "spec": {"containers": [{"name": "triton", "image": "nvcr.io/nvidia/tritonserver:probe"}]},
}
_BOTH = {"mutate", "validate"}


class Tidewaiter:
    """Use as a context manager, inside that of the control plane.

    `folder` must exist; `settings` is the text of the settings file, without `server`.
    Files that it names are looked for in `folder`. Entering raises ControlPlaneError
    when the process ends at once, WaitTimeoutError when it does not become ready or is
    not called; the text names its log.
    """

    def __init__(self, plane: ControlPlane, folder: Path, settings: str) -> None:
        self.plane = plane
        self.folder = folder
        self.port, self.health_port = _free_ports()
        self.settings_file = folder / "settings.yaml"
        self.settings_file.write_text(settings + _SERVER % (self.port, self.health_port))
        self.settings = load_settings(self.settings_file)
        command = [sys.executable, "-m", "webhook", "serve", "--settings", str(self.settings_file)]
        command += ["--kubeconfig", str(plane.kubeconfig), "--certificates", str(folder)]
        self.process = ChildProcess(NAME, command, folder / "log", cwd=REPOSITORY)

    def __enter__(self) -> Self:
        try:
            self.process.start()
            self._wait_until_ready()
            self.plane.register_service(NAME, NAME, (LOCALHOST, self.port))
            self.register()
        except BaseException:
            self.process.stop(STOP_LIMIT_S)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception):
            # The control plane may be gone first, after an interrupt.
            self.plane.kubectl("delete", ",".join(KINDS), NAME, "--ignore-not-found", check=False)
        self.process.stop(STOP_LIMIT_S)

    def configurations(self) -> list[dict[str, Any]]:
        """The webhook configurations, as an installation has them."""
        return webhook_configurations(
            self.settings, base64.b64encode((self.folder / "ca.crt").read_bytes()).decode("ascii")
        )

    def register(self) -> None:
        """Apply the webhook configurations and wait until both webhooks are called."""
        self.plane.apply(*self.configurations())
        self._wait_until_called(_BOTH)

    @contextlib.contextmanager
    def unregistered(self) -> Iterator[None]:
        """Without the webhook configurations, as if Tidewaiter had not been installed."""
        self.plane.kubectl("delete", ",".join(KINDS), NAME)
        try:
            self._wait_until_called(set())
            yield
        finally:
            self.register()

    @contextlib.contextmanager
    def mutate_down(self) -> Iterator[None]:
        """With /mutate out of reach, and /validate alive."""
        mutating, _ = self.configurations()
        self.plane.register_service(NAME, "nobody", NOBODY)
        for webhook in mutating["webhooks"]:
            webhook["clientConfig"]["service"]["name"] = "nobody"
        try:
            self.plane.apply(mutating)
            self._wait_until_called({"validate"})
            yield
        finally:
            self.register()

    def _wait_until_ready(self) -> None:
        url, log = f"http://{LOCALHOST}:{self.health_port}/readyz", self.process.log
        wait_until(lambda: not self.process.running or answers(url), f"tidewaiter to be ready: {log}")
        if not self.process.running:
            raise ControlPlaneError(
                f"tidewaiter ended with status {self.process.exit_status}; {log} ends with:\n{self.process.log_tail()}"
            )

    def _wait_until_called(self, wanted: set[str]) -> None:
        with self.plane.client() as client:

            def called() -> set[str]:
                warnings = "".join(client.send("POST", _PROBE_PATH, _PROBE).warnings)
                return {name for name, mark in (("mutate", "(mutator "), ("validate", "(rule ")) if mark in warnings}

            wait_until(lambda: called() == wanted, f"the API server to call {sorted(wanted) or 'no webhook'}")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind((LOCALHOST, 0))
        other.bind((LOCALHOST, 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])
