"""When a review asks for signatures, and what follows from the answer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from admission.approval import Answered, ApprovalQuestion
from admission.decision import Decision, Purpose
from admission.finding import Action
from admission.image_signature import ImageNotSigned, ImageSignature, ImageSigned, ImageUnknown, SignatureQuestion
from admission.pipeline import review, reviewing
from tests.kernel import DIGEST, REPLICASET_CONTROLLER, context, request, rules
from tests.unit.test_pipeline import APPROVALS, mutated, pod

IMAGE = f"registry.example.com/models/triton@{DIGEST}"
UNSIGNED, UNKNOWN = ImageNotSigned("it has no signature by release"), ImageUnknown("the registry is down")
RULES = rules(only_validators=("image-signed",))


def model_pod(image: str = IMAGE) -> dict[str, Any]:
    made = mutated(pod())
    made["spec"]["containers"][0]["image"] = image
    return made


def judged(
    obj: Mapping[str, Any], answer: ImageSignature, old: Mapping[str, Any] | None = None, **more: Any
) -> Decision:
    about = context(
        approvals=APPROVALS,
        wants_signature=lambda image: image.startswith("registry.example.com/"),
        signatures={IMAGE: answer},
        had_pods=more.pop("had_pods", lambda *_asked: False),
    )
    return review(request(obj, old=old, **more), Purpose.VALIDATE, about, RULES)


def test_the_answer_decides() -> None:
    assert judged(model_pod(), ImageSigned("release")).findings == ()
    for answer in (UNSIGNED, UNKNOWN):
        decision = judged(model_pod(), answer)
        assert not decision.allowed
        assert decision.findings[0].finding.path == "spec.containers[0].image"


def test_each_image_is_asked_about_once_and_none_that_need_not_be_signed() -> None:
    obj = model_pod()
    first = obj["spec"]["containers"][0]
    obj["spec"]["containers"] += [
        {**first, "name": "again"},
        {**first, "name": "other", "image": f"example.com/x@{DIGEST}"},
    ]
    about = context(wants_signature=lambda image: image == IMAGE)
    steps = reviewing(request(obj), Purpose.VALIDATE, about, RULES)
    asked = []
    question = next(steps)
    try:
        while True:
            asked.append(question)
            is_approval = isinstance(question, ApprovalQuestion)
            question = steps.send(Answered(about.approvals("m", "1")) if is_approval else {IMAGE: UNSIGNED})
    except StopIteration as end:
        found = [one.finding.container for one in end.value.findings]

    assert [one for one in asked if isinstance(one, SignatureQuestion)] == [SignatureQuestion((IMAGE,))]
    assert found == ["server", "again"]


def test_an_update_that_leaves_the_image_is_not_held_against_it() -> None:
    old = model_pod()
    new = copy.deepcopy(old)
    new["metadata"]["labels"]["note"] = "changed"

    decision = judged(new, UNSIGNED, old)

    assert decision.allowed
    assert decision.tolerated == 1


def test_a_controller_makes_a_pod_again_where_nobody_can_say_but_not_where_it_is_unsigned() -> None:
    obj = model_pod()
    obj["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "uid": "u-9", "controller": True, "name": "r"}]
    obj["metadata"]["labels"]["pod-template-hash"] = "5d8f"
    again: dict[str, Any] = {"userInfo": {"username": REPLICASET_CONTROLLER}, "had_pods": lambda *_asked: True}

    unknown = judged(obj, UNKNOWN, **again)

    assert unknown.allowed
    assert unknown.recreated
    assert [one.action for one in unknown.findings] == [Action.WARN]
    assert not judged(obj, UNSIGNED, **again).allowed
