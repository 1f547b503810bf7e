"""Settings of the page over decision records."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel


class PageAuth(StrEnum):
    """Who may read the page."""

    CLUSTER = "cluster"
    LOCAL = "local"


class PageSettings(BaseModel):
    """The page over decision records, on a port of its own."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True, alias_generator=to_camel
    )

    enabled: bool = False
    """Whether there is a page; it shows what audit.path or audit.postgres keeps."""
    address: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8081, ge=0, le=65535)
    """Port to listen on."""
    certificate: Path | None = None
    """PEM file with the certificate chain; unset: plain HTTP, which only an address of this machine may have."""
    key: Path | None = None
    """PEM file with the certificate's key."""
    auth: PageAuth = PageAuth.CLUSTER
    """Who may read: whoever the cluster knows by a token and lets get decisions.tidewaiter.dev, or,
    local, whoever has the one-time token that is made at start."""
    token_file: Path | None = None
    """With local: file that the one-time token is written to, and that is removed once it was used."""
    session_minutes: int = Field(default=480, ge=1, le=10080)
    """How long a login lasts."""
    public_keys: tuple[Path, ...] = ()
    """PEM files of the keys that sign checkpoints; unset: the key of audit.signingKey."""

    @model_validator(mode="after")
    def _goes_together(self) -> PageSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; give both, or neither for plain HTTP on this machine")
        if not self.enabled:
            return self
        here = _of_this_machine(self.address)
        if self.certificate is None and not here:
            raise ValueError(
                f"tokens must not cross a network in plain text: give certificate and key, or address 127.0.0.1 "
                f"in place of {self.address}"
            )
        if (self.auth is PageAuth.LOCAL) != (self.token_file is not None):
            raise ValueError("auth local and tokenFile go together; give both, or neither")
        if self.auth is PageAuth.LOCAL and not here:
            raise ValueError(f"auth local is for this machine alone; give address 127.0.0.1 in place of {self.address}")
        return self


def _of_this_machine(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
