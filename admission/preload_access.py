"""What a preloader needs to reach the source as the server would: variables, and the files that they point at.

Fields: the servers' ``env`` and ``volumeMounts``.

A variable is copied as it stands, so that a reference to a Secret stays one. A variable that
names a file brings the volume of that file with it, read-only. Where the server has it at a
place of the image's own, ours gets it below ``/run`` instead, and the variable says so:
an author's volume must never lie over what runs in ours.

Whoever writes the pod chooses these variables, and some choose whom the preloader believes:
another hub, another authority for TLS. The approved digest stands behind them. Where none is
approved they are not copied.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from admission.pod import Container

FILE_VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""Variables whose value is the path of a file or folder."""
OTHER_SERVERS = ("HF_ENDPOINT", "MLFLOW_TRACKING_URI")
"""Variables that name the server of a source which names none itself."""
BELIEVED = (*OTHER_SERVERS, "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that decide whose bytes count as the source's. ``AWS_ENDPOINT_URL`` is not among them, as
for servers (``admission.redirected_loads``): the platform's own store is named so as often."""
ACCESS_VARIABLES = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_ENDPOINT",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""What ``tidewaiter-runtime preload`` reads to reach a source."""
OUR_FOLDER = "/run/tidewaiter"
"""Where our container has volumes other than the model's."""
MOVED_TO = f"{OUR_FOLDER}/access"
HARMLESS_MOUNTS = ("/run/", "/tmp/", "/etc/ssl/", "/etc/pki/", "/etc/podinfo/")  # noqa: S108  # nothing is written there
"""Places where volumes are mounted into every container, and no code of the image lies."""
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


@dataclass(slots=True)
class Access:
    """``env`` and ``mounts`` of the preloader, as in a container's spec."""

    env: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)


def access_of(servers: Iterable[Container], names: Iterable[str], *, verified: bool) -> Access:
    """What the servers have of these variables; of two with one name the first counts.

    ``verified``: a digest is approved, so that it does not matter who answers.
    """
    wanted = {name for name in names if verified or name not in BELIEVED}
    access, known = Access(), set[str]()
    for server in servers:
        for entry in server.spec.get("env") or ():
            name = entry.get("name")
            if name in wanted and name not in known:
                known.add(name)
                access.env.append(_reachable(dict(entry), server, access))
    return access


def _reachable(entry: dict[str, Any], server: Container, access: Access) -> dict[str, Any]:
    """The variable, with the volume of the file that it names."""
    path = entry.get("value")
    if entry["name"] not in FILE_VARIABLES or not isinstance(path, str) or not path.startswith("/"):
        return entry
    path = posixpath.normpath(path)
    mount = covering_mount(server, path)
    if mount is None or mount.get("subPathExpr"):
        return entry
    inside = str(mount["mountPath"]).rstrip("/")
    place = inside if _harmless(inside) else f"{MOVED_TO}/{_NOT_IN_NAMES.sub('-', entry['name'].lower())}"
    ours = {"name": mount.get("name"), "mountPath": place, "readOnly": True}
    if mount.get("subPath"):
        ours["subPath"] = mount["subPath"]
    if not any(one["mountPath"] == place for one in access.mounts):
        access.mounts.append(ours)
    return {**entry, "value": place + path[len(inside) :]} if place != inside else entry


def covering_mount(server: Container, path: str) -> Mapping[str, Any] | None:
    """The innermost mount that covers a path."""
    found: Mapping[str, Any] | None = None
    for mount in server.spec.get("volumeMounts") or ():
        at = str(mount.get("mountPath") or "").rstrip("/")
        covers = at and (path == at or path.startswith(f"{at}/"))
        if covers and (found is None or len(at) > len(str(found["mountPath"]).rstrip("/"))):
            found = mount
    return found


def real_folder(path: str) -> str:
    """A folder as it is found, with a slash at its end: in images ``/var/run`` leads to ``/run``."""
    whole = posixpath.normpath(f"/{path.lstrip('/')}").rstrip("/") + "/"
    return whole.removeprefix("/var") if whole.startswith("/var/run/") else whole


def _harmless(path: str) -> bool:
    """Whether it may stay where it is; ours below ``/run`` has a place that nothing may lie over."""
    whole, ours = real_folder(path), f"{OUR_FOLDER}/"
    if whole.startswith(ours) or ours.startswith(whole):
        return False
    return whole.startswith(HARMLESS_MOUNTS) and posixpath.normpath(path) == path
