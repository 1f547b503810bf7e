"""What a model is held to when it is brought: the approved digest, and who must have signed it."""

from __future__ import annotations

from dataclasses import dataclass

from tidewaiter_runtime.refusals import ModelRefused, SignatureRefused
from tidewaiter_runtime.verification.manifest import ALONE, Manifest
from tidewaiter_runtime.verification.model_files import is_ignored
from tidewaiter_runtime.verification.verification import Expected, Statement, hold_to_signature


@dataclass(frozen=True, slots=True)
class Checks:
    """What the model is held to: read, and verified as far as that goes, before the model is."""

    digest: str
    expected: Expected
    statement: Statement

    def hold(self, shown: str, found: Manifest, left: str) -> str:
        """Refuse another model; returns who signed this one."""
        if self.digest and not is_approved(found, self.digest):
            raise ModelRefused(
                f"{shown} is not the model that was approved: expected {self.digest}, found "
                f"{_covered(found).digest} ({found.summary}); {left}"
            )
        try:
            return hold_to_signature(shown, found, self.expected, self.statement)
        except SignatureRefused:
            alone = list(found.digests.values())
            if len(alone) != 1 or self.statement.signed is not None:
                raise
            # A model that is one file may be signed as a file.
            file = Manifest({ALONE: alone[0]}, {ALONE: sum(found.sizes.values())})
            return hold_to_signature(shown, file, self.expected, self.statement)


def is_approved(found: Manifest, digest: str) -> bool:
    """A model that is one file is approved by the file's own digest, or by that of a folder that holds it alone."""
    covered = _covered(found)
    alone = [f"sha256:{one}" for one in covered.digests.values() if len(covered.digests) == 1]
    return digest in (covered.digest, *alone)


def _covered(found: Manifest) -> Manifest:
    """What the digest covers: a signature may list more."""
    names = [one for one in found.digests if not is_ignored(one)]
    return Manifest({one: found.digests[one] for one in names}, {one: found.sizes.get(one, 0) for one in names})
