"""What ``--source`` may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tidewaiter_runtime.refusals import BadInput

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_HUB_REVISION = re.compile(r"[A-Za-z0-9][\w./+-]*", re.ASCII)
_IMAGE = re.compile(
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?|\[[0-9A-Fa-f:]+\](?::\d{1,5})?)/"
    r"(?P<repository>[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_MLFLOW = ("models", "runs", "mlflow-artifacts")
_ALLOWED = (
    "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, https://HOST/FILE, hf://ORG/NAME[@REVISION], "
    "oci://HOST/REPOSITORY[:TAG][@sha256:...], models:/NAME/VERSION, runs:/RUN/PATH, file:///FOLDER"
)
_ELSEWHERE = {
    "pvc": "mount the claim, and give its folder as file://",
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
    reference, colon, path = text.partition(":/")
    if colon and reference in _MLFLOW:
        return _of_mlflow(reference, path)
    if not separator:
        raise BadInput(f"--source: found {text[:80]!r}; expected one of {_ALLOWED}")
    if scheme in _ELSEWHERE:
        raise BadInput(f"--source: {scheme}:// is not brought by this command; {_ELSEWHERE[scheme]}")
    parsers = {"s3": _bucket, "gs": _bucket, "https": _web, "hf": _hub, "oci": _image, "file": _folder}
    parser = parsers.get(scheme)
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


def _image(scheme: str, rest: str) -> SourceUri:
    found = _IMAGE.fullmatch(rest)
    if found is None:
        raise BadInput(
            f"--source: found {rest[:120]!r} after oci://; expected HOST/REPOSITORY[:TAG][@sha256:...], "
            "with the registry's host in front"
        )
    revision = found["digest"] or found["tag"] or "latest"
    return SourceUri(scheme, found["host"], found["repository"], f"oci://{rest}", revision=revision)


def _of_mlflow(scheme: str, rest: str) -> SourceUri:
    path = rest.strip("/") if scheme != "mlflow-artifacts" else rest
    if not path.strip("/") or ".." in path.split("/"):
        raise BadInput(f"--source: found {scheme}:/{rest[:80]}; expected models:/NAME/VERSION or runs:/RUN/PATH")
    return SourceUri(scheme, "", path, f"{scheme}:/{path}")
