"""Four kinds of registry as one small server plays them: MLflow's, W&B's, S3's and a plain web server's answers.

What is played is the least that ``lookup`` asks for; the real servers have tests of their own.
Versions below 100 are approved for production.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from tests.registries.http_server import Reply, Request, reply

KINDS = ("https", "mlflow", "s3", "wandb")
_KNOWN_BELOW = 100


def model_of(kind: str) -> str:
    """The model that the registry of one kind knows."""
    return f"{kind}-model"


def version_of(kind: str, number: int) -> str:
    """A version's name, in that registry's own words."""
    return f"v{number}" if kind == "wandb" else str(number)


def source_of(kind: str, number: int) -> str:
    """The source that the registry of one kind names; a manifest of ours need not name one."""
    if kind == "wandb":
        return f"wandb-artifact://acme/wandb-registry-model/{model_of(kind)}:v{number}"
    return "s3://artifacts/1" if kind == "mlflow" else ""


def played_settings(kind: str, url: str, folder: Path, **more: Any) -> dict[str, Any]:
    """The registry of one kind at ``url``, asked about its own model only; credentials lie in ``folder``."""
    for name in ("key", "secret"):
        (folder / name).write_text("0123456789abcdef\n", encoding="utf-8")
    own: dict[str, dict[str, Any]] = {
        "https": {"url": url},
        "mlflow": {"url": url, "aliases": {"champion": ["production"]}},
        "s3": {
            "url": "s3://approved/manifests",
            "endpoint": url,
            "region": "eu-central-1",
            "accessKeyFile": "key",
            "secretKeyFile": "secret",
        },
        "wandb": {
            "url": url,
            "entity": "acme",
            "project": "wandb-registry-model",
            "keyFile": "key",
            "aliases": {"production": ["production"]},
        },
    }
    return {"name": f"the-{kind}", "type": kind, "models": [model_of(kind)], **own[kind], **more}


def good(request: Request) -> Reply:
    """What a registry of the kind that this request is for says."""
    place = urlsplit(request.target)
    if place.path == "/graphql":
        return _wandb(request)
    if place.path.startswith("/api/2.0/mlflow/"):
        return _mlflow(place.path.rpartition("/")[2], {name: one[0] for name, one in parse_qs(place.query).items()})
    *_, model, version, _ = unquote(place.path).split("/")
    if not _known(version):
        return reply(b"<Error><Code>NoSuchKey</Code></Error>", "404 Not Found")
    approvals = [{"environment": "production", "approvers": ["ann"]}]
    manifest = {"format": 1, "model": model, "version": version, "state": "approved", "approvals": approvals}
    return reply(orjson.dumps(manifest))


def _mlflow(what: str, asked: dict[str, str]) -> Reply:
    if what == "get-download-uri":
        return reply(orjson.dumps({"artifact_uri": "s3://artifacts/1"}))
    if what == "search" or not _known(asked["version"]):
        return reply(orjson.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST"}), "404 Not Found")
    version = {"name": asked["name"], "version": asked["version"], "aliases": ["champion"]}
    return reply(orjson.dumps({"model_version": version}))


def _wandb(request: Request) -> Reply:
    model, _, version = orjson.loads(request.body)["variables"]["name"].partition(":")
    member = {
        "versionIndex": int(version.removeprefix("v")),
        "aliases": [{"alias": "production"}],
        "artifactCollection": {"name": model},
        "artifact": {"id": "QQ==", "state": "COMMITTED"},
    }
    found = member if _known(version.removeprefix("v")) else None
    return reply(orjson.dumps({"data": {"project": {"artifactCollectionMembership": found}}}))


def _known(version: str) -> bool:
    return version.isdigit() and int(version) < _KNOWN_BELOW
