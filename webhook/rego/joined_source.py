"""Several sources as one set, for whoever looks at all rules at once."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

from admission.validator import PolicyError
from webhook.rego.overlaid_source import overlaid
from webhook.rego.policy_set import PolicySet
from webhook.rego.sources import PolicySource


class JoinedSource:
    """The modules, tests and data of all ``sources``; two rules of one id are refused."""

    def __init__(self, sources: Sequence[PolicySource]) -> None:
        self._sources = tuple(sources)
        self.name = ", ".join(one.name for one in sources) or "no policies"

    def stamp(self) -> Hashable:
        """Differs after a change of any."""
        return tuple(one.stamp() for one in self._sources)

    def read(self) -> PolicySet:
        """All of them; raises ``PolicyError``."""
        sets = [one.read() for one in self._sources]
        if len(sets) == 1:
            return sets[0]
        seen: set[str] = set()
        for found in sets:
            if twice := sorted(seen & set(found.rules)):
                raise PolicyError(f"rule id {twice[0]} stands in two sources of policies; rename one")
            seen |= set(found.rules)
        data: dict[str, object] = {}
        for found in sets:
            data = overlaid(data, found.data)
        return PolicySet(
            source=self.name,
            modules=tuple(module for found in sets for module in found.modules),
            tests={path: text for found in sets for path, text in found.tests.items()},
            data=data,
            revision=hashlib.sha256("+".join(one.revision for one in sets).encode()).hexdigest()[:12],
        )
