"""Every manifest of a corpus, through the API server and through the review itself.

A table of what happened to each, and the difference that the pod's author would see, are
written to build/corpus.md (TIDEWAITER_CORPUS_REPORT names another file): to be read, as
the authors would.
"""

from __future__ import annotations

import asyncio
import copy
import difflib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml

from admission.admission_review import AdmissionRequest, decode
from admission.decision import Decision, Purpose
from admission.review_mark import marked
from registries.chain import Member, RegistryChain
from registries.file import FileRegistry
from registries.held import HeldRegistry
from tests.cluster import corpus
from tests.cluster.conftest import opted_in
from tests.cluster.corpus import Document
from tests.cluster.manifests import Object
from tests.controlplane.api_client import ApiClient, ApiResponse
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import wait_until
from tests.controlplane.webhook_server import WebhookServer
from webhook.cluster_state import ClusterState
from webhook.policy_engines import embedded_engines
from webhook.reviewer import Reviewer

WARN, DENY, EXEMPT = "corpus-warn", "corpus-deny", "exempt"
FACTS = (
    "/api/v1/namespaces", "/api/v1/nodes", "/api/v1/services", "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/apis/networking.k8s.io/v1/networkpolicies", "/apis/policy/v1/poddisruptionbudgets",
    "/apis/resource.k8s.io/v1/resourceclaimtemplates",
)  # fmt: skip
# Another opinion than ours on what a model pod is, so that the two can disagree.
ACCELERATOR = re.compile(r"nvidia\.com/(gpu|gpu\.shared|mig-.+)|amd\.com/gpu|google\.com/tpu|habana\.ai/gaudi")
SERVER = re.compile(
    r"/(vllm|tritonserver|text-generation-inference|torchserve|mlserver|ray-ml|ray|sklearnserver|huggingfaceserver"
    r"|storage-initializer|seldon-core-executor|jetstream[\w-]*|nim)[:@/-]"
)
GENERATED = re.compile(r"(?<=kube-api-access-)\w{5}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MADE_UP = ("uid", "creationTimestamp", "managedFields", "namespace", "generation")


@dataclass(frozen=True)
class Reviewed:
    """One document, or one pod template in it, and what became of it."""

    document: Document
    sent: Object
    plain: ApiResponse
    warn: ApiResponse
    deny: ApiResponse
    request: AdmissionRequest | None
    """What our webhook was sent in the namespace that warns; None where it is not asked about such objects."""
    mutation: Decision | None = None
    validation: Decision | None = None
    expected: ApiResponse | None = None
    """What the API server makes of the pod with our patch already applied, where we are not."""
    details: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def reviewed(tidewaiter: Tidewaiter) -> list[Reviewed]:
    """Everything in the corpus, reviewed; skipped where there is none."""
    path, crds = corpus.folder("TIDEWAITER_CORPUS", "corpus"), corpus.folder("TIDEWAITER_CRDS", "crds")
    if path is None:
        pytest.skip(corpus.MISSING)
    plane = tidewaiter.plane
    for name, environment in ((WARN, "staging"), (DENY, "production")):
        opted_in(plane, name, environment)
    if plane.get("namespace", EXEMPT) is None:
        plane.create_namespace(EXEMPT)
    with WebhookServer(plane, "a-corpus-recorder") as recorder, plane.client() as client:
        corpus.install(plane, crds)
        plane.apply(_recording(recorder, tidewaiter))
        probe = corpus.as_pod({"spec": {"containers": [{"name": "c", "image": "i"}]}}, "probe")
        wait_until(lambda: client.create(probe, WARN, dry_run=True) and recorder.reviews, "the recorder to be called")
        reviewer = _reviewer(tidewaiter, client)
        found = [_review(one, client, recorder, reviewer) for one in _documents(path)]
    _write_report(found)
    return found


def test_nothing_crashes_and_no_patch_fails_to_apply(reviewed: list[Reviewed]) -> None:
    assert reviewed
    for one in reviewed:
        # What the API server takes without us it takes with us, or we refuse it with a sentence of ours.
        if one.plain.ok:
            assert one.warn.ok, f"{one.document.title}: {one.warn.message}"
            assert one.mutation is not None or one.sent["kind"] != "Pod", one.document.title
            assert one.deny.ok or "(rule " in one.deny.message, f"{one.document.title}: {one.deny.message}"
        for decision in (one.mutation, one.validation):
            assert decision is None or not decision.error, one.document.title


def test_every_model_pod_is_recognised(reviewed: list[Reviewed]) -> None:
    pods = [one for one in reviewed if one.mutation is not None]
    expected = [one for one in pods if _looks_like_a_model(one.sent)]
    assert expected
    assert [one.document.title for one in expected if not _recognised(one)] == []


def test_no_other_pod_is_touched(reviewed: list[Reviewed]) -> None:
    for one in reviewed:
        if one.mutation is not None and not _recognised(one):
            assert one.mutation.patch == (), one.document.title
            assert _comparable(one.warn.body) == _comparable(one.plain.body), one.document.title


def test_the_api_server_applies_our_patch_as_jsonpatch_does(reviewed: list[Reviewed]) -> None:
    compared = 0
    for one in reviewed:
        if one.expected is None or not one.plain.ok:
            continue
        assert one.expected.ok, f"{one.document.title}: {one.expected.message}"
        assert _comparable(one.warn.body) == _comparable(one.expected.body), one.document.title
        compared += 1
    assert compared


def test_an_object_that_is_no_pod_is_stored_as_it_was_written(reviewed: list[Reviewed]) -> None:
    for one in reviewed:
        if one.document.kind != "Pod" and not one.document.path and one.plain.ok:
            assert _comparable(one.warn.body) == _comparable(one.plain.body), one.document.title


def _documents(path: Path) -> Iterator[tuple[Document, Object]]:
    """Each object, and each pod template in it as a bare pod."""
    number = 0
    for document in corpus.documents(path):
        yield document, document.obj
        for where, template in corpus.pod_templates(document):
            if document.kind == "Pod" and not where:
                continue
            number += 1
            yield Document(document.file, document.obj, where or "spec"), corpus.as_pod(template, f"template-{number}")


def _recording(recorder: WebhookServer, tidewaiter: Tidewaiter) -> Object:
    """Sees what ours sees: it is asked about the same objects, sorts before ours, and changes nothing."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": WARN}}
    webhooks = [one for configuration in tidewaiter.configurations() for one in configuration["webhooks"]]
    rules = [rule for one in webhooks for rule in one["rules"]]
    return recorder.configuration({"name": "seen", "rules": rules, "namespaceSelector": selector})


def _reviewer(tidewaiter: Tidewaiter, client: ApiClient) -> Reviewer:
    """The review of the running process, in this one: the same settings, facts and approvals."""
    state = ClusterState()
    for path in FACTS:
        for obj in client.items(path):
            state.put(obj)
    file = next(one for one in tidewaiter.settings.registries if one.type == "file")
    held = FileRegistry(tidewaiter.settings.folder / file.path)
    approvals = RegistryChain([Member(HeldRegistry(file.name, lambda asked: held.lookup(asked.model, asked.version)))])
    return Reviewer(tidewaiter.settings, state, embedded_engines(tidewaiter.settings), approvals=approvals)


def _review(one: tuple[Document, Object], client: ApiClient, recorder: WebhookServer, reviewer: Reviewer) -> Reviewed:
    document, sent = one
    _service_account(sent, client)
    recorder.reviews.clear()
    metadata = dict(sent.get("metadata") or {})
    if "generateName" in metadata:
        # The same name each time, so that the answers can be compared.
        metadata["name"] = f"{metadata.pop('generateName')}x"
    sent = {**sent, "metadata": metadata}
    answers = {name: client.create(sent, name, dry_run=True) for name in (WARN, DENY, EXEMPT)}
    bodies = [body for _, body in recorder.reviews]
    result = Reviewed(
        document, sent, answers[EXEMPT], answers[WARN], answers[DENY], decode(bodies[0]) if bodies else None
    )
    return _judged(result, client, reviewer)


def _service_account(sent: Object, client: ApiClient) -> None:
    """The account that the pod names: without it the API server refuses the pod before we are asked."""
    name = sent["spec"].get("serviceAccountName") if sent.get("kind") == "Pod" else None
    if name:
        for namespace in (WARN, DENY, EXEMPT):
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
            assert client.create(account, namespace).status in (201, 409)


def _judged(one: Reviewed, client: ApiClient, reviewer: Reviewer) -> Reviewed:
    request = one.request
    if request is None or request.object is None:
        return one
    if request.kind.kind != "Pod":
        return _with(one, validation=asyncio.run(reviewer.judge(request, Purpose.VALIDATE)))
    mutation = asyncio.run(reviewer.judge(request, Purpose.MUTATE))
    patch = marked(mutation.patch, request.object or {}, request.uid)
    patched = jsonpatch.apply_patch(copy.deepcopy(request.object), list(patch))
    judged = request.model_copy(update={"object": patched})
    patched = {**patched, "metadata": {**patched["metadata"], "namespace": EXEMPT}}
    expected = client.create({"apiVersion": "v1", "kind": "Pod", **patched}, EXEMPT, dry_run=True)
    return _with(
        one, mutation=mutation, validation=asyncio.run(reviewer.judge(judged, Purpose.VALIDATE)), expected=expected
    )


def _with(one: Reviewed, **more: Any) -> Reviewed:
    return Reviewed(**{**{name: getattr(one, name) for name in one.__dataclass_fields__}, **more})


def _comparable(obj: Object) -> Object:
    """The object without what the API server makes up for each request."""
    made: Object = json.loads(GENERATED.sub("X", json.dumps(obj)))
    for key in MADE_UP:
        made["metadata"].pop(key, None)
    return made


def _recognised(one: Reviewed) -> str:
    return next((decision.recognised for decision in (one.validation, one.mutation) if decision is not None), "")


def _looks_like_a_model(pod: Object) -> bool:
    containers = [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
    return any(SERVER.search(f"{one.get('image')}:") or _asks_for_an_accelerator(one) for one in containers)


def _asks_for_an_accelerator(container: Object) -> bool:
    resources = container.get("resources") or {}
    asked = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return any(ACCELERATOR.fullmatch(name) and str(quantity) != "0" for name, quantity in asked.items())


def _write_report(found: list[Reviewed]) -> None:
    path = Path(os.environ.get("TIDEWAITER_CORPUS_REPORT") or corpus.REPOSITORY / "build" / "corpus.md")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        "| file | kind | recognised by | without | production | changed by | findings in production |",
        "|---" * 7 + "|",
    ]
    lines += [_row(one) for one in found]
    for one in found:
        lines += _details(one)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"\n{len(found)} objects and pod templates; the table is in {path}")


def _row(one: Reviewed) -> str:
    where = f"{one.document.kind} {one.document.path}".strip()
    injections = one.mutation.injections if one.mutation else one.validation.injections if one.validation else ()
    changed = ", ".join(dict.fromkeys(each.mutator + (" (preview)" if each.preview else "") for each in injections))
    rules = ", ".join(dict.fromkeys(re.findall(r"\(rule ([\w-]+)\)", one.deny.message + " ".join(one.deny.warnings))))
    cells = (
        one.document.file, where, _recognised(one) or ("-" if one.validation else "not asked"),
        "ok" if one.plain.ok else f"{one.plain.status}", "ok" if one.deny.ok else f"{one.deny.status}", changed, rules,
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _details(one: Reviewed) -> Iterator[str]:
    yield f"\n## {one.document.title}"
    if not one.plain.ok:
        yield f"\nRefused without us too: {one.plain.message[:600]}"
        return
    for said in (*one.warn.warnings, *([one.deny.message] if one.deny.message else [])):
        yield f"\n> {said}"
    if one.mutation is not None:
        before, after = (
            yaml.safe_dump(_comparable(answer.body), sort_keys=False).splitlines() for answer in (one.plain, one.warn)
        )
        yield "\n```diff"
        yield from list(difflib.unified_diff(before, after, "without", "with", lineterm="", n=4))
        yield "```"
