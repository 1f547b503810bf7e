"""What the cluster's RBAC said, and for how long it is believed."""

from __future__ import annotations

import asyncio

from webhook.access_review import AccessQuestion, AccessReviews

_QUESTION = AccessQuestion("mia", ("developers",), "deploy", "tidewaiter.dev", "models", "vision")


def test_an_answer_is_believed_for_ten_seconds_and_then_asked_again() -> None:
    now = 0.0
    answers = [False, True]
    reviews = AccessReviews(lambda _question: answers.pop(0), clock=lambda: now)

    assert asyncio.run(reviews.allowed(_QUESTION)) is False
    now = 9.9
    assert asyncio.run(reviews.allowed(_QUESTION)) is False
    now = 10.1
    assert asyncio.run(reviews.allowed(_QUESTION)) is True


def test_another_user_namespace_or_group_is_another_question() -> None:
    asked: list[AccessQuestion] = []

    def ask(question: AccessQuestion) -> bool:
        asked.append(question)
        return True

    reviews = AccessReviews(ask)
    questions = [
        _QUESTION,
        AccessQuestion("ada", ("developers",), "deploy", "tidewaiter.dev", "models", "vision"),
        AccessQuestion("mia", (), "deploy", "tidewaiter.dev", "models", "vision"),
        AccessQuestion("mia", ("developers",), "deploy", "tidewaiter.dev", "models", "speech"),
    ]

    for question in questions:
        asyncio.run(reviews.allowed(question))

    assert asked == questions


def test_an_error_is_no_answer_and_is_not_remembered() -> None:
    calls = 0

    def ask(_question: AccessQuestion) -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("connection refused")
        return True

    reviews = AccessReviews(ask)

    assert asyncio.run(reviews.allowed(_QUESTION)) is None
    assert asyncio.run(reviews.allowed(_QUESTION)) is True


def test_the_same_question_is_asked_once_at_a_time() -> None:
    asked = 0

    def ask(_question: AccessQuestion) -> bool:
        nonlocal asked
        asked += 1
        return True

    async def three_at_once() -> list[bool | None]:
        reviews = AccessReviews(ask)
        return list(await asyncio.gather(*(reviews.allowed(_QUESTION) for _ in range(3))))

    assert asyncio.run(three_at_once()) == [True, True, True]
    assert asked == 1
