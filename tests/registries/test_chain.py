from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from admission.approval import (
    Answer,
    Approval,
    ApprovalQuestion,
    ApprovalState,
    EnvironmentApproval,
    NotFound,
    Unavailable,
)
from registries.answered import Answered
from registries.chain import Member, RegistryChain

DOWN = Unavailable("registry first does not answer")


@dataclass
class Fixed:
    """A registry that always says one thing."""

    name: str
    says: Answer
    takes: float = 0
    asked: list[ApprovalQuestion] = field(default_factory=list)
    limits: list[float | None] = field(default_factory=list)
    closed: bool = False

    async def ask(self, question: ApprovalQuestion, within: float | None = None) -> Answered:
        self.asked.append(question)
        self.limits.append(within)
        await asyncio.sleep(self.takes)
        return Answered(self.says, self.name, age=7.0, revision="r1")

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True


def approval(state: ApprovalState = ApprovalState.APPROVED, *environments: str) -> Approval:
    return Approval(
        "bert", "1", state, by_environment=tuple(EnvironmentApproval(one, (f"of {one}",)) for one in environments)
    )


def ask(*members: Member, environment: str = "production", model: str = "bert") -> Answered:
    return asyncio.run(RegistryChain(members).ask(ApprovalQuestion(environment, model, "1")))


def member(registry: Fixed, *models: str, environments: tuple[str, ...] = ()) -> Member:
    return Member(registry, frozenset(environments), models)


def test_the_first_that_knows_the_version_answers_and_the_rest_are_not_asked() -> None:
    first, second, third = (
        Fixed("first", NotFound()),
        Fixed("second", approval()),
        Fixed("third", approval(ApprovalState.REVOKED)),
    )
    found = ask(member(first), member(second), member(third))
    assert isinstance(found.answer, Approval)
    assert (found.answer.state, found.answer.registry) == (ApprovalState.APPROVED, "second")
    assert (found.registry, found.age, found.revision) == ("second", 7.0, "r1")
    assert (len(first.asked), len(second.asked), len(third.asked)) == (1, 1, 0)


@pytest.mark.parametrize("state", [ApprovalState.REVOKED, ApprovalState.REJECTED, ApprovalState.PROPOSED])
def test_a_registry_that_knows_and_does_not_approve_is_not_overruled_by_a_later_one(state: ApprovalState) -> None:
    found = ask(member(Fixed("first", approval(state))), member(Fixed("second", approval())))
    assert isinstance(found.answer, Approval)
    assert found.answer.state is state


def test_a_registry_that_does_not_answer_ends_the_asking() -> None:
    second = Fixed("second", approval())
    found = ask(member(Fixed("first", DOWN)), member(second))
    assert (found.answer, found.registry) == (DOWN, "first")
    assert second.asked == []


def test_a_registry_that_does_not_cover_the_model_or_the_environment_is_not_asked_and_troubles_nobody() -> None:
    other_models, other_environments = Fixed("models", DOWN), Fixed("environments", DOWN)
    found = ask(
        member(other_models, "team-b/*", "gpt-?"),
        member(other_environments, environments=("staging",)),
        member(Fixed("good", approval()), "team-a/*", environments=("production",)),
        model="team-a/bert",
    )
    assert isinstance(found.answer, Approval)
    assert other_models.asked == other_environments.asked == []


def test_patterns_heed_the_case_of_names() -> None:
    assert ask(member(Fixed("one", approval()), "Bert")).answer == NotFound()


def test_what_no_registry_covers_is_not_found_and_without_any_registry_nobody_can_say() -> None:
    assert ask(member(Fixed("one", approval()), "other")).answer == NotFound()
    assert ask().answer == Unavailable("no registry is configured (settings: registries)")


def test_what_no_registry_knows_is_not_found_with_all_known_versions() -> None:
    found = ask(member(Fixed("one", NotFound(("1", "2")))), member(Fixed("two", NotFound(("2", "3")))))
    assert found.answer == NotFound(("1", "2", "3"))


def test_approvers_and_environments_are_those_seen_from_the_environment_that_asks() -> None:
    both = Fixed("one", approval(ApprovalState.APPROVED, "staging", "production"))
    found = ask(member(both), environment="staging").answer
    assert isinstance(found, Approval)
    assert (found.environments, found.approvers) == (("staging", "production"), ("of staging",))


def test_one_question_takes_no_longer_than_its_deadline_whatever_number_of_registries_it_goes_to() -> None:
    slow, next_one = Fixed("slow", NotFound(), takes=0.05), Fixed("next", NotFound())
    chain = RegistryChain([member(slow), member(next_one)], deadline=1)
    asyncio.run(chain.lookup(ApprovalQuestion("", "bert", "1")))
    assert slow.limits[0] is not None
    assert next_one.limits[0] is not None
    assert next_one.limits[0] <= slow.limits[0] - 0.05 < 1


def test_all_are_closed_and_can_be_had_by_name() -> None:
    one, two = Fixed("one", NotFound()), Fixed("two", NotFound())
    chain = RegistryChain([member(one), member(two)])
    asyncio.run(chain.close())
    assert (one.closed, two.closed) == (True, True)
    assert chain.by_name == {"one": one, "two": two}
