"""A pod that looks preloaded is preloaded, by our container and nothing else.

Fields: containers named ``tidewaiter-preload`` and ``tidewaiter-verify``, the volume that
they fill, and who mounts it.

A name proves nothing: an author may write such a container, so that the digest is checked
by nobody. Ours is told by its content: the image of the settings, the arguments that the
approval demands, no other command, no variable or mount through which other code would
run, and the model's volume, which no other container may write to. What the API server or
other webhooks add to every container (defaults, variables, mounts below /run, /tmp or
/etc/ssl) makes no difference; a mount elsewhere does: let that webhook skip our containers.
"""

from __future__ import annotations

from collections.abc import Iterable

from admission.approval import Unavailable
from admission.context import ReviewContext
from admission.finding import Finding
from admission.pod import ModelPod
from admission.preload_alterations import alterations
from admission.validator import RuleSettings, Validator

_ID = "preload-altered"


class PreloadAlteredSettings(RuleSettings):
    """Settings of preload-altered."""


def check(pod: ModelPod, context: ReviewContext, _settings: PreloadAlteredSettings) -> Iterable[Finding]:
    """Compare what the pod has with what preloading would make of it."""
    unanswered = context.approval.reason if isinstance(context.approval, Unavailable) else ""
    for one in alterations(pod, context):
        remedy = f"{one.remedy}; the registry does not answer ({unanswered})" if unanswered else one.remedy
        yield Finding(rule=_ID, path=one.path, message=one.found, remedy=remedy, container=one.container)


VALIDATOR = Validator(id=_ID, check=check, settings=PreloadAlteredSettings)
