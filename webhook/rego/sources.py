"""Where policies come from: a folder, a ConfigMap, or an OPA bundle."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from admission.validator import PolicyError
from webhook.rego.bundle import bundle_files
from webhook.rego.bundle_signature import verify_bundle
from webhook.rego.policy_set import PolicySet, is_policy_file, policy_set


class PolicySource(Protocol):
    """Something that policies are read from; both calls may block."""

    name: str

    def stamp(self) -> Hashable:
        """Something that differs after a change; never raises."""

    def read(self) -> PolicySet:
        """The policies as they are now; raises ``PolicyError``."""


def built_in_policies() -> Path:
    """The folder of the policies that come with Tidewaiter."""
    return Path(str(files("policies").joinpath("data.yaml"))).parent


class FolderSource:
    """A folder and those below it. Hidden entries are passed over, as the kubelet's are in a mounted ConfigMap."""

    def __init__(self, folder: Path) -> None:
        self.name = f"folder {folder}"
        self._folder = folder

    def stamp(self) -> Hashable:
        """Paths, sizes and times of the files that count."""
        try:
            return tuple(
                (str(path), about.st_mtime_ns, about.st_size, about.st_ino)
                for path in self._paths()
                for about in [path.stat()]
            )
        except OSError as error:
            return (type(error).__name__, error.errno)

    def read(self) -> PolicySet:
        """Every ``.rego`` and data file."""
        try:
            if not self._folder.is_dir():
                raise PolicyError(f"{self.name} is no folder; give one of .rego files (settings: policies.directory)")
            found = {path.relative_to(self._folder).as_posix(): path.read_bytes() for path in self._paths()}
        except OSError as error:
            raise PolicyError(f"policies in {self.name} cannot be read: {error.strerror}: {error.filename}") from None
        return policy_set(self.name, found)

    def _paths(self) -> list[Path]:
        paths: list[Path] = []
        for folder, folders, names in os.walk(self._folder):
            folders[:] = [one for one in folders if not one.startswith(".")]
            paths += [Path(folder, one) for one in names if not one.startswith(".") and is_policy_file(one)]
        return sorted(paths)


def policies_of_config_map(name: str, data: Mapping[str, str]) -> PolicySet:
    """The policies in a ConfigMap's ``data``; a key is a file name, ``a__b.rego`` stands for ``a/b.rego``."""
    found = {key.replace("__", "/"): text.encode() for key, text in data.items()}
    return policy_set(f"ConfigMap {name}", found)


class ConfigMapSource:
    """A ConfigMap that somebody else watches and hands over."""

    def __init__(self, name: str) -> None:
        self.name = f"ConfigMap {name}"
        self._config_map = name
        self._data: Mapping[str, str] | None = None
        self._turn = 0

    def put(self, data: Mapping[str, str] | None) -> None:
        """The ConfigMap's ``data`` as it is now; None where there is no such ConfigMap."""
        if data != self._data:
            self._data, self._turn = data, self._turn + 1

    def stamp(self) -> Hashable:
        """Grows with each change."""
        return self._turn

    def read(self) -> PolicySet:
        """The policies that were handed over last."""
        if self._data is None:
            raise PolicyError(f"{self.name} does not exist; create it with the policies as its data")
        return policies_of_config_map(self._config_map, self._data)


class BundleSource:
    """An OPA bundle, a ``.tar.gz``; with ``public_key`` (PEM) only a signed one is taken."""

    def __init__(self, path: Path, public_key: Path | None = None) -> None:
        self.name = f"bundle {path}"
        self._path = path
        self._public_key = public_key

    def stamp(self) -> Hashable:
        """Size and time of the bundle and of the key."""
        stamps: list[Hashable] = []
        for path in (self._path, self._public_key):
            try:
                about = path.stat() if path is not None else None
                stamps.append((about.st_mtime_ns, about.st_size, about.st_ino) if about is not None else None)
            except OSError as error:
                stamps.append(error.errno)
        return tuple(stamps)

    def read(self) -> PolicySet:
        """The bundle's policies, once its signature is found good."""
        try:
            content = self._path.read_bytes()
            key = self._public_key.read_bytes() if self._public_key is not None else None
        except OSError as error:
            raise PolicyError(f"{self.name} cannot be read: {error.strerror}: {error.filename}") from None
        found = bundle_files(self.name, content)
        if key is not None:
            verify_bundle(self.name, found, key)
        return policy_set(self.name, {path: text for path, text in found.items() if is_policy_file(path)})


def policy_source(path: Path | None, public_key: Path | None = None) -> PolicySource:
    """A bundle where ``path`` is a file, a folder otherwise; without it, what comes with Tidewaiter."""
    if path is None:
        return FolderSource(built_in_policies())
    if path.suffix in (".gz", ".tgz") or path.is_file():
        return BundleSource(path, public_key)
    return FolderSource(path)
