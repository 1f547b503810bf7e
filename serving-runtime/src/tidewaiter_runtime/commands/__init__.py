"""The commands of ``tidewaiter-runtime``, one module for each.

A module has ``SUMMARY`` and ``add_arguments(parser)``, which also says ``parser.set_defaults(run=...)``.
A new module is a new command; its name is the module's, with hyphens for underscores.
Packages that not everybody installs are imported only once the command runs: every module is loaded for --help.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
    """The commands by name."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of one command."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
