"""The chart installed on a control plane, and the service run as its Deployment says.

There is no kubelet: what it would do is done here, from the stored objects. The files of the
projected volume are written to a folder, and the container's own arguments are run, as the
chart's ServiceAccount. Only ports and paths differ.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.chart.generate import CHART
from tests.chart.rendering import NAMESPACE, Object, run_helm, with_image
from tests.controlplane.child_process import ChildProcess
from tests.controlplane.cluster import ControlPlane, ControlPlaneError
from tests.controlplane.components import LOCALHOST, answers
from tests.controlplane.kubeconfig import base64_of
from tests.controlplane.waiting import wait_until

RELEASE = "tidewaiter"
REPOSITORY = CHART.parents[1]
_MOUNTED = "/etc/tidewaiter"
_STOP_LIMIT_S = 30.0


class Installation:
    """One release. `folder` gets the service's files and log; it must exist."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.folder = folder
        self._process: ChildProcess | None = None

    def helm(self, verb: str, values: dict[str, Any] | None = None) -> str:
        """`helm install`, `upgrade` or `uninstall` of this release; raises HelmError."""
        where = ("--namespace", NAMESPACE, "--kubeconfig", str(self.plane.kubeconfig))
        if values is None:
            return run_helm(verb, RELEASE, *where)
        return run_helm(verb, RELEASE, str(CHART), *where, values=with_image(values))

    def stored(self, kind: str, name: str = "tidewaiter") -> Object:
        """An object of the release, as the API server has it."""
        found = self.plane.get(kind, name, NAMESPACE)
        assert found is not None, f"{kind} {name} is not there"
        return found

    @property
    def log(self) -> Path:
        """What the service printed."""
        return self.folder / "log"

    def start(self) -> None:
        """Run the service as the Deployment says, wait until it is ready, and let the Service lead to it."""
        pod = self.stored("deployment")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        mounted = self._mount(pod["volumes"])
        port, health_port = self._listen_here(mounted / "settings.yaml")
        arguments = [one.replace(_MOUNTED, str(mounted)) for one in container["args"]]
        at = arguments.index("--in-cluster")
        arguments[at : at + 1] = ["--kubeconfig", str(self._service_account(pod["serviceAccountName"]))]
        assert container["command"] == ["tidewaiter"]
        command = [sys.executable, "-m", "webhook", *arguments]
        self._process = process = ChildProcess("tidewaiter", command, self.log, cwd=REPOSITORY)
        process.start()
        ready = f"http://{LOCALHOST}:{health_port}/readyz"
        try:
            wait_until(lambda: not process.running or answers(ready), f"the service to be ready: {self.log}")
        except BaseException:
            self.stop()
            raise
        if not process.running:
            raise ControlPlaneError(f"the service ended with {process.exit_status}:\n{process.log_tail()}")
        self.plane.register_service(NAMESPACE, "tidewaiter", (LOCALHOST, port))

    def stop(self) -> None:
        """End the service."""
        if self._process is not None:
            self._process.stop(_STOP_LIMIT_S)

    def _mount(self, volumes: list[Object]) -> Path:
        """What the kubelet would write for the projected volume."""
        folder = self.folder / "etc"
        shutil.rmtree(folder, ignore_errors=True)
        (settings,) = [one["projected"]["sources"] for one in volumes if one["name"] == "settings"]
        for source in settings:
            ((kind, projection),) = source.items()
            data = self.stored(kind, projection["name"])["data"]
            decode = base64.b64decode if kind == "secret" else str.encode
            for item in projection.get("items") or [{"key": key, "path": key} for key in data]:
                path = folder / item["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(decode(data[item["key"]]))
        return folder

    def _listen_here(self, settings_file: Path) -> tuple[int, int]:
        """Ports that are free on this machine, in place of those of a pod; both."""
        with socket.socket() as one, socket.socket() as other:
            one.bind((LOCALHOST, 0))
            other.bind((LOCALHOST, 0))
            ports = int(one.getsockname()[1]), int(other.getsockname()[1])
        settings = yaml.safe_load(settings_file.read_text())
        settings["server"] |= {"address": LOCALHOST, "port": ports[0], "healthPort": ports[1], "drainSeconds": 0}
        settings_file.write_text(yaml.safe_dump(settings))
        return ports

    def _service_account(self, name: str) -> Path:
        """A kubeconfig of the ServiceAccount: RBAC is asked about it, and not about an administrator."""
        token = self.plane.kubectl("create", "token", name, "-n", NAMESPACE, "--duration=1h").stdout.strip()
        cluster = {"server": self.plane.server, "certificate-authority-data": base64_of(self.plane.ca_file)}
        path = self.folder / "service-account.kubeconfig"
        path.touch(mode=0o600)
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": name}}],
            "current-context": "here",
        }
        path.write_text(json.dumps(configuration))
        return path
