"""The command line of ``tritonserver``, from what is declared and what the server knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidewaiter_runtime.triton.model_repository_spec import Cache, RepositorySpec

RESTRICTED = ("shared-memory", "model-repository", "trace", "logging")
"""What lets a client change the server, or name memory on its machine."""
_QUANTILES = "0.5:0.05,0.95:0.001,0.99:0.001"
_MIB = 1 << 20


@dataclass(frozen=True)
class Listening:
    """Where the server listens."""

    http_port: int
    grpc_port: int
    metrics_port: int
    address: str = ""
    """For all three; empty: every address."""


@dataclass(frozen=True)
class Served:
    """What the server is started with."""

    program: Path
    repository: Path
    listening: Listening
    mode: str
    """``none``: all models of the repository; ``explicit``: ``models`` alone."""
    models: Sequence[str]
    exit_timeout: int
    restricted_key: str
    """Name and value of the header that opens the restricted interfaces, as ``name=value``."""
    backend_directory: Path | None = None
    cache_directory: Path | None = None
    spec: RepositorySpec | None = None
    more: Sequence[str] = field(default=())


def build_flags(served: Served, known: str) -> list[str]:
    """The command. ``known`` is what the server's ``--help`` prints: older servers lack some flags.

    Triton reads boolean flags only in the form ``--flag=value``.
    """
    listening = served.listening
    command = [str(served.program), f"--model-repository={served.repository}"]
    command += [f"--http-port={listening.http_port}", f"--grpc-port={listening.grpc_port}"]
    command += [f"--metrics-port={listening.metrics_port}"]
    if listening.address:
        command += [f"--{one}-address={listening.address}" for one in ("http", "grpc", "metrics")]
    command += [f"--model-control-mode={served.mode}"]
    if served.mode == "explicit":
        command += [f"--load-model={name}" for name in served.models]
    command += ["--exit-on-error=true", "--strict-readiness=true", "--disable-auto-complete-config"]
    command += [f"--exit-timeout-secs={served.exit_timeout}"]
    command += ["--metrics-config", "summary_latencies=true", "--metrics-config", f"summary_quantiles={_QUANTILES}"]
    interfaces = ",".join(RESTRICTED)
    command += [f"--http-restricted-api={interfaces}:{served.restricted_key}"]
    command += [f"--grpc-restricted-protocol={interfaces}:{served.restricted_key}"]
    if "--allow-client-shm" in known:
        command += ["--allow-client-shm=false"]
    if served.backend_directory:
        command += [f"--backend-directory={served.backend_directory}"]
    if served.cache_directory:
        command += [f"--cache-directory={served.cache_directory}"]
    if served.spec is not None:
        command += _of_spec(served.spec)
    return [*command, *served.more]


def _of_spec(spec: RepositorySpec) -> list[str]:
    flags = _cache(spec.cache) if spec.cache else []
    if any(model.rate_limiter for model in spec.models):
        flags += ["--rate-limit=execution_count"]
        flags += [f"--rate-limit-resource={name}:{count}" for name, count in sorted(spec.resources.items())]
    return flags


def _cache(cache: Cache) -> list[str]:
    if cache.local:
        return [f"--cache-config=local,size={cache.local.megabytes * _MIB}"]
    assert cache.redis is not None  # noqa: S101  # the spec has one of the two
    # Credentials come by TRITONCACHE_REDIS_USERNAME and _PASSWORD: a command line is no place for them.
    settings = {
        "host": cache.redis.host,
        "port": cache.redis.port,
        "connect_timeout": cache.redis.timeout_milliseconds,
        "socket_timeout": cache.redis.timeout_milliseconds,
        "pool_size": cache.redis.connections,
    }
    return [f"--cache-config=redis,{key}={value}" for key, value in settings.items()]
