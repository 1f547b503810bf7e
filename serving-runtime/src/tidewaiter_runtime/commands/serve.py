"""``tidewaiter-runtime serve``."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from tidewaiter_runtime.commands.configure import read_spec, require_packages
from tidewaiter_runtime.input_files import read_input
from tidewaiter_runtime.refusals import BadInput, ServerEnded, listed

if TYPE_CHECKING:
    from tidewaiter_runtime.triton.serve_flags import Served

SUMMARY = "check the container, and run tritonserver as its first process does"
_HEADER = "tidewaiter-restricted"
_ALLOWANCES = ("root", "writable-root", "small-shm")
_ENDED_UNREADY = 128 + signal.SIGTERM
"""Triton handles SIGTERM once it is ready; before, the signal ends it."""
_HELP_LIMIT_S = 60
_UNLOAD_S = 10
"""What Triton may take to unload its models after the requests have ended; seen: 2 to 3 s."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--repository", type=Path, required=True, help="folder with a folder for each model")
    parser.add_argument("--spec", type=Path, help="what configure was given: cache and rate limiter come from it")
    parser.add_argument("--model", action="append", default=[], help="serve this one and no other; may be repeated")
    parser.add_argument("--program", default="tritonserver", help="the server; looked for in PATH")
    parser.add_argument("--backend-directory", type=Path, help="where the server's backends are, if not in its place")
    parser.add_argument("--cache-directory", type=Path, help="where its caches are, if not in its place")
    parser.add_argument("--http-port", type=_port, default=8000, help="V2 protocol over HTTP")
    parser.add_argument("--grpc-port", type=_port, default=8001, help="V2 protocol over gRPC")
    parser.add_argument("--metrics-port", type=_port, default=8002, help="Prometheus metrics")
    parser.add_argument("--health-port", type=_port, default=8003, help="/startup, /ready and /live for probes")
    parser.add_argument("--address", default="", help="address to listen on; unset: all")
    parser.add_argument("--drain-seconds", type=_seconds, default=10, help="go on serving so long after SIGTERM")
    parser.add_argument("--exit-seconds", type=_seconds, default=30, help="then wait so long for running requests")
    parser.add_argument("--restricted-key-file", type=Path, help="opens what is restricted; unset: nobody can")
    parser.add_argument("--allow", choices=_ALLOWANCES, action="append", default=[], help="what may be otherwise")
    parser.add_argument("--print-command", action="store_true", help="print the server's command, and do not start it")
    parser.add_argument("more", nargs="*", metavar="-- FLAG", help="further flags for tritonserver, after --")
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> None:
    require_packages()
    from tidewaiter_runtime.triton.first_process import signals_held

    with signals_held():
        _run(options)


def _run(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.triton.first_process import run_as_first_process
    from tidewaiter_runtime.triton.health_endpoint import Health, health_endpoint
    from tidewaiter_runtime.triton.serve_flags import build_flags

    program = shutil.which(options.program)
    if program is None:
        raise BadInput(f"--program: {options.program} is not a program in PATH; this image has no tritonserver")
    _check(options)
    served = _served(options, Path(program))
    command = build_flags(served, _help(program))
    if options.print_command:
        print("\n".join(_without_key(one, served.restricted_key) for one in command))
        return
    health = Health(options.http_port, options.address)

    def drain() -> float:
        was_ready = health.answer("/ready")[0] == HTTPStatus.OK
        health.draining.set()
        seconds: int = options.drain_seconds if was_ready else 0
        _tell(f"not ready any more; the server goes on for {seconds} s, then ends what runs")
        return seconds

    try:
        with health_endpoint(health, options.health_port, options.address):
            _tell(f"starting {program} over {options.repository}")
            status = run_as_first_process(
                command,
                os.environ,
                drain=drain,
                kill_seconds=options.exit_seconds + _UNLOAD_S,
            )
    except OSError as error:
        raise BadInput(f"--health-port {options.health_port}: {error.strerror}") from None
    if status == _ENDED_UNREADY and health.draining.is_set():
        _tell("tritonserver has ended before it served anything")
        return
    if status != 0 and health.draining.is_set():
        raise ServerEnded(
            f"requests or connections were still open {options.exit_seconds} s after the drain, and were cut "
            f"(tritonserver ended with status {status}); give --exit-seconds as long as a request may take"
        )
    if status != 0:
        raise ServerEnded(f"tritonserver ended with status {status}; its log above says why")
    _tell("tritonserver has ended")


def _check(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.triton import serve_checks
    from tidewaiter_runtime.triton.gpu import read_gpus

    configs = serve_checks.read_repository(options.repository, options.model)
    problems = [
        *serve_checks.container_problems(
            serve_checks.look_around(), options.allow, serve_checks.python_instances(configs)
        ),
        *serve_checks.gpu_problems(configs, read_gpus(os.environ)),
    ]
    if problems:
        raise BadInput(listed(problems))


def _served(options: argparse.Namespace, program: Path) -> Served:
    from tidewaiter_runtime.triton.serve_flags import Listening, Served

    return Served(
        program=program,
        repository=options.repository,
        listening=Listening(options.http_port, options.grpc_port, options.metrics_port, options.address),
        mode="explicit" if options.model else "none",
        models=options.model,
        exit_timeout=options.exit_seconds,
        restricted_key=f"{_HEADER}={_key(options.restricted_key_file)}",
        backend_directory=options.backend_directory,
        cache_directory=options.cache_directory,
        spec=read_spec(options.spec) if options.spec else None,
        more=options.more,
    )


def _key(path: Path | None) -> str:
    """The value of the header; one that nobody knows where none was given."""
    if path is None:
        return secrets.token_urlsafe(32)
    key = read_input(path).decode("ascii", "replace").strip()
    if len(key) < 16 or not key.isprintable() or set(key) & set(" ,=:"):
        raise BadInput(f"{path}: expected 16 or more printable ASCII characters without space, comma, colon and =")
    return key


def _without_key(flag: str, key: str) -> str:
    return flag.replace(key.partition("=")[2], "...")


def _help(program: str) -> str:
    try:
        asked = subprocess.run(  # noqa: S603  # the program that is going to be run
            [program, "--help"], capture_output=True, text=True, timeout=_HELP_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"{program} --help does not answer: {error}") from None
    return asked.stdout + asked.stderr


def _tell(line: str) -> None:
    print(f"tidewaiter-runtime serve: {line}", file=sys.stderr, flush=True)


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"found {text[:20]!r}; expected a port from 1 to 65535")
    return int(text)


def _seconds(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 3600:
        raise argparse.ArgumentTypeError(f"found {text[:20]!r}; expected whole seconds from 0 to 3600")
    return int(text)
