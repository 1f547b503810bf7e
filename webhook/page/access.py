"""Who a request is from, and what its sender may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request

from webhook.page.identity import ClusterVisibility, Identity, TokenReviews, Visible
from webhook.page.sessions import OneTimeToken, Session, Sessions

_BEARER = "bearer "
LOCAL = Identity("local")


@dataclass(frozen=True, slots=True)
class Reader:
    """Whoever reads, and what they may see."""

    identity: Identity
    visible: Visible


class Access(Protocol):
    """What lets readers in."""

    one_time: OneTimeToken | None

    async def of_token(self, token: str) -> Reader | None:
        """The reader with this token of the cluster; None for nobody."""

    async def of_session(self, session: Session) -> Reader | None:
        """The reader of a session, as of now; None where the cluster does not know them any more."""


class ClusterAccess:
    """By the cluster's tokens and roles."""

    def __init__(self, tokens: TokenReviews, visibility: ClusterVisibility) -> None:
        self.one_time: OneTimeToken | None = None
        self._tokens = tokens
        self._visibility = visibility

    async def of_token(self, token: str) -> Reader | None:
        """By TokenReview and SubjectAccessReview."""
        identity = await self._tokens.identity(token)
        if identity is None:
            return None
        return Reader(identity, await self._visibility.visible(identity))

    async def of_session(self, session: Session) -> Reader | None:
        """The same, for the token that the session began with."""
        return await self.of_token(session.token)


class LocalAccess:
    """By a token that is good once; for a page on this machine alone."""

    def __init__(self, one_time: OneTimeToken) -> None:
        self.one_time: OneTimeToken | None = one_time

    async def of_token(self, _token: str) -> Reader | None:
        """There is no cluster whose tokens would count."""
        return None

    async def of_session(self, _session: Session) -> Reader | None:
        """Whoever is at this machine sees everything."""
        return Reader(LOCAL, Visible(None))


async def reader_of(request: Request, access: Access, sessions: Sessions, cookie: str) -> Reader | None:
    """By the Authorization header, where there is one, else by the cookie; None for nobody."""
    header = request.headers.get("authorization", "")
    if header:
        return await access.of_token(header[len(_BEARER) :].strip()) if header.lower().startswith(_BEARER) else None
    name = request.cookies.get(cookie, "")
    session = sessions.find(name) if name else None
    if session is None:
        return None
    reader = await access.of_session(session)
    if reader is None:
        sessions.end(name)
    return reader
