"""What of a model server's HTTP interface callers may use: health, metadata and inference. All else is blocked."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MODEL = re.compile(
    r"/v2/models/(?P<model>[A-Za-z0-9_.-]+)(?:/versions/(?P<version>\d{1,19}))?(?:/(?P<verb>infer|ready|config|stats))?"
)
_SERVER = frozenset(("/v2", "/v2/health/live", "/v2/health/ready"))
_HEALTH = frozenset(("/v2/health/live", "/v2/health/ready"))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One that callers may use."""

    inference: bool
    health: bool = False
    model: str = ""
    version: str = ""


def endpoint(method: str, target: str) -> Endpoint | None:
    """The endpoint of a request line; None where callers may not use it.

    The target is compared as it was sent. An escape, a query or a doubled slash is another target.
    """
    if method in ("GET", "HEAD") and target in _SERVER:
        return Endpoint(inference=False, health=target in _HEALTH)
    found = _MODEL.fullmatch(target)
    if found is None or ".." in target:
        return None
    inference = found["verb"] == "infer"
    if method != ("POST" if inference else "GET"):
        return None
    return Endpoint(inference, found["verb"] == "ready", found["model"], found["version"] or "")
