"""From settings to registries that answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from registries.answered import Answering
from registries.breaker import CircuitBreaker
from registries.cache import CachedRegistry
from registries.chain import Member, RegistryChain
from registries.cloud_credentials import AssumedRole, GoogleFederation, KeyFiles, SignedS3
from registries.credentials import Basic, Bearer, SecretFile
from registries.file import FileRegistry
from registries.held import HeldRegistry
from registries.http_client import Authorize, HttpClient, anonymous
from registries.mlflow import MlflowRegistry
from registries.object_store import FolderStore, HttpObjectStore
from registries.objects import ObjectRegistry
from registries.places import Place
from registries.registry import Registry
from registries.resolver import LookUp
from registries.settings import (
    ClusterSettings,
    ConnectionSettings,
    FileSettings,
    MlflowSettings,
    ObjectSettings,
    RegistriesSettings,
    RegistrySettings,
    WandbSettings,
)
from registries.snapshot import Snapshot
from registries.wandb import WandbRegistry

_GOOGLE = "https://storage.googleapis.com"
_GOOGLE_TOKENS = "https://sts.googleapis.com"
_NO_SUCH_KEY = b"NoSuchKey"


@dataclass(frozen=True, slots=True)
class World:
    """What comes from outside: clocks, chance, names of hosts, and where to count.

    ``clock`` is wall-clock time, since answers are kept over restarts; ``monotonic`` is for
    waits. ``tell_problem`` is called with a registry's name and what it holds that cannot be
    used, "" where all is well. ``cluster`` makes the registry of the cluster's own objects.
    """

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    look_up: LookUp | None = None
    count: Callable[[str, str], None] = lambda _registry, _result: None
    tell_problem: Callable[[str, str], None] = lambda _registry, _problem: None
    cluster: Callable[[ClusterSettings], Answering] | None = None
    folder: Path = field(default_factory=Path)
    """What relative paths of the settings are relative to."""


def open_registries(settings: RegistriesSettings, world: World) -> RegistryChain:
    """All registries of the settings; raises ``ValueError`` with a sentence where one cannot be had."""
    members = [Member(_opened(one, world), frozenset(one.environments), one.models) for one in settings.registries]
    return RegistryChain(members, settings.deadline_seconds)


def _opened(settings: RegistrySettings, world: World) -> Answering:
    if isinstance(settings, FileSettings):
        file = FileRegistry(world.folder / settings.path, settings.name)

        def refresh() -> None:
            file.refresh()
            world.tell_problem(settings.name, file.problem)

        return HeldRegistry(settings.name, lambda asked: file.lookup(asked.model, asked.version), refresh)
    if isinstance(settings, ClusterSettings):
        if world.cluster is None:
            raise ValueError(f"registry {settings.name}: there is no cluster to ask here; remove it, or run in one")
        return world.cluster(settings)
    if isinstance(settings, MlflowSettings):
        client = _client(settings, settings.url, _authorize(settings, world), world)
        return cached(MlflowRegistry(settings, client), settings, world)
    if isinstance(settings, WandbSettings):
        key = Basic("api", SecretFile(settings.name, world.folder / settings.key_file))
        return cached(WandbRegistry(settings, _client(settings, settings.url, key, world)), settings, world)
    return cached(_objects(settings, world), settings, world)


def cached(registry: Registry, settings: ConnectionSettings, world: World) -> CachedRegistry:
    """A registry with the cache and the breaker of its settings."""
    breaker = CircuitBreaker(
        world.monotonic,
        world.random,
        failures=settings.breaker.failures,
        wait=settings.breaker.wait_seconds,
        longest_wait=settings.breaker.longest_wait_seconds,
    )
    snapshot = None
    if settings.cache.folder is not None:
        identity = settings.model_dump_json(exclude={"cache", "breaker", "environments", "models"})
        snapshot = Snapshot(world.folder / settings.cache.folder / f"{settings.name}.approvals", identity)
    return CachedRegistry(
        registry,
        settings.cache,
        breaker,
        clock=world.clock,
        random=world.random,
        snapshot=snapshot,
        count=world.count,
    )


def _objects(settings: ObjectSettings, world: World) -> Registry:
    place = Place.read(settings.type, settings.url)
    if settings.type == "folder":
        folder = FolderStore(settings.name, world.folder / place.prefix)
        return ObjectRegistry(settings.name, folder, settings.cache.entries)
    if settings.type == "https":
        client = _client(settings, place.origin, _authorize(settings, world), world)
        return ObjectRegistry(
            settings.name, HttpObjectStore(settings.name, client, place.prefix), settings.cache.entries
        )
    origin, path = _bucket(settings, place)
    exchange = _client(settings, _token_endpoint(settings), anonymous, world)
    client = _client(settings, origin, _bucket_authorize(settings, exchange, world), world)
    bucket = HttpObjectStore(settings.name, client, path, _NO_SUCH_KEY, closing=(exchange.close,))
    return ObjectRegistry(settings.name, bucket, settings.cache.entries)


def _bucket(settings: ObjectSettings, place: Place) -> tuple[str, str]:
    """Where a bucket is: by its own host on AWS, by path elsewhere (dots in a name break TLS by host)."""
    if settings.endpoint:
        return settings.endpoint, f"/{place.bucket}{place.prefix}"
    if settings.type == "gs":
        return _GOOGLE, f"/{place.bucket}{place.prefix}"
    if "." in place.bucket:
        return f"https://s3.{settings.region}.amazonaws.com", f"/{place.bucket}{place.prefix}"
    return f"https://{place.bucket}.s3.{settings.region}.amazonaws.com", place.prefix


def _token_endpoint(settings: ObjectSettings) -> str:
    cloud = _GOOGLE_TOKENS if settings.type == "gs" else f"https://sts.{settings.region}.amazonaws.com"
    return settings.token_endpoint or cloud


def _bucket_authorize(settings: ObjectSettings, exchange: HttpClient, world: World) -> Authorize:
    def secret(path: Path) -> SecretFile:
        return SecretFile(settings.name, world.folder / path)

    if settings.web_identity_file is not None:
        token = secret(settings.web_identity_file)
        if settings.type == "gs":
            return GoogleFederation(settings.name, settings.audience, token, exchange, world.clock)
        role = AssumedRole(settings.name, settings.role, token, exchange, world.clock)
        return SignedS3(role, settings.region, world.clock)
    if settings.access_key_file is not None and settings.secret_key_file is not None:
        session = secret(settings.session_token_file) if settings.session_token_file is not None else None
        keys = KeyFiles(secret(settings.access_key_file), secret(settings.secret_key_file), session)
        return SignedS3(keys, settings.region, world.clock)
    return _authorize(settings, world)


def _authorize(settings: ConnectionSettings, world: World) -> Authorize:
    if settings.token_file is not None:
        return Bearer(SecretFile(settings.name, world.folder / settings.token_file))
    if settings.username_file is not None and settings.password_file is not None:
        user, password = world.folder / settings.username_file, world.folder / settings.password_file
        return Basic(SecretFile(settings.name, user), SecretFile(settings.name, password))
    return anonymous


def _client(settings: ConnectionSettings, url: str, authorize: Authorize, world: World) -> HttpClient:
    ca_file = world.folder / settings.ca_file if settings.ca_file is not None else None
    return HttpClient(settings.name, url, authorize=authorize, ca_file=ca_file, look_up=world.look_up)
