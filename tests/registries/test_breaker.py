from __future__ import annotations

import pytest

from registries.breaker import CircuitBreaker
from tests.registries.stub import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker(clock: Clock, chance: float = 0) -> CircuitBreaker:
    return CircuitBreaker(clock, lambda: chance, failures=3, wait=10, longest_wait=35)


def fail(one: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        assert one.allows()
        one.failed()


def test_it_opens_after_failures_in_a_row_only(clock: Clock) -> None:
    one = breaker(clock)
    for _ in range(5):
        fail(one, 2)
        assert one.allows()
        one.succeeded()
    assert one.state == "closed"
    fail(one, 3)
    assert (one.state, one.allows()) == ("open", False)


def test_after_the_wait_one_question_goes_through_and_no_second(clock: Clock) -> None:
    one = breaker(clock)
    fail(one, 3)
    clock.now += 9.9
    assert not one.allows()
    clock.now += 0.1
    assert (one.state, one.allows(), one.allows()) == ("half-open", True, False)
    one.succeeded()
    assert (one.state, one.allows(), one.allows()) == ("closed", True, True)


def test_each_failed_trial_doubles_the_wait_up_to_the_longest_and_success_forgets_it(clock: Clock) -> None:
    one = breaker(clock)
    fail(one, 3)
    for wait in (10, 20, 35, 35):
        clock.now += wait - 0.1
        assert not one.allows()
        clock.now += 0.1
        assert one.allows()
        one.failed()
    clock.now += 35
    assert one.allows()
    one.succeeded()
    fail(one, 3)
    clock.now += 10
    assert one.allows()


def test_what_the_registry_asks_for_counts_at_once_and_within_the_longest_wait(clock: Clock) -> None:
    one = breaker(clock)
    assert one.allows()
    one.failed(retry_after=20)
    clock.now += 19.9
    assert not one.allows()
    clock.now += 0.1
    assert one.allows()
    one.failed(retry_after=1e9)
    clock.now += 35
    assert one.allows()


def test_waits_are_shortened_by_chance(clock: Clock) -> None:
    one = breaker(clock, chance=1)
    fail(one, 3)
    clock.now += 7.5
    assert one.allows()


def test_failures_that_were_under_way_when_it_opened_do_not_lengthen_the_wait(clock: Clock) -> None:
    one = breaker(clock)
    fail(one, 3)
    for _ in range(10):
        one.failed()
    clock.now += 10
    assert one.allows()
