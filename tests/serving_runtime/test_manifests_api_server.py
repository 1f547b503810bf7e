"""A real API server takes every manifest, with the CustomResourceDefinitions of the projects that they are for."""

from __future__ import annotations

import pytest
import yaml

from tests.controlplane.build_cache import BuildError
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.conftest import control_plane  # noqa: F401  # a fixture
from tests.controlplane.waiting import wait_until
from tests.serving_runtime import renderings
from tests.serving_runtime.custom_resource_definitions import definition_files

NAMESPACE = "models"


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:  # noqa: F811
    try:
        files = definition_files()
    except BuildError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    arguments = [one for file in files for one in ("-f", str(file))]
    applied = control_plane.kubectl("apply", "--server-side", *arguments, "-o", "name", timeout_s=180)
    wanted = {line.partition("/")[2] for line in applied.stdout.splitlines()}

    def served() -> bool:
        listed = control_plane.kubectl("api-resources", "-o", "name", "--cached=false", check=False).stdout
        return wanted <= set(listed.split())

    wait_until(served, f"the API server to serve {len(wanted)} kinds", timeout_s=120)
    control_plane.create_namespace(NAMESPACE, {"pod-security.kubernetes.io/enforce": "restricted"})
    return control_plane


def _apply(plane: ControlPlane, text: str, *, check: bool = True, namespace: str = NAMESPACE) -> str:
    options = ("--server-side", "--validate=strict", "--dry-run=server", "--force-conflicts", "-o", "name")
    done = plane.kubectl("apply", *options, "--namespace", namespace, "-f", "-", input=text, check=check)
    return done.stdout + done.stderr


def test_the_api_server_takes_rules_monitors_and_dashboards(plane: ControlPlane) -> None:
    plane.create_namespace("monitoring")
    taken = _apply(plane, renderings.rendered("../observability"), namespace="monitoring").splitlines()
    assert sorted(one.partition("/")[0] for one in taken) == [
        "configmap",
        "podmonitor.monitoring.coreos.com",
        "podmonitor.monitoring.coreos.com",
        "prometheusrule.monitoring.coreos.com",
        "prometheusrule.monitoring.coreos.com",
    ]


@pytest.mark.parametrize("rendering", renderings.names())
def test_the_api_server_takes_it(plane: ControlPlane, rendering: str) -> None:
    taken = _apply(plane, renderings.rendered(rendering)).splitlines()
    # A warning (of Pod Security, of a deprecated version) would be a line of its own.
    assert len(taken) == len(renderings.objects(rendering)), taken


@pytest.mark.parametrize("rendering", renderings.names())
def test_it_would_notice_a_field_that_does_not_exist(plane: ControlPlane, rendering: str) -> None:
    for obj in renderings.objects(rendering):
        if "spec" in obj:
            obj["spec"]["noSuchField"] = True
            said = _apply(plane, yaml.safe_dump(obj), check=False)
            assert "noSuchField" in said, f"{obj['kind']} is not held to a schema: {said}"


@pytest.mark.parametrize("rendering", ["base", "candidate"])
def test_its_pods_run_in_a_restricted_namespace(plane: ControlPlane, rendering: str) -> None:
    template = next(one for one in renderings.objects(rendering) if one["kind"] == "Deployment")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**pod["metadata"], "name": rendering}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "resnet50", "namespace": NAMESPACE}}
    plane.apply(account)
    assert f"pod/{rendering}" in _apply(plane, yaml.safe_dump(pod))
