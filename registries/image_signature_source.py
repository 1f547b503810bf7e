"""What is known of images that must be signed: from memory, or asked of their registry behind the review.

- Which registry is asked is the settings' choice: an image names one of theirs, or nobody is asked.
- A signature that was found is believed for a while without asking; after that it is still
  given while the registry is asked behind it, and where that does not answer.
- A review waits no longer than its deadline. The question goes on behind it, so that the
  next review of the image finds the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from admission.image_reference import ImageReference, parse_image
from admission.image_signature import (
    ImageNotSigned,
    ImageSignature,
    ImageSigned,
    ImageUnknown,
    SignatureQuestion,
    Signatures,
)
from registries.breaker import CircuitBreaker
from registries.cache import UNREACHED
from registries.image_proofs import judged, proofs_of
from registries.image_registry import Evidence, ImageRegistry
from registries.image_signature_settings import ImageSignaturesSettings, SignedImages
from registries.image_signatures import VerificationKey
from registries.registry import RegistryError

_LOG = logging.getLogger("tidewaiter.images")
_SHA256 = "sha256:"

_Key = tuple[str, str, str]
"""Host, repository and digest."""


@dataclass(frozen=True, slots=True)
class AskedRegistry:
    """One registry of the settings, and when it is left alone."""

    registry: ImageRegistry
    breaker: CircuitBreaker


@dataclass(frozen=True, slots=True)
class _Known:
    answer: ImageSigned | ImageNotSigned
    fetched: float

    @property
    def signed(self) -> bool:
        return isinstance(self.answer, ImageSigned)


class ImageSignatureSource:
    """Answers ``SignatureQuestion``; ``clock`` gives seconds that only grow. ``count`` takes host and result."""

    def __init__(
        self,
        settings: ImageSignaturesSettings,
        registries: Mapping[str, AskedRegistry],
        keys: Sequence[VerificationKey],
        *,
        clock: Callable[[], float] = time.monotonic,
        count: Callable[[str, str], None] = lambda _host, _result: None,
    ) -> None:
        self._settings = settings
        self._registries = registries
        self._keys = tuple(keys)
        self._clock = clock
        self._count = count
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._failed: OrderedDict[_Key, tuple[float, RegistryError]] = OrderedDict()
        self._flights: dict[_Key, asyncio.Task[None]] = {}

    def wants(self, image: str) -> bool:
        """Whether the settings want an image signed."""
        parsed = parse_image(image)
        return parsed is not None and self._required(parsed) is not None

    async def ask(self, question: SignatureQuestion) -> Signatures:
        """What is known of images that must be signed, within the deadline; never raises."""
        parsed = {image: parse_image(image) for image in question.images}
        keys = (_key(one) for one in parsed.values() if one is not None and self._required(one) is not None)
        await self._fetched(key for key in dict.fromkeys(keys) if key is not None)
        return {image: self._answer(one) for image, one in parsed.items()}

    async def close(self) -> None:
        """End what is under way, and let connections go."""
        under_way = list(self._flights.values())
        for flight in under_way:
            flight.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for one in self._registries.values():
            await one.registry.close()

    def _required(self, image: ImageReference) -> SignedImages | None:
        return next((one for one in self._settings.require if one.covers(image)), None)

    async def _fetched(self, keys: Iterable[_Key]) -> None:
        """Start what has to be asked, and wait for what nothing is known of."""
        awaited: list[asyncio.Task[None]] = []
        for key in keys:
            fresh, usable = self._standing(key)
            flight = None if fresh else self._started(key)
            if flight is not None and not usable:
                awaited.append(flight)
        if awaited:
            await asyncio.wait(awaited, timeout=self._settings.deadline_seconds)

    def _standing(self, key: _Key) -> tuple[bool, bool]:
        """Whether nobody need be asked, and whether what is known may be given meanwhile."""
        now, known, failed = self._clock(), self._known.get(key), self._failed.get(key)
        recently = failed is not None and now - failed[0] < self._settings.unsigned_seconds
        if known is None:
            return recently, False
        self._known.move_to_end(key)
        age = now - known.fetched
        fresh = self._settings.signed_seconds if known.signed else self._settings.unsigned_seconds
        return recently or age < fresh, known.signed and age < self._settings.stale_seconds

    def _answer(self, image: ImageReference | None) -> ImageSignature:
        required = self._required(image) if image is not None else None
        if image is None or required is None:
            return ImageUnknown("it is not among the images that must be signed")
        key = _key(image)
        if key is None:
            return ImageNotSigned("it is not named by a sha256 digest, and a signature belongs to one")
        known, failed = self._known.get(key), self._failed.get(key)
        if known is not None:
            newest, age = failed is None and key not in self._flights, self._clock() - known.fetched
            if newest or (known.signed and age < self._settings.stale_seconds):
                return self._aged(known.answer, age)
        if failed is not None and key not in self._flights:
            return ImageUnknown(str(failed[1]))
        return ImageUnknown(f"registry {key[0]} did not answer in time")

    def _aged(self, answer: ImageSigned | ImageNotSigned, age: float) -> ImageSigned | ImageNotSigned:
        """The answer as it is now: how old, and whether its registry should have been asked since."""
        if isinstance(answer, ImageNotSigned):
            return replace(answer, age=age)
        return replace(answer, age=age, stale=age > 0 and age >= self._settings.signed_seconds)

    def _started(self, key: _Key) -> asyncio.Task[None] | None:
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= self._settings.questions:
                self._fail(key, RegistryError(f"registry {key[0]} is asked too many questions at once", "busy"))
                return None
            flight = self._flights[key] = asyncio.create_task(self._fetch(key))
            flight.add_done_callback(lambda _done: self._flights.pop(key, None))
        return flight

    async def _fetch(self, key: _Key) -> None:
        host, repository, digest = key
        asked = self._registries[host]
        if not asked.breaker.allows():
            self._fail(key, RegistryError(f"registry {host} has failed and is left alone for a while", "open"))
            return
        cause, retry_after = "internal", None
        try:
            async with asyncio.timeout(self._settings.fetch_seconds):
                evidence = await asked.registry.evidence(repository, digest)
            answer = await asyncio.to_thread(self._judged, key, evidence)
            self._keep(key, answer)
            cause = ""
        except TimeoutError:
            cause = "deadline"
            self._fail(key, RegistryError(f"registry {host} did not answer in time", cause))
        except RegistryError as error:
            cause, retry_after = error.cause, error.retry_after
            self._fail(key, error)
        except Exception:  # noqa: BLE001  # a fault of ours must not look like a signature, nor end the process
            _LOG.exception("registry %s cannot be asked for signatures", host)
            self._fail(key, RegistryError(f"registry {host} cannot be asked: something is wrong inside", cause))
        finally:
            if cause in UNREACHED:
                asked.breaker.failed(retry_after)
            else:
                asked.breaker.succeeded()
            self._count(host, cause or ("signed" if self._known[key].signed else "unsigned"))

    def _judged(self, key: _Key, evidence: Sequence[Evidence]) -> ImageSigned | ImageNotSigned:
        host, repository, digest = key
        required = self._required(ImageReference(host, repository, "", digest))
        if required is None:
            raise RuntimeError("asked about an image that need not be signed")
        return judged(proofs_of(digest, evidence, self._keys), required, self._settings.keys)

    def _keep(self, key: _Key, answer: ImageSigned | ImageNotSigned) -> None:
        self._failed.pop(key, None)
        self._known[key] = _Known(answer, self._clock())
        self._known.move_to_end(key)
        while len(self._known) > self._settings.entries:
            self._known.popitem(last=False)

    def _fail(self, key: _Key, error: RegistryError) -> None:
        self._failed[key] = (self._clock(), error)
        self._failed.move_to_end(key)
        while len(self._failed) > self._settings.entries:
            self._failed.popitem(last=False)


def _key(image: ImageReference) -> _Key | None:
    return (image.registry, image.repository, image.digest) if image.digest.startswith(_SHA256) else None
