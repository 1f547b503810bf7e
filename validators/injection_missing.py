"""A model pod that ``/mutate`` never saw is not admitted as if it had.

``/mutate`` fails open, and another webhook may take back what it did. The pod is judged
as it was received: whatever a mutator in mode ``apply`` would still change is missing.
Nothing is repaired here, since a validating webhook may not.
"""

from __future__ import annotations

from collections.abc import Iterable

from admission.context import ReviewContext
from admission.finding import Finding
from admission.pod import ModelPod
from admission.validator import RuleSettings, Validator

_ID = "injection-missing"


class InjectionMissingSettings(RuleSettings):
    """Settings of injection-missing."""


def check(_pod: ModelPod, context: ReviewContext, _settings: InjectionMissingSettings) -> Iterable[Finding]:
    """One finding for each mutator whose work is missing."""
    for missing in context.missing:
        yield Finding(
            rule=_ID,
            path="spec",
            message=f"mutator {missing.mutator} has not done its work: {'; '.join(missing.changes)}",
            remedy="create the pod again; if it stays so, ask your platform team why /mutate did not run",
        )


VALIDATOR = Validator(id=_ID, check=check, settings=InjectionMissingSettings)
