"""Kubeconfig files."""

import base64
import json
from pathlib import Path

from tests.controlplane.certificates import KeyPair


def base64_of(path: Path) -> str:
    """The file's content as Kubernetes writes it in `...-data` and `caBundle` fields."""
    return base64.b64encode(path.read_bytes()).decode("ascii")


def write_kubeconfig(path: Path, server: str, authority: Path, user: str, pair: KeyPair) -> Path:
    """A kubeconfig (JSON, which is YAML) with everything inside; returns `path`."""
    cluster = {"server": server, "certificate-authority-data": base64_of(authority)}
    credentials = {
        "client-certificate-data": base64_of(pair.certificate),
        "client-key-data": base64_of(pair.key),
    }
    name = "tidewaiter"
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(configuration, indent=2))
    return path
