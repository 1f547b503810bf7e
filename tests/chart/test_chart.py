"""The chart, rendered: its values, and what comes of them."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from cryptography import x509

from tests.chart.generate import CHART, stale_files, values_schema
from tests.chart.rendering import (
    DIGEST,
    NAMESPACE,
    HelmError,
    Object,
    rendered,
    run_helm,
    the,
    with_image,
    write_settings,
)
from tests.chart.variants import VARIANTS
from webhook.cli import main
from webhook.governance.roles import roles
from webhook.settings import load_settings
from webhook.webhook_configuration import all_configurations


@pytest.fixture(scope="module", params=VARIANTS)
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    return VARIANTS[request.param]


@pytest.fixture(scope="module")
def objects(values: dict[str, Any]) -> list[Object]:
    return rendered(values)


def _webhooks(objects: list[Object]) -> list[Object]:
    return [one for one in objects if one["kind"].endswith("WebhookConfiguration")]


# Values


def test_what_the_chart_has_from_the_code_is_up_to_date() -> None:
    assert [path.name for path in stale_files()] == [], "run python -m tests.chart.generate"


def test_helm_finds_no_fault(values: dict[str, Any]) -> None:
    assert "0 chart(s) failed" in run_helm("lint", "--strict", str(CHART), values=with_image(values))


@pytest.mark.parametrize(
    ("wrong", "where", "key"),
    [
        ({"replica": 3}, "''", "replica"),
        ({"image": {"name": "x"}}, "'/image'", "name"),
        ({"settings": {"enviroments": {}}}, "'/settings'", "enviroments"),
        ({"settings": {"mutators": {"preload": {"imag": "x"}}}}, "'/settings/mutators/preload'", "imag"),
        ({"settings": {"server": {"port": 9}}}, "'/settings/server'", "port"),
        ({"networkPolicy": {"webhookFrom": [{"cidr": "10.0.0.0/8"}]}}, "'/networkPolicy/webhookFrom/0'", "cidr"),
    ],
)
def test_an_unknown_value_is_refused_with_its_place(wrong: dict[str, Any], where: str, key: str) -> None:
    with pytest.raises(HelmError) as told:
        rendered(wrong)

    assert f"at {where}: additional properties '{key}' not allowed" in str(told.value)


def test_every_object_of_the_schema_says_what_may_stand_in_it() -> None:
    schema = values_schema()
    open_ones = [path for path, one in _schemas(schema, "") if "properties" in one and _open(one)]

    # The rules in Rego are known to the policies, not to the schema; what stands in one is closed.
    assert open_ones == ["/$defs/RulesSettings"]


def _open(schema: dict[str, Any]) -> bool:
    return schema.get("additionalProperties") is not False


def _schemas(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        if value.get("type") == "object":
            yield path, value
        for key, one in value.items():
            yield from _schemas(one, f"{path}/{key}")


def test_every_value_is_told_of() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    silent = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if line
        and not line.lstrip().startswith("#")
        and not before.lstrip().startswith("#")
        and not _parent(line, lines)
    ]

    assert silent == []


def _parent(line: str, lines: list[str]) -> bool:
    """Whether what it holds is told of instead."""
    following = lines[lines.index(line) + 1 :]
    return line.endswith(":") and following[0].startswith(f"{line[: len(line) - len(line.lstrip())]}  #")


def test_the_schema_and_the_defaults_name_the_same_values() -> None:
    defaults, schema = yaml.safe_load((CHART / "values.yaml").read_text()), values_schema()

    assert sorted(defaults) == sorted(schema["properties"])


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"image": {}}, "image.repository is empty: name the image that you built"),
        ({"image": {"repository": "ghcr.io/acme/tidewaiter"}}, "image.tag and image.digest are both empty"),
        ({"certificates": {"source": "secret"}}, "certificates.ca is empty"),
        ({"certificates": {"source": "certManager"}}, "certificates.issuerRef.name is empty"),
    ],
)
def test_what_only_the_user_knows_is_asked_for(missing: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmError) as told:
        rendered(missing)

    assert said in str(told.value)


def test_an_older_cluster_is_refused() -> None:
    with pytest.raises(HelmError, match=r"chart requires kubeVersion: >=1\.30"):
        run_helm("template", str(CHART), "--kube-version", "1.29.9", values=with_image({}))


def test_the_documented_values_are_values(tmp_path: Path) -> None:
    page = (CHART.parents[1] / "docs" / "install.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    objects = rendered(yaml.safe_load(text.replace("sha256:...", DIGEST).replace("REGISTRY", "ghcr.io/acme")))

    (registry,) = load_settings(write_settings(objects, tmp_path)).registries
    assert (registry.name, (tmp_path / "registry.yaml").exists()) == ("file", True)


# What comes of them


def test_the_rendered_settings_are_settings(objects: list[Object], values: dict[str, Any], tmp_path: Path) -> None:
    settings = load_settings(write_settings(objects, tmp_path))

    wanted = values.get("settings", {})
    assert (settings.server.namespace, settings.server.port) == (NAMESPACE, 8443)
    assert settings.server.certificate == tmp_path / "tls" / "tls.crt"
    assert sorted(settings.environments) == sorted(wanted.get("environments", ["development", "production", "staging"]))


def test_the_webhooks_are_those_that_the_command_prints(
    objects: list[Object], values: dict[str, Any], tmp_path: Path
) -> None:
    settings = load_settings(write_settings(objects, tmp_path))
    found = _webhooks(objects)
    bundles = {webhook["clientConfig"].pop("caBundle", "") for one in found for webhook in one["webhooks"]}

    if values.get("webhooks", {}).get("enabled", True):
        wanted = all_configurations(settings, "")
        assert _compared(found) == _compared(wanted)
        assert len(bundles) == 1
    else:
        assert found == []


def _compared(configurations: list[Object]) -> list[Any]:
    """Without labels and annotations, and with rules of one resource each: how they are put together is the same."""
    found = [
        (one["kind"], one["metadata"]["name"], [_webhook_compared(webhook) for webhook in one["webhooks"]])
        for one in configurations
    ]
    return sorted(found, key=lambda one: one[:2])


def _webhook_compared(webhook: Object) -> Object:
    rules = [{**rule, "resources": [plural]} for rule in webhook["rules"] for plural in rule["resources"]]
    client = {key: value for key, value in webhook["clientConfig"].items() if key != "caBundle"}
    return {**webhook, "clientConfig": client, "rules": sorted(json.dumps(rule, sort_keys=True) for rule in rules)}


def test_no_webhook_sees_system_namespaces_its_own_or_leases(objects: list[Object]) -> None:
    for configuration in _webhooks(objects):
        for webhook in configuration["webhooks"]:
            resources = {plural for rule in webhook["rules"] for plural in rule["resources"]}
            assert not resources & {"*", "*/*", "leases"}
            if not configuration["metadata"]["name"].endswith("governance") and not webhook["name"].startswith(
                "mapped."
            ):
                (exempt,) = [
                    one["values"]
                    for one in webhook["namespaceSelector"]["matchExpressions"]
                    if one["operator"] == "NotIn" and "kube-system" in one["values"]
                ]
                assert NAMESPACE in exempt


def test_the_certificate_of_helm_is_signed_by_the_authority_that_the_webhooks_trust() -> None:
    objects = rendered({})
    secret = the(objects, "Secret", "tidewaiter-tls")["data"]
    bundles = {webhook["clientConfig"]["caBundle"] for one in _webhooks(objects) for webhook in one["webhooks"]}
    leaf, authority = (x509.load_pem_x509_certificate(base64.b64decode(secret[key])) for key in ("tls.crt", "ca.crt"))

    leaf.verify_directly_issued_by(authority)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"tidewaiter.{NAMESPACE}.svc"]
    assert bundles == {secret["ca.crt"]}


def test_cert_manager_fills_in_the_bundle_and_an_upgrade_leaves_it() -> None:
    objects = rendered(VARIANTS["cert-manager"])

    for one in _webhooks(objects):
        assert one["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": f"{NAMESPACE}/tidewaiter"}
        assert all("caBundle" not in webhook["clientConfig"] for webhook in one["webhooks"])
    mounted = json.dumps(the(objects, "Deployment")["spec"]["template"]["spec"]["volumes"])
    assert the(objects, "Certificate")["spec"]["secretName"] in mounted


def test_the_roles_are_those_of_the_code(objects: list[Object], values: dict[str, Any]) -> None:
    environments = values.get("settings", {}).get("environments", ["development", "production", "staging"])
    wanted = {(one["kind"], one["metadata"]["name"]): one for one in roles(environments, NAMESPACE)}
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects}

    assert {key: found.get(key) for key in wanted} == wanted


def test_the_service_has_nothing_to_do_with_secrets_and_writes_only_events(objects: list[Object]) -> None:
    subject = {"kind": "ServiceAccount", "name": "tidewaiter", "namespace": NAMESPACE}
    bound = {
        (one["roleRef"]["kind"], one["roleRef"]["name"])
        for one in objects
        if one["kind"].endswith("Binding") and subject in one.get("subjects", ())
    }
    granted = [rule for kind, name in bound for rule in the(objects, kind, name)["rules"]]
    writes = {
        (plural, verb)
        for rule in granted
        for plural in rule["resources"]
        for verb in rule["verbs"]
        if verb not in ("get", "list", "watch")
    }

    assert writes == {("events", "create"), ("events", "patch"), ("subjectaccessreviews", "create")}
    assert not {plural for rule in granted for plural in rule["resources"]} & {"secrets", "*"}


def test_the_pod_is_given_longer_to_end_than_it_goes_on_answering(objects: list[Object], tmp_path: Path) -> None:
    settings = load_settings(write_settings(objects, tmp_path))
    grace = the(objects, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]

    assert grace >= math.ceil(settings.server.drain_seconds) + 10


def test_other_settings_make_other_pods() -> None:
    def pod(values: dict[str, Any]) -> str:
        return str(
            the(rendered(values), "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
        )

    assert pod({}) == pod({})
    changed = [{"settings": {"exemptNamespaces": []}}, {"settingsFiles": {"registry.yaml": "models: []\n"}}]
    assert len({pod({}), *map(pod, changed)}) == 3


# Our own rules


def _findings(values: dict[str, Any], tmp_path: Path) -> list[str]:
    """The rules that find fault, where production denies and the service is judged as a GPU pod, whom they are for."""
    settings = tmp_path / "rules.yaml"
    settings.write_text("environments: {production: {action: deny}}\n")
    labels = {"tidewaiter.dev/workload": "none", "team": "platform", "project": "admission"}
    objects = rendered({**values, "podLabels": {**values.get("podLabels", {}), **labels}})
    arguments = ["review", "-", "--environment", "production", "--settings", str(settings), "--format", "json"]
    done = CliRunner().invoke(main, arguments, input=yaml.safe_dump_all(objects))
    (judged,) = [one for one in json.loads(done.stdout)["objects"] if one["kind"] == "Deployment"]
    return [one["rule"] for one in judged["findings"]]


def test_our_own_rules_find_nothing_where_they_deny(values: dict[str, Any], tmp_path: Path) -> None:
    assert _findings(values, tmp_path) == []


def test_our_own_rules_find_a_tag_in_place_of_a_digest(tmp_path: Path) -> None:
    by_tag = {"image": {"repository": "ghcr.io/acme/tidewaiter", "tag": "0.1.0"}}

    assert _findings(by_tag, tmp_path) == ["image-pinned"]


def test_our_own_rules_find_what_the_users_values_add(tmp_path: Path) -> None:
    host = {"extraVolumes": [{"name": "host", "hostPath": {"path": "/"}}]}

    assert "host-access" in _findings(host, tmp_path)
