from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from registries.opening import World, open_registries
from registries.settings import RegistriesSettings

BUCKET = {"name": "b", "type": "s3", "url": "s3://models/approved"}
MLFLOW = {"name": "m", "type": "mlflow", "url": "https://mlflow.example.com", "aliases": {"champion": ["production"]}}
WEB = {"name": "w", "type": "https", "url": "https://registry.example.com"}
WANDB = {"name": "wb", "type": "wandb", "entity": "acme", "project": "wandb-registry-model", "keyFile": "key", "aliases": {"x": ["*"]}}  # fmt: skip


def read(*registries: dict[str, Any]) -> RegistriesSettings:
    return RegistriesSettings.model_validate({"registries": registries})


def test_every_kind_can_be_opened_in_the_order_that_is_declared() -> None:
    file, folder = {"name": "f", "type": "file", "path": "models.yaml"}, {"name": "d", "type": "folder", "url": "x"}
    bucket = {"name": "g", "type": "gs", "url": "gs://models"}
    chain = open_registries(read(file, BUCKET, MLFLOW, WEB, WANDB, folder, bucket), World())
    assert list(chain.by_name) == ["f", "b", "m", "w", "wb", "d", "g"]


def test_the_cluster_is_asked_only_where_there_is_one() -> None:
    with pytest.raises(ValueError, match="registry c: there is no cluster to ask here"):
        open_registries(read({"name": "c", "type": "cluster"}), World())


@pytest.mark.parametrize(
    ("registry", "problem"),
    [
        ({**WEB, "url": "http://169.254.169.254/latest"}, "is a link-local or metadata address, which is never asked"),
        ({**WEB, "url": "http://metadata.google.internal"}, "is a cloud's metadata service, which is never asked"),
        ({**WEB, "url": "https://user:pw@host"}, "a URL holds no credentials"),
        ({**WEB, "url": "ftp://host"}, "write https://HOST/PATH"),
        ({**MLFLOW, "url": "http://[fe80::1]:5000"}, "is a link-local or metadata address"),
        ({**MLFLOW, "url": "file:///etc/passwd"}, "this is not a URL with a host"),
        ({**MLFLOW, "aliases": {}}, "no alias is given, so that nothing is ever approved"),
        ({**MLFLOW, "states": {"ok": "aproved"}}, "Input should be"),
        ({**MLFLOW, "tokenFile": "t", "usernameFile": "u", "passwordFile": "p"}, "exclude each other"),
        ({**MLFLOW, "usernameFile": "u"}, "usernameFile and passwordFile go together"),
        ({**BUCKET, "endpoint": "http://169.254.169.254"}, "is a link-local or metadata address"),
        ({**BUCKET, "accessKeyFile": "a"}, "accessKeyFile and secretKeyFile go together"),
        ({**BUCKET, "role": "arn:aws:iam::1:role/x"}, "webIdentityFile goes with role"),
        ({**BUCKET, "audience": "x", "webIdentityFile": "t"}, "role is for s3 and audience for gs"),
        ({**BUCKET, "accessKeyFile": "a", "secretKeyFile": "s", "tokenFile": "t"}, "several credentials are given"),
        ({**BUCKET, "tokenEndpoint": "http://169.254.170.23"}, "is a link-local or metadata address"),
        ({**BUCKET, "region": "eu/../x"}, "String should match pattern"),
        ({**WEB, "name": "../x"}, "String should match pattern"),
        ({**WEB, "cache": {"deadlineSeconds": 0}}, "greater than 0"),
        ({**WEB, "cashe": {}}, "Extra inputs are not permitted"),
        ({"name": "x", "type": "ftp", "url": "ftp://x"}, "does not match any of the expected tags"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_with_a_reason(registry: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        read(registry)


def test_two_registries_do_not_have_one_name() -> None:
    with pytest.raises(ValidationError, match="registry 'w' stands twice"):
        read(WEB, {**BUCKET, "name": "w"})
