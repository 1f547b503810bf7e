"""``tidewaiter-runtime input-gate``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidewaiter_runtime.input_validation.running import Address

SUMMARY = "stand before a model server and let only declared inputs through"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--rules", type=Path, required=True, help="YAML file of what inputs each model takes")
    parser.add_argument("--http", default="0.0.0.0:8080", help="listen here; 'off' for not (%(default)s)")
    parser.add_argument("--grpc", default="0.0.0.0:9000", help="listen here; 'off' for not (%(default)s)")
    parser.add_argument("--server-http", default="127.0.0.1:8000", help="the model server's HTTP (%(default)s)")
    parser.add_argument("--server-grpc", default="127.0.0.1:8001", help="the model server's gRPC (%(default)s)")
    parser.add_argument("--certificate", type=Path, help="PEM file; with --key, both listeners speak TLS")
    parser.add_argument("--key", type=Path, help="PEM file")
    parser.add_argument("--callers-ca", type=Path, help="PEM file; callers must have a certificate of this authority")
    parser.add_argument("--observations", type=Path, help="Unix socket of the exporter; lost where nobody listens")
    parser.add_argument(
        "--drain", type=float, default=30.0, metavar="SECONDS", help="for requests under way at the end"
    )
    parser.add_argument("--check", action="store_true", help="read the rules, say what is wrong, and end")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from tidewaiter_runtime.refusals import BadInput

    try:
        from tidewaiter_runtime.input_validation.rules_file import read_rules
        from tidewaiter_runtime.input_validation.running import Listening, Tls, run
    except ModuleNotFoundError as error:
        raise BadInput(f"{error.name} is not installed; pip install 'tidewaiter-runtime[input-validation]'") from None

    rules = read_rules(options.rules)
    if rules.caller.source == "certificate" and not options.callers_ca:
        raise BadInput("caller.from is certificate; give --certificate, --key and --callers-ca")
    if bool(options.certificate) != bool(options.key) or (options.callers_ca and not options.certificate):
        raise BadInput("--certificate and --key belong together, and --callers-ca needs them")
    if options.check:
        print(f"{options.rules}: {len(rules.models)} models: {', '.join(rules.models)}")
        return
    listening = Listening(
        _address(options.http, "--http"),
        _address(options.grpc, "--grpc"),
        _needed(options.server_http, "--server-http"),
        _needed(options.server_grpc, "--server-grpc"),
        Tls(options.certificate, options.key, options.callers_ca) if options.certificate else None,
        options.observations,
        options.drain,
    )
    if listening.http is None and listening.grpc is None:
        raise BadInput("--http and --grpc are both off; nothing would listen")
    run(rules, listening)


def _address(text: str, option: str) -> Address | None:
    return None if text == "off" else _needed(text, option)


def _needed(text: str, option: str) -> Address:
    from tidewaiter_runtime.input_validation.running import Address
    from tidewaiter_runtime.refusals import BadInput

    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput(f"{option}: found {text[:60]!r}; expected HOST:PORT")
    return Address(host.strip("[]"), int(port))
