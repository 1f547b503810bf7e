"""Who reads, and what of it they may see: as the cluster says, asked again every little while."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from webhook.access_review import AccessQuestion, AccessReviews

GROUP, RESOURCE, VERB = "tidewaiter.dev", "decisions", "get"
"""What a Role grants to whoever may read the decisions of a namespace. Nobody ever sends such a
request: the page only asks whether it would be allowed."""
_LOG = logging.getLogger("tidewaiter.page")
_FRESH_SECONDS = 30.0
_REVIEW_SECONDS = 5.0
_REMEMBERED = 2_000
_ASKED_AT_ONCE = 2
MOST_NAMESPACES = 1_000
LONGEST_TOKEN = 16_384


@dataclass(frozen=True, slots=True)
class Identity:
    """A user as the cluster knows them."""

    username: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Visible:
    """The namespaces whose decisions a user may see; None: all, and what belongs to no namespace."""

    namespaces: frozenset[str] | None

    def __contains__(self, namespace: object) -> bool:
        return self.namespaces is None or (namespace != "" and namespace in self.namespaces)

    @property
    def everything(self) -> bool:
        """Whether nothing is hidden."""
        return self.namespaces is None


ReviewToken = Callable[[str], Identity | None]
"""Asks the API server by TokenReview; blocks, and raises whatever went wrong."""
NamesOfNamespaces = Callable[[], Awaitable[list[str]]]
"""The namespaces that there are decisions of."""


class CannotAskError(Exception):
    """The cluster did not answer; the text is a sentence."""


class TokenReviews:
    """The cluster's answers about tokens, each remembered for half a minute. Tokens themselves are not."""

    def __init__(self, review: ReviewToken, clock: Callable[[], float] = time.monotonic) -> None:
        self._review = review
        self._clock = clock
        self._answers: OrderedDict[bytes, tuple[float, Identity | None]] = OrderedDict()
        # Whoever tries tokens out must not keep the API server busy.
        self._turn = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def identity(self, token: str) -> Identity | None:
        """Who the token is of; None for nobody. Raises ``CannotAskError``."""
        if not token or len(token) > LONGEST_TOKEN or not token.isascii() or not token.isprintable():
            return None
        key = hashlib.sha256(token.encode()).digest()
        known = self._answers.get(key)
        if known is not None and self._clock() - known[0] < _FRESH_SECONDS:
            return known[1]
        try:
            async with asyncio.timeout(_REVIEW_SECONDS), self._turn:
                answer = await asyncio.to_thread(self._review, token)
        except Exception as error:
            _LOG.warning("a token could not be reviewed: %s", type(error).__name__)
            raise CannotAskError("The cluster does not answer who this token is of. Try again in a moment.") from error
        self._answers[key] = self._clock(), answer
        self._answers.move_to_end(key)
        while len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        return answer


class ClusterVisibility:
    """What a user may see: one question for the whole cluster, else one for each namespace with decisions."""

    def __init__(
        self, reviews: AccessReviews, names: NamesOfNamespaces, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reviews = reviews
        self._names = names
        self._clock = clock
        self._answers: OrderedDict[Identity, tuple[float, Visible]] = OrderedDict()
        # Reviews of pods ask through the same threads, and must not wait behind somebody's page.
        self._turn = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def visible(self, identity: Identity) -> Visible:
        """As the cluster says now, or said half a minute ago at most."""
        known = self._answers.get(identity)
        if known is not None and self._clock() - known[0] < _FRESH_SECONDS:
            return known[1]
        visible = await self._asked(identity)
        self._answers[identity] = self._clock(), visible
        self._answers.move_to_end(identity)
        while len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        return visible

    async def _asked(self, identity: Identity) -> Visible:
        if await self._may(identity, ""):
            return Visible(None)
        names = [name for name in await self._names() if name]
        allowed = await asyncio.gather(*(self._may(identity, name) for name in names))
        return Visible(frozenset(name for name, may in zip(names, allowed, strict=True) if may))

    async def _may(self, identity: Identity, namespace: str) -> bool:
        question = AccessQuestion(identity.username, identity.groups, VERB, GROUP, RESOURCE, namespace)
        async with self._turn:
            # None is no answer, and gives no leave.
            return await self._reviews.allowed(question) is True
