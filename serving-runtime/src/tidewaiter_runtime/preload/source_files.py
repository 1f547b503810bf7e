"""What a source offers: files with their sizes, read in ranges; and how reading one can fail."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidewaiter_runtime.refusals import ModelRefused, Unreadable, listed
from tidewaiter_runtime.verification.model_files import is_ignored

STAGING = ".tidewaiter-preload"
"""The folder below the destination that holds what is not yet verified."""
UNKNOWN_SIZE = -1


class Interrupted(Exception):  # noqa: N818  # what happened, not a fault of the program
    """Reading stopped, and may go on: a cut connection, a busy server. A sentence without the file's name.

    ``wait_s`` is what the server asked for; 0: nothing.
    """

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class SourceUnavailable(Unreadable):
    """The source did not answer, also when it was asked again; the same command may succeed later."""


@dataclass(frozen=True, slots=True)
class Archive:
    """That a file is unpacked when it is there: ``tar`` or ``tar+gzip``, of which only what lies ``below`` counts.

    Archives are unpacked in the order of their ``number``.
    """

    packing: str
    below: str
    number: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a model: name in the model, where the source has it, and what is known of its bytes.

    ``size`` in bytes, or ``UNKNOWN_SIZE``. ``ranges``: parts of it can be asked for. ``version``
    changes with the bytes (an ETag). ``sha256`` is the source's own claim, in hex; ``blob`` is the
    hub's name for the bytes. ``archive``: it is no file of the model, but holds some.
    """

    name: str
    location: str
    size: int
    version: str = ""
    ranges: bool = True
    sha256: str = ""
    blob: str = ""
    archive: Archive | None = None


class Source(Protocol):
    """Where a model comes from. ``read`` is called by several threads at once."""

    @property
    def shown(self) -> str:
        """The source for sentences, without anything secret."""

    @property
    def revision(self) -> str:
        """The commit that is brought, where the source has such a thing."""

    def files(self) -> list[SourceFile]:
        """All files of the model; raises a ``Refusal`` or ``Interrupted``."""

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[memoryview]:
        """The bytes from ``start`` to ``end`` (excluded; ignored where the size is unknown), in small pieces.

        Raises a ``Refusal``, or ``Interrupted``, also between two pieces. May end early.
        """


def of_the_model(files: Sequence[SourceFile], shown: str, signed: frozenset[str] = frozenset()) -> list[SourceFile]:
    """The files that a digest covers, or that are ``signed``: nothing else is brought.

    Raises ``ModelRefused`` for names that would lead out of the folder, or have no digest.
    """
    found = [one for one in files if one.name in signed or not is_ignored(one.name)]
    problems = [f"{one.name!r} {problem}" for one in found if (problem := name_problem(one.name))]
    if problems:
        raise ModelRefused(f"{shown} has files that cannot be brought: {listed(problems)}")
    if not found:
        raise ModelRefused(f"{shown} holds no files of a model")
    return found


def name_problem(name: str) -> str:
    """Why a name can be no file's below the model's folder; nothing where it can."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "is not a path below the model's folder"
    if parts[0] == STAGING:
        return "has the name of the preloader's own folder"
    if any(unicodedata.category(one) in ("Cc", "Cs") or one == "\\" for one in name):
        return "has a control character or a backslash"
    return "" if unicodedata.is_normalized("NFC", name) else "is not in Unicode normalization form C"


def read_small(source: Source, file: SourceFile, most: int) -> bytes:
    """A whole file, in memory; raises ``ModelRefused`` where it is larger than ``most``."""
    content = bytearray()
    if file.size > most:
        raise ModelRefused(f"{source.shown}: {file.name!r} has {file.size:,} bytes; at most {most:,} are read")
    for piece in source.read(file, 0, file.size):
        content += piece
        if len(content) > most:
            raise ModelRefused(f"{source.shown}: {file.name!r} has more than {most:,} bytes")
    if file.size >= 0 and len(content) != file.size:
        raise Interrupted(f"the connection ended {file.size - len(content):,} bytes too early")
    return bytes(content)
