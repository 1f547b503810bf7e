"""Small files of our own on a volume that others may write to."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path


def read_small(path: Path, most: int) -> str | None:
    """The text of a plain file of at most ``most`` bytes; None where there is none, and whatever else is there goes.

    A link could lead anywhere, and a pipe would be waited for without end.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        _remove(path)
        return None
    with os.fdopen(descriptor, "rb") as file:
        plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
        content = file.read(most + 1) if plain else b""
    try:
        if plain and len(content) <= most:
            return content.decode("utf-8")
    except ValueError:
        pass
    _remove(path)
    return None


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
