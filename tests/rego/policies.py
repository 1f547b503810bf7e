"""Short policies for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from webhook.rego.policy_set import PolicySet, policy_set

INPUT: dict[str, Any] = {
    "operation": "CREATE", "namespace": "models", "environment": "production", "workload": "inference",
    "username": "a", "groups": [], "labels": {}, "annotations": {},
    "containers": [{"kind": "containers", "path": "spec.containers[0]", "name": "c", "image": "evil.io/i"}],
    "spec": {"hostPID": True, "volumes": []}, "model": {"name": "", "version": "", "uri": ""},
}  # fmt: skip
SAYS = 'findings contains {"path": "spec", "message": input.labels.say}'
LOOPS = """
findings contains {"path": "spec", "message": "ended"} if {
	input.labels.loop
	some a in numbers.range(1, 4000)
	some b in numbers.range(1, 4000)
	some c in numbers.range(1, 4000)
	a + b + c < 0
}
"""
GROWS = """
findings contains {"path": "spec", "message": "ended"} if {
	input.labels.grow
	count([[a, b, c, "some text"] | some a in numbers.range(1, 4000); some b in numbers.range(1, 4000); c := a + b]) > 0
}
"""
DIVIDES = """
findings contains {"path": "spec", "message": "divided"} if {
	input.labels.divide
	1 / (count(input.labels) - count(input.labels)) > 0
}
"""


def rule(name: str, body: str = SAYS, custom: str = "") -> bytes:
    """One file with metadata."""
    head = f"# METADATA\n# title: {name}\n# description: Judges.\n# custom:\n#   id: {name}\n{custom}"
    return f"{head}package tidewaiter.{name.replace('-', '_')}\n\n{body}\n".encode()


def rules(**bodies: str) -> PolicySet:
    """A set with one file for each name."""
    named: Mapping[str, bytes] = {f"{name}.rego": rule(name.replace("_", "-"), body) for name, body in bodies.items()}
    return policy_set("test", named)


def labelled(**labels: str) -> dict[str, Any]:
    """An input with these labels."""
    return {**INPUT, "labels": labels}


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine, with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await main()

    asyncio.run(limited())


class Failures:
    """Counts what an engine says of failures."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def __call__(self, rule_id: str, cause: str) -> None:
        self.seen.append((rule_id, cause))
