"""What ``--source`` may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tidewaiter_runtime.refusals import BadInput

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_HUB_REVISION = re.compile(r"[A-Za-z0-9][\w./+-]*", re.ASCII)
_ALLOWED = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, https://HOST/FILE, hf://ORG/NAME[@REVISION], file:///FOLDER"
_ELSEWHERE = {
    "oci": "use an image volume, which the kubelet mounts",
    "pvc": "mount the claim, and give its folder as file://",
    "models": "give the artifact's own URI",
    "http": "use https",
}


@dataclass(frozen=True, slots=True)
class SourceUri:
    """``place`` is a bucket, a host or nothing; ``path`` has no slash in front, but for folders.

    ``shown`` is the URI without its query, which may hold a signature.
    """

    scheme: str
    place: str
    path: str
    shown: str
    url: str = ""
    revision: str = ""


def parse_source(text: str) -> SourceUri:
    """Read ``--source``; raises ``BadInput``."""
    if text.startswith("/"):
        return SourceUri("file", "", text, text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise BadInput(f"--source: found {text[:80]!r}; expected one of {_ALLOWED}")
    if scheme in _ELSEWHERE:
        raise BadInput(f"--source: {scheme}:// is not brought by this command; {_ELSEWHERE[scheme]}")
    parser = {"s3": _bucket, "gs": _bucket, "https": _web, "hf": _hub, "file": _folder}.get(scheme)
    if parser is None:
        raise BadInput(f"--source: scheme {scheme[:40]!r} is not known; expected one of {_ALLOWED}")
    return parser(scheme, rest)


def _bucket(scheme: str, rest: str) -> SourceUri:
    bucket, _, path = rest.partition("/")
    if not bucket or "@" in bucket or "?" in bucket:
        raise BadInput(f"--source: found no bucket; expected {scheme}://BUCKET/PREFIX")
    return SourceUri(scheme, bucket, path.strip("/"), f"{scheme}://{bucket}/{path.strip('/')}")


def _web(scheme: str, rest: str) -> SourceUri:
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadInput("--source: the host or port of the URL cannot be read") from None
    if not host:
        raise BadInput("--source: the URL has no host; expected https://HOST/FILE")
    if parts.username is not None or parts.password is not None:
        raise BadInput("--source: a URL must not hold a user name or password, since anybody who sees the pod reads it")
    shown = f"https://{host}{f':{port}' if port else ''}{parts.path}"
    name = unquote(parts.path.rpartition("/")[2])
    if not name:
        raise BadInput(f"--source: {shown} names no file; expected https://HOST/PATH/FILE")
    return SourceUri(scheme, host, name, shown, parts._replace(fragment="").geturl())


def _hub(scheme: str, rest: str) -> SourceUri:
    name, at, revision = rest.partition("@")
    if not _HUB_NAME.fullmatch(name) or (at and not _HUB_REVISION.fullmatch(revision)) or ".." in rest:
        raise BadInput(f"--source: found {rest[:80]!r} after hf://; expected ORG/NAME or ORG/NAME@REVISION")
    return SourceUri(scheme, "", name, f"hf://{rest}", revision=revision or "main")


def _folder(scheme: str, rest: str) -> SourceUri:
    if not rest.startswith("/"):
        raise BadInput(f"--source: found file://{rest[:80]}; expected file:///FOLDER, with three slashes")
    return SourceUri(scheme, "", rest, f"file://{rest}")
