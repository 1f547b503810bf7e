"""Whether images are signed: what a review asks, and what is answered. How it is known is not its business."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from admission.model_reference import ModelReference
from admission.pod import ModelPod

_IMAGE_SCHEMES = ("oci+native://", "oci://")


@dataclass(frozen=True, slots=True)
class ImageSigned:
    """The image carries what the settings ask for; ``key`` names whose signature it is.

    ``age`` are seconds since its registry said so, and ``stale`` that it should have been asked again.
    """

    key: str
    age: float = field(default=0.0, compare=False)
    stale: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ImageNotSigned:
    """The registry answered, and the image does not carry it; ``reason`` is a part of a sentence."""

    reason: str
    age: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class ImageUnknown:
    """Nobody could say; ``reason`` is a sentence."""

    reason: str


ImageSignature = ImageSigned | ImageNotSigned | ImageUnknown


@dataclass(frozen=True, slots=True)
class SignatureQuestion:
    """What a review asks of its images, which the settings want signed."""

    images: tuple[str, ...]


Signatures = Mapping[str, ImageSignature]
"""Answers by image reference, as written."""


def none_wanted(_image: str) -> bool:
    """Of a process whose settings want no image signed; compared by identity, so that nothing is looked for."""
    return False


@dataclass(frozen=True, slots=True)
class UsedImage:
    """An image that a pod runs or loads, and the field that names it."""

    image: str
    path: str
    container: str = ""


def used_images(pod: ModelPod, model: ModelReference) -> Iterator[UsedImage]:
    """Images of containers, image volumes, and models that are images (``oci://``)."""
    for container in pod.containers:
        if container.image:
            yield UsedImage(container.image, f"{container.path}.image", container.name)
    for index, volume in enumerate(pod.spec.get("volumes") or ()):
        image = volume.get("image")
        reference = image.get("reference") if isinstance(image, Mapping) else None
        if reference:
            yield UsedImage(str(reference), f"spec.volumes[{index}].image.reference")
    sources = [(load.source, load.path, load.container) for load in model.loads]
    for source, path, container_name in [*sources, (model.uri, model.path, "")]:
        scheme = next((one for one in _IMAGE_SCHEMES if source.startswith(one)), None)
        if scheme is not None:
            yield UsedImage(source.removeprefix(scheme), path, container_name)
