"""What a decision record says of images that must be signed: whose signature, on which digest, and how fresh."""

from __future__ import annotations

from typing import Any

from admission.image_reference import parse_image
from admission.image_signature import ImageNotSigned, ImageSignature, ImageSigned


def signature_fields(image: str, said: ImageSignature) -> dict[str, Any]:
    """The entry of one image, as the schema has it; texts are as they came."""
    parsed = parse_image(image)
    about: dict[str, Any] = {"image": image, "digest": parsed.digest if parsed is not None else ""}
    if isinstance(said, ImageSigned):
        freshness = "stale" if said.stale else "fresh"
        return {**about, "state": "signed", "key": said.key, "freshness": freshness, "age_seconds": round(said.age, 3)}
    if isinstance(said, ImageNotSigned):
        fresh = {"freshness": "fresh", "age_seconds": round(said.age, 3)}
        return {**about, "state": "unsigned", **fresh, "reason": said.reason}
    return {**about, "state": "unknown", "freshness": "unavailable", "reason": said.reason}
