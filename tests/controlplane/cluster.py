"""A control plane on this machine: real API server, scheduler and controllers.

KWOK plays the kubelets, and an egress proxy plays the cluster network. Everything lives in
one directory and ends with the ControlPlane.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.controlplane import components
from tests.controlplane.api_client import ApiClient
from tests.controlplane.binaries import kwok_stages, locate
from tests.controlplane.certificates import Authority, KeyPair
from tests.controlplane.child_process import ChildProcess
from tests.controlplane.components import LOCALHOST, Component, Files, Ports
from tests.controlplane.egress_proxy import Address, EgressProxy
from tests.controlplane.kubeconfig import base64_of, write_kubeconfig
from tests.controlplane.waiting import WaitTimeoutError, wait_until

START_LIMIT_S = 60.0
KUBECTL_LIMIT_S = 60.0

ADMIN = "admin"
# Users of the control plane itself, and the groups that RBAC's defaults know them by.
COMPONENT_USERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    ADMIN: ("kubernetes-admin", ("system:masters",)),
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kwok": ("kwok", ("system:masters",)),
}
NODE_CAPACITY = {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "1Ti", "pods": "110"}
NODE_CONDITION_TAINTS = "node.kubernetes.io/"


class ControlPlaneError(Exception):
    """A process of the control plane did not become ready; the text ends with its log."""


class KubectlError(Exception):
    """kubectl failed; the text is the command and what it printed on stderr."""


class ControlPlane:
    """Use as a context manager, from a thread that lives as long as the control plane.

    `workdir` gets keys, data and one log per process; it must exist, and may be empty.
    `services` registers Services at once: {"namespace/name": (host, port)}.
    `api_server_flags` are appended to the API server's command line (audit log, feature
    gates, admission plugins).
    Entering raises BuildError when a program cannot be built and ControlPlaneError
    when a process does not come up; nothing is left running then.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        services: Mapping[str, Address] | None = None,
        api_server_flags: Sequence[str] = (),
    ) -> None:
        self.workdir = workdir.resolve()
        self._services = dict(services or {})
        self._api_server_flags = tuple(api_server_flags)
        self._authority = Authority(self.workdir)
        self._ports = _free_ports()
        self._kubeconfigs = {
            name: self._write_kubeconfig(name, user, groups) for name, (user, groups) in COMPONENT_USERS.items()
        }
        # A socket's path is limited to about 100 characters, which a test's directory exceeds.
        self._socket_directory = Path(tempfile.mkdtemp(prefix="tidewaiter-"))
        self._proxy = EgressProxy(self._socket_directory / "egress.sock")
        self._destinations: dict[tuple[str, str], str] = {}
        self._components: dict[str, Component] = {}
        self._processes: dict[str, ChildProcess] = {}

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self._proxy.start()
            self.start("etcd")
            self.start("kube-apiserver")
            self.start("kube-controller-manager", "kube-scheduler", "kwok")
            self._wait_for_service_account("default")
            for service, address in self._services.items():
                namespace, name = service.split("/")
                self.register_service(namespace, name, address)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process; the files in `workdir` stay."""
        self.stop(*reversed(self._processes))
        self._proxy.close()
        shutil.rmtree(self._socket_directory, ignore_errors=True)

    # Processes

    def start(self, *names: str) -> None:
        """Start the named processes side by side and wait until all are ready.

        Names: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok.
        Raises ControlPlaneError with the end of the log of the one that failed.
        """
        for name in names:
            self._processes[name].start()
        for name in names:
            self._wait_until_ready(name)

    def stop(self, *names: str) -> None:
        """End the named processes; `start` brings them back with their state."""
        processes = [self._processes[name] for name in names]
        for process in processes:
            process.terminate()
        for process in processes:
            process.stop()

    def log(self, name: str) -> Path:
        """The log file of one process."""
        return self._processes[name].log

    def pid(self, name: str) -> int | None:
        """The process id of one process; None before it was started."""
        return self._processes[name].pid

    # Clients

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{LOCALHOST}:{self._ports.api_server}"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of a cluster administrator."""
        return self._kubeconfigs[ADMIN]

    @property
    def ca_file(self) -> Path:
        """The PEM file of the authority that signs every certificate here."""
        return self._authority.pair.certificate

    @property
    def ca_bundle(self) -> str:
        """The same authority as a webhook configuration's `caBundle` (base64 of PEM)."""
        return base64_of(self.ca_file)

    def user_kubeconfig(self, name: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for a user, who may do what RBAC grants to the name and groups.

        Afterwards `kubectl(..., user=name)` acts as that user.
        """
        if name in COMPONENT_USERS:
            raise ValueError(f"user {name!r} belongs to the control plane; choose another name")
        self._kubeconfigs[name] = self._write_kubeconfig(name, name, groups)
        return self._kubeconfigs[name]

    def service_certificate(self, namespace: str, name: str) -> KeyPair:
        """A server certificate for `NAME.NAMESPACE.svc`, which the API server asks for."""
        host = f"{name}.{namespace}.svc"
        return self._authority.issue(host, host, dns_names=(host, "localhost"), addresses=(LOCALHOST,))

    def client(self) -> ApiClient:
        """A connection of the administrator's, for many requests; close it (`with`)."""
        return ApiClient(self.server, self.ca_file, self._admin_pair)

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,
        check: bool = True,
        user: str | None = None,
        timeout_s: float = KUBECTL_LIMIT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator, or as a user made by `user_kubeconfig`.

        Raises KubectlError when `check` is set and it fails.
        """
        kubeconfig = self._kubeconfigs[user or ADMIN]
        # The default discovery cache is keyed by host and port, which another control plane
        # may have had before.
        options = (f"--kubeconfig={kubeconfig}", f"--cache-dir={self.workdir / 'kubectl-cache'}")
        done = subprocess.run(
            [str(locate("kubectl")), *options, *arguments],
            input=input or "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def apply(self, *objects: Mapping[str, Any], user: str | None = None) -> None:
        """`kubectl apply` the objects, in this order."""
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "-f", "-", input=json.dumps(listed), user=user)

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """The object as the API server has it, None when it does not exist."""
        scope = () if namespace is None else ("-n", namespace)
        done = self.kubectl("get", kind, name, *scope, "--ignore-not-found", "-o", "json")
        return dict(json.loads(done.stdout)) if done.stdout else None

    # What a cluster would have

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Create a namespace and wait until pods can be created in it.

        Raises WaitTimeoutError when that takes more than 30 s.
        """
        metadata = {"name": name, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self._wait_for_service_account(name)

    def add_gpu_node(
        self,
        name: str,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[str] = (),
        capacity: Mapping[str, str] | None = None,
    ) -> None:
        """Add a node and wait until the scheduler may use it.

        Taints are written as for `kubectl taint`: `nvidia.com/gpu=present:NoSchedule`.
        `capacity` is added to that of an ordinary big machine; one GPU when left out.
        Raises WaitTimeoutError when that takes more than 30 s.
        """
        resources = NODE_CAPACITY | dict({"nvidia.com/gpu": "1"} if capacity is None else capacity)
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {"kubernetes.io/hostname": name, **(labels or {})},
            },
            "spec": {"taints": [_taint(text) for text in taints]},
            "status": {"capacity": resources, "allocatable": resources},
        }
        # A status is kept on creation only for nodes; `apply` would put it in an annotation.
        self.kubectl("create", "-f", "-", input=json.dumps(node))
        wait_until(lambda: _schedulable(self.get("node", name)), f"node {name} to be schedulable")

    def register_service(self, namespace: str, name: str, address: Address, *, port: int = 443) -> None:
        """Let a Service lead to a local process, for the API server's webhook calls.

        The Service (and its namespace) is created unless it exists. Registering again moves
        it to another address. The API server needs a moment to see a new Service: poll for
        the webhook's first answer with `wait_until`.
        """
        self.unregister_service(namespace, name)
        if self.get("namespace", namespace) is None:
            self.create_namespace(namespace)
        service = self.get("service", name, namespace)
        if service is None:
            self.apply(_service(namespace, name, port))
            service = self.get("service", name, namespace)
        assert service is not None
        destination = f"{service['spec']['clusterIP']}:{port}"
        self._proxy.route(destination, address)
        self._destinations[namespace, name] = destination

    def unregister_service(self, namespace: str, name: str) -> None:
        """Let a Service refuse connections, as with no pod behind it; the object stays."""
        destination = self._destinations.pop((namespace, name), None)
        if destination is not None:
            self._proxy.unroute(destination)

    # Making it

    def _prepare(self) -> None:
        """Write the files, build what is missing and lay out the processes."""
        egress_selector = self.workdir / "egress-selector.json"
        egress_selector.write_text(components.egress_selector_configuration(self._proxy.socket_path))
        files = Files(
            directory=self.workdir,
            authority=self._authority.pair,
            serving=self._authority.issue(
                "kube-apiserver",
                "kube-apiserver",
                dns_names=("kubernetes.default.svc", "localhost"),
                addresses=(LOCALHOST,),
            ),
            service_account=self._authority.issue("service-account", "service-account"),
            egress_selector=egress_selector,
            kubeconfigs=self._kubeconfigs,
            kwok_stages=kwok_stages(),
        )
        for component in (
            components.etcd(files, self._ports),
            components.api_server(files, self._ports, self._api_server_flags),
            components.controller_manager(files, self._ports),
            components.scheduler(files, self._ports),
            components.kwok(files, self._ports),
        ):
            self._components[component.name] = component
            self._processes[component.name] = ChildProcess(
                component.name,
                [str(locate(component.name)), *component.arguments],
                self.workdir / f"{component.name}.log",
                cwd=self.workdir,
            )

    @property
    def _admin_pair(self) -> KeyPair:
        stem = self.workdir / f"user-{ADMIN}"
        return KeyPair(stem.with_suffix(".crt"), stem.with_suffix(".key"))

    def _write_kubeconfig(self, file_name: str, user: str, groups: Sequence[str]) -> Path:
        stem = file_name.replace("/", "_")
        pair = self._authority.issue(f"user-{stem}", user, organizations=groups)
        path = self.workdir / f"{stem}.kubeconfig"
        return write_kubeconfig(path, self.server, self.ca_file, user, pair)

    def _wait_until_ready(self, name: str) -> None:
        process, url = self._processes[name], self._components[name].ready_url

        def ready_or_ended() -> bool:
            return not process.running or components.answers(url)

        with contextlib.suppress(WaitTimeoutError):
            wait_until(ready_or_ended, f"{name} to be ready", START_LIMIT_S)
            if process.running:
                return
        reason = (
            f"was not ready after {START_LIMIT_S:g} s"
            if process.running
            else f"ended with status {process.exit_status}"
        )
        raise ControlPlaneError(f"{name} {reason}; {process.log} ends with:\n{process.log_tail()}")

    def _wait_for_service_account(self, namespace: str) -> None:
        # Without it the ServiceAccount admission plugin refuses every pod.
        wait_until(
            lambda: self.get("serviceaccount", "default", namespace),
            f"the default ServiceAccount of namespace {namespace}",
        )


def _free_ports() -> Ports:
    """Ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:

        def free_port() -> int:
            listener = stack.enter_context(socket.socket())
            listener.bind((LOCALHOST, 0))
            return int(listener.getsockname()[1])

        return Ports(*(free_port() for _ in Ports.__dataclass_fields__))


def _taint(text: str) -> dict[str, str]:
    pair, separator, effect = text.rpartition(":")
    if not separator:
        raise ValueError(f"taint {text!r} has no effect; write key=value:NoSchedule")
    key, _, value = pair.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def _schedulable(node: dict[str, Any] | None) -> bool:
    """Whether the node is Ready and its condition taints are gone."""
    if node is None:
        return False
    conditions = {condition["type"]: condition["status"] for condition in node["status"].get("conditions", ())}
    taints = node["spec"].get("taints", ())
    tainted = any(taint["key"].startswith(NODE_CONDITION_TAINTS) for taint in taints)
    return conditions.get("Ready") == "True" and not tainted


def _service(namespace: str, name: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"ports": [{"port": port}]},
    }
