"""An answer, and how fresh it is: what an audit record keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from admission.approval import Answer, ApprovalQuestion


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of the registry ``registry``, ``age`` seconds old, from its record's ``revision``.

    ``cause`` is the word for metrics where the answer is ``Unavailable`` or stale.
    """

    answer: Answer
    registry: str = ""
    age: float = 0.0
    revision: str = ""
    cause: str = ""


class Answering(Protocol):
    """Something that answers without raising, within a time: a registry and what stands in front of it."""

    @property
    def name(self) -> str:
        """The registry's name in the settings."""

    async def ask(self, question: ApprovalQuestion, within: float | None = None) -> Answered:
        """What is known of one version, after ``within`` seconds at most."""

    async def run(self) -> None:
        """Keep answers fresh until cancelled."""

    async def close(self) -> None:
        """Let connections go, and keep what is to be kept."""
