"""A model pod carries the labels that cost reports and audits need.

Field: ``metadata.labels``. Mutator cost-labels fills in what the namespace or the
settings give, so a finding means that nobody said it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from admission.context import ReviewContext
from admission.finding import Finding
from admission.pod import ModelPod
from admission.validator import RuleSettings, Validator

_ID = "required-labels"


class RequiredLabelsSettings(RuleSettings):
    """Settings of required-labels."""

    labels: tuple[str, ...] = Field(default=("team",))
    """Label keys that every model pod must carry with a value."""


def check(pod: ModelPod, _context: ReviewContext, settings: RequiredLabelsSettings) -> Iterable[Finding]:
    """Find labels that are missing or empty."""
    for label in settings.labels:
        if not pod.labels.get(label):
            found = "is empty" if label in pod.labels else "is missing"
            yield Finding(
                rule=_ID,
                path="metadata.labels",
                message=f"label {label!r} {found}",
                remedy=(
                    "add it to the pod; for the whole namespace the platform team sets it "
                    f"(label {label} of the Namespace)"
                ),
            )


VALIDATOR = Validator(id=_ID, check=check, settings=RequiredLabelsSettings)
