"""Models on a volume that pods share, each under its approved digest.

Nothing in it is trusted: whatever comes out is hashed again where it is used. Locks only save work. They are the
kernel's own (``flock``, which Linux's NFS client turns into locks of the server), so a process that dies lets go of
them at once, and a node that dies when its lease at the server ends; no file has to be cleaned away.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tidewaiter_runtime.preload.ranged_download import written
from tidewaiter_runtime.preload.small_file import read_small
from tidewaiter_runtime.preload.source_files import STAGING
from tidewaiter_runtime.refusals import Unreadable

_ENTRY = re.compile(r"sha256-[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?|sha256:[0-9a-f]{64}")
_GONE = ".gone-"
_POLL_S = 0.2


class CacheUnusable(Unreadable):
    """The cache cannot help now; the model is then brought without it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The folder of one digest; use it only while it is held."""

    folder: Path

    @property
    def model(self) -> Path:
        """The files of the model; it has this name only when they are complete."""
        return self.folder / "model"

    @property
    def filling(self) -> Path:
        """Where they are brought to."""
        return self.folder / "filling"

    @property
    def complete(self) -> bool:
        """Whether somebody has filled it."""
        return _is_folder(self.model)

    @property
    def revision(self) -> str:
        """The commit that the model came from, where one is written down; it names a folder, and proves nothing."""
        found = read_small(self.folder / "revision", 100) or ""
        return found if _REVISION.fullmatch(found) else ""

    def finish(self, revision: str) -> None:
        """Give the model its name."""
        with written(self.folder):
            (self.folder / "revision").unlink(missing_ok=True)
            if _REVISION.fullmatch(revision):
                (self.folder / "revision").write_text(revision)
            self.filling.rename(self.model)

    def clear(self) -> None:
        """Remove the model, complete or not; the lock stays."""
        with written(self.folder):
            for one in (self.model, self.filling):
                if one.is_symlink():
                    one.unlink()
                elif one.exists():
                    shutil.rmtree(one)

    def sound(self) -> bool:
        """Whether nobody has put links where we are going to write."""
        places = (self.filling, self.filling / STAGING, self.filling / STAGING / "files")
        return all(_is_folder(one) for one in places if one.exists() or one.is_symlink())


@dataclass(frozen=True, slots=True)
class SharedCache:
    """``most`` bytes at the most, after the models that are in use; ``wait_s`` for a process that fills an entry."""

    folder: Path
    most: int
    wait_s: float = 1800.0

    @contextmanager
    def hold(self, digest: str, fill: Callable[[Entry], None], waiting: Callable[[], None]) -> Iterator[Entry]:
        """A complete entry that is not evicted meanwhile. One process calls ``fill``, the others wait for it.

        Raises ``CacheUnusable``, and what ``fill`` raises.
        """
        with self._locked(digest, fcntl.LOCK_SH, waiting) as entry:
            if entry.complete:
                self._touch(entry)
                yield entry
                return
        self._fill(digest, fill, waiting)
        with self._locked(digest, fcntl.LOCK_SH, waiting) as entry:
            if not entry.complete:
                raise CacheUnusable(f"{entry.folder} was evicted as soon as it was filled")
            yield entry

    def _fill(self, digest: str, fill: Callable[[Entry], None], waiting: Callable[[], None]) -> None:
        with self._locked(digest, fcntl.LOCK_EX, waiting) as entry:
            if entry.complete:
                return
            if not entry.sound():
                entry.clear()
            self._touch(entry)
            fill(entry)

    def forget(self, digest: str, waiting: Callable[[], None]) -> None:
        """Remove an entry that did not hold what its name says."""
        with self._locked(digest, fcntl.LOCK_EX, waiting) as entry:
            entry.clear()

    def make_room(self, size: int, keep: Entry) -> list[str]:
        """Evict what was not used for longest until ``size`` more bytes fit; returns the digests.

        What another process holds stays. Raises ``CacheUnusable`` where there is no room.
        """
        if size > self.most:
            raise CacheUnusable(f"the model has {size:,} bytes, and the cache {self.folder} at most {self.most:,}")
        evicted = []
        with self._file_lock(self.folder / "lock", fcntl.LOCK_EX, lambda: None):
            self._sweep()
            sizes = {one: _bytes_in(one) for one in self._entries() if one != keep.folder}
            for one in sorted(sizes, key=_last_used):
                if sum(sizes.values()) + size <= self.most:
                    break
                if self._evict(one):
                    del sizes[one]
                    evicted.append(one.name.replace("-", ":"))
            if sum(sizes.values()) + size > self.most:
                raise CacheUnusable(f"the cache {self.folder} is full of models that are in use")
        return evicted

    def _entries(self) -> list[Path]:
        with written(self.folder):
            return [one for one in self.folder.iterdir() if _ENTRY.fullmatch(one.name) and _is_folder(one)]

    def _sweep(self) -> None:
        """What somebody was removing when it was killed."""
        for one in self.folder.glob(f"{_GONE}*"):
            shutil.rmtree(one, ignore_errors=True)

    def _evict(self, folder: Path) -> bool:
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o664)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = self.folder / f"{_GONE}{secrets.token_hex(8)}"
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        except OSError:
            return False  # it is in use
        finally:
            os.close(descriptor)
        return True

    def _touch(self, entry: Entry) -> None:
        with suppress(OSError):  # the order of eviction is worth no failure
            (entry.folder / "used").touch()

    @contextmanager
    def _locked(self, digest: str, how: int, waiting: Callable[[], None]) -> Iterator[Entry]:
        entry = Entry(self.folder / digest.replace(":", "-"))
        with self._file_lock(entry.folder / "lock", how, waiting):
            yield entry

    @contextmanager
    def _file_lock(self, path: Path, how: int, waiting: Callable[[], None]) -> Iterator[None]:
        """Poll: a holder on a node that is gone for good must not hold us for ever."""
        until, told = time.monotonic() + self.wait_s, False
        while True:
            descriptor = _opened(path)
            try:
                if _acquired(descriptor, how, path) and _is_still(path, descriptor):
                    yield
                    return
            finally:
                os.close(descriptor)
            if not told:
                waiting()
                told = True
            if time.monotonic() > until:
                raise CacheUnusable(f"{path} was not let go of in {self.wait_s:,.0f} seconds")
            time.sleep(_POLL_S)


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _is_folder(path.parent):
            raise CacheUnusable(f"{path.parent} is no folder; remove it")
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o664)
    except OSError as error:
        raise CacheUnusable(f"{path} cannot be written: {error.strerror}") from None


def _acquired(descriptor: int, how: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise CacheUnusable(f"{path} cannot be locked: {error.strerror}; use a volume with locks") from None
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the file was not evicted between opening and locking it."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _last_used(folder: Path) -> float:
    for name in ("used", "lock"):
        with suppress(OSError):
            return (folder / name).lstat().st_mtime
    return 0.0


def _bytes_in(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(root) / name).lstat().st_size
    return total
