"""The manifests say what their comments claim: who is selected, what may be called, what is waited for."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serving_runtime import renderings
from tests.serving_runtime.renderings import MANIFESTS, Object

WITH_PODS = [name for name in renderings.names() if not name.startswith(("kserve", "candidate"))]
SPLITS = [name for name in renderings.names() if name.startswith(("overlays/istio", "overlays/linkerd"))]


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions") or []
    assert all(one["operator"] == "In" for one in expressions)
    equal = {**(selector.get("matchLabels") or {})}
    return all(labels.get(key) == value for key, value in equal.items()) and all(
        labels.get(one["key"]) in one["values"] for one in expressions
    )


def _templates(rendering: str) -> list[Object]:
    found = [one["spec"]["template"] for one in renderings.objects(rendering) if one["kind"] == "Deployment"]
    assert found
    return found


@pytest.mark.parametrize("rendering", WITH_PODS)
@pytest.mark.parametrize(("kind", "field"), [("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")])
def test_policy_and_budget_hold_for_every_pod(rendering: str, kind: str, field: str) -> None:
    selector = renderings.one(rendering, kind)["spec"][field]
    for template in _templates(rendering):
        assert _selects(selector, template["metadata"]["labels"])


def test_policy_and_budget_hold_for_the_pods_that_flagger_renames() -> None:
    labels = {**_templates("overlays/flagger-canary")[0]["metadata"]["labels"]}
    labels["app.kubernetes.io/name"] = "resnet50-primary"
    for kind, field in (("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")):
        assert _selects(renderings.one("overlays/flagger-canary", kind)["spec"][field], labels)


@pytest.mark.parametrize("rendering", SPLITS)
def test_the_two_services_of_a_split_select_one_version_each(rendering: str) -> None:
    pods = {one["metadata"]["labels"]["tidewaiter.dev/model-version"]: one["metadata"] for one in _templates(rendering)}
    assert set(pods) == {"3", "4"}
    for name, version in (("resnet50", "3"), ("resnet50-candidate", "4")):
        selector = {"matchLabels": renderings.one(rendering, "Service", name)["spec"]["selector"]}
        assert [one for one, metadata in pods.items() if _selects(selector, metadata["labels"])] == [version]


@pytest.mark.parametrize("rendering", [*SPLITS, "overlays/argo-rollout"])
def test_traffic_goes_only_to_services_and_ports_that_exist(rendering: str) -> None:
    objects = renderings.objects(rendering)
    ports = {
        (one["metadata"]["name"], port["port"]) for one in objects if one["kind"] == "Service"
        for port in one["spec"]["ports"]
    }  # fmt: skip
    named = [*_destinations(objects)]
    assert named
    assert set(named) <= ports


def _destinations(objects: list[Object]) -> list[tuple[str, int]]:
    found = []
    for one in objects:
        if one["kind"] == "VirtualService":
            for route in one["spec"]["http"]:
                to = [each["destination"] for each in route["route"]] + ([route["mirror"]] if "mirror" in route else [])
                found += [(each["host"], each["port"]["number"]) for each in to]
        if one["kind"] == "HTTPRoute":
            parents = one["spec"]["parentRefs"]
            backends = [each for rule in one["spec"]["rules"] for each in rule["backendRefs"]]
            found += [(each["name"], each["port"]) for each in (*parents, *backends)]
    return found


@pytest.mark.parametrize("rendering", ["overlays/istio-canary", "overlays/linkerd-canary"])
def test_a_canary_gets_a_tenth_on_both_protocols(rendering: str) -> None:
    weights = []
    for one in renderings.objects(rendering):
        if one["kind"] == "VirtualService":
            weights += [[each["weight"] for each in route["route"]] for route in one["spec"]["http"]]
        if one["kind"] == "HTTPRoute":
            weights += [[each["weight"] for each in rule["backendRefs"]] for rule in one["spec"]["rules"]]
    assert weights == [[90, 10], [90, 10]]


def test_a_shadow_answers_no_caller() -> None:
    for route in renderings.one("overlays/istio-shadow", "VirtualService")["spec"]["http"]:
        assert [one["destination"]["host"] for one in route["route"]] == ["resnet50"]
        assert route["mirror"]["host"] == "resnet50-candidate"


@pytest.mark.parametrize("rendering", ["overlays/istio-header", "overlays/linkerd-header"])
def test_only_the_header_leads_to_the_candidate(rendering: str) -> None:
    for headers, target in _by_header(rendering):
        assert (target == "resnet50-candidate") == bool(headers)


def _by_header(rendering: str) -> list[tuple[Any, str]]:
    found = []
    for one in renderings.objects(rendering):
        for route in one["spec"].get("http", []) if one["kind"] == "VirtualService" else []:
            (target,) = route["route"]
            found.append((route["match"][0].get("headers"), target["destination"]["host"]))
        for rule in one["spec"]["rules"] if one["kind"] == "HTTPRoute" else []:
            (target,) = rule["backendRefs"]
            found.append((rule.get("matches"), target["name"]))
    assert len(found) == 4
    return found


@pytest.mark.parametrize("rendering", WITH_PODS)
def test_servers_may_call_only_names_the_registry_and_the_mesh(rendering: str) -> None:
    policy = renderings.one(rendering, "NetworkPolicy")["spec"]
    assert "Egress" in policy["policyTypes"]
    allowed = [(_peer(one), sorted({port["port"] for port in one["ports"]})) for one in policy["egress"]]
    mesh = []
    if "linkerd" in rendering:
        mesh = [("linkerd", [8080, 8086, 8090])]
    elif any(one in rendering for one in ("istio", "argo", "flagger")):
        mesh = [("istio-system", [15012])]
    assert allowed == [("kube-system", [53]), ("192.0.2.0/24", [443]), *mesh]


def _peer(rule: Object) -> str:
    (peer,) = rule["to"]
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    return str(peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])


def _server(source: str) -> tuple[Object, Object]:
    spec = renderings.one("kserve", "ClusterServingRuntime", "tidewaiter-triton")["spec"]
    if source == "base":
        spec = _templates("base")[0]["spec"]
    return spec["containers"][0], spec


@pytest.mark.parametrize("source", ["base", "kserve"])
def test_the_server_has_what_upstreams_runtime_lacks(source: str) -> None:
    container, spec = _server(source)
    health = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert health == {
        "startupProbe": "/v2/health/ready",
        "readinessProbe": "/v2/health/ready",
        "livenessProbe": "/v2/health/live",
    }
    mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one["emptyDir"] for one in spec["volumes"]}
    assert volumes[mounted["/dev/shm"]]["medium"] == "Memory"
    assert "/tmp" in mounted
    context = {**spec.get("securityContext", {}), **container["securityContext"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] is True
    assert context["runAsUser"] == 1000
    assert "--model-control-mode=none" in container["args"]


def test_the_pod_gets_time_to_drain() -> None:
    container, spec = _server("base")
    exit_timeout = next(one for one in container["args"] if one.startswith("--exit-timeout-secs="))
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"] + int(exit_timeout.partition("=")[2])
    assert wait < spec["terminationGracePeriodSeconds"]


def _runtime() -> dict[str, Object]:
    return {one["name"]: one for one in _templates("overlays/runtime")[0]["spec"]["containers"]}


def test_the_commands_of_the_runtime_are_ones_that_it_has(tmp_path: Path) -> None:
    """The real parsers take the arguments, and the gate takes its rules."""
    containers = _runtime()
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command")
    for name in ("serve", "input-gate", "exporter"):
        module = importlib.import_module(f"tidewaiter_runtime.commands.{name.replace('-', '_')}")
        module.add_arguments(commands.add_parser(name))
    parsed = {name: parser.parse_args(one["args"]) for name, one in containers.items()}
    assert {name: one.command for name, one in parsed.items()} == {
        "triton": "serve",
        "input-gate": "input-gate",
        "exporter": "exporter",
    }
    assert parsed["triton"].more == ["--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
    assert parsed["input-gate"].observations == parsed["exporter"].observations
    rules = tmp_path / "rules.yaml"
    rules.write_text(renderings.one("overlays/runtime", "ConfigMap", "resnet50-inputs")["data"]["rules.yaml"])
    gate = importlib.import_module("tidewaiter_runtime.input_validation.rules_file")
    assert list(gate.read_rules(rules).models) == ["resnet50"]


def test_callers_reach_the_gate_and_the_gate_alone() -> None:
    containers = _runtime()
    named = {port["name"]: name for name, one in containers.items() for port in one["ports"]}
    assert named == {
        "metrics": "triton",
        "health": "triton",
        "http": "input-gate",
        "grpc": "input-gate",
        "exporter": "exporter",
    }
    # The Service and the NetworkPolicy go by these names.
    assert {one["targetPort"] for one in renderings.one("overlays/runtime", "Service")["spec"]["ports"]} == {
        "http",
        "grpc",
    }


def test_the_server_outlives_the_gate_and_the_pod_waits_for_both() -> None:
    containers = _runtime()

    def seconds(container: str, option: str) -> int:
        return int(next(one.partition("=")[2] for one in containers[container]["args"] if one.startswith(f"{option}=")))

    gate = containers["input-gate"]["lifecycle"]["preStop"]["sleep"]["seconds"] + seconds("input-gate", "--drain")
    drain, exit_wait = seconds("triton", "--drain-seconds"), seconds("triton", "--exit-seconds")
    assert gate < drain
    unload = 10  # what `serve` gives Triton after that
    assert drain + exit_wait + unload < _templates("overlays/runtime")[0]["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("rendering", ["overlays/latency-autoscaling", "overlays/queue-autoscaling"])
def test_no_replica_count_fights_the_autoscaler(rendering: str) -> None:
    assert "replicas" not in renderings.one(rendering, "Deployment")["spec"]


def test_the_autoscaler_reads_the_metric_that_the_adapter_makes() -> None:
    rules = yaml.safe_load((MANIFESTS / "components/latency-autoscaling/prometheus-adapter-rules.yaml").read_text())
    (metric,) = renderings.one("overlays/latency-autoscaling", "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rules["rules"]["custom"][0]["name"]["as"]


def test_work_begins_with_pods_that_are_already_there() -> None:
    spec = renderings.one("overlays/queue-autoscaling", "ScaledObject")["spec"]
    triggers = {one["type"]: one["metadata"] for one in spec["triggers"]}
    assert set(triggers) == {"prometheus", "cron"}
    assert spec["minReplicaCount"] < int(triggers["cron"]["desiredReplicas"]) <= spec["maxReplicaCount"]


@pytest.mark.parametrize(
    "path",
    [pytest.param(one, id=str(one.relative_to(MANIFESTS))) for one in sorted(MANIFESTS.rglob("*.yaml"))],
)
def test_every_file_is_used_by_a_rendering(path: Path) -> None:
    """A file that no kustomization names would be checked by nothing."""
    if path.name in ("kustomization.yaml", "prometheus-adapter-rules.yaml"):
        return
    folder = yaml.safe_load((path.parent / "kustomization.yaml").read_text())
    patches = [one["path"] for one in folder.get("patches", []) if "path" in one]
    assert path.name in [*folder.get("resources", []), *patches]


def test_every_component_is_used_by_an_overlay() -> None:
    used = set()
    for name in renderings.names():
        folder = yaml.safe_load((MANIFESTS / name / "kustomization.yaml").read_text())
        used |= {Path(one).name for one in folder.get("components", [])}
    assert used == {one.name for one in (MANIFESTS / "components").iterdir()}
