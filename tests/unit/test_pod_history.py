"""What is remembered of the pods that controllers made."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from admission.template_history import owner_and_template
from webhook.pod_history import PodHistory


def _pod(name: str, uid: str = "u-1", template: str = "5d8f", **labels: str) -> dict[str, Any]:
    owners = [{"uid": uid, "controller": True, "kind": "ReplicaSet", "name": "r"}]
    labels = {"pod-template-hash": template, **labels}
    return {"metadata": {"name": name, "namespace": "models", "ownerReferences": owners, "labels": labels}}


def _had(history: PodHistory, namespace: str = "models", **pod: str) -> bool:
    made = owner_and_template(_pod("asked", **pod))
    assert made is not None
    return history.had(namespace, *made)


def test_a_template_whose_model_was_changed_under_its_hash_is_another() -> None:
    history = PodHistory()
    history.put(_pod("a", **{"tidewaiter.dev/model": "resnet50", "tidewaiter.dev/model-version": "3"}))

    assert _had(history, **{"tidewaiter.dev/model": "resnet50", "tidewaiter.dev/model-version": "3"})
    assert not _had(history, **{"tidewaiter.dev/model": "resnet50", "tidewaiter.dev/model-version": "4"})


def test_an_owner_had_the_templates_of_its_pods_and_no_others() -> None:
    history = PodHistory()
    history.put(_pod("a"))

    assert _had(history)
    assert not _had(history, template="9999")
    assert not _had(history, uid="u-2")


def test_a_pod_of_another_namespace_is_no_evidence() -> None:
    history = PodHistory()
    history.put(_pod("a"))

    assert not _had(history, "sandbox")


def test_a_bare_pod_is_no_evidence() -> None:
    history = PodHistory()
    history.put({"metadata": {"name": "a", "labels": {"pod-template-hash": "5d8f"}}})

    assert not _had(history, uid="x")


def test_a_template_is_remembered_for_a_day_after_its_last_pod_went() -> None:
    now = 0.0
    history = PodHistory(clock=lambda: now)
    history.put(_pod("a"))
    history.put(_pod("b"))
    history.remove("models", "a")
    history.remove("models", "b")

    now = 24 * 3600 - 1.0
    assert _had(history)
    now = 24 * 3600.0
    assert not _had(history)


def test_pods_that_a_complete_list_lacks_are_gone() -> None:
    now = 0.0
    history = PodHistory(clock=lambda: now)
    history.put(_pod("a"))
    history.put(_pod("b", template="9999"))
    history.keep_only({("models", "b")})

    now = 25 * 3600.0
    assert not _had(history)
    assert _had(history, template="9999")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2"]), st.booleans())))
def test_what_is_alive_is_what_was_put_and_not_removed(steps: list[tuple[str, str, bool]]) -> None:
    now = 0.0
    history = PodHistory(clock=lambda: now)
    alive: dict[str, str] = {}
    for name, template, there in steps:
        if there:
            history.put(_pod(name, template=template))
            alive[name] = template
        else:
            history.remove("models", name)
            alive.pop(name, None)
    now = 25 * 3600.0

    assert {one for one in ("1", "2") if _had(history, template=one)} == set(alive.values())
