"""From the settings of image signatures to what answers for images."""

from __future__ import annotations

from pathlib import Path

from registries.breaker import CircuitBreaker
from registries.credentials import Basic, Bearer, SecretFile
from registries.http_client import Authorize, HttpClient, anonymous
from registries.image_registry import ImageRegistry
from registries.image_signature_settings import ImageRegistrySettings, ImageSignaturesSettings
from registries.image_signature_source import AskedRegistry, ImageSignatureSource
from registries.image_signatures import VerificationKey, load_verification_key
from registries.image_tokens import RegistryTokens
from registries.opening import World
from registries.places import URL


def open_image_signatures(settings: ImageSignaturesSettings, world: World) -> ImageSignatureSource | None:
    """None where no image must be signed; raises ``ValueError`` with a sentence where a key cannot be had."""
    if not settings.require:
        return None
    keys = [_key(name, world.folder / path) for name, path in settings.keys.items()]
    registries = {one.host: _opened(one, world) for one in settings.registries}
    return ImageSignatureSource(settings, registries, keys, clock=world.monotonic, count=world.count)


def _key(name: str, path: Path) -> VerificationKey:
    try:
        return load_verification_key(path.read_bytes(), name)
    except OSError as error:
        raise ValueError(f"imageSignatures.keys.{name}: {path.name} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"imageSignatures.keys.{name}: {path.name}: {error}") from None


def _opened(settings: ImageRegistrySettings, world: World) -> AskedRegistry:
    def client(url: str, authorize: Authorize) -> HttpClient:
        ca_file = world.folder / settings.ca_file if settings.ca_file is not None else None
        return HttpClient(settings.host, url, authorize=authorize, ca_file=ca_file, look_up=world.look_up)

    credentials = _authorize(settings, world)
    tokens = None
    if settings.token_service:
        asked = client(settings.token_service, credentials)
        tokens = RegistryTokens(settings.host, settings.token_service, asked, world.monotonic)
    registry = ImageRegistry(
        settings.host,
        client(settings.address, anonymous if tokens is not None else credentials),
        origin=URL.read(settings.address).origin,
        tokens=tokens,
        storage={origin: client(origin, anonymous) for origin in settings.storage},
    )
    breaker = CircuitBreaker(
        world.monotonic,
        world.random,
        failures=settings.breaker.failures,
        wait=settings.breaker.wait_seconds,
        longest_wait=settings.breaker.longest_wait_seconds,
    )
    return AskedRegistry(registry, breaker)


def _authorize(settings: ImageRegistrySettings, world: World) -> Authorize:
    def secret(path: Path) -> SecretFile:
        return SecretFile(settings.host, world.folder / path)

    if settings.token_file is not None:
        return Bearer(secret(settings.token_file))
    if settings.username_file is not None and settings.password_file is not None:
        return Basic(secret(settings.username_file), secret(settings.password_file))
    return anonymous
