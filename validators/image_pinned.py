"""Every image is pinned by digest, so that what was judged is what runs.

Field: ``image`` of each container. A tag can be moved after the review; a reference
that no runtime would parse is found too. Source: github.com/distribution/reference.
"""

from __future__ import annotations

from collections.abc import Iterable

from admission.context import ReviewContext
from admission.finding import Finding
from admission.image_reference import parse_image
from admission.pod import ModelPod
from admission.validator import RuleSettings, Validator

_ID = "image-pinned"


class ImagePinnedSettings(RuleSettings):
    """Settings of image-pinned."""

    allowed_tags: tuple[str, ...] = ()
    """Images (registry/repository) that may go by tag, for example a mirror with immutable tags."""


def check(pod: ModelPod, _context: ReviewContext, settings: ImagePinnedSettings) -> Iterable[Finding]:
    """Find images without a digest."""
    for container in pod.containers:
        if not container.image:
            continue
        image = parse_image(container.image)
        if image is None:
            message, remedy = f"image {container.image[:200]!r} is no image reference", "use registry/name@sha256:..."
        elif image.pinned or f"{image.registry}/{image.repository}" in settings.allowed_tags:
            continue
        else:
            message = f'image "{container.image}" is not pinned by digest'
            remedy = f"use {_name(container.image)}@sha256:..."
        yield Finding(
            rule=_ID, path=f"{container.path}.image", message=message, remedy=remedy, container=container.name
        )


def _name(image: str) -> str:
    """The reference as the author wrote it, without its tag."""
    head, slash, last = image.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


VALIDATOR = Validator(id=_ID, check=check, settings=ImagePinnedSettings)
