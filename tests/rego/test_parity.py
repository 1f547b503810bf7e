"""The three ways to evaluate a policy agree, finding by finding."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings

from admission.pod import ModelPod
from admission.pod_schema import MalformedObjectError, check_shape
from admission.policy_input import policy_input
from admission.validator import RuleFailure
from tests.cluster.corpus import MISSING, as_pod, documents, folder, pod_templates
from tests.controlplane.waiting import wait_until
from tests.kernel import case_context, case_pod, context
from tests.property.pods import PODS
from tests.rego.opa import Opa
from webhook.rego.child_engine import ChildEngine, ChildLimits
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.opa_client import OpaServer
from webhook.rego.opa_engine import OpaEngine, OpaLimits
from webhook.rego.policy_set import PolicySet, policy_set
from webhook.rego.sources import FolderSource, built_in_policies

CASES = Path(__file__).parents[1] / "cases" / "policies"
GENERATED = 300


def cases() -> list[Any]:
    found = []
    for path in sorted(CASES.glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for case in document["cases"]:
            found.append(pytest.param({**document.get("common", {}), **case}, id=f"{path.stem}: {case['name']}"))
    return found


class Engines:
    """The same policies, in process, in a child and in OPA."""

    def __init__(self, opa: Opa, policies: PolicySet) -> None:
        self.loop = asyncio.new_event_loop()
        self.embedded = EmbeddedEngine(policies)
        self.child = ChildEngine(policies, limits=ChildLimits(rule_seconds=30, review_seconds=50))
        self.opa = OpaEngine(policies, OpaServer(opa.url), limits=OpaLimits(deadline_seconds=30))
        self.loop.run_until_complete(self.child.start())

    def agree(self, given_input: Mapping[str, Any]) -> int:
        """Compare the three; answers how many findings there are."""

        async def all_three() -> list[Any]:
            return [await one.evaluate(given_input) for one in (self.embedded, self.child, self.opa)]

        first, second, third = self.loop.run_until_complete(all_three())
        assert not [one for one in first.values() if isinstance(one, RuleFailure)]
        assert second == first
        assert third == first
        return sum(len(one) for one in first.values())

    def close(self) -> None:
        for one in (self.embedded, self.child, self.opa):
            self.loop.run_until_complete(one.close())
        self.loop.close()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    scratch = tmp_path_factory.mktemp("opa")
    files = {path.name: path.read_bytes() for path in built_in_policies().iterdir() if path.is_file()}
    # Lists that are not empty, so that allowed-runtimes has something to say.
    data = yaml.safe_load(files["data.yaml"])
    data["settings"]["allowed_runtimes"] = {
        "runtime_classes": ["nvidia"], "frameworks": ["triton", "vllm"], "images": ["vllm/vllm-openai"],
    }  # fmt: skip
    files["data.yaml"] = yaml.safe_dump(data).encode()
    (scratch / "policies").mkdir()
    for name, content in files.items():
        if not name.endswith("_test.rego"):
            (scratch / "policies" / name).write_bytes(content)
    with Opa(scratch, "--bundle", str(scratch / "policies")) as opa:
        wait_until(opa.loaded, "OPA to load the policies")
        found = Engines(opa, FolderSource(scratch / "policies").read())
        yield found
        found.close()


@pytest.mark.parametrize("case", cases())
def test_every_case(engines: Engines, case: Mapping[str, Any]) -> None:
    about = case_context(case)
    found = engines.agree(policy_input(case_pod(case, about), about))

    assert found >= (0 if case["expect"] == "none" or case.get("data") else len(case["expect"]))


def test_every_pod_of_the_corpus(engines: Engines) -> None:
    corpus = folder("TIDEWAITER_CORPUS", "corpus")
    if corpus is None:
        pytest.skip(MISSING)
    pods = findings = 0
    for document in documents(corpus):
        for _, template in pod_templates(document):
            pod = as_pod(template, "p")
            try:
                check_shape(pod)
            except MalformedObjectError:
                continue
            findings += engines.agree(policy_input(ModelPod(pod, "models"), context()))
            pods += 1
    assert pods > 20
    assert findings > pods


def test_generated_pods(engines: Engines) -> None:
    seen = []

    @seed(20260601)
    @settings(
        max_examples=GENERATED, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(PODS)
    def compare(pod: dict[str, Any]) -> None:
        seen.append(engines.agree(policy_input(ModelPod(pod, "models"), context())))

    compare()
    assert len(seen) >= GENERATED
    assert sum(seen) > GENERATED


DATA = b'numbers: {a: -2e3, b: 1.5, c: 010, d: 1:30, e: 2026-01-01, f: 1_000, g: 0x10}\nwords: {no: yes, 1: "1"}\n'


def test_data_mean_the_same_to_opa(tmp_path: Path) -> None:
    body = b"""# METADATA
# title: Data
# description: Tells them.
# custom:
#   id: tells-data
package tidewaiter.tells_data

findings contains {"path": key, "message": json.marshal(data[key])} if some key in ["numbers", "words"]
"""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "a.rego").write_bytes(body)
    (tmp_path / "policies" / "data.yaml").write_bytes(DATA)
    with Opa(tmp_path, "--bundle", str(tmp_path / "policies")) as opa:
        wait_until(opa.loaded, "OPA to load the policies")
        found = Engines(opa, policy_set("test", {"a.rego": body, "data.yaml": DATA}))
        assert found.agree({"containers": []}) == 2
        found.close()
