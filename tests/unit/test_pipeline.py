from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import jsonpatch
import pytest

from admission.admission_review import AdmissionRequest
from admission.approval import Answered, ApprovalQuestion, NotFound
from admission.context import DeployQuestion
from admission.decision import Decision, Purpose
from admission.finding import Action, Finding
from admission.pipeline import RuleSet, review, reviewing
from admission.pod_schema import MalformedObjectError
from admission.policy_exception import PolicyException
from admission.subject import path_before_injection
from admission.template_history import kept_template
from admission.validator import Applicability, PolicyAnswers, PolicyInput, PolicyRule, RuleFailure, RuleSettings, Scope
from tests.kernel import DIGEST, NOW, REPLICASET_CONTROLLER, context, request, rules

VALIDATE, MUTATE = Purpose.VALIDATE, Purpose.MUTATE
TRITON = f"nvcr.io/nvidia/tritonserver@{DIGEST}"
MODEL = {"tidewaiter.dev/model": "m", "tidewaiter.dev/model-version": "1", "team": "search"}
APPROVALS = [{"model": "m", "version": "1"}]


def pod(image: str = TRITON, labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "server", "labels": dict(MODEL if labels is None else labels)},
        "spec": {"containers": [{"name": "server", "image": image}], **spec},
    }


def decide(what: AdmissionRequest, purpose: Purpose = VALIDATE, of: RuleSet | None = None, **facts: Any) -> Decision:
    """Review, and show that the request was not touched."""
    before = json.dumps(what.model_dump(mode="json"))
    decision = review(what, purpose, context(approvals=APPROVALS, **facts), of or rules())
    assert json.dumps(what.model_dump(mode="json")) == before
    return decision


def mutated(obj: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    patch = decide(request(obj), MUTATE, **facts).patch
    result: dict[str, Any] = jsonpatch.apply_patch(copy.deepcopy(dict(obj)), list(patch))
    return result


def paths(decision: Decision) -> list[str]:
    return sorted(one.finding.path for one in decision.findings)


def rule_ids(decision: Decision) -> set[str]:
    return {one.finding.rule for one in decision.findings}


def workload(kind: str, template: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "CronJob":
        return {"spec": {"jobTemplate": {"spec": {"template": template}}}}
    return {"spec": {"template": template}}


def test_a_plain_model_pod_is_made_to_pass_and_passes() -> None:
    made = mutated(pod())
    decision = decide(request(made))
    assert (decision.allowed, decision.findings, decision.missing) == (True, (), ())
    assert not decide(request(made), MUTATE).patch


def test_a_mutation_says_what_it_did_to_what() -> None:
    decision = decide(request(pod()), MUTATE)
    assert (decision.recognised, decision.environment, decision.workload) == ("triton", "production", "inference")
    assert (decision.model.name, decision.model.version) == ("m", "1")
    assert {one.mutator for one in decision.injections if not one.preview} == {"security-context", "cost-labels"}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (request(pod("nginx", {})), "no model pod"),
        (request(pod(), old=pod()), "only new pods are mutated"),
        (request(pod(), subResource="ephemeralcontainers", operation="UPDATE"), "only new pods are mutated"),
        (request(workload("Deployment", pod()), kind="Deployment"), "only new pods are mutated"),
        (request(None, old=pod(), operation="DELETE"), "operation DELETE"),
        (request(pod(), operation="CONNECT"), "operation CONNECT"),
        (request({"spec": {}}, kind="Deployment"), "object makes no pods"),
        (request({"data": {}}, kind="ConfigMap"), "object makes no pods"),
    ],
)
def test_what_is_not_mutated_says_why(what: AdmissionRequest, reason: str) -> None:
    decision = decide(what, MUTATE)
    assert (decision.allowed, decision.patch, decision.ignored) == (True, (), reason)


@pytest.mark.parametrize("purpose", list(Purpose))
def test_a_deletion_is_let_through(purpose: Purpose) -> None:
    assert decide(request(None, old=pod(hostPID=True), operation="DELETE"), purpose).ignored == "operation DELETE"


def test_an_object_that_is_being_deleted_is_judged() -> None:
    going = pod(hostPID=True)
    going["metadata"]["deletionTimestamp"] = "2026-06-01T00:00:00Z"
    assert not decide(request(going, old=pod())).allowed
    assert "spec.hostPID" in paths(decide(request(going)))


MIRROR = {"kubernetes.io/config.mirror": "abc"}
NODE = {"username": "system:node:n1", "groups": ["system:nodes"]}


@pytest.mark.parametrize(
    ("user", "node", "ignored"),
    [
        (NODE, "n1", True),
        (NODE, "n2", False),
        (NODE, None, False),
        ({"username": "mia", "groups": ["system:nodes"]}, "n1", False),
        ({"username": "system:node:n1", "groups": []}, "n1", False),
        ({"username": "mia", "groups": ["developers"]}, "n1", False),
    ],
)
@pytest.mark.parametrize("purpose", list(Purpose))
def test_only_a_nodes_own_mirror_pod_goes_unseen(user: Any, node: str | None, ignored: bool, purpose: Purpose) -> None:
    mirror = pod(hostNetwork=True, nodeName=node)
    mirror["metadata"]["annotations"] = MIRROR
    decision = decide(request(mirror, userInfo=user), purpose)
    assert decision.ignored == ("mirror pod of its node" if ignored else "")
    assert purpose is MUTATE or decision.allowed is ignored


def test_a_pod_that_mutate_never_saw_lacks_its_work() -> None:
    decision = decide(request(pod()))
    assert not decision.allowed
    assert {one.mutator for one in decision.missing} == {"security-context", "cost-labels"}
    assert "injection-missing" in rule_ids(decision)
    assert "has not done its work" in decision.denial()


@pytest.mark.parametrize("mode", ["off", "preview"])
def test_a_mutator_that_does_not_apply_here_is_not_missing(mode: str) -> None:
    namespace = {"settings": {"modes": {"security-context": mode, "cost-labels": mode}}}
    decision = decide(request(pod()), namespace=namespace)
    assert decision.missing == ()
    assert "injection-missing" not in rule_ids(decision)
    mutation = decide(request(pod()), MUTATE, namespace=namespace)
    assert mutation.patch == ()
    assert bool(mutation.warnings()) is (mode == "preview")


def test_a_namespace_that_is_not_opted_in_is_previewed_and_warned() -> None:
    mutation = decide(request(pod()), MUTATE, environment="")
    assert mutation.patch == ()
    assert all(one.preview for one in mutation.injections)
    assert any("(mutator security-context, preview)" in text for text in mutation.warnings())
    judgement = decide(
        request(pod(hostPID=True)), environment="", namespace={"labels": {"tidewaiter.dev/enforcement": "deny"}}
    )
    assert judgement.allowed
    assert {one.action for one in judgement.findings} == {Action.WARN}
    assert judgement.missing == ()


def test_a_web_pod_is_judged_only_where_the_namespace_is_opted_in() -> None:
    web = request(pod("nginx", {}, nodeName="n1"))
    assert decide(web, environment="").ignored == "no model pod"
    assert rule_ids(decide(web)) == {"placement-bypass"}
    assert decide(web).workload == ""


def test_an_update_that_makes_nothing_worse_is_tolerated() -> None:
    old = pod(hostPID=True)
    new = copy.deepcopy(old)
    new["metadata"]["finalizers"] = ["x"]
    new["spec"]["initContainers"] = []
    decision = decide(request(new, old=old))
    assert (decision.allowed, decision.findings) == (True, ())
    assert decision.tolerated > 0


def test_an_update_that_moves_a_container_is_tolerated() -> None:
    old = pod()
    old["spec"]["containers"].append({"name": "second", "image": "acme/x:1"})
    new = copy.deepcopy(old)
    new["spec"]["containers"].reverse()
    assert decide(request(new, old=old)).findings == ()


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork"),
        ({"priorityClassName": "system-node-critical"}, "spec.priorityClassName"),
        ({"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}, "spec.volumes[0]"),
    ],
)
def test_an_update_that_makes_something_worse_is_refused_for_that_alone(change: dict[str, Any], path: str) -> None:
    old = pod(hostPID=True)
    decision = decide(request({**old, "spec": {**old["spec"], **change}}, old=old))
    assert not decision.allowed
    assert paths(decision) == [path]
    assert decision.tolerated > 0


def test_taking_a_models_label_away_hides_nothing() -> None:
    old = mutated(pod())
    new = copy.deepcopy(old)
    del new["metadata"]["labels"]["tidewaiter.dev/model"]
    assert rule_ids(decide(request(new, old=old))) == {"approved-version"}


def test_an_ephemeral_container_is_judged_like_any_other() -> None:
    old = mutated(pod())
    new = copy.deepcopy(old)
    new["spec"]["ephemeralContainers"] = [
        {"name": "debug", "image": "busybox", "securityContext": {"privileged": True}}
    ]
    decision = decide(request(new, old=old, subResource="ephemeralcontainers"))
    assert not decision.allowed
    assert all(path.startswith("spec.ephemeralContainers[0].") for path in paths(decision))
    assert "spec.ephemeralContainers[0].securityContext.privileged" in paths(decision)


def test_a_resize_that_changes_nothing_bad_passes() -> None:
    old = mutated(pod())
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["resources"] = {"requests": {"cpu": 2}}
    assert decide(request(new, old=old, subResource="resize")).allowed


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", "spec.template"),
        ("StatefulSet", "spec.template"),
        ("ReplicaSet", "spec.template"),
        ("DaemonSet", "spec.template"),
        ("Job", "spec.template"),
        ("CronJob", "spec.jobTemplate.spec.template"),
    ],
)
def test_a_workload_is_told_what_its_pods_would_be_told(kind: str, path: str) -> None:
    decision = decide(request(workload(kind, pod("nvcr.io/nvidia/tritonserver:latest")), kind=kind))
    assert paths(decision) == [f"{path}.spec.containers[0].image"]
    assert not decision.allowed
    assert "security-context" in {one.mutator for one in decision.injections}
    assert decision.missing == ()


def test_a_workload_is_judged_as_its_pods_would_be_after_mutation() -> None:
    decision = decide(request(workload("Deployment", pod()), kind="Deployment"))
    assert (decision.allowed, decision.findings, decision.patch) == (True, (), ())


def test_a_workload_of_another_group_is_none_of_ours() -> None:
    what = request(workload("Deployment", pod(hostPID=True)), kind="Deployment")
    foreign = what.model_copy(update={"kind": what.kind.model_copy(update={"group": "example.com"})})
    assert decide(foreign).ignored == "object makes no pods"


def test_a_workload_that_gets_no_worse_is_tolerated_and_one_that_does_is_refused() -> None:
    old = workload("Deployment", pod("nvcr.io/nvidia/tritonserver:1"))
    scaled = {"spec": {**old["spec"], "replicas": 3}}
    assert decide(request(scaled, old=old, kind="Deployment")).allowed
    worse = workload("Deployment", pod("nvcr.io/nvidia/tritonserver:2"))
    assert paths(decide(request(worse, old=old, kind="Deployment"))) == ["spec.template.spec.containers[0].image"]
    bound = workload("Deployment", pod(nodeName="n1"))
    assert paths(decide(request(bound, old=workload("Deployment", pod()), kind="Deployment"))) == [
        "spec.template.spec.nodeName"
    ]


@pytest.mark.parametrize(
    ("username", "allowed"), [(REPLICASET_CONTROLLER, False), ("system:kube-controller-manager", True), ("mia", False)]
)
def test_a_daemonsets_pod_may_have_a_node_only_from_its_controller(username: str, allowed: bool) -> None:
    made = mutated(pod(nodeName="n1"))
    made["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "controller": True}]
    assert decide(request(made, userInfo={"username": username})).allowed is allowed


def test_findings_come_most_serious_first() -> None:
    of = rules(settings={"security-posture": {"action": {"*": "audit"}}, "image-pinned": {"action": {"*": "warn"}}})
    decision = decide(request(pod("nvcr.io/nvidia/tritonserver:1", nodeName="n1")), of=of)
    order = [one.action.strictness for one in decision.findings]
    assert order == sorted(order, reverse=True)
    assert set(order) == {1, 2, 3}


def test_a_rule_that_is_off_says_nothing() -> None:
    of = rules(only_validators=["image-pinned"], settings={"image-pinned": {"action": {"production": "off"}}})
    assert decide(request(pod("nginx")), of=of).findings == ()


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize(
    "broken",
    [
        {"metadata": "x", "spec": {}},
        {"metadata": {"ownerReferences": 5}},
        {"metadata": {"annotations": "x"}},
        {"spec": "x"},
        {"spec": {"containers": [{"resources": {"limits": []}}]}},
    ],
)
def test_an_object_that_is_no_pod_is_refused_with_a_sentence(purpose: Purpose, broken: dict[str, Any]) -> None:
    with pytest.raises(MalformedObjectError, match=r"^(metadata|spec).*Input should be"):
        decide(request(broken), purpose)
    with pytest.raises(MalformedObjectError, match=r"^spec\.template\.(metadata|spec)"):
        decide(request(workload("Deployment", broken), kind="Deployment"))
    if purpose is VALIDATE:
        with pytest.raises(MalformedObjectError, match=r"^oldObject\.(metadata|spec)"):
            decide(request(pod(hostPID=True), old=broken))


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"spec": None},
        {"metadata": None},
        {"metadata": {"labels": MODEL}},
        {"metadata": {"labels": MODEL}, "spec": None},
    ],
)
def test_a_pod_without_a_spec_is_judged_and_not_touched(obj: dict[str, Any]) -> None:
    decide(request(obj))
    patch = decide(request(obj), MUTATE).patch
    jsonpatch.apply_patch(copy.deepcopy(obj), list(patch))


def _policies(*scopes: tuple[str, Scope]) -> RuleSet:
    rego = {name: PolicyRule(name, "", "", Applicability(scope), RuleSettings()) for name, scope in scopes}
    return RuleSet(policies=rego)


_TWO = _policies(("every", Scope.EVERY_POD), ("model", Scope.MODEL_POD))


def _complaints(question: PolicyInput) -> PolicyAnswers:
    assert question["namespace"] == "models"
    return {name: [Finding(name, "spec", "no", "do")] for name in ("every", "model", "unknown")}


def asked(what: AdmissionRequest, evaluate: Callable[[PolicyInput], PolicyAnswers], **facts: Any) -> Decision:
    return review(what, VALIDATE, context(approvals=APPROVALS, **facts), _TWO, evaluate)


def test_policies_are_judged_like_rules() -> None:
    assert rule_ids(asked(request(pod()), _complaints)) == {"every", "model"}
    assert rule_ids(asked(request(pod("nginx", {})), _complaints)) == {"every"}
    off = {"settings": {"actions": {"every": "off", "model": "warn"}}}
    assert [one.action for one in asked(request(pod()), _complaints, namespace=off).findings] == [Action.WARN]
    assert asked(request(pod(), old=pod()), _complaints).tolerated == 2


def test_rego_is_not_asked_where_every_rule_is_off() -> None:
    off = {"settings": {"actions": {"every": "off", "model": "off"}}}

    def never(_question: PolicyInput) -> PolicyAnswers:
        raise AssertionError

    assert asked(request(pod()), never, namespace=off).allowed


def _broken(_question: PolicyInput) -> PolicyAnswers:
    return {"every": RuleFailure("the engine is gone"), "model": []}


def test_a_rule_that_cannot_be_evaluated_does_what_its_action_says_and_is_never_skipped() -> None:
    decision = asked(request(pod()), _broken)

    assert not decision.allowed
    assert "nobody can say whether the rule holds: the engine is gone" in decision.denial()
    warned = asked(request(pod()), _broken, namespace={"settings": {"actions": {"every": "warn"}}})
    assert warned.allowed
    assert "the engine is gone" in warned.warnings()[0]


def test_an_engine_that_is_gone_stops_an_update_only_where_the_update_changes_what_rego_sees() -> None:
    """A finalizer goes; an image that nobody can judge does not come in."""
    bookkeeping = pod()
    bookkeeping["metadata"]["finalizers"] = []

    assert asked(request(bookkeeping, old=pod()), _broken).allowed
    assert not asked(request(pod("evil.io/x:1"), old=pod()), _broken).allowed


def test_rego_is_asked_once_for_what_an_update_did_not_change() -> None:
    questions: list[PolicyInput] = []

    def count(question: PolicyInput) -> PolicyAnswers:
        questions.append(question)
        return _complaints(question)

    asked(request(pod(), old=pod()), count)
    assert len(questions) == 1
    asked(request(pod("nginx"), old=pod()), count)
    assert len(questions) == 3


def test_a_finding_names_the_container_where_its_author_wrote_it() -> None:
    injected = {"spec": {"initContainers": [{"name": "tidewaiter-preload"}, {"name": "warm"}], "containers": []}}
    written = {"spec": {"initContainers": [{"name": "warm"}], "containers": []}}

    def before(path: str) -> str:
        return path_before_injection(path, written, injected)

    assert before("spec.initContainers[1].image") == "spec.initContainers[0].image"
    assert before("spec.initContainers[0].image") == "spec.initContainers[tidewaiter-preload].image"
    assert before("spec.volumes[1].hostPath") == "spec.volumes[1].hostPath"
    assert before("metadata.labels[a]") == "metadata.labels[a]"
    assert before("spec.containers[9].image") == "spec.containers[].image"


def test_findings_on_a_workload_name_the_authors_own_fields() -> None:
    made = workload("CronJob", pod("nvcr.io/nvidia/tritonserver:1", nodeName="n1"))

    assert paths(decide(request(made, kind="CronJob"))) == [
        "spec.jobTemplate.spec.template.spec.containers[0].image",
        "spec.jobTemplate.spec.template.spec.nodeName",
    ]


_OLD_TEMPLATE = pod("nvcr.io/nvidia/tritonserver:1", {**MODEL, "tidewaiter.dev/model-version": "0"})


def _rollback(approvals: Any = APPROVALS, *, uid: str = "u-7") -> Decision:
    kept = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {}, "spec": {}}
    kept["metadata"]["ownerReferences"] = [{"uid": "u-7", "controller": True, "kind": "Deployment"}]
    template = copy.deepcopy(_OLD_TEMPLATE)
    template["metadata"]["labels"]["pod-template-hash"] = "5d8f"
    kept["spec"]["template"] = template
    known = kept_template(kept)
    now = workload("Deployment", pod())
    now["metadata"] = {"uid": uid, "name": "resnet"}
    back = workload("Deployment", _OLD_TEMPLATE)
    assert known is not None
    about = context(approvals=approvals, had_template=lambda *asked: asked == ("models", *known))
    return review(request(back, old=now, kind="Deployment"), Purpose.VALIDATE, about, rules())


def test_going_back_to_a_template_that_the_workload_had_warns_instead_of_refusing() -> None:
    decision = _rollback()

    assert decision.allowed
    assert any("is not pinned" in one for one in decision.warnings())
    assert not _rollback(uid="another").allowed


def test_going_back_to_a_revoked_model_is_refused() -> None:
    decision = _rollback([*APPROVALS, {"model": "m", "version": "0", "state": "revoked"}])

    assert not decision.allowed
    assert "is revoked" in decision.denial()
    assert "is not pinned" not in decision.denial()


EXPIRED = [{"model": "m", "version": "1", "expires": NOW}]


def _recreated(
    *, had: bool = True, user: str = REPLICASET_CONTROLLER, approvals: Any = EXPIRED, **labels: str
) -> Decision:
    made = mutated(pod())
    made["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "uid": "u-9", "controller": True, "name": "r"}]
    made["metadata"]["labels"] |= {"pod-template-hash": "5d8f", **labels}
    asked_about = []

    def had_pods(namespace: str, uid: str, template: str) -> bool:
        asked_about.append((uid, template))
        return had and namespace == "models"

    about = context(approvals=approvals, had_pods=had_pods)
    decision = review(request(made, userInfo={"username": user}), VALIDATE, about, rules())
    assert all(uid == "u-9" and "5d8f" in template.split() for uid, template in asked_about)
    return decision


@pytest.mark.parametrize("approvals", [EXPIRED, "the registry is down"])
def test_a_controller_may_make_a_pod_again_whose_approval_lapsed(approvals: Any) -> None:
    decision = _recreated(approvals=approvals)

    assert decision.allowed
    assert decision.recreated
    assert [one.action for one in decision.findings] == [Action.WARN]


def test_a_template_that_never_had_a_pod_is_new_and_refused() -> None:
    assert not _recreated(had=False).allowed


def test_nobody_but_the_controller_makes_a_pod_again() -> None:
    assert not _recreated(user="mia").allowed


def test_a_revoked_model_is_not_made_again() -> None:
    decision = _recreated(approvals=[{"model": "m", "version": "1", "state": "revoked"}])

    assert not decision.allowed
    assert not decision.recreated


def _exception(**more: Any) -> PolicyException:
    facts = {
        "name": "legacy",
        "rules": ("image-pinned",),
        "namespaces": ("models",),
        "expires": NOW + timedelta(days=1),
    }
    return PolicyException(**{**facts, **more})


@pytest.mark.parametrize(
    ("exception", "allowed"),
    [
        (_exception(), True),
        (_exception(rules=("image-*",)), True),
        (_exception(expires=NOW), False),
        (_exception(rules=("host-access",)), False),
        (_exception(namespaces=("other",)), False),
        (_exception(names=("server",), kinds=("Pod",), labels={"team": "search"}), True),
        (_exception(labels={"team": "other"}), False),
        (_exception(kinds=("Deployment",)), False),
        (_exception(names=("serv",)), False),
    ],
)
def test_an_exception_takes_the_action_away_for_what_it_names_until_it_expires(
    exception: PolicyException, allowed: bool
) -> None:
    unpinned = mutated(pod("nvcr.io/nvidia/tritonserver:1"))

    decision = decide(request(unpinned), exceptions=(exception,))

    assert decision.allowed is allowed
    (found,) = decision.findings
    assert found.exception == ("legacy" if allowed else "")
    assert found.action is (Action.AUDIT if allowed else Action.DENY)


def test_no_exception_excuses_a_revoked_model() -> None:
    everything = _exception(rules=("*",))
    revoked = [{"model": "m", "version": "1", "state": "revoked"}]

    decision = review(request(mutated(pod())), VALIDATE, context(approvals=revoked, exceptions=(everything,)), rules())

    assert not decision.allowed


UNNAMED = {"team": "search"}


@pytest.mark.parametrize(
    "change",
    [
        {"image": f"ghcr.io/evil/tritonserver@{DIGEST}"},
        {"args": ["--model-repository=s3://evil"]},
        {"env": [{"name": "MODEL", "value": "evil"}]},
        {"command": ["sh"]},
    ],
)
def test_an_update_that_changes_what_runs_inherits_no_finding_about_what_is_loaded(change: dict[str, Any]) -> None:
    """A pod that came in while rules warned is no way in for another image."""
    old = mutated(pod(labels=UNNAMED))
    new = copy.deepcopy(old)
    new["spec"]["containers"][0] |= change

    assert decide(request(old, old=old)).allowed
    assert "approved-version" in {one.finding.rule for one in decide(request(new, old=old)).findings}


@pytest.mark.parametrize(
    "change",
    [
        {"schedulingGates": None},
        {"tolerations": [{"operator": "Exists", "key": "a"}]},
        {"nodeSelector": {"zone": "a"}},
    ],
)
def test_schedulers_and_autoscalers_may_change_what_decides_nothing_about_what_runs(change: dict[str, Any]) -> None:
    old = mutated(pod(labels=UNNAMED))
    old["metadata"]["resourceVersion"] = "1"
    old["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    new = copy.deepcopy(old)
    new["metadata"] |= {"resourceVersion": "2"}
    new["metadata"]["annotations"] = {**new["metadata"].get("annotations", {}), "hami.io/node": "n1"}
    new["spec"] |= change

    assert decide(request(new, old=old)).allowed


def test_going_back_to_an_earlier_template_needs_leave_to_deploy() -> None:
    now, back = workload("Deployment", pod()), workload("Deployment", _OLD_TEMPLATE)
    now["metadata"] = {"uid": "u-7"}
    of = rules(
        only_mutators=(),
        only_validators=("deploy-permission",),
        settings={"deploy-permission": {"allowed": {"production": []}}},
    )

    decision = review(request(back, old=now, kind="Deployment"), VALIDATE, context(had_template=lambda *_: True), of)

    assert not decision.allowed


def test_an_exception_for_a_deployment_is_one_for_its_replicasets_and_their_pods() -> None:
    exception = _exception(kinds=("Deployment",), names=("resnet",))
    made = mutated(pod("nvcr.io/nvidia/tritonserver:1"))
    made["metadata"]["ownerReferences"] = [
        {"kind": "ReplicaSet", "name": "resnet-5d8f", "uid": "u", "controller": True}
    ]
    owners = {("models", "ReplicaSet", "resnet-5d8f"): ("Deployment", "resnet")}
    facts = {"exceptions": (exception,), "owner_of": lambda *asked: owners.get(asked)}

    assert decide(request(made, userInfo={"username": REPLICASET_CONTROLLER}), **facts).allowed
    assert not decide(request(made), **facts).allowed, "anybody may write an owner reference"


def test_an_exception_for_a_name_is_none_for_a_name_that_only_begins_so() -> None:
    made = mutated(pod("nvcr.io/nvidia/tritonserver:1"))
    made["metadata"] = {**made["metadata"], "generateName": "server"}
    del made["metadata"]["name"]

    assert not decide(request(made), exceptions=(_exception(names=("server",)),)).allowed


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        (request(pod()), True),
        (request(workload("Deployment", pod()), kind="Deployment"), True),
        (request(pod("nginx", {})), False),
        (request(pod(), userInfo={"username": REPLICASET_CONTROLLER}), True),
    ],
)
def test_rbac_is_asked_about_people_who_bring_models(what: AdmissionRequest, asked: bool) -> None:
    steps = reviewing(what, VALIDATE, context(asks_rbac=True), rules())
    seen: list[Any] = []
    try:
        question = next(steps)
        while True:
            seen.append(question)
            question = steps.send(Answered(NotFound()) if isinstance(question, ApprovalQuestion) else True)
    except StopIteration:
        pass

    assert any(isinstance(one, DeployQuestion) for one in seen) is asked


def test_rbac_is_not_asked_about_what_a_controller_makes() -> None:
    made = pod()
    made["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}]

    steps = reviewing(
        request(made, userInfo={"username": REPLICASET_CONTROLLER}), VALIDATE, context(asks_rbac=True), rules()
    )

    assert isinstance(next(steps), ApprovalQuestion)
    with pytest.raises(StopIteration):
        steps.send(Answered(NotFound()))
