"""Reviews without a server: from body to answer and record, in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from admission.decision import Purpose
from registries.opening import World, open_registries
from webhook.cluster_files import load_cluster_files, sample_cluster
from webhook.cluster_state import ClusterState
from webhook.policy_engines import embedded_engines
from webhook.reviewer import Reviewer
from webhook.settings import load_settings, registries_settings


def reviewer(settings_file: Path) -> Reviewer:
    """A reviewer as ``tidewaiter serve`` has it, with the sample cluster."""
    settings = load_settings(settings_file)
    state = ClusterState()
    load_cluster_files(state, sample_cluster())
    registries = open_registries(registries_settings(settings), World(folder=settings.folder))
    return Reviewer(settings, state, embedded_engines(settings), approvals=registries)


async def cpu_microseconds(reviews: Reviewer, bodies: Mapping[str, bytes], turns: int) -> dict[str, float]:
    """CPU time of one review, by path."""
    found: dict[str, float] = {}
    for path, body in bodies.items():
        purpose = Purpose(path[1:])
        for _ in range(turns // 10):
            await reviews.answer(body, purpose)
        started = time.process_time()
        for _ in range(turns):
            await reviews.answer(body, purpose)
        found[path] = (time.process_time() - started) / turns * 1e6
    return found
