"""The outcome of one threshold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One threshold. ``sources`` are the files that were looked at; ``remedy`` is for one that failed."""

    id: str
    passed: bool
    message: str
    sources: tuple[str, ...] = ()
    remedy: str = ""
