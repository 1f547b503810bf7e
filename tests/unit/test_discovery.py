from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType

import pytest

import mutators
import validators
from admission.discovery import DiscoveryError, discover_mutators, discover_validators

MUTATOR = """from admission.mutator import Mutator, MutatorSettings
MUTATOR = Mutator(id="{id}", order={order}, mutate=lambda pod, context, settings: (), settings=MutatorSettings)
"""
VALIDATOR = """from admission.validator import RuleSettings, Validator
VALIDATOR = Validator(id="{id}", check=lambda pod, context, settings: (), settings=RuleSettings)
"""

Make = Callable[[dict[str, str]], ModuleType]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    def package(modules: dict[str, str]) -> ModuleType:
        folder = tmp_path / "found_here"
        folder.mkdir()
        for name, text in {"__init__": "", **modules}.items():
            (folder / f"{name}.py").write_text(text)
        invalidate_caches()
        return import_module("found_here")

    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "found_here"]:
        del sys.modules[name]


def test_every_module_of_ours_has_its_constant_and_a_docstring() -> None:
    functions = [one.mutate for one in discover_mutators(mutators)] + [
        one.check for one in discover_validators(validators)
    ]
    assert len(functions) == len({function.__module__ for function in functions}) > 1
    assert all(sys.modules[function.__module__].__doc__ for function in functions)


def test_mutators_come_in_their_order(make: Make) -> None:
    package = make({"a": MUTATOR.format(id="late", order=20), "b": MUTATOR.format(id="early", order=3)})
    assert [one.id for one in discover_mutators(package)] == ["early", "late"]


def test_rules_come_by_id(make: Make) -> None:
    package = make({"a": VALIDATOR.format(id="z"), "b": VALIDATOR.format(id="y")})
    assert [one.id for one in discover_validators(package)] == ["y", "z"]


@pytest.mark.parametrize("text", ["", "VALIDATOR = 1", MUTATOR.format(id="m", order=1)])
def test_a_module_without_its_constant_is_refused(make: Make, text: str) -> None:
    with pytest.raises(DiscoveryError, match=r"found_here\.a has no constant VALIDATOR of type Validator"):
        discover_validators(make({"a": text}))


def test_an_id_that_is_given_twice_is_refused(make: Make) -> None:
    with pytest.raises(DiscoveryError, match="has same more than once"):
        discover_validators(make({"a": VALIDATOR.format(id="same"), "b": VALIDATOR.format(id="same")}))


def test_an_order_that_is_given_twice_is_refused(make: Make) -> None:
    with pytest.raises(DiscoveryError, match="has 5 more than once"):
        discover_mutators(make({"a": MUTATOR.format(id="a", order=5), "b": MUTATOR.format(id="b", order=5)}))
