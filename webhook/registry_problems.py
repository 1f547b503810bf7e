"""Tells of registries whose content cannot be used: once in the log, and all the while by a metric."""

from __future__ import annotations

import logging

from webhook.metrics import Metrics

_LOG = logging.getLogger("tidewaiter.registries")


class RegistryProblems:
    """What each registry holds that is not in force."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: dict[str, str] = {}

    def tell(self, registry: str, problem: str) -> None:
        """Called after each look; ``problem`` is "" where all is well."""
        self._metrics.registry_refused(registry, refused=bool(problem))
        before = self._told.get(registry, "")
        if problem != before:
            self._told[registry] = problem
            (_LOG.error if problem else _LOG.warning)("%s", problem or f"registry {registry} is in force again")
