"""The objects as their pods would come out, as YAML: a complete stream, what is not touched included."""

from __future__ import annotations

from collections.abc import Sequence

from webhook.offline_review import Reviewed
from webhook.review_formats.text import dump


def mutated(reviews: Sequence[Reviewed]) -> str:
    """One document per object."""
    return "---\n".join(dump(one.admitted_object()) for one in reviews)
