"""The registry that a watch feeds."""

from __future__ import annotations

import asyncio

import pytest

from admission.approval import Answer, Approval, ApprovalQuestion, ApprovalState, NotFound, Unavailable
from registries.chain import Member, RegistryChain
from registries.cluster import ClusterRegistry
from registries.held import HeldRegistry
from registries.registry import RegistryError
from tests.governance.objects import entry, version_of


def _listed(*objects: dict, **required: int) -> ClusterRegistry:
    registry = ClusterRegistry(required)
    for obj in objects:
        registry.put(obj)
    registry.keep_only({obj["metadata"]["name"] for obj in objects})
    return registry


def _state(answer: Answer) -> ApprovalState:
    assert isinstance(answer, Approval)
    return answer.state


def test_until_the_objects_were_listed_nobody_knows() -> None:
    registry = ClusterRegistry()
    registry.put(version_of("resnet50", "3", entry("production", "ada")))

    assert isinstance(registry.lookup("resnet50", "3"), Unavailable)
    with pytest.raises(RegistryError, match="have not been listed yet"):
        asyncio.run(registry.fetch("resnet50", "3"))


def test_an_unknown_version_is_answered_with_the_known_ones() -> None:
    registry = _listed(version_of("resnet50", "3"), version_of("resnet50", "2"), version_of("bert", "1"))

    assert registry.lookup("resnet50", "4") == NotFound(("2", "3"))
    assert registry.lookup("gpt", "1") == NotFound()
    assert asyncio.run(registry.fetch("gpt", "1")) == NotFound()


def test_an_approval_is_that_of_the_environment_that_asks() -> None:
    registry = _listed(
        version_of("resnet50", "3", entry("staging", "sam", expires="2027-01-01T00:00:00Z"), entry("production", "ada"))
    )

    staging, production = (registry.lookup("resnet50", "3", one) for one in ("staging", "production"))

    assert isinstance(staging, Approval)
    assert isinstance(production, Approval)
    assert (staging.approvers, production.approvers) == (("sam",), ("ada",))
    assert staging.expires is not None
    assert production.expires is None
    assert staging.registry == "cluster"


def test_from_where_nobody_approved_one_sees_for_which_environments_it_is() -> None:
    found = _listed(version_of("resnet50", "3", entry("staging", "sam"))).lookup("resnet50", "3", "production")

    assert isinstance(found, Approval)
    assert (found.environments, found.approvers) == (("staging",), ())


def test_a_revocation_holds_in_its_environment_only() -> None:
    registry = _listed(version_of("resnet50", "3", entry("staging", "sam"), entry("production", "ada", "revoked")))

    states = [_state(registry.lookup("resnet50", "3", one)) for one in ("staging", "production", "")]

    assert states == [ApprovalState.APPROVED, ApprovalState.REVOKED, ApprovalState.APPROVED]


def test_what_another_environment_refused_is_still_only_proposed_here() -> None:
    registry = _listed(version_of("resnet50", "3", entry("staging", "sam", "revoked")))

    assert _state(registry.lookup("resnet50", "3", "production")) is ApprovalState.PROPOSED
    assert _state(registry.lookup("resnet50", "3")) is ApprovalState.REVOKED


def test_in_a_chain_of_registries_each_environment_still_sees_its_own() -> None:
    registry = _listed(
        version_of("resnet50", "3", entry("staging", "sam"), entry("production", "ada", "revoked")),
        version_of("bert", "1", entry("staging", "sam", expires="2027-01-01T00:00:00Z"), entry("production", "ada")),
    )
    chain = RegistryChain([Member(HeldRegistry("approvals", registry.answer))])

    def asked(environment: str, model: str, version: str) -> Approval:
        answer = asyncio.run(chain.lookup(ApprovalQuestion(environment, model, version)))
        assert isinstance(answer, Approval)
        return answer

    assert asked("production", "resnet50", "3").state is ApprovalState.REVOKED
    assert asked("staging", "resnet50", "3").state is ApprovalState.APPROVED
    assert asked("production", "bert", "1").expires is None
    assert asked("staging", "bert", "1").expires is not None
    assert asked("development", "bert", "1").environments == ("production", "staging")


def test_an_approved_version_never_stands_without_environments() -> None:
    """No environments would mean all of them."""
    registry = _listed(version_of("resnet50", "3", entry("production", "ada")), production=2)

    found = registry.lookup("resnet50", "3", "production")

    assert _state(found) is ApprovalState.PROPOSED


def test_a_change_takes_the_place_of_what_was_there() -> None:
    registry = _listed(version_of("resnet50", "3", entry("production", "ada", "revoked")))

    registry.put(version_of("resnet50", "3", entry("production", "ada")))

    assert _state(registry.lookup("resnet50", "3", "production")) is ApprovalState.APPROVED
    assert len(registry) == 1


def test_a_removed_version_is_not_found() -> None:
    registry = _listed(version_of("resnet50", "3"), version_of("resnet50", "4"))

    registry.remove("resnet50--3")
    registry.remove("resnet50--3")

    assert registry.lookup("resnet50", "3") == NotFound(("4",))


def test_a_list_forgets_what_it_does_not_have() -> None:
    registry = _listed(version_of("resnet50", "3"), version_of("resnet50", "4"))

    registry.keep_only({"resnet50--4"})

    assert registry.lookup("resnet50", "3") == NotFound(("4",))


def test_an_object_that_cannot_be_believed_counts_as_absent_and_says_why() -> None:
    registry = _listed(version_of("resnet50", "3", entry("production", "ada")))
    broken = version_of("resnet50", "3", entry("production", "ada"))
    broken["spec"]["digest"] = "none"

    registry.put(broken)

    assert registry.lookup("resnet50", "3") == NotFound()
    assert "spec.digest 'none' is not sha256" in registry.problems["resnet50--3"]

    registry.put(version_of("resnet50", "3"))
    assert registry.problems == {}


def test_a_second_object_for_the_same_version_is_not_believed() -> None:
    registry = _listed(version_of("resnet50", "3", entry("production", "ada", "revoked")))
    copy = version_of("resnet50", "3", entry("production", "tom"))
    copy["metadata"]["name"] = "resnet50-copy"

    registry.put(copy)

    assert _state(registry.lookup("resnet50", "3", "production")) is ApprovalState.REVOKED
