"""Why a command ends without success. Each has an exit code, which docs/digests.md lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

_LISTED = 10


class Refusal(Exception):  # noqa: N818  # a refusal is an outcome, no fault of the program
    """Something that a person can mend, as a whole sentence."""

    exit_code: ClassVar[int] = 1


class ModelRefused(Refusal):
    """The model's bytes are not those that were expected, or are none that have a digest."""

    exit_code = 1


class BadInput(Refusal):
    """An argument, or a file named by one, cannot be used."""

    exit_code = 2


class SignatureRefused(Refusal):
    """The signature is not one by the keys that were given, or is of something else."""

    exit_code = 3


class Unreadable(Refusal):
    """The storage did not answer; the same command may succeed later."""

    exit_code = 4


class ServerEnded(Refusal):
    """The model server ended by itself, or would not end in time."""

    exit_code = 5


def listed(texts: Sequence[str]) -> str:
    """The first few of ``texts``, and how many more there are; a termination message has 4,096 bytes."""
    more = len(texts) - _LISTED
    return "; ".join(texts[:_LISTED]) + (f"; and {more} more" if more > 0 else "")
