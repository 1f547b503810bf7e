"""A model in a folder, or one file: what a volume claim is when it is mounted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tidewaiter_runtime.preload.source_files import Interrupted, SourceFile
from tidewaiter_runtime.preload.source_uri import SourceUri
from tidewaiter_runtime.verification.model_files import list_model_files

_PIECE = 1 << 20
_BESIDE = frozenset(("model.sig", ".gitattributes", ".gitignore"))
"""No part of a model, unless a signature lists them."""


class FolderSource:
    """``file://``, or a path."""

    def __init__(self, uri: SourceUri) -> None:
        self.shown = uri.shown
        self.revision = ""
        self._path = Path(uri.path)

    def files(self) -> list[SourceFile]:
        """Links are refused, as everywhere. A signature that lies beside the model is told too."""
        found = []
        for one in list_model_files(self._path, always=_BESIDE):
            state = one.path.lstat()
            name = self._path.name if one.name == "." else one.name
            version = f"{state.st_mtime_ns}-{state.st_ino}"
            found.append(SourceFile(name, str(one.path), one.size, version))
        return found

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[memoryview]:
        """See ``Source``."""
        try:
            descriptor = os.open(file.location, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                while start < end and (piece := os.pread(descriptor, min(_PIECE, end - start), start)):
                    yield memoryview(piece)
                    start += len(piece)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Interrupted(f"{file.location} cannot be read: {error.strerror}") from None
