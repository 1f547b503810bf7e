"""Unpacks archives of a model: nothing leaves the folder, nothing but regular files comes of it.

``tarfile`` reads the headers, which is all that it does here: names are judged and files are written by us.
It would read a header of any size into memory; the stream that it gets refuses that.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tidewaiter_runtime.preload.ranged_download import written
from tidewaiter_runtime.preload.source_files import Archive, SourceFile, name_problem
from tidewaiter_runtime.refusals import ModelRefused

MOST_MEMBERS = 100_000
_MOST_TIMES, _FREE_OF_RATIO = 100, 1 << 30
"""An archive may become this many times larger, and a gibibyte more: zeros do, models do not."""
_LONGEST_READ = 1 << 20
_PIECE = 1 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(slots=True)
class Unpacking:
    """Into ``folder``; ``needs`` refuses bytes that the disk has no room for."""

    folder: Path
    shown: str
    needs: Callable[[int], None]
    members: int = 0
    unpacked: int = 0

    def archives(self, files: Sequence[tuple[SourceFile, Path]]) -> list[str]:
        """Unpack layers in their order; returns the names of all files that are in the folder then."""
        for file, path in sorted(files, key=lambda one: one[0].archive.number if one[0].archive else 0):
            if file.archive is not None:
                self._archive(file.archive, path, file.size)
                path.unlink()
        return [
            (Path(root) / name).relative_to(self.folder).as_posix()
            for root, _, names in os.walk(self.folder)
            for name in names
        ]

    def _archive(self, archive: Archive, path: Path, size: int) -> None:
        if archive.packing not in ("tar", "tar+gzip"):
            raise ModelRefused(f"{self.shown}: layer {archive.number} is {archive.packing}; expected tar or tar+gzip")
        limit = self.unpacked + size * _MOST_TIMES + _FREE_OF_RATIO
        try:
            with path.open("rb") as raw:
                stream = gzip.GzipFile(fileobj=raw) if archive.packing == "tar+gzip" else raw
                self._members(archive, _Forward(stream, self._name(archive)), limit)
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, RecursionError) as error:
            raise ModelRefused(f"{self._name(archive)} is no {archive.packing} archive: {error}") from None

    def _name(self, archive: Archive) -> str:
        return f"{self.shown}: layer {archive.number}"

    def _members(self, archive: Archive, stream: _Forward, limit: int) -> None:
        mine: set[str] = set()
        with tarfile.TarFile(fileobj=cast("IO[bytes]", stream), mode="r", errorlevel=2) as tar:
            while (member := tar.next()) is not None:
                vars(tar)["members"] = []  # tarfile would keep them all
                self.members += 1
                if self.members > MOST_MEMBERS:
                    raise ModelRefused(f"{self._name(archive)}: more than {MOST_MEMBERS:,} entries")
                name = self._below(archive, member)
                if name is not None:
                    self._member(archive, member, name, stream, mine, limit)

    def _below(self, archive: Archive, member: tarfile.TarInfo) -> str | None:
        """The name below the model's folder; None for what lies elsewhere in an image."""
        text = member.name
        while text.startswith("./"):
            text = text[2:]
        if text in ("", "."):
            return None if member.isdir() else text
        if archive.below:
            if text in (_OPAQUE, f"{_WHITEOUT}{archive.below}"):
                return _OPAQUE
            first, _, rest = text.partition("/")
            if first != archive.below:
                return None
            if not rest:
                if not member.isdir():
                    raise ModelRefused(
                        f"{self._name(archive)}: /{archive.below} is no folder; the model must lie there"
                    )
                return None
            text = rest
        return text.rstrip("/") if member.isdir() else text

    def _member(
        self, archive: Archive, member: tarfile.TarInfo, name: str, stream: _Forward, mine: set[str], limit: int
    ) -> None:
        if problem := name_problem(name):
            raise ModelRefused(f"{self._name(archive)}: {member.name[:200]!r} {problem}")
        folder, _, last = name.rpartition("/")
        if archive.below and last.startswith(_WHITEOUT):
            self._remove(folder, last, mine)
        elif member.isdir():
            return  # empty folders are no part of a model
        elif not member.isreg() or member.issparse():
            raise ModelRefused(
                f"{self._name(archive)}: {member.name[:200]!r} is {_what(member)}; only regular files are unpacked"
            )
        else:
            self.unpacked += member.size
            if self.unpacked > limit:
                raise ModelRefused(
                    f"{self._name(archive)} becomes more than {limit:,} bytes, {_MOST_TIMES} times its own size; "
                    "an archive of a model does not"
                )
            self.needs(member.size)
            self._write(self.folder / name, member, stream)
            mine.add(name)

    def _remove(self, folder: str, last: str, mine: set[str]) -> None:
        """A later layer takes away what earlier ones brought, but nothing of its own."""
        if last == _OPAQUE:
            target, prefix = self.folder / folder, f"{folder}/" if folder else ""
        else:
            name = f"{folder}/" * bool(folder) + last.removeprefix(_WHITEOUT)
            target, prefix = self.folder / name, f"{name}/"
        with written(target):
            if target.is_file():
                target.unlink()
            for root, _, names in os.walk(target):
                for one in names:
                    path = Path(root) / one
                    below = path.relative_to(self.folder).as_posix()
                    if below.startswith(prefix) and below not in mine:
                        path.unlink()

    def _write(self, path: Path, member: tarfile.TarInfo, stream: _Forward) -> None:
        left = member.size
        stream.seek(member.offset_data)
        with written(path):
            self._make_way(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "wb") as out:
            while left:
                piece = stream.read(min(_PIECE, left))
                if not piece:
                    raise tarfile.ReadError("it ends in the middle of a file")
                with written(path):
                    out.write(piece)
                left -= len(piece)

    def _make_way(self, path: Path) -> None:
        """A later entry replaces an earlier one, also a folder by a file and the other way round."""
        for parent in reversed(path.relative_to(self.folder).parents):
            if (self.folder / parent).is_file():
                (self.folder / parent).unlink()
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def _what(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname[:200]!r}"
    return "a sparse file" if member.isreg() else "a device or a pipe"


class _Forward:
    """A stream for ``tarfile`` that goes forward only, and reads no header larger than a mebibyte."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, name: str) -> None:
        self._stream = stream
        self._name = name
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """As ``tarfile`` calls it."""
        if not 0 <= size <= _LONGEST_READ:
            raise ModelRefused(f"{self._name} has a header of {size:,} bytes; at most {_LONGEST_READ:,} are read")
        content = self._stream.read(size)
        self._position += len(content)
        return content

    def tell(self) -> int:
        """Bytes behind us."""
        return self._position

    def seek(self, position: int) -> int:
        """Read on to there."""
        if position < self._position:
            raise tarfile.ReadError("it goes backwards")
        while self._position < position and self.read(min(_PIECE, position - self._position)):
            pass
        return self._position
