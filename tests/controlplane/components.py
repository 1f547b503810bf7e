"""The command lines of the control plane's processes, and when each is ready."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.controlplane.certificates import KeyPair

LOCALHOST = "127.0.0.1"
SERVICE_CIDR = "10.96.0.0/16"
POD_CIDR = "10.244.0.1/16"
PROBE_LIMIT_S = 2.0
# With the default limits the controllers need seconds longer to make the first
# ServiceAccount.
UNTHROTTLED = ("--kube-api-qps=1000", "--kube-api-burst=1000")


@dataclass(frozen=True)
class Component:
    """One process: its arguments, and a URL that answers 200 when it is ready."""

    name: str
    arguments: tuple[str, ...]
    ready_url: str


@dataclass(frozen=True)
class Files:
    """What the command lines point at, all in one directory."""

    directory: Path
    authority: KeyPair
    serving: KeyPair
    service_account: KeyPair
    egress_selector: Path
    kubeconfigs: Mapping[str, Path]
    kwok_stages: Sequence[Path]


@dataclass(frozen=True)
class Ports:
    """Free TCP ports on localhost."""

    etcd: int
    etcd_peer: int
    api_server: int
    controller_manager: int
    scheduler: int
    kwok: int


def etcd(files: Files, ports: Ports) -> Component:
    """An etcd that forgets: no fsync, data in the temporary directory."""
    client = f"http://{LOCALHOST}:{ports.etcd}"
    peer = f"http://{LOCALHOST}:{ports.etcd_peer}"
    arguments = (
        f"--data-dir={files.directory / 'etcd-data'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
    )
    return Component("etcd", arguments, f"{client}/health")


def api_server(files: Files, ports: Ports, extra: Sequence[str] = ()) -> Component:
    """An API server with the default admission plugins, RBAC and the Node authorizer."""
    arguments = (
        f"--etcd-servers=http://{LOCALHOST}:{ports.etcd}",
        f"--bind-address={LOCALHOST}",
        f"--advertise-address={LOCALHOST}",
        f"--secure-port={ports.api_server}",
        # No node routes to this address, so nothing may publish it.
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={files.serving.certificate}",
        f"--tls-private-key-file={files.serving.key}",
        f"--client-ca-file={files.authority.certificate}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={files.service_account.certificate}",
        f"--service-account-signing-key-file={files.service_account.key}",
        "--authorization-mode=Node,RBAC",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--allow-privileged=true",
        f"--egress-selector-config-file={files.egress_selector}",
        *extra,
    )
    return Component("kube-apiserver", arguments, f"https://{LOCALHOST}:{ports.api_server}/readyz")


def controller_manager(files: Files, ports: Ports) -> Component:
    """All controllers, node lifecycle too."""
    arguments = (
        *_client_flags(files.kubeconfigs["kube-controller-manager"]),
        f"--bind-address={LOCALHOST}",
        f"--secure-port={ports.controller_manager}",
        "--leader-elect=false",
        *UNTHROTTLED,
        "--use-service-account-credentials",
        # KWOK renews no lease as it is started here, and a new one of its processes would have to
        # wait for the old one's: with the default of 50 s nodes were not ready every minute.
        "--node-monitor-grace-period=1h",
        f"--service-account-private-key-file={files.service_account.key}",
        f"--root-ca-file={files.authority.certificate}",
        f"--cluster-signing-cert-file={files.authority.certificate}",
        f"--cluster-signing-key-file={files.authority.key}",
    )
    url = f"https://{LOCALHOST}:{ports.controller_manager}/healthz"
    return Component("kube-controller-manager", arguments, url)


def scheduler(files: Files, ports: Ports) -> Component:
    """The default scheduler."""
    arguments = (
        *_client_flags(files.kubeconfigs["kube-scheduler"]),
        f"--bind-address={LOCALHOST}",
        f"--secure-port={ports.scheduler}",
        "--leader-elect=false",
        *UNTHROTTLED,
    )
    url = f"https://{LOCALHOST}:{ports.scheduler}/healthz"
    return Component("kube-scheduler", arguments, url)


def kwok(files: Files, ports: Ports) -> Component:
    """KWOK as the kubelet of every node."""
    arguments = (
        f"--kubeconfig={files.kubeconfigs['kwok']}",
        "--manage-all-nodes=true",
        f"--node-ip={LOCALHOST}",
        f"--cidr={POD_CIDR}",
        f"--server-address={LOCALHOST}:{ports.kwok}",
        *(f"--config={stage}" for stage in files.kwok_stages),
    )
    return Component("kwok", arguments, f"http://{LOCALHOST}:{ports.kwok}/readyz")


def egress_selector_configuration(socket_path: Path) -> str:
    """Sends what goes to Services through the proxy on that Unix socket."""
    transport = {"uds": {"udsName": str(socket_path)}}
    connection = {"proxyProtocol": "HTTPConnect", "transport": transport}
    configuration = {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }
    return json.dumps(configuration)


def answers(url: str) -> bool:
    """Whether `url` answers 200."""
    # Two of the servers make their own certificate; only readiness is asked here.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=PROBE_LIMIT_S) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _client_flags(kubeconfig: Path) -> tuple[str, ...]:
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
    )
