"""Rule security-posture says of every pod what the API server's own Pod Security admission says.

The oracle is the warning of a namespace that warns at level "restricted", for pods that are
created, or get an ephemeral container, with `dryRun=All`. Compared are the checks that a pod
breaks, for the pod as sent and as the API server has it, and of the latter also the containers
that are named; the rule's exceptions are off.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import jsonpatch
import pytest

from admission.decision import Purpose
from admission.finding import Finding
from admission.pipeline import review
from admission.pod import ModelPod
from admission.pod_schema import check_shape
from tests.cluster import corpus
from tests.cluster.manifests import Object
from tests.controlplane.api_client import ApiClient, ApiResponse
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.waiting import wait_until
from tests.kernel import context, request, rules
from tests.property import restricted_pods
from tests.property.restricted_pods import ABSENT, bare_pod, good_pod, windows_pod
from validators.security_posture import VALIDATOR, SecurityPostureSettings

# One that Tidewaiter exempts in this folder's tests: none of its webhooks stands in between.
NAMESPACE = "exempt"
LABELS = {"pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/warn-version": "latest"}
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SAID = 'would violate PodSecurity "restricted:latest": '
CONNECTIONS = 4
SEED, MIXTURES, EPHEMERAL_MIXTURES = 20260601, 7000, 250
NO_EXCEPTIONS = SecurityPostureSettings(allowedCapabilities=(), exemptImages=())
POD = "the pod"
SHOWN = 5
STORED = [good_pod(), good_pod(at_the_pod=True), bare_pod(), bare_pod(hostUsers=False), windows_pod()]

# Where generated pods come from, and how many of them the API server must have taken.
SOURCES: dict[str, tuple[Callable[[], Iterator[Object]], int]] = {
    "one value off": (restricted_pods.one_off, 1500),
    "pod against container": (restricted_pods.outranked, 500),
    "Windows": (restricted_pods.on_windows, 100),
    "mixtures": (lambda: restricted_pods.mixed(SEED, MIXTURES), 4000),
}

# What upstream calls a check in its warning, and how the paths of our findings for it end.
CHECKS = {
    "allowPrivilegeEscalation != false": r"allowPrivilegeEscalation",
    "forbidden AppArmor profile": r"appArmorProfile|annotations\[container\.apparmor\.[^]]*\]",
    "unrestricted capabilities": r"capabilities\.(add|drop)",
    "host namespaces": r"host(Network|PID|IPC)",
    "hostPort": r"hostPort",
    "probe or lifecycle host": r"(httpGet|tcpSocket)\.host",
    "privileged": r"privileged",
    "procMount": r"procMount",
    "restricted volume types": r"volumes\[\d+\]",
    "runAsNonRoot != true": r"runAsNonRoot",
    "runAsUser=0": r"runAsUser",
    "seLinuxOptions": r"seLinuxOptions",
    "seccompProfile": r"seccompProfile",
    "forbidden sysctls": r"sysctls",
    "hostProcess": r"windowsOptions\.hostProcess",
}
CHECK = re.compile(f"(?:^|, )({'|'.join(map(re.escape, CHECKS))})s? \\(")
NAMES = re.compile(r'containers? ("[^"]*"(?:, "[^"]*")*)')
# Of these upstream names the containers that say nothing only where nobody says something wrong.
NOT_ALL_NAMED = ("runAsNonRoot != true", "seccompProfile")
OF_THE_POD = ("host namespaces", "restricted volume types", "forbidden sysctls")

Broken = Mapping[str, frozenset[str]]
"""By check, who breaks it: names of containers, or the pod."""


@dataclass(frozen=True)
class Compared:
    """One pod, and what was said of it."""

    sent: Object
    answer: ApiResponse

    @property
    def judged(self) -> bool:
        """Whether the API server took the pod: it judges no other."""
        return self.answer.ok

    def differences(self) -> list[str]:
        """In words; empty where both say the same."""
        sent, seen = _broken(self.sent), _broken(self.answer.body)
        expected = _broken_upstream(self.answer.warnings)
        # The API server makes every port of a pod in the host's network a port of the host.
        made = {"hostPort"} if self.sent["spec"].get("hostNetwork") else set()
        unlike = {
            "as sent": (set(sent) ^ set(expected)) - made,
            "as the API server has it": _unlike(seen, expected),
        }
        ours = {"as sent": sent, "as the API server has it": seen}
        return [
            f"{which}: upstream {_shown(expected, checks)}, ours {_shown(ours[which], checks)}"
            for which, checks in unlike.items()
            if checks
        ]


@pytest.fixture(scope="module")
def clients(control_plane: ControlPlane) -> Iterator[list[ApiClient]]:
    """Open connections, and a namespace that says what is not restricted."""
    control_plane.create_namespace(NAMESPACE, LABELS)
    with ExitStack() as stack:
        opened = [stack.enter_context(control_plane.client()) for _ in range(CONNECTIONS)]
        wait_until(
            lambda: _broken_upstream(_posted(opened[0], bare_pod()).answer.warnings), "the namespace to be warned in"
        )
        yield opened
    control_plane.kubectl("label", "namespace", NAMESPACE, *(f"{key}-" for key in LABELS))


@pytest.fixture(scope="module")
def generated(clients: list[ApiClient]) -> dict[str, list[Compared]]:
    """What was said of every generated pod, by its source."""
    return {name: _each(clients, source(), _posted) for name, (source, _) in SOURCES.items()}


@pytest.mark.parametrize("source", SOURCES)
def test_a_generated_pod_breaks_what_the_api_server_says(
    clients: list[ApiClient], generated: dict[str, list[Compared]], source: str
) -> None:
    _, least = SOURCES[source]
    _assert_same(generated[source], least, clients[0], _posted)


def test_every_check_of_upstream_is_broken_by_some_generated_pod_and_met_by_another(
    generated: dict[str, list[Compared]],
) -> None:
    """Otherwise the comparison would show nothing of that check."""
    said = [_broken_upstream(one.answer.warnings) for found in generated.values() for one in found if one.judged]
    assert {check for broken in said for check in broken} == set(CHECKS)
    assert {} in said


def test_an_ephemeral_container_breaks_what_the_api_server_says(
    control_plane: ControlPlane, clients: list[ApiClient]
) -> None:
    pods = [_stored(clients[0], f"stored-{number}", pod) for number, pod in enumerate(STORED)]
    try:
        contexts = list(restricted_pods.security_contexts(SEED, EPHEMERAL_MIXTURES))
        with_one = (_with_ephemeral(pod, security) for pod, security in itertools.product(pods, contexts))
        _assert_same(_each(clients, with_one, _debugged), 1000, clients[0], _debugged)
    finally:
        names = [pod["metadata"]["name"] for pod in pods]
        control_plane.kubectl("delete", "pod", *names, "-n", NAMESPACE, "--grace-period=0", "--force", "--wait=true")


def test_a_pod_of_the_corpus_breaks_what_the_api_server_says(clients: list[ApiClient]) -> None:
    _assert_same(_each(clients, _corpus_pods(), _posted), 1, clients[0], _posted)


def test_a_pod_of_the_corpus_that_tidewaiter_changed_breaks_what_the_api_server_says(clients: list[ApiClient]) -> None:
    _assert_same(_each(clients, map(_mutated, _corpus_pods()), _posted), 1, clients[0], _posted)


def _broken(pod: Object) -> Broken:
    """What our rule says."""
    broken: dict[str, set[str]] = {}
    for finding in VALIDATOR.check(ModelPod(copy.deepcopy(pod)), context(), NO_EXCEPTIONS):
        broken.setdefault(_check_of(finding), set()).add(finding.container or POD)
    return {check: frozenset(names) for check, names in broken.items()}


def _check_of(finding: Finding) -> str:
    (found,) = [check for check, path in CHECKS.items() if re.search(rf"(^|\.)({path})$", finding.path)]
    return found


def _broken_upstream(warnings: Iterable[str]) -> Broken:
    """What the API server says; a warning that was cut is not one of these."""
    said = [one.removeprefix(SAID) for one in warnings if one.startswith(SAID)]
    if not said:
        return {}
    (text,) = said
    assert text.endswith(")"), f"a cut warning: {text}"
    found = list(CHECK.finditer(text))
    assert found, text
    ends = [one.start() for one in found[1:]] + [len(text)]
    return {one[1]: _named(text[one.end() : end]) for one, end in zip(found, ends, strict=True)}


def _named(detail: str) -> frozenset[str]:
    names = {name for listed in NAMES.findall(detail) for name in re.findall(r'"([^"]*)"', listed)}
    return frozenset(names | ({POD} if re.match(r"pod (and|must|set)|(.* and )?annotations? must", detail) else set()))


def _unlike(ours: Broken, theirs: Broken) -> set[str]:
    """The checks of which not the same is said."""
    unlike = set(ours) ^ set(theirs)
    for check in set(ours) & set(theirs) - set(OF_THE_POD):
        named = ours[check] & theirs[check] if check in NOT_ALL_NAMED else ours[check]
        if named != theirs[check]:
            unlike.add(check)
    return unlike


def _shown(broken: Broken, checks: set[str]) -> str:
    return (
        "; ".join(f"{check} ({', '.join(sorted(broken[check]))})" for check in sorted(checks & set(broken)))
        or "nothing"
    )


def _posted(client: ApiClient, pod: Object) -> Compared:
    return Compared(pod, client.send("POST", f"{PODS}?dryRun=All", pod))


def _debugged(client: ApiClient, pod: Object) -> Compared:
    path = f"{PODS}/{pod['metadata']['name']}/ephemeralcontainers?dryRun=All"
    return Compared(pod, client.send("PUT", path, pod))


def _stored(client: ApiClient, name: str, pod: Object) -> Object:
    """The pod, in the cluster until it is deleted; no scheduler takes it, so that nothing changes it."""
    answer = client.send(
        "POST", PODS, {**pod, "metadata": {"name": name}, "spec": {**pod["spec"], "schedulerName": "nobody"}}
    )
    assert answer.ok, answer.message
    return answer.body


def _with_ephemeral(pod: Object, security: Any) -> Object:
    container = {"name": "debug", "image": "acme/debug:1"}
    if security is not ABSENT:
        container["securityContext"] = security
    return {**pod, "spec": {**pod["spec"], "ephemeralContainers": [container]}}


def _corpus_pods() -> list[Object]:
    path = corpus.folder("TIDEWAITER_CORPUS", "corpus")
    if path is None:
        pytest.skip(corpus.MISSING)
    templates = [one for document in corpus.documents(path) for _, one in corpus.pod_templates(document)]
    pods = [_without_companions(corpus.as_pod(one, f"template-{number}")) for number, one in enumerate(templates)]
    assert pods
    return pods


def _without_companions(pod: Object) -> Object:
    """Without the names of objects that would have to exist; no check reads them."""
    for key in ("serviceAccountName", "serviceAccount", "priorityClassName", "runtimeClassName"):
        pod["spec"].pop(key, None)
    return pod


def _mutated(pod: Object) -> Object:
    """The pod as Tidewaiter's mutators make it safe, images that nobody knows included."""
    every = rules(settings={"security-context": {"unknownImages": "apply"}})
    patch = review(request(pod, namespace=NAMESPACE), Purpose.MUTATE, context(), every).patch
    made: Object = jsonpatch.apply_patch(copy.deepcopy(pod), list(patch))
    return _without_companions(made)


Ask = Callable[[ApiClient, Object], Compared]


def _each(clients: list[ApiClient], pods: Iterable[Object], ask: Ask) -> list[Compared]:
    """What was said of each different pod, asked on all connections."""
    free: SimpleQueue[ApiClient] = SimpleQueue()
    for client in clients:
        free.put(client)

    def on_a_free_connection(pod: Object) -> Compared:
        client = free.get()
        try:
            return ask(client, pod)
        finally:
            free.put(client)

    distinct = {json.dumps(pod, sort_keys=True): pod for pod in pods}
    with ThreadPoolExecutor(len(clients)) as threads:
        return list(threads.map(on_a_free_connection, distinct.values()))


def _assert_same(compared: list[Compared], least: int, client: ApiClient, ask: Ask) -> None:
    judged = [one for one in compared if one.judged]
    safe = sum(not _broken_upstream(one.answer.warnings) for one in judged)
    refused = len(compared) - len(judged)
    print(f"\n{len(judged)} pods compared, {safe} of them restricted; {refused} refused by the API server")
    assert len(judged) >= least, [one.answer.message for one in compared if not one.judged][:SHOWN]
    for one in judged:
        check_shape(one.sent)
        check_shape(one.answer.body)
    different = sorted((one for one in judged if one.differences()), key=lambda one: len(json.dumps(one.sent)))
    kinds: dict[tuple[str, ...], Compared] = {}
    for one in different:
        kinds.setdefault(tuple(one.differences()), one)
    shown = [_smallest(one, client, ask) for one in list(kinds.values())[:SHOWN]]
    assert not different, f"{len(different)} of {len(judged)} pods differ:\n" + "\n".join(
        "\n  ".join((json.dumps(one.sent), *one.differences())) for one in shown
    )


def _smallest(one: Compared, client: ApiClient, ask: Ask) -> Compared:
    """The same difference, or another, on a pod from which nothing more can be taken away."""
    for pod in _reductions(one.sent):
        smaller = ask(client, pod)
        if smaller.judged and smaller.differences():
            return _smallest(smaller, client, ask)
    return one


def _reductions(value: Any) -> Iterator[Any]:
    """The value with one thing less in it."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        without = copy.copy(value)
        del without[key]
        yield without
    for key in keys:
        for inner in _reductions(value[key]):
            changed = copy.copy(value)
            changed[key] = inner
            yield changed
