"""What the running process knows besides its records: rules, exceptions, health, teams."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from admission.namespace import ENVIRONMENT_KEY, Namespace
from admission.policy_exception import PolicyException
from registries.chain import RegistryChain
from webhook.policy_engines import PolicyEngines
from webhook.rego.effective_actions import effective_actions
from webhook.settings import VALIDATORS, Settings

_TEAM = "team"
_WELL = {"closed": "answers", "open": "is left alone after failures", "half-open": "is being tried again"}


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """One rule in force: what it says, where it comes from, and what its findings do by environment."""

    id: str
    title: str
    description: str
    language: str
    source: str
    remedy: str = ""
    actions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Health:
    """One registry or engine: whether it is well, and a few words. ``detail`` may name what is not everybody's."""

    name: str
    well: bool
    state: str
    detail: str = ""


class Facts:
    """Asked anew for each page; every answer is in memory already."""

    def __init__(
        self,
        settings: Settings,
        policies: PolicyEngines,
        registries: RegistryChain,
        exceptions: Callable[[], tuple[PolicyException, ...]],
        namespace: Callable[[str], Namespace | None],
    ) -> None:
        self._settings = settings
        self._policies = policies
        self._registries = registries
        self._namespace = namespace
        self.exceptions = exceptions
        self._rules: tuple[object, Mapping[str, RuleFacts]] = (None, {})

    @property
    def rules(self) -> Mapping[str, RuleFacts]:
        """The rules in force by id; made again when policies or the day change."""
        today = datetime.now(UTC).date()
        stamp = (today, self._policies.engine.revision)
        if self._rules[0] != stamp:
            self._rules = stamp, {one.id: one for one in self._found(today)}
        return self._rules[1]

    def _found(self, today: date) -> Iterator[RuleFacts]:
        rego = {rule: store.source for store in self._policies.stores for rule in store.rules}
        known = self._policies.engine.rules
        actions: dict[str, dict[str, str]] = {}
        for environment in self._settings.environments:
            here = Namespace("", {ENVIRONMENT_KEY: environment}, {})
            for one in effective_actions(self._settings, known, here, today):
                said = one.action.value + (f", deny after {one.deny_after}" if one.deny_after else "")
                actions.setdefault(one.rule, {})[environment] = said
        for validator in VALIDATORS:
            title, _, more = inspect.cleandoc(inspect.getmodule(validator.check).__doc__ or "").partition("\n\n")
            yield RuleFacts(validator.id, _prose(title), _prose(more), "Python", "comes with Tidewaiter",
                            actions=actions.get(validator.id, {}))  # fmt: skip
        for rule, source in rego.items():
            about = known[rule]
            yield RuleFacts(rule, about.title, about.description, "Rego", source, about.remedy, actions.get(rule, {}))

    @property
    def revision(self) -> str:
        """The revision of the policies in force."""
        return self._policies.engine.revision

    def health(self) -> Iterator[Health]:
        """Registries first, then policy engines."""
        for name, registry in self._registries.by_name.items():
            state = str(getattr(registry, "breaker_state", "closed"))
            yield Health(f"registry {name}", state == "closed", _WELL.get(state, state))
        for store in self._policies.stores:
            said = f"{len(store.rules)} rules in force"
            yield Health("policies", not store.problem, "changed and not in force" if store.problem else said,
                         store.problem or store.source)  # fmt: skip

    def team(self, namespace: str) -> str:
        """The team whose label the namespace has now; "" without."""
        found = self._namespace(namespace)
        return found.labels.get(_TEAM, "") if found is not None else ""


def _prose(text: str) -> str:
    """A docstring's text in one line, without its marks."""
    return " ".join(text.replace("``", "").split())
