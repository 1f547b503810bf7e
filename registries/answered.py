"""What gives answers with how fresh they are."""

from __future__ import annotations

from typing import Protocol

from admission.approval import Answered, ApprovalQuestion

__all__ = ["Answered", "Answering"]


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
