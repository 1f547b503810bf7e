"""The certificate that the webhook shows: the settings' own, or one made at start for local use."""

from __future__ import annotations

import contextlib
import logging
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from webhook.settings import ServerSettings
from webhook.tls import make_certificates, server_context

_LOG = logging.getLogger("tidewaiter")


@contextlib.contextmanager
def serving_certificate(server: ServerSettings, folder: Path | None) -> Iterator[ssl.SSLContext]:
    """The settings' certificate, or one made now: in ``folder``, else in one that goes with the process."""
    if server.certificate is not None and server.key is not None:
        yield server_context(server.certificate, server.key, server.client_ca)
        return
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidewaiter-")))
        folder.mkdir(parents=True, exist_ok=True)
        files = make_certificates(folder, server.service, server.namespace)
        _LOG.warning("made a certificate for local use; clients trust it by %s", files.ca)
        yield server_context(files.certificate, files.key, server.client_ca)
