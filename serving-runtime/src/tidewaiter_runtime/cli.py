"""The command line of ``tidewaiter-runtime``; each command is a module of ``tidewaiter_runtime.commands``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from tidewaiter_runtime import commands, termination_message
from tidewaiter_runtime.refusals import Refusal

_EXIT_CODES = """\
exit codes: 0 done; 1 the model is not what was expected; 2 an argument cannot be used;
3 the signature is not accepted; 4 the storage or the source does not answer, or is full;
5 the model server failed
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except Refusal as refusal:
        message = f"tidewaiter-runtime {options.command}: {refusal}"
        print(message, file=sys.stderr)
        termination_message.leave(message, options.termination_log)
        sys.exit(refusal.exit_code)
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidewaiter-runtime", epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=_version())
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands.names():
        module = commands.load(name)
        command = choices.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY,
            epilog=_EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument(
            "--termination-log", type=Path, default=termination_message.DEFAULT, help="file for the reason of a failure"
        )
    return parser


def _version() -> str:
    try:
        return version("tidewaiter-runtime")
    except PackageNotFoundError:  # run from its sources
        return "unknown"
