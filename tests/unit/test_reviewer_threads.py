"""Where a review is made: large ones beside the event loop, so that they are in nobody's way."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import orjson

from admission.decision import Purpose
from admission.image_signature import SignatureQuestion, Signatures
from admission.namespace import ENVIRONMENT_KEY, Namespace
from admission.validator import Applicability, PolicyAnswers, PolicyInput, PolicyRule, RuleSettings
from tests.kernel import ENVIRONMENTS
from webhook.cluster_state import ClusterState
from webhook.reviewer import Reviewer
from webhook.settings import Settings

LIMIT_S = 20.0
LOOP = threading.current_thread()
PADDING = "x" * 100_000


class Images:
    """Nobody signs anything; a review that asks on another thread than the loop's waits until it may go on."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.asked_on: list[threading.Thread] = []

    def wants(self, _image: str) -> bool:
        self.asked_on.append(threading.current_thread())
        if threading.current_thread() is not LOOP:
            self.reached.set()
            assert self.go_on.wait(LIMIT_S)
        return False

    async def ask(self, _question: SignatureQuestion) -> Signatures:
        return {}


class Engine:
    """An engine that finds nothing, and remembers where it was asked."""

    def __init__(self) -> None:
        self.rules = {"r": PolicyRule("r", "", "", Applicability(), RuleSettings())}
        self.revision = "1"
        self.asked_on: list[threading.Thread] = []

    async def evaluate(self, _policy_input: PolicyInput) -> PolicyAnswers:
        self.asked_on.append(threading.current_thread())
        return {}


def body(uid: str, padding: str = "") -> bytes:
    """A review of a pod."""
    container = {"name": "c", "image": "vllm/vllm-openai:v1", "args": ["--model", "m"]}
    obj = {"metadata": {"name": "p", "annotations": {"padding": padding}}, "spec": {"containers": [container]}}
    request: dict[str, Any] = {
        "uid": uid,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "models",
        "object": obj,
    }
    return orjson.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})


def opted_in() -> ClusterState:
    """A cluster whose namespace ``models`` is production."""
    state = ClusterState()
    state.put_namespace(Namespace("models", {ENVIRONMENT_KEY: "production"}))
    return state


def uid_of(answer: bytes) -> str:
    found: str = orjson.loads(answer)["response"]["uid"]
    return found


def test_others_are_answered_while_a_large_review_is_made() -> None:
    asyncio.run(a_small_review_beside_a_large_one())


async def a_small_review_beside_a_large_one() -> None:
    images = Images()
    reviewer = Reviewer(Settings(environments=ENVIRONMENTS), opted_in(), None, images=images)

    large = asyncio.create_task(reviewer.answer(body("large", PADDING), Purpose.VALIDATE))
    try:
        assert await asyncio.to_thread(images.reached.wait, LIMIT_S)
        small = await reviewer.answer(body("small"), Purpose.VALIDATE)
        answered_first = not large.done()
    finally:
        images.go_on.set()

    assert uid_of(small.body) == "small"
    assert answered_first
    assert uid_of((await large).body) == "large"


def test_a_review_of_the_usual_size_stays_on_the_event_loop() -> None:
    images = Images()
    reviewer = Reviewer(Settings(environments=ENVIRONMENTS), opted_in(), None, images=images)

    asyncio.run(reviewer.answer(body("small"), Purpose.VALIDATE))

    assert set(images.asked_on) == {LOOP}


def test_rego_is_asked_on_the_event_loop_whatever_the_size() -> None:
    """A regorus engine must not leave the thread that made it."""
    engine = Engine()
    reviewer = Reviewer(Settings(environments=ENVIRONMENTS), opted_in(), engine)
    asyncio.run(reviewer.answer(body("large", PADDING), Purpose.VALIDATE))

    assert set(engine.asked_on) == {LOOP}
