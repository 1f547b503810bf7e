"""Credentials from files, read again when they change: tokens are short-lived, keys are rotated."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from registries.http_client import Sent
from registries.registry import RegistryError
from registries.stamps import stamp

_MAX_BYTES = 64 * 1024


class SecretFile:
    """One secret in one file, without the white space around it."""

    def __init__(self, registry: str, path: Path) -> None:
        self._registry = registry
        self._path = path
        self._stamp: object = None
        self._value = ""

    def read(self) -> str:
        """The secret as it is now; raises ``RegistryError``."""
        try:
            found = stamp(self._path)
            if found != self._stamp:
                with self._path.open("rb") as file:
                    self._value = file.read(_MAX_BYTES).decode().strip()
                self._stamp = found
        except (OSError, UnicodeDecodeError) as error:
            self._stamp = None
            raise self._error("cannot be read") from error
        if not self._value or not self._value.isprintable():
            raise self._error("is empty or holds more than one line")
        return self._value

    def _error(self, what: str) -> RegistryError:
        return RegistryError(
            f"registry {self._registry} is not asked: its credential file {self._path.name} {what}", "credentials"
        )


class Bearer:
    """Authorizes by a token."""

    def __init__(self, token: SecretFile) -> None:
        self._token = token

    async def __call__(self, _sent: Sent) -> Mapping[str, str]:
        """The header."""
        return {"authorization": f"Bearer {self._token.read()}"}


class Basic:
    """Authorizes by user name and password."""

    def __init__(self, username: SecretFile | str, password: SecretFile) -> None:
        self._username = username
        self._password = password

    async def __call__(self, _sent: Sent) -> Mapping[str, str]:
        """The header."""
        username = self._username if isinstance(self._username, str) else self._username.read()
        pair = base64.b64encode(f"{username}:{self._password.read()}".encode()).decode()
        return {"authorization": f"Basic {pair}"}
