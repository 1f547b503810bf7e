"""Texts that a pod's author wrote, cut to a length that a person or a log can take."""

from __future__ import annotations

from hashlib import sha256

_MARK_LENGTH = 64
_LONGEST_WORD = 300


def shortened(text: str, most: int) -> str:
    """At most ``most`` characters: the beginning, and a mark that tells one long text from another.

    It ends between words, where they have a usual length: half a secret is not known as one.
    """
    if len(text) <= most:
        return text
    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
    kept = text[: most - _MARK_LENGTH]
    end = max(kept.rfind(" "), kept.rfind("\n"))
    if end >= len(kept) - _LONGEST_WORD and end > 0:
        kept = kept[:end]
    return f"{kept}... (cut: {len(text)} characters, sha256 {digest})"
