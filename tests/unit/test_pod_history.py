"""What is remembered of the pods that controllers made."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from webhook.pod_history import PodHistory


def _pod(name: str, uid: str = "u-1", template: str = "5d8f") -> dict[str, Any]:
    owners = [{"uid": uid, "controller": True, "kind": "ReplicaSet", "name": "r"}]
    labels = {"pod-template-hash": template}
    return {"metadata": {"name": name, "namespace": "models", "ownerReferences": owners, "labels": labels}}


def test_an_owner_had_the_templates_of_its_pods_and_no_others() -> None:
    history = PodHistory()
    history.put(_pod("a"))

    assert history.had("u-1", "5d8f")
    assert not history.had("u-1", "9999")
    assert not history.had("u-2", "5d8f")


def test_a_bare_pod_is_no_evidence() -> None:
    history = PodHistory()
    history.put({"metadata": {"name": "a", "labels": {"pod-template-hash": "5d8f"}}})

    assert not history.had("", "5d8f")


def test_a_template_is_remembered_for_a_day_after_its_last_pod_went() -> None:
    now = 0.0
    history = PodHistory(clock=lambda: now)
    history.put(_pod("a"))
    history.put(_pod("b"))
    history.remove("models", "a")
    history.remove("models", "b")

    now = 24 * 3600 - 1.0
    assert history.had("u-1", "5d8f")
    now = 24 * 3600.0
    assert not history.had("u-1", "5d8f")


def test_pods_that_a_complete_list_lacks_are_gone() -> None:
    now = 0.0
    history = PodHistory(clock=lambda: now)
    history.put(_pod("a"))
    history.put(_pod("b", template="9999"))
    history.keep_only({("models", "b")})

    now = 25 * 3600.0
    assert not history.had("u-1", "5d8f")
    assert history.had("u-1", "9999")


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

    assert {one for one in ("1", "2") if history.had("u-1", one)} == set(alive.values())
