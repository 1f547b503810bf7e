"""Makes the page that the settings ask for."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from audit.checkpoint import load_public_keys, load_signer
from webhook.access_review import AccessReviews, AskCluster
from webhook.page.access import Access, ClusterAccess, LocalAccess
from webhook.page.app import Page, namespace_names
from webhook.page.decision import Keys
from webhook.page.facts import Facts
from webhook.page.identity import ClusterVisibility, ReviewToken, TokenReviews
from webhook.page.live import Streams
from webhook.page.reading import Reading, opener
from webhook.page.sessions import OneTimeToken, Sessions
from webhook.page.settings import PageAuth
from webhook.settings import Settings


def open_page(settings: Settings, facts: Facts, ask: AskCluster | None, review: ReviewToken | None) -> Page:
    """The page; ``ask`` and ``review`` are a cluster's. Raises ``ValueError`` with a sentence."""
    page = settings.page
    reading = Reading(opener(settings.audit))
    if page.auth is PageAuth.LOCAL and page.token_file is not None:
        access: Access = _local(page.token_file)
    elif ask is None or review is None:
        raise ValueError(
            "page: there is no cluster that knows who reads; give --kubeconfig or --in-cluster, or set page.auth: local"
        )
    else:
        visibility = ClusterVisibility(AccessReviews(ask), lambda: namespace_names(reading))
        access = ClusterAccess(TokenReviews(review), visibility)
    return Page(
        reading=reading,
        access=access,
        facts=facts,
        keys=_keys(settings),
        sessions=Sessions(page.session_minutes * 60),
        streams=Streams(),
        secure=page.certificate is not None,
    )


def _local(path: Path) -> LocalAccess:
    token = OneTimeToken(used=lambda: path.unlink(missing_ok=True))
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        # Made anew, so that nobody holds it open from before, and for the eyes of this user alone.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token.value + "\n")
    except OSError as error:
        raise ValueError(f"page.tokenFile {path} cannot be written: {error.strerror}") from None
    return LocalAccess(token)


def _keys(settings: Settings) -> Keys:
    if settings.page.public_keys:
        return load_public_keys(settings.page.public_keys)
    return load_signer(settings.audit.signing_key).public_keys
