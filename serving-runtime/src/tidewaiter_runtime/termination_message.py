"""What Kubernetes shows of a container that ended: the text that it left in a file."""

from __future__ import annotations

from pathlib import Path

DEFAULT = Path("/dev/termination-log")
_LIMIT = 4096


def leave(message: str, path: Path = DEFAULT) -> None:
    """Write ``message`` where the kubelet reads it; the file is there only in a pod."""
    if path.is_file():
        try:
            path.write_bytes(_cut(message.encode("utf-8", "replace")))
        except OSError:
            return  # the same text goes to standard error, which the kubelet falls back to


def _cut(text: bytes) -> bytes:
    """The first 4,096 bytes, the kubelet's limit, without half a character at the end."""
    return text[:_LIMIT].decode("utf-8", "ignore").encode()
