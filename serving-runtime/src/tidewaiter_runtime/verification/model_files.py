"""Which files make up a model: those below a folder, or one file alone.

Names are POSIX paths relative to the folder. Some names have no place in a digest, since two
machines could see them differently, and are refused rather than repaired: symbolic links
(what they lead to may change without the folder changing), sockets and devices, names that
are not UTF-8 in normalization form C, and names with control characters or backslashes.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidewaiter_runtime.refusals import BadInput, ModelRefused, Unreadable, listed

IGNORED = (".git", ".gitattributes", ".github", ".gitignore", ".cache/huggingface", "lost+found", "model.sig")
"""Paths directly below a model's folder that are no part of it, with all below them.

The first four are what model-signing leaves out by default, ``model.sig`` is its signature,
``.cache/huggingface`` holds the times of huggingface_hub's downloads, ``lost+found`` is the
file system's own.
"""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One regular file: its name in the model, where it lies, and its size in bytes."""

    name: str
    path: Path
    size: int


def is_ignored(name: str, ignored: tuple[str, ...] = IGNORED) -> bool:
    """Whether a file of this name is no part of the model."""
    return any(name == one or name.startswith(f"{one}/") for one in ignored)


def list_model_files(
    path: Path, *, always: frozenset[str] = frozenset(), never: tuple[str, ...] = ()
) -> list[ModelFile]:
    """The files of the model at ``path``, in no particular order; a single file is named ``.``.

    ``always`` are names that belong to it although they are among ``IGNORED``, since a
    signature lists them; ``never`` are further paths that do not.
    """
    try:
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            return [ModelFile(".", path, path.lstat().st_size)]
        if not stat.S_ISDIR(mode):
            raise ModelRefused(f"{path} is {_what(mode)}; a model is a regular file or a folder of them")
        problems: list[str] = []
        found = list(_walk(path, _Skip(always, never), problems))
    except FileNotFoundError as error:
        if error.filename == str(path):
            raise BadInput(f"{path}: there is no such file or folder; is the model's volume mounted?") from None
        raise ModelRefused(
            f"{error.filename} was removed while the model was read; let nothing write to it meanwhile"
        ) from None
    except OSError as error:
        raise Unreadable(f"{error.filename or path} cannot be read: {error.strerror}") from None
    if problems:
        raise ModelRefused(f"{path} has no digest: {listed(problems)}")
    if not found:
        raise ModelRefused(
            f"{path} holds no files; expected a model; is the right volume mounted, did its download end?"
        )
    return found


@dataclass(frozen=True, slots=True)
class _Skip:
    always: frozenset[str]
    never: tuple[str, ...]

    def file(self, name: str) -> bool:
        return name not in self.always and (is_ignored(name) or is_ignored(name, self.never))

    def folder(self, name: str) -> bool:
        return self.file(name) and not any(one.startswith(f"{name}/") for one in self.always)


def _walk(root: Path, skip: _Skip, problems: list[str]) -> Iterator[ModelFile]:
    folders = [("", root)]
    while folders:
        prefix, folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                mode = entry.stat(follow_symlinks=False).st_mode
                if skip.folder(name) if stat.S_ISDIR(mode) else skip.file(name):
                    continue
                problem = _problem(name, entry, mode)
                if problem:
                    problems.append(problem)
                elif stat.S_ISDIR(mode):
                    folders.append((f"{name}/", Path(entry.path)))
                else:
                    yield ModelFile(name, Path(entry.path), entry.stat(follow_symlinks=False).st_size)


def _problem(name: str, entry: os.DirEntry[str], mode: int) -> str:
    if any(0xDC80 <= ord(character) <= 0xDCFF for character in entry.name):
        return f"the name of {name!r} is not UTF-8; rename it"
    if any(unicodedata.category(character) == "Cc" or character == "\\" for character in entry.name):
        return f"the name of {name!r} has a control character or a backslash; rename it"
    if not unicodedata.is_normalized("NFC", entry.name):
        return f"the name of {name!r} is not in Unicode normalization form C; rename it, as by convmv --nfc"
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        target = f" to {str(Path(entry.path).readlink())!r}" if stat.S_ISLNK(mode) else ""
        return f"{name!r} is {_what(mode)}{target}; put the file itself there"
    return ""


def _what(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    return "a socket, a pipe or a device"
