"""Resolving a registry's host, for aiohttp.

A name is resolved, every address is judged, and the connection goes to an address that was
judged: a name that points elsewhere a moment later wins nothing. The host's name still counts
for TLS.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from registries.addresses import refused_address
from registries.registry import RegistryError

LookUp = Callable[[str, int, int], Awaitable[Sequence[tuple[int, str]]]]
"""``(host, port, family) -> [(family, address), ...]``; raises ``OSError``."""


class CheckedResolver(AbstractResolver):
    """Resolves for aiohttp, and hands over only addresses that may be asked."""

    def __init__(self, registry: str, look_up: LookUp | None = None) -> None:
        self._registry = registry
        self._look_up = look_up or _system

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        """All addresses of a host, or ``RegistryError`` where one of them is refused."""
        found = await self._look_up(host, port, family)
        if any(refused_address(address) for _, address in found):
            raise RegistryError(
                f"registry {self._registry} is not asked: its host resolves to a link-local or metadata address",
                "refused-address",
            )
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=kind,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def _system(host: str, port: int, family: int) -> list[tuple[int, str]]:
    found: list[Any] = await asyncio.get_running_loop().getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return [(int(kind), str(address[0])) for kind, _, _, _, address in found]
