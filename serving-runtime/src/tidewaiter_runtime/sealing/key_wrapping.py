"""Who holds the key that the key of a sealed model is wrapped with: a file, Vault, or a command.

Only wrapped keys are stored beside a model. Whoever may read the model but not its key reads nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidewaiter_runtime.input_files import read_input
from tidewaiter_runtime.preload.source_files import Interrupted
from tidewaiter_runtime.preload.web_client import WebClient, body_of
from tidewaiter_runtime.refusals import BadInput
from tidewaiter_runtime.sealing.sealed_chunks import FORMAT, KEY_BYTES, NONCE_BYTES, derived

_AAD = f"{FORMAT} key".encode()
_VAULT_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)+", re.ASCII)
_ALLOWED = "file:PATH, vault:MOUNT/KEY (Vault's transit engine) or command:PROGRAM ARGUMENTS"
_COMMAND_LIMIT_S = 60.0
_LARGEST_ANSWER = 64 << 10


class WrappingKey(Protocol):
    """Wraps the 32 bytes of a model's key. ``kind`` and ``name`` stand in the envelope, for people and sentences."""

    @property
    def kind(self) -> str:
        """``file``, ``vault`` or ``command``."""

    @property
    def name(self) -> str:
        """Which key it is; never a secret."""

    def wrap(self, key: bytes) -> bytes:
        """What is stored; raises a ``Refusal`` or ``Interrupted``."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key; raises a ``Refusal`` or ``Interrupted``."""


def wrapping_key(text: str, environment: Mapping[str, str]) -> WrappingKey:
    """Read ``--key``; raises ``BadInput``."""
    kind, separator, rest = text.partition(":")
    if kind == "file" and rest:
        return FileKey.read(Path(rest))
    if kind == "vault" and _VAULT_NAME.fullmatch(rest):
        return VaultKey.from_environment(rest, environment)
    if kind == "command" and rest.strip():
        try:
            return CommandKey(tuple(shlex.split(rest)))
        except ValueError as error:
            raise BadInput(f"--key: the command cannot be read: {error}") from None
    raise BadInput(f"--key: found {kind[:20] + separator + '...'!r}; expected {_ALLOWED}")


@dataclass(frozen=True, slots=True)
class FileKey:
    """A key of 32 bytes in a file: raw, in hexadecimal digits, or in base64."""

    key: bytes
    path: str
    kind: str = "file"

    @classmethod
    def read(cls, path: Path) -> FileKey:
        """Read the file; raises ``BadInput``."""
        found = _key_bytes(read_input(path))
        if found is None:
            raise BadInput(
                f"{path} is no key: expected 32 bytes, raw, in base64 or in 64 hexadecimal digits "
                "(head -c32 /dev/urandom | base64)"
            )
        return cls(found, str(path))

    @property
    def name(self) -> str:
        """A fingerprint, which says nothing about the key."""
        return hashlib.sha256(derived(self.key, "fingerprint")).hexdigest()[:16]

    def wrap(self, key: bytes) -> bytes:
        """See ``WrappingKey``: nonce, enciphered key, tag."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, key, _AAD)

    def unwrap(self, wrapped: bytes) -> bytes:
        """See ``WrappingKey``."""
        try:
            return AESGCM(self.key).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _AAD)
        except (InvalidTag, ValueError):
            raise BadInput(
                f"the model was sealed with another key than {self.path} (fingerprint {self.name}), or its "
                "envelope was changed"
            ) from None


def _key_bytes(content: bytes) -> bytes | None:
    if len(content) == KEY_BYTES:
        return content
    text = content.strip()
    for decode in (binascii.unhexlify, lambda one: base64.b64decode(one, validate=True)):
        try:
            found = decode(text)
        except ValueError:
            continue
        if len(found) == KEY_BYTES:
            return found
    return None


@dataclass(frozen=True, slots=True)
class VaultKey:
    """A key that never leaves Vault (or OpenBao): ``POST /v1/MOUNT/{encrypt,decrypt}/KEY`` of the transit engine."""

    name: str
    address: str
    token: str
    namespace: str
    client: WebClient
    kind: str = "vault"

    @classmethod
    def from_environment(cls, name: str, environment: Mapping[str, str]) -> VaultKey:
        """By the variables of Vault's own client, and VAULT_TOKEN_FILE for a token that is mounted."""
        address = environment.get("VAULT_ADDR", "").rstrip("/")
        if not address.startswith(("https://", "http://")):
            raise BadInput(f"--key=vault:{name}: VAULT_ADDR is {address[:80]!r}; expected https://HOST:PORT")
        token_file = environment.get("VAULT_TOKEN_FILE", "")
        token = environment.get("VAULT_TOKEN") or (_text(Path(token_file)) if token_file else "")
        if not token:
            raise BadInput(f"--key=vault:{name}: no token was given; set VAULT_TOKEN, or VAULT_TOKEN_FILE")
        client = WebClient(1, authorities=environment.get("VAULT_CACERT", ""))
        return cls(name, address, token, environment.get("VAULT_NAMESPACE", ""), client)

    def wrap(self, key: bytes) -> bytes:
        """See ``WrappingKey``: Vault's own text, ``vault:v1:...``."""
        return self._ask("encrypt", "plaintext", base64.b64encode(key).decode(), "ciphertext").encode()

    def unwrap(self, wrapped: bytes) -> bytes:
        """See ``WrappingKey``."""
        answer = self._ask("decrypt", "ciphertext", wrapped.decode("ascii", "replace"), "plaintext")
        try:
            return base64.b64decode(answer, validate=True)
        except ValueError:
            raise BadInput(f"Vault's answer for {self.name} is not base64") from None

    def _ask(self, verb: str, given: str, value: str, wanted: str) -> str:
        mount, _, key = self.name.rpartition("/")
        shown = f"{self.address}/v1/{mount}/{verb}/{key}"
        headers = {"X-Vault-Request": "true", "Content-Type": "application/json"}
        secret = {"X-Vault-Token": self.token, **({"X-Vault-Namespace": self.namespace} if self.namespace else {})}
        answer = self.client.post(shown, shown, {**headers, **secret}, json.dumps({given: value}).encode())
        try:
            found: Any = json.loads(body_of(answer, shown, _LARGEST_ANSWER))["data"][wanted]
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, str):
            raise BadInput(f"{shown}: the answer has no {wanted}; is this Vault's transit engine?")
        return found


def _text(path: Path) -> str:
    return read_input(path).decode("utf-8", "replace").strip()


@dataclass(frozen=True, slots=True)
class CommandKey:
    """A program, without a shell: a key on its standard input, the answer on its standard output.

    Its last argument is ``wrap`` or ``unwrap``. Both sides are raw bytes; what it prints to standard error is told.
    """

    command: tuple[str, ...]
    kind: str = "command"

    @property
    def name(self) -> str:
        """The program alone: arguments may hold what is nobody's business."""
        return Path(self.command[0]).name

    def wrap(self, key: bytes) -> bytes:
        """See ``WrappingKey``."""
        return self._run("wrap", key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """See ``WrappingKey``."""
        return self._run("unwrap", wrapped)

    def _run(self, verb: str, given: bytes) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603  # the operator's own command, from the pod's arguments
                [*self.command, verb], input=given, capture_output=True, timeout=_COMMAND_LIMIT_S, check=False
            )
        except OSError as error:
            raise BadInput(f"--key: {self.command[0]} cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise Interrupted(f"{self.name} {verb} did not end in {_COMMAND_LIMIT_S:.0f} seconds") from None
        if done.returncode != 0:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[-300:]
            raise BadInput(f"--key: {self.name} {verb} ended with {done.returncode}: {said or 'it said nothing'}")
        if not 0 < len(done.stdout) <= _LARGEST_ANSWER:
            raise BadInput(f"--key: {self.name} {verb} printed {len(done.stdout):,} bytes; expected a key")
        return done.stdout
