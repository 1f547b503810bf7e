"""The review of our own objects beside a control plane, in this process: service, roles, users, watch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result
from starlette.applications import Starlette

from registries.cluster import ClusterRegistry
from registries.model_version import object_name
from tests.cluster.manifests import DIGEST
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.components import LOCALHOST
from tests.controlplane.waiting import wait_until
from webhook.cli import main
from webhook.cluster import KINDS, ClusterWatch, access_asker, connect
from webhook.governance.access import asking
from webhook.governance.configuration import governance_configurations
from webhook.governance.policy_exceptions import PolicyExceptions
from webhook.governance.review import GovernanceReviewer
from webhook.governance.roles import exception_approver, roles
from webhook.governance.routes import governance_routes
from webhook.governance.settings import GovernanceSettings
from webhook.governance.state import GovernanceState, watched_paths
from webhook.listener import listener

CRDS = Path(__file__).parents[2] / "charts" / "tidewaiter" / "crds"
OWN_NAMESPACE, SERVICE = "tidewaiter", "governance"
CONFIGURATION = "governance-under-test"
ENVIRONMENTS = ("development", "staging", "production")
SETTINGS = GovernanceSettings(approvers={"production": 2})
PIPELINE = "system:serviceaccount:ci:builder"
# Who has which roles; max and the pipeline may do both, by RBAC.
PEOPLE = {
    "mia": ("model-developer", "exception-requester"),
    "sam": ("model-approver-staging",),
    "ada": ("model-approver-production", "model-approver-staging", "exception-approver"),
    "tom": ("model-approver-production",),
    "max": ("model-developer", "model-approver-staging", "exception-requester", "exception-approver"),
    "eve": ("exception-approver-pinned",),
    PIPELINE: ("model-developer", "model-approver-staging"),
    "pat": (),
    "root": ("platform-administrator",),
    "eva": ("revocation-eraser",),
}


@dataclass
class Governed:
    """The running parts. `registry` and `exceptions` are fed by a watch."""

    plane: ControlPlane
    registry: ClusterRegistry
    exceptions: PolicyExceptions
    port: int
    kubeconfigs: dict[str, Path]

    def cli(self, user: str, *arguments: str, stdin: str = "") -> Result:
        """`tidewaiter ...` as a user."""
        return CliRunner().invoke(main, [*arguments, "--kubeconfig", str(self.kubeconfigs[user])], input=stdin)

    def create(self, user: str, obj: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
        """`kubectl create` as a user."""
        return self.plane.kubectl("create", "-f", "-", *options, input=json.dumps(obj), user=user, check=False)

    def patch(
        self, user: str, name: str, patch: dict[str, Any], *options: str, kind: str = "modelversion"
    ) -> subprocess.CompletedProcess[str]:
        """`kubectl patch` as a user; `options` may name the subresource."""
        return self.plane.kubectl(
            "patch", kind, name, "--type=merge", "-p", json.dumps(patch), *options, user=user, check=False
        )

    def approvals(self, name: str) -> dict[tuple[str, str], str]:
        """Who said what, by environment and approver."""
        obj = self.plane.get("modelversion", name)
        assert obj is not None
        entries = obj.get("status", {}).get("approvals", ())
        return {(one["environment"], one["approver"]): one["state"] for one in entries}

    def proposed(self, user: str, model: str, version: str = "1") -> str:
        """Propose a version; returns the object's name."""
        done = self.create(user, version_of(model, version))
        assert done.returncode == 0, done.stderr
        return object_name(model, version)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Without the service."""
        self.plane.register_service(OWN_NAMESPACE, SERVICE, (LOCALHOST, 1))
        try:
            yield
        finally:
            self.plane.register_service(OWN_NAMESPACE, SERVICE, (LOCALHOST, self.port))
            wait_until(self._called, "the service to be called again")

    def _called(self) -> bool:
        """Whether a version with a wrong name is refused by us."""
        probe = {**version_of("probe"), "metadata": {"name": "other"}}
        return "is not the name of probe:1" in self.create("mia", probe, "--dry-run=server").stderr


def version_of(model: str, version: str = "1", **spec: Any) -> dict[str, Any]:
    """A ModelVersion as a pipeline writes it."""
    return {
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": object_name(model, version)},
        "spec": {"model": model, "version": version, "source": f"s3://models/{model}", "digest": DIGEST, **spec},
    }


@contextlib.contextmanager
def governed(plane: ControlPlane) -> Iterator[Governed]:
    """Install the CustomResourceDefinitions, roles and webhooks, and follow the objects."""
    for path in sorted(CRDS.glob("*.yaml")):
        plane.apply(yaml.safe_load(path.read_text()))
    for plural in ("modelversions", "policyexceptions"):
        plane.kubectl("wait", f"crd/{plural}.tidewaiter.dev", "--for=condition=Established", "--timeout=30s")
    if plane.get("namespace", OWN_NAMESPACE) is None:
        plane.create_namespace(OWN_NAMESPACE)
    kubeconfigs = _people(plane)
    registry, exceptions = ClusterRegistry(SETTINGS.approvers), PolicyExceptions(OWN_NAMESPACE)
    api = connect(plane.kubeconfig)
    reviewer = GovernanceReviewer(SETTINGS, ENVIRONMENTS, OWN_NAMESPACE, asking(access_asker(api)))
    watch = _following(plane, GovernanceState(registry, exceptions))
    with _served(plane, reviewer) as port:
        found = Governed(plane, registry, exceptions, port, kubeconfigs)
        plane.register_service(OWN_NAMESPACE, SERVICE, (LOCALHOST, port))
        configurations = governance_configurations(SERVICE, OWN_NAMESPACE, plane.ca_bundle)
        plane.apply(*({**one, "metadata": {"name": CONFIGURATION}} for one in configurations))
        try:
            wait_until(found._called, "the governance webhooks to be called")
            wait_until(lambda: not watch.missing, "our objects to be listed")
            yield found
        finally:
            watch.stop()
            for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
                plane.kubectl("delete", kind, CONFIGURATION, "--ignore-not-found", check=False)
            plane.unregister_service(OWN_NAMESPACE, SERVICE)
            api.close()


def _people(plane: ControlPlane) -> dict[str, Path]:
    only_pinned = exception_approver(OWN_NAMESPACE, ["image-pinned"], "exception-approver-pinned")
    made = [*roles(ENVIRONMENTS, OWN_NAMESPACE), only_pinned]
    kinds = {one["metadata"]["name"]: one["kind"] for one in made}
    bindings = [_binding(user, f"tidewaiter-{role}", kinds) for user, had in PEOPLE.items() for role in had]
    plane.apply(*made, *bindings)
    groups: dict[str, Sequence[str]] = {PIPELINE: ("system:serviceaccounts", "system:serviceaccounts:ci")}
    found = {user: plane.user_kubeconfig(user, groups.get(user, ())) for user in PEOPLE}
    # A colon in a path separates kubeconfigs.
    found[PIPELINE] = Path(shutil.copy(found[PIPELINE], plane.workdir / "pipeline.kubeconfig"))
    return found


def _binding(user: str, role: str, kinds: dict[str, str]) -> dict[str, Any]:
    kind, api = kinds[role], "rbac.authorization.k8s.io"
    metadata = {"name": f"{user.replace(':', '-')}-{role}"}
    if kind == "Role":
        metadata["namespace"] = OWN_NAMESPACE
    return {
        "apiVersion": f"{api}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": api, "kind": kind, "name": role},
        "subjects": [{"apiGroup": api, "kind": "User", "name": user}],
    }


def _following(plane: ControlPlane, state: GovernanceState) -> ClusterWatch:
    """The watch of `tidewaiter serve`, on our own kinds."""
    made = type(KINDS[0])
    kinds = tuple(made(kind, path) for kind, path in watched_paths(OWN_NAMESPACE).items())
    watch = ClusterWatch(connect(plane.kubeconfig), state, kinds)
    watch.start()
    return watch


@contextlib.contextmanager
def _served(plane: ControlPlane, reviewer: GovernanceReviewer) -> Iterator[int]:
    """The routes over TLS on a thread; yields the port."""
    pair = plane.service_certificate(OWN_NAMESPACE, SERVICE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server = listener(Starlette(routes=governance_routes(reviewer, 5)), context, 5)
    bound = socket.create_server((LOCALHOST, 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])))
    thread.start()
    try:
        yield int(bound.getsockname()[1])
    finally:
        server.should_exit = server.force_exit = True
        thread.join(timeout=30)
        bound.close()
