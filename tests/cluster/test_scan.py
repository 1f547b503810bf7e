"""What already runs is judged by the rules of today: revoked models stand first, and nothing is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.cluster.conftest import REGISTRY, SETTINGS, opted_in
from tests.cluster.manifests import deployment, web_pod
from tests.controlplane.cluster import KubectlError
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import wait_until
from tests.serving_runtime.custom_resource_definitions import Published, files_of
from webhook.cli import main

NAMESPACE = "scanned"


@pytest.fixture(scope="module")
def running(tidewaiter: Tidewaiter) -> Tidewaiter:
    """A Deployment with two pods of an approved model, and a web pod."""
    opted_in(tidewaiter.plane, NAMESPACE)
    wanted = deployment("triton", NAMESPACE)
    wanted["spec"]["replicas"] = 2
    tidewaiter.plane.apply(wanted, web_pod("web", NAMESPACE))
    wait_until(lambda: len(_pods(tidewaiter)) == 3, "the pods", timeout_s=60)
    return tidewaiter


def _pods(tidewaiter: Tidewaiter) -> list[str]:
    listed = json.loads(tidewaiter.plane.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json").stdout)
    return [str(one["metadata"]["name"]) for one in listed["items"]]


def _scan(running: Tidewaiter, folder: Path, registry: str, *more: str) -> Result:
    (folder / "registry.yaml").write_text(registry)
    (folder / "settings.yaml").write_text(SETTINGS)
    arguments = ["scan", "-n", NAMESPACE, "--settings", str(folder / "settings.yaml")]
    return CliRunner().invoke(main, [*arguments, "--kubeconfig", str(running.plane.kubeconfig), *more])


def _findings(done: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return found


def test_what_may_go_on_is_no_finding(running: Tidewaiter, tmp_path: Path) -> None:
    done = _scan(running, tmp_path, REGISTRY, "--format", "json")

    assert done.exit_code == 0, done.output
    assert [one for one in _findings(done) if one["action"] == "deny"] == []
    assert json.loads(done.stdout)["summary"]["workloads"] == 1


def test_a_revoked_model_stands_first_with_the_pods_that_run_it(running: Tidewaiter, tmp_path: Path) -> None:
    done = _scan(running, tmp_path, _revoked(), "--format", "json")

    first = _findings(done)[0]
    assert done.exit_code == 1
    assert (first["kind"], first["name"], first["rule"], first["lapsed"]) == (
        "Deployment",
        "triton",
        "approved-version",
        True,
    )
    assert (first["action"], first["model"]) == ("deny", "resnet50:3")
    assert sorted(first["pods"]) == sorted(name for name in _pods(running) if name.startswith("triton"))


def _revoked() -> str:
    registry = yaml.safe_load(REGISTRY)
    registry["models"][0]["versions"][0]["state"] = "revoked"
    return yaml.safe_dump(registry)


def test_its_text_begins_with_what_must_not_go_on(running: Tidewaiter, tmp_path: Path) -> None:
    done = _scan(running, tmp_path, _revoked())

    heading, workload, *_, sums = done.stdout.splitlines()
    assert heading == "Revoked or expired, and running:"
    assert workload.startswith(f"  Deployment {NAMESPACE}/triton")
    assert sums.endswith("1 model workloads: 1 would be refused today, 0 have warnings")


def test_nothing_in_the_cluster_is_changed_by_it(running: Tidewaiter, tmp_path: Path) -> None:
    def seen() -> list[str]:
        listed = json.loads(running.plane.kubectl("get", "pods,deploy", "-n", NAMESPACE, "-o", "json").stdout)
        return sorted(one["metadata"]["uid"] + json.dumps(one["spec"], sort_keys=True) for one in listed["items"])

    before = seen()
    _scan(running, tmp_path, _revoked())

    assert seen() == before


REPORTS = (
    # The projects' own modules of these versions hold the CustomResourceDefinition.
    Published("github.com/kyverno/kyverno", "v1.13.4", ("config/crds/policyreport/wgpolicyk8s.io_policyreports.yaml",)),
    Published("github.com/openreports/reports-api", "v0.2.1", ("config/crd/openreports.io_reports.yaml",)),
)


@pytest.mark.parametrize(("form", "published"), list(zip(("policyreport", "openreport"), REPORTS, strict=True)))
def test_it_comes_as_a_report_of_the_namespace_that_the_cluster_takes(
    running: Tidewaiter, tmp_path: Path, form: str, published: Published
) -> None:
    done = _scan(running, tmp_path, _revoked(), "--format", form, "--fail-on", "never")

    (report,) = yaml.safe_load_all(done.stdout)
    assert done.exit_code == 0
    assert (report["metadata"]["namespace"], report["summary"]["fail"]) == (NAMESPACE, 1)
    (failed,) = (one for one in report["results"] if one["result"] == "fail")
    assert (failed["policy"], failed["severity"], failed["properties"]["lapsed"]) == (
        "approved-version",
        "critical",
        "true",
    )
    assert failed["resources"] == [{"kind": "Deployment", "namespace": NAMESPACE, "name": "triton"}]
    for file in files_of(published):
        running.plane.kubectl("apply", "--server-side", "-f", str(file))
    wait_until(lambda: _taken(running, done.stdout), "the cluster to know the kind", timeout_s=60)
    stored = running.plane.get(f"{report['kind']}.{report['apiVersion'].partition('/')[0]}", "tidewaiter", NAMESPACE)
    assert stored is not None
    assert stored["results"] == report["results"]


def _taken(running: Tidewaiter, reports: str) -> bool:
    try:
        running.plane.kubectl("apply", "--validate=strict", "-f", "-", input=reports)
    except KubectlError as error:
        assert "no matches for kind" in str(error) or "could not find" in str(error), error
        return False
    return True


def test_a_cluster_that_does_not_answer_is_a_sentence(running: Tidewaiter, tmp_path: Path) -> None:
    kubeconfig = yaml.safe_load(Path(running.plane.kubeconfig).read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))

    done = CliRunner().invoke(main, ["scan", "--kubeconfig", str(tmp_path / "kubeconfig")])

    assert done.exit_code == 2
    assert "the cluster does not answer" in done.stderr
    assert "Traceback" not in done.stderr
