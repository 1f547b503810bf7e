"""The chart on a real API server: installed, upgraded, uninstalled; the service runs as its ServiceAccount."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.generate import CHART
from tests.chart.installation import Installation
from tests.chart.rendering import IMAGE, NAMESPACE, HelmError, rendered, run_helm
from tests.chart.variants import VARIANTS
from tests.cluster.conftest import opted_in
from tests.cluster.governed import version_of
from tests.cluster.manifests import pod, pods_of
from tests.controlplane.build_cache import BuildError
from tests.controlplane.cluster import ControlPlane, ControlPlaneError
from tests.controlplane.waiting import wait_until
from webhook.cluster import KINDS
from webhook.governance.state import watched_paths

REGISTRY = """
models:
  - name: resnet50
    versions: [{version: "3", state: approved, environments: [production]}]
"""
RULE = """# METADATA
# title: Pods are named politely
# description: Judges the names of pods' containers.
# custom:
#   id: polite-name
#   severity: low
#   remedy: say please
package tidewaiter.polite_name

findings contains {"path": "spec", "message": "WORD"} if input.namespace == "polite"
"""
VALUES: dict[str, Any] = {
    "settings": {
        "environments": {"development": {"action": "audit"}, "production": {"action": "deny"}},
        "registries": [
            {"name": "file", "type": "file", "path": "registry.yaml"},
            {"name": "cluster", "type": "cluster", "models": ["governed-*"]},
        ],
        "policies": {"configMap": "own-policies"},
    },
    "settingsFiles": {"registry.yaml": REGISTRY},
}
NOT_INSTALLED = ("cert-manager.io", "monitoring.coreos.com")
CONFIGURATIONS = "mutatingwebhookconfiguration,validatingwebhookconfiguration"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """On a control plane of its own: the names of the chart's objects are the cluster's."""
    try:
        with ControlPlane(tmp_path_factory.mktemp("chart-control-plane")) as plane:
            plane.add_gpu_node("gpu-board-1", capacity={"nvidia.com/gpu": "8"})
            plane.create_namespace(NAMESPACE, {"pod-security.kubernetes.io/enforce": "restricted"})
            installed = Installation(plane, tmp_path_factory.mktemp("chart"))
            plane.apply(_own_policies("be polite"))
            installed.helm("install", VALUES)
            installed.start()
            opted_in(plane, "models")
            _wait_until_called(installed)
            try:
                yield installed
            finally:
                installed.stop()
    except (BuildError, ControlPlaneError) as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.fixture(scope="module")
def plane(release: Installation) -> ControlPlane:
    return release.plane


def _own_policies(word: str) -> dict[str, Any]:
    metadata = {"name": "own-policies", "namespace": NAMESPACE}
    data = {"polite.rego": RULE.replace("WORD", word)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _wait_until_called(release: Installation) -> None:
    wait_until(lambda: "(rule approved-version)" in _refusal(release.plane, "nobodys"), "the service to be called")


def _create(plane: ControlPlane, obj: dict[str, Any], *options: str, user: str | None = None) -> str:
    """What kubectl says against it; empty where it is created."""
    done = plane.kubectl("create", "-f", "-", *options, input=json.dumps(obj), user=user, check=False)
    return done.stderr if done.returncode else ""


def _refusal(plane: ControlPlane, model: str, namespace: str = "models") -> str:
    return _create(plane, pod("probe", namespace, model=model), "--dry-run=server")


# Running


def test_its_pods_pass_pod_security_restricted_and_run(plane: ControlPlane) -> None:
    plane.kubectl("rollout", "status", "deployment/tidewaiter", "-n", NAMESPACE, "--timeout=40s")

    (budget,) = json.loads(plane.kubectl("get", "pdb", "-n", NAMESPACE, "-o", "json").stdout)["items"]
    assert budget["spec"]["maxUnavailable"] == 1
    listed = plane.kubectl("get", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=tidewaiter", "-o", "name")
    assert len(listed.stdout.split()) == 2


def test_a_model_pod_is_made_fit_with_a_priority_class_of_the_chart(plane: ControlPlane) -> None:
    assert _create(plane, pod("resnet", "models")) == ""

    stored = plane.get("pod", "resnet", "models")
    assert stored is not None
    assert stored["spec"]["priorityClassName"] == "tidewaiter-inference-production"
    assert stored["spec"]["priority"] == 1000
    assert stored["spec"]["securityContext"]["runAsNonRoot"] is True


def test_an_unapproved_model_is_refused(plane: ControlPlane) -> None:
    assert "nobodys:3 is not in the registry" in _refusal(plane, "nobodys")


def test_the_service_may_follow_every_kind_that_it_follows_and_no_secret(release: Installation) -> None:
    user = f"system:serviceaccount:{NAMESPACE}:tidewaiter"

    def may(verb: str, path: str) -> bool:
        attributes = {"verb": verb, **_attributes(path)}
        spec = {"user": user, "resourceAttributes": attributes}
        question = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = release.plane.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(question)).stdout
        return bool(json.loads(answer)["status"]["allowed"])

    paths = [*(one.path for one in KINDS), *watched_paths(NAMESPACE).values()]
    assert [(verb, path) for path in paths for verb in ("list", "watch") if not may(verb, path)] == []
    assert not may("list", "/api/v1/secrets")
    assert not may("list", "/apis/tidewaiter.dev/v1alpha1/namespaces/models/policyexceptions")
    assert "Forbidden" not in release.log.read_text()


def _attributes(path: str) -> dict[str, str]:
    """A path of the API as an access review has it; a resource need not be known to the API server."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = rest[1] if len(rest) > 2 else ""
    return {"group": group, "resource": rest[-1], "namespace": namespace}


def test_the_owner_of_a_refused_pod_is_told_by_an_event(plane: ControlPlane) -> None:
    opted_in(plane, "told", "development")
    template = {"metadata": {"labels": {"app": "loose"}}, "spec": pod("loose", "told")["spec"]}
    template["spec"]["containers"][0]["image"] = "nvcr.io/nvidia/tritonserver:latest"
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "loose"}}, "template": template}
    metadata = {"name": "loose", "namespace": "told"}
    assert not _create(plane, {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec})
    plane.kubectl("label", "namespace", "told", "tidewaiter.dev/environment=production", "--overwrite")

    def told() -> bool:
        plane.kubectl("scale", "replicaset/loose", "-n", "told", "--replicas=1")
        listed = plane.kubectl("get", "events", "-n", "told", "-o", "json").stdout
        return any(one["reason"] == "ModelPodRefused" for one in json.loads(listed)["items"])

    wait_until(told, "an Event of the service on the ReplicaSet")
    assert pods_of(plane, "loose", "told") == []


def test_a_teams_own_policies_are_read_from_their_config_map_and_no_other_one_is(plane: ControlPlane) -> None:
    opted_in(plane, "polite")
    wait_until(lambda: "be polite" in _refusal(plane, "resnet50", "polite"), "the policy to be in force")

    plane.apply(_own_policies("be kind"))

    wait_until(lambda: "be kind" in _refusal(plane, "resnet50", "polite"), "the change to be in force")
    user = f"system:serviceaccount:{NAMESPACE}:tidewaiter"
    ask = ("auth", "can-i", "get", "configmaps/tidewaiter-settings", "-n", NAMESPACE, "--as", user)
    assert plane.kubectl(*ask, check=False).stdout.strip() == "no"


def test_a_version_is_approved_with_the_roles_of_the_chart(plane: ControlPlane) -> None:
    for person, role in (("dana", "model-developer"), ("ada", "model-approver-production")):
        plane.user_kubeconfig(person)
        plane.kubectl("create", "clusterrolebinding", person, f"--clusterrole=tidewaiter-{role}", f"--user={person}")
    assert _create(plane, version_of("governed-owl", "3", proposedBy="ada"), user="dana") == ""
    stored = plane.get("modelversion", "governed-owl--3")
    assert stored is not None
    assert stored["spec"]["proposedBy"] == "dana"

    def approve(environment: str) -> subprocess.CompletedProcess[str]:
        entry = {"status": {"approvals": [{"environment": environment, "state": "approved"}]}}
        options = ("--subresource=status", "--type=merge", "-p", json.dumps(entry))
        return plane.kubectl("patch", "modelversion", "governed-owl--3", *options, user="ada", check=False)

    assert "ada may not approve for development" in approve("development").stderr
    assert approve("production").returncode == 0
    wait_until(lambda: "is proposed" not in _refusal(plane, "governed-owl"), "the approval to be seen")


# The labels of namespaces


@pytest.fixture(scope="module")
def people(plane: ControlPlane) -> ControlPlane:
    """Nora may edit namespaces; Otto may besides assign production. `guarded` is production."""
    rule = {
        "apiGroups": [""],
        "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
        "verbs": ["get", "create", "update", "patch"],
    }
    plane.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "namespace-editor"},
            "rules": [rule],
        }
    )
    assigner = "tidewaiter-environment-assigner-production"
    for person, roles in (("nora", ["namespace-editor"]), ("otto", ["namespace-editor", assigner])):
        plane.user_kubeconfig(person)
        for role in roles:
            bind = ("create", "clusterrolebinding", f"{person}-{role}")
            plane.kubectl(*bind, f"--clusterrole={role}", f"--user={person}")
    opted_in(plane, "guarded")
    plane.create_namespace("plain")
    return plane


def _label(plane: ControlPlane, user: str, namespace: str, *options: str, **labels: str | None) -> str:
    """What is said against it, without doing it."""
    patch = json.dumps({"metadata": {"labels": {key.replace("_", "/"): value for key, value in labels.items()}}})
    call = ("patch", "namespace", namespace, "--type=merge", "-p", patch, "--dry-run=server", *options)
    done = plane.kubectl(*call, user=user, check=False)
    return done.stderr if done.returncode else ""


ENVIRONMENT, ENFORCEMENT = "tidewaiter.dev_environment", "tidewaiter.dev_enforcement"


@pytest.mark.parametrize("through", [(), ("--subresource=status",)])
@pytest.mark.parametrize(
    "labels", [{ENVIRONMENT: None}, {ENVIRONMENT: "development"}, {ENVIRONMENT: ""}, {ENFORCEMENT: "off"}]
)
def test_who_may_edit_a_namespace_cannot_change_which_rules_hold_in_it(
    people: ControlPlane, labels: dict[str, str | None], through: tuple[str, ...]
) -> None:
    told = _label(people, "nora", "guarded", *through, **labels)

    assert "Forbidden" in told
    assert "nora may not change them: verb assign on environments.tidewaiter.dev is missing for production" in told


def test_labels_cannot_be_taken_away_by_finalizing(people: ControlPlane) -> None:
    stored = people.get("namespace", "guarded")
    assert stored is not None
    changed = copy.deepcopy(stored)
    del changed["metadata"]["labels"]["tidewaiter.dev/environment"]
    path = "/api/v1/namespaces/guarded/finalize"

    done = people.kubectl("replace", "--raw", path, "-f", "-", input=json.dumps(changed), user="nora", check=False)

    assert "nora may not change them" in done.stderr
    assert people.kubectl("replace", "--raw", path, "-f", "-", input=json.dumps(stored), user="nora").returncode == 0


def test_a_namespace_is_not_created_in_an_environment_without_leave(people: ControlPlane) -> None:
    labels = {"tidewaiter.dev/environment": "production"}
    obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "born", "labels": labels}}

    assert "nora may not change them" in _create(people, obj, "--dry-run=server", user="nora")
    assert _create(people, obj, "--dry-run=server", user="otto") == ""


def test_other_labels_are_nobodys_business(people: ControlPlane) -> None:
    assert _label(people, "nora", "guarded", team="vision") == ""


def test_leave_for_one_environment_is_leave_for_no_other(people: ControlPlane) -> None:
    assert _label(people, "otto", "guarded", **{ENVIRONMENT: None}) == ""
    assert _label(people, "otto", "plain", **{ENVIRONMENT: "production"}) == ""
    assert "is missing for production, development" in _label(people, "otto", "guarded", **{ENVIRONMENT: "development"})


def test_enforcement_without_an_environment_needs_leave_for_all(people: ControlPlane) -> None:
    assert "is missing for all environments" in _label(people, "otto", "plain", **{ENFORCEMENT: "off"})


# Upgrading and uninstalling


def test_an_upgrade_keeps_the_certificate_and_takes_new_settings(release: Installation) -> None:
    def state() -> tuple[Any, Any, Any]:
        annotations = release.stored("deployment")["spec"]["template"]["metadata"]["annotations"]
        return release.stored("secret", "tidewaiter-tls")["data"], annotations["checksum/certificate"], annotations

    (certificate, checksum, annotations), before = state(), release.plane.get("modelversion", "kept--1")
    assert before is None
    assert _create(release.plane, version_of("kept")) == ""
    changed = copy.deepcopy(VALUES)
    changed["settings"]["exemptNamespaces"] = ["kube-system", "kube-public", "kube-node-lease", "let-be"]
    release.helm("upgrade", changed)
    try:
        assert state()[:2] == (certificate, checksum)
        assert state()[2]["checksum/settings"] != annotations["checksum/settings"]
        opted_in(release.plane, "let-be")
        wait_until(lambda: not _refusal(release.plane, "nobodys", "let-be"), "the namespace to be exempt")
        assert "(rule approved-version)" in _refusal(release.plane, "nobodys")
        assert release.plane.get("modelversion", "kept--1") is not None
    finally:
        release.helm("upgrade", VALUES)


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_the_api_server_knows_every_field_of_what_is_rendered(plane: ControlPlane, values: dict[str, Any]) -> None:
    known = [one for one in rendered(values) if one["apiVersion"].partition("/")[0] not in NOT_INSTALLED]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": known})

    told = plane.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-", input=listed
    )

    assert "Warning" not in told.stderr
    assert len(told.stdout.splitlines()) == len(known)


def test_resource_definitions_are_upgraded_as_documented(plane: ControlPlane) -> None:
    applied = plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))

    assert len(applied.stdout.splitlines()) == len(list((CHART / "crds").glob("*.yaml")))


def test_a_certificate_is_renewed_as_documented(release: Installation) -> None:
    before = release.stored("secret", "tidewaiter-tls")["data"]
    checksum = _checksum(release)

    release.plane.kubectl("delete", "secret", "tidewaiter-tls", "-n", NAMESPACE)
    release.helm("upgrade", VALUES)

    assert not set(before.values()) & set(release.stored("secret", "tidewaiter-tls")["data"].values())
    assert _checksum(release) != checksum
    wait_until(lambda: "failed calling webhook" in _refusal(release.plane, "resnet50"), "the new CA to be asked for")
    release.stop()
    release.start()
    _wait_until_called(release)


def _checksum(release: Installation) -> str:
    """What makes other pods of another certificate."""
    annotations = release.stored("deployment")["spec"]["template"]["metadata"]["annotations"]
    return str(annotations["checksum/certificate"])


def test_the_webhooks_alone_can_be_taken_away_in_an_emergency(release: Installation) -> None:
    release.helm("upgrade", {**VALUES, "webhooks": {"enabled": False}})
    try:
        wait_until(lambda: not _refusal(release.plane, "nobodys"), "pods to be created unseen")
        assert release.plane.kubectl("get", CONFIGURATIONS, "-o", "name").stdout == ""
    finally:
        release.helm("upgrade", VALUES)
        _wait_until_called(release)


def test_a_second_installation_is_refused_and_harms_nothing(release: Installation) -> None:
    release.plane.create_namespace("second")
    where = ("--namespace", "second", "--kubeconfig", str(release.plane.kubeconfig))
    with pytest.raises(HelmError, match="cannot be imported into the current release"):
        run_helm("install", "second", str(CHART), *where, values={"image": IMAGE})

    assert "(rule approved-version)" in _refusal(release.plane, "nobodys")


def test_after_it_is_uninstalled_pods_are_created_as_before(release: Installation) -> None:
    plane = release.plane
    opted_in(plane, "left")
    assert "(rule approved-version)" in _refusal(plane, "nobodys", "left")

    release.helm("uninstall")
    release.stop()
    try:
        wait_until(lambda: not _refusal(plane, "nobodys", "left"), "pods to be created without the service")
        assert plane.kubectl("get", CONFIGURATIONS, "-o", "name").stdout == ""
        assert plane.kubectl("get", "validatingadmissionpolicy", "-o", "name").stdout == ""
        # What people decided stays: uninstalling is not forgetting.
        assert plane.get("crd", "modelversions.tidewaiter.dev") is not None
        assert plane.get("secret", "tidewaiter-tls", NAMESPACE) is None
    finally:
        release.helm("install", VALUES)
        release.start()
        _wait_until_called(release)
