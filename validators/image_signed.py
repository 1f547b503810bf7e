"""Images of the registries that the settings name carry a signature by a known key.

Fields: ``image`` of each container, ``image.reference`` of image volumes, and models that
are images (``oci://``). The settings say under ``imageSignatures`` which images, by registry
and repository, must be signed by which keys with cosign, or carry an attestation of which
type; without them the rule finds nothing. Other images are not looked at: rule
``image-registry`` says where images may come from.

A signature belongs to a digest, so an image that goes by a tag is found. Nothing is fetched
where the settings name no registry: an image never chooses whom Tidewaiter asks.
"""

from __future__ import annotations

from collections.abc import Iterable

from admission.context import ReviewContext
from admission.finding import Finding
from admission.image_signature import (
    ImageNotSigned,
    ImageSigned,
    ImageUnknown,
    UsedImage,
    none_wanted,
    used_images,
)
from admission.pod import ModelPod
from admission.validator import Applicability, RuleSettings, Scope, Validator

_ID = "image-signed"


class ImageSignedSettings(RuleSettings):
    """Settings of image-signed."""


def check(pod: ModelPod, context: ReviewContext, _settings: ImageSignedSettings) -> Iterable[Finding]:
    """Find images that must be signed and are not, or of which nobody can say."""
    if context.wants_signature is none_wanted:
        return
    seen: set[tuple[str, str]] = set()
    for used in used_images(pod, context.model):
        if (used.image, used.path) in seen or not context.wants_signature(used.image):
            continue
        seen.add((used.image, used.path))
        answer = context.signatures.get(used.image, ImageUnknown("it was not asked for"))
        if isinstance(answer, ImageNotSigned):
            yield _finding(
                used,
                f'image "{used.image}" is not signed as it must be: {answer.reason}',
                "use an image that its pipeline signed, by digest; the keys stand in the settings (imageSignatures)",
            )
        elif not isinstance(answer, ImageSigned):
            yield _finding(
                used,
                f'nobody can say whether image "{used.image}" is signed: {answer.reason}',
                "try again once its registry answers; new images are not admitted without it",
                lapse=True,
            )


def _finding(used: UsedImage, message: str, remedy: str, *, lapse: bool = False) -> Finding:
    return Finding(rule=_ID, path=used.path, message=message, remedy=remedy, container=used.container, lapse=lapse)


VALIDATOR = Validator(
    id=_ID,
    check=check,
    settings=ImageSignedSettings,
    applies=Applicability(scope=Scope.EVERY_POD),
    judges_what_runs=True,
)
