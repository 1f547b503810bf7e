"""Asks the API server whose token this is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from webhook.page.identity import Identity, ReviewToken

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_SECONDS = 4


def token_reviewer(api: ApiClient) -> ReviewToken:
    """By TokenReview, for tokens whose audience is the API server itself."""
    from kubernetes.client import AuthenticationV1Api

    reviews = AuthenticationV1Api(api)

    def review(token: str) -> Identity | None:
        body: Any = {"spec": {"token": token}}
        status = reviews.create_token_review(body, _request_timeout=_SECONDS).status
        user = status.user if status is not None and status.authenticated else None
        if user is None or not user.username:
            return None
        return Identity(user.username, tuple(user.groups or ()))

    return review
