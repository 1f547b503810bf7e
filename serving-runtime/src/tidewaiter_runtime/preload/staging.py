"""Where a model lies until it is verified, and how it then gets its name.

Everything is below one folder of the destination, so that giving a name is a rename on one file
system. Whoever holds the lock there is the only one who writes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tidewaiter_runtime.preload.ranged_download import written
from tidewaiter_runtime.preload.small_file import read_small
from tidewaiter_runtime.preload.source_files import STAGING
from tidewaiter_runtime.refusals import Unreadable

_LOCK = "lock"
_LARGEST_NAMING = 64 << 20
_NOT_OURS = (STAGING, "lost+found")


@dataclass(frozen=True, slots=True)
class Staging:
    """Paths below the destination; use them only inside ``staging``."""

    destination: Path

    @property
    def folder(self) -> Path:
        """Removed when the model has its name."""
        return self.destination / STAGING

    @property
    def files(self) -> Path:
        """The model's files under their own names."""
        return self.folder / "files"

    @property
    def journal(self) -> Path:
        """Which parts are complete."""
        return self.folder / "journal"

    @property
    def _naming(self) -> Path:
        return self.folder / "naming"

    def entries(self) -> list[str]:
        """What lies in the destination already."""
        with written(self.destination):
            return sorted(one.name for one in self.destination.iterdir() if one.name not in _NOT_OURS)

    def empty(self) -> None:
        """Forget what an earlier run brought."""
        with written(self.folder):
            for entry in list(self.folder.iterdir()):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != _LOCK:
                    entry.unlink()

    def discard(self) -> None:
        """Leave nothing behind."""
        with written(self.folder):
            shutil.rmtree(self.folder)

    def needs(self, size: int) -> None:
        """Refuse what does not fit; a size limit of an emptyDir does not show here."""
        with written(self.destination):
            state = os.statvfs(self.destination)
        free = state.f_bavail * state.f_frsize
        if size > free:
            raise Unreadable(
                f"{self.destination} is too small: {size:,} bytes are still to be brought, {free:,} are free; "
                "give the model a larger volume"
            )

    def name_files(self) -> None:
        """Move the verified files to the destination; a run that is killed meanwhile is finished by the next."""
        with written(self.destination):
            prepared = self._naming.with_suffix(".new")
            with prepared.open("w", encoding="utf-8") as file:
                file.write(json.dumps(sorted(one.name for one in self.files.iterdir())))
                file.flush()
                os.fsync(file.fileno())
            prepared.rename(self._naming)
        self.finish_naming()

    def finish_naming(self) -> None:
        """Go on where ``name_files`` was killed."""
        if not os.path.lexists(self._naming):
            return
        with written(self.destination):
            for name in _names(read_small(self._naming, _LARGEST_NAMING)):
                if (self.files / name).exists():
                    (self.files / name).rename(self.destination / name)
        self.empty()


def _names(content: str | None) -> list[str]:
    """The names in a list of them; none where it is not the list that was written here."""
    try:
        found = json.loads(content or "[]")
    except (ValueError, RecursionError):
        return []
    plain = isinstance(found, list) and all(isinstance(one, str) and PurePosixPath(one).name == one for one in found)
    return found if plain else []


@contextmanager
def staging(destination: Path, waiting: Callable[[], None]) -> Iterator[Staging]:
    """Hold the destination's lock; ``waiting`` is called once where another process has it."""
    place = Staging(destination)
    descriptor = _lock(place, waiting)
    try:
        yield place
    finally:
        if not place.journal.exists():  # nothing to go on with
            shutil.rmtree(place.folder, ignore_errors=True)
        os.close(descriptor)


def _lock(place: Staging, waiting: Callable[[], None]) -> int:
    path = place.folder / _LOCK
    told = False
    while True:
        with written(place.folder):
            place.folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:
            continue  # the other process has just removed the folder
        except OSError as error:
            raise Unreadable(f"{path} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                waiting()
                told = True
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            os.close(descriptor)
            raise Unreadable(f"{path} cannot be locked: {error.strerror}") from None
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)  # it was removed by the process that we waited for


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
