"""Finding mutators and rules: one module each, no list to edit."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from admission.mutator import Mutator
from admission.validator import Validator


class DiscoveryError(Exception):
    """Two modules share an id, or a module lacks its constant."""


def discover_mutators(package: ModuleType) -> tuple[Mutator[Any], ...]:
    """All ``MUTATOR`` constants of a package's modules, in order of application."""
    found = [_constant(module, "MUTATOR", Mutator) for module in _modules(package)]
    _refuse_duplicates([mutator.id for mutator in found], package)
    _refuse_duplicates([str(mutator.order) for mutator in found], package)
    return tuple(sorted(found, key=lambda mutator: mutator.order))


def discover_validators(package: ModuleType) -> tuple[Validator[Any], ...]:
    """All ``VALIDATOR`` constants of a package's modules, by id."""
    found = [_constant(module, "VALIDATOR", Validator) for module in _modules(package)]
    _refuse_duplicates([validator.id for validator in found], package)
    return tuple(sorted(found, key=lambda validator: validator.id))


def _modules(package: ModuleType) -> list[ModuleType]:
    return [
        importlib.import_module(f"{package.__name__}.{entry.name}")
        for entry in sorted(pkgutil.iter_modules(package.__path__), key=lambda entry: entry.name)
    ]


def _constant(module: ModuleType, name: str, kind: type[Any]) -> Any:
    value = getattr(module, name, None)
    if not isinstance(value, kind):
        raise DiscoveryError(f"module {module.__name__} has no constant {name} of type {kind.__name__}; add one")
    return value


def _refuse_duplicates(names: list[str], package: ModuleType) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DiscoveryError(f"package {package.__name__} has {', '.join(twice)} more than once; rename one")
