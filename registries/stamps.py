"""Telling whether a file has changed."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int, int, int]


def stamp(path: Path) -> Stamp:
    """What changes when a file is written or replaced; raises ``OSError``."""
    status = path.stat()
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
