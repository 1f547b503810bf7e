"""Logins: an opaque cookie, and what it stands for in this process's memory."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MOST = 1_000


@dataclass(frozen=True, slots=True)
class Session:
    """``token`` is the cluster's, to be reviewed again and again; "" for the local user."""

    token: str
    ends: float


class Sessions:
    """A thousand at most; one more ends the oldest. ``seconds`` is how long each lasts."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def begin(self, token: str) -> str:
        """A new session; returns what the cookie holds."""
        name = secrets.token_urlsafe(32)
        self._sessions[_key(name)] = Session(token, self._clock() + self._seconds)
        while len(self._sessions) > _MOST:
            self._sessions.popitem(last=False)
        return name

    def find(self, name: str) -> Session | None:
        """The session of a cookie, while it lasts."""
        session = self._sessions.get(_key(name))
        if session is not None and session.ends <= self._clock():
            self.end(name)
            return None
        return session

    def end(self, name: str) -> None:
        """Forget a session."""
        self._sessions.pop(_key(name), None)


class OneTimeToken:
    """A token that is good for one login; ``used`` is called when it was."""

    def __init__(self, used: Callable[[], None] = lambda: None) -> None:
        self.value = secrets.token_urlsafe(24)
        self._used = used
        self._spent = False

    def take(self, given: str) -> bool:
        """Whether this is the token, and the first time that it is given."""
        if self._spent or not hmac.compare_digest(given.encode(), self.value.encode()):
            return False
        self._spent = True
        self._used()
        return True


def _key(name: str) -> bytes:
    # Neither how long a comparison takes nor a dump of memory tells a cookie.
    return hashlib.sha256(name.encode()).digest()
