"""The reviewer of commands: as ``tidewaiter serve`` has it, with what is known at one moment."""

from __future__ import annotations

from registries.opening import World, open_registries
from registries.opening_images import open_image_signatures
from registries.watched import WatchedRegistry
from webhook.cluster_state import ClusterState
from webhook.governance.offline import OwnObjects
from webhook.rego.combined_engine import CombinedEngine
from webhook.reviewer import Reviewer
from webhook.settings import Settings, registries_settings


def offline_reviewer(settings: Settings, state: ClusterState, engine: CombinedEngine, own: OwnObjects) -> Reviewer:
    """Registries are those of the settings; ModelVersion and PolicyException objects are ``own``."""
    world = World(folder=settings.folder, cluster=lambda one: WatchedRegistry(one, own.versions))
    registries = open_registries(registries_settings(settings), world)
    images = open_image_signatures(settings.image_signatures, world)
    return Reviewer(
        settings, state, engine, approvals=registries, images=images, exceptions=lambda: own.exceptions.current
    )
