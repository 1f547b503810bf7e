"""The circuit breaker: who may ask, and when."""

from __future__ import annotations

from webhook.rego.circuit_breaker import CircuitBreaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = CircuitBreaker(2, 5, lambda: 0.0)
    for _ in range(3):
        assert breaker.enter()
        breaker.fail()
        assert breaker.enter()
        breaker.succeed()
    assert not breaker.open
    breaker.fail()
    breaker.fail()
    assert breaker.open
    assert not breaker.enter()


def test_after_the_pause_one_at_a_time_tries() -> None:
    now = [0.0]
    breaker = CircuitBreaker(1, 5, lambda: now[0])
    breaker.fail()
    now[0] = 4.9
    assert not breaker.enter()
    now[0] = 5.0
    assert breaker.enter()
    assert not breaker.enter()
    breaker.fail()
    assert not breaker.enter()
    now[0] = 10.0
    assert breaker.enter()
    breaker.succeed()
    assert (breaker.enter(), breaker.open) == (True, False)


def test_one_that_gives_up_lets_the_next_try() -> None:
    now = [0.0]
    breaker = CircuitBreaker(1, 5, lambda: now[0])
    breaker.fail()
    now[0] = 5.0
    assert breaker.enter()
    breaker.leave()
    assert breaker.enter()
