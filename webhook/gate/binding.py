"""Whether evidence is about the model version that is judged. Pure.

What a file can say of that differs: an MLflow run has tags, a model card and a Great
Expectations result have keys of their own, and there the same names are read as on pods. A
scan names the image that it looked at. A load test, a table and a plain object of numbers
say nothing: a binding file beside them says it, by their SHA-256.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from admission.model_reference import MODEL_KEY, VERSION_KEY
from webhook.gate.check import Check

DIGEST_KEY = "tidewaiter.dev/digest"
FILES_KEY = "tidewaiter.dev/files"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class About:
    """What a file says that it is about; an empty text where it says nothing.

    ``images`` are the digests of the image that it looked at. ``files`` are the SHA-256 of
    other files that it speaks for.
    """

    model: str = ""
    version: str = ""
    digest: str = ""
    images: tuple[str, ...] = ()
    files: frozenset[str] = frozenset()

    @property
    def names_version(self) -> bool:
        """Whether it names a model version, or its digest."""
        return bool((self.model and self.version) or self.digest)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is judged. ``digest`` is the model's, ``image`` that of the image that serves it; both may be unknown."""

    model: str
    version: str
    digest: str = ""
    image: str = ""

    @property
    def text(self) -> str:
        """For sentences."""
        return f"{self.model}:{self.version}" + (f" ({self.digest})" if self.digest else "")


@dataclass(frozen=True, slots=True)
class Bound:
    """One file of evidence, as it matters here."""

    source: str
    sha256: str
    about: About


def said_by(keys: Mapping[str, Any]) -> About:
    """What a mapping of tags or keys says, under the names that stand on pods.

    Raises ``ValueError`` where one of them is no text.
    """
    texts = {}
    for key in (MODEL_KEY, VERSION_KEY, DIGEST_KEY):
        value = keys.get(key, "")
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(f"{key}: found {str(value)[:40]!r}; expected a text, in quotes")  # noqa: TRY004  # of a file
        texts[key] = str(value)
    return About(texts[MODEL_KEY], texts[VERSION_KEY], texts[DIGEST_KEY])


def image_digests(*texts: object) -> tuple[str, ...]:
    """The digests in what a scanner says of its image: ``name@sha256:...``, or the digest alone."""
    return tuple(dict.fromkeys(one for text in texts for one in _DIGEST.findall(str(text or ""))))


def bindings(files: Sequence[Bound], used: Iterable[str], wanted: Wanted, *, required: bool) -> Iterator[Check]:
    """A check for each file in ``used`` that says what it is about, or should."""
    named = set(used)
    for one in files:
        if one.source not in named:
            continue
        speaking = [one, *(other for other in files if one.sha256 in other.about.files)]
        identifier = f"evidence-about.{one.source}"
        wrong = [sentence for speaker in speaking for sentence in _wrong(speaker, wanted)]
        if wrong:
            message = f"expected evidence about {wanted.text}, found {'; '.join(wrong)}"
            yield Check(identifier, False, message, (one.source,), "make this evidence for the version that is judged")
        elif any(_matches(speaker.about, wanted) for speaker in speaking):
            by = "" if _matches(one.about, wanted) else f", says {speaking[1].source}"
            yield Check(identifier, True, f"it is about {wanted.text}{by}", (one.source,))
        elif required:
            yield Check(
                identifier,
                False,
                f"expected evidence that names {wanted.text}, found none that does",
                (one.source,),
                "name it in the file where its format has room, or in a binding file (docs/gate.md)",
            )


def _wrong(speaker: Bound, wanted: Wanted) -> Iterator[str]:
    about = speaker.about
    for what, found, expected in (
        ("model", about.model, wanted.model),
        ("version", about.version, wanted.version),
        ("digest", about.digest, wanted.digest),
    ):
        if found and expected and found != expected:
            yield f"{what} {found!r} ({speaker.source})"
    if about.images and wanted.image and wanted.image not in about.images:
        yield f"a scan of image {about.images[0]} instead of {wanted.image} ({speaker.source})"


def _matches(about: About, wanted: Wanted) -> bool:
    """Whether it says enough; called where nothing that it says is wrong."""
    by_digest = bool(about.digest and wanted.digest)
    return bool(about.model and about.version) or by_digest or bool(wanted.image and wanted.image in about.images)
