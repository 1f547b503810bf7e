"""Where things lie: URLs of the settings, and the path of a model's manifest below them.

Names come from pods and may hold anything. A path is made so that different names give
different paths, and none leaves its folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_SEGMENT_BYTES = 255  # what a file system takes
_KEY_BYTES = 900  # S3 takes 1,024 with the prefix
_ENCODED = re.compile(r"[%/\\\x00-\x1f\x7f]")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class URL:
    """A URL of the settings, taken apart."""

    scheme: str
    host: str
    origin: str
    path: str

    @classmethod
    def read(cls, text: str) -> URL:
        """Take a URL apart; raises ``ValueError`` with a sentence."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError("this is not a URL; write https://HOST/PATH") from error
        if not parts.scheme or not host:
            raise ValueError("this is not a URL with a host; write https://HOST/PATH")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a URL holds no credentials; name a file that holds them")
        if parts.query or parts.fragment:
            raise ValueError("a query or fragment has no meaning here; remove it")
        shown = f"[{host}]" if ":" in host else host
        origin = f"{parts.scheme}://{shown}{f':{port}' if port is not None else ''}"
        return cls(parts.scheme, host, origin, parts.path.rstrip("/"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where manifests lie. ``host`` is empty where the cloud's own endpoint is meant, or a folder."""

    bucket: str
    prefix: str
    host: str = ""
    origin: str = ""

    @classmethod
    def read(cls, kind: str, text: str) -> Place:
        """Take a url of the settings apart; raises ``ValueError`` with a sentence."""
        if kind == "folder":
            if "://" in text and not text.startswith("file:///"):
                raise ValueError("a folder is a path, or file:///PATH")
            return cls("", text.removeprefix("file://"))
        url = URL.read(text)
        if kind == "https":
            if url.scheme not in ("https", "http"):
                raise ValueError("write https://HOST/PATH")
            return cls("", url.path, url.host, url.origin)
        if url.scheme != kind:
            raise ValueError(f"write {kind}://BUCKET/PREFIX")
        if not _BUCKET.fullmatch(url.host):
            raise ValueError(f"{url.host!r} is no bucket's name")
        return cls(url.host, url.path)


def manifest_path(model: str, version: str) -> tuple[str, ...] | None:
    """The folders and the name of a manifest; None where no manifest can have such a name.

    A slash in a model's name makes folders; ``%``, ``\\``, control characters, a slash in a
    version, and ``.`` and ``..`` are written as ``%XX``. All else stands as it is, in UTF-8.
    """
    folders = tuple(_segment(one) for one in (*model.split("/"), version))
    try:
        sizes = [len(one.encode()) for one in folders]
    except UnicodeEncodeError:
        return None
    if 0 in sizes or max(sizes) > _SEGMENT_BYTES or sum(sizes) + len(sizes) > _KEY_BYTES:
        return None
    return (*folders, "manifest.json")


def url_path(segments: tuple[str, ...]) -> str:
    """Segments as the path of a URL, each encoded once."""
    return "/".join(quote(one, safe="-_.~") for one in segments)


def _segment(text: str) -> str:
    if text in (".", ".."):
        return text.replace(".", "%2E")
    return _ENCODED.sub(lambda found: f"%{ord(found[0]):02X}", text)
