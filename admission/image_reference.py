"""Container image references, parsed as the container runtimes parse them.

Source: github.com/distribution/reference (grammar in reference.go, normalisation
in normalize.go). A naive "has it a colon" check takes ``registry:443/image`` for a
tagged image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = (
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_MAX_LENGTH = 512
_DIGEST_HEX = {"sha256": 64, "sha384": 96, "sha512": 128}


@dataclass(frozen=True, slots=True)
class ImageReference:
    """``registry/repository:tag@digest``; ``tag`` and ``digest`` may be empty."""

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def pinned(self) -> bool:
        """Whether a digest fixes the bytes."""
        return bool(self.digest)


@lru_cache(maxsize=4096)
def parse_image(text: str) -> ImageReference | None:
    """Parse ``text``; None where no runtime would accept it."""
    if not text or len(text) > _MAX_LENGTH:
        return None
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return None
    domain, path = match["domain"] or "", match["path"]
    if domain and not ("." in domain or ":" in domain or domain == "localhost" or domain != domain.lower()):
        # "org/name": the first component is a host only if it looks like one.
        domain, path = "", f"{domain}/{path}"
    if not domain or domain == "index.docker.io":
        domain = "docker.io"
        path = path if "/" in path else f"library/{path}"
    digest = match["digest"] or ""
    if digest and not _is_digest(digest):
        return None
    return ImageReference(domain.lower(), path, match["tag"] or "", digest)


def _is_digest(digest: str) -> bool:
    algorithm, _, value = digest.partition(":")
    return _DIGEST_HEX.get(algorithm) == len(value) and value == value.lower()
