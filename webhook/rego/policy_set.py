"""A set of policies: Rego modules, what their metadata says, and their data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from admission.validator import PolicyError, PolicyRule
from webhook.rego.data_file import read_data
from webhook.rego.metadata import rule_of
from webhook.rego.regorus_engine import RegorusEngine
from webhook.rego.regorus_error import sentence

TEST_SUFFIX = "_test.rego"
_REGO = ".rego"
_DATA_FILES = ("data.yaml", "data.yml", "data.json")
_ROOT = "data.tidewaiter."
_LIBRARY = "data.lib."
_READS_RULES = re.compile(r"\bdata(\.tidewaiter\b|\[)")
_GROUP = 24
_DEEPEST = 40
_MAX_FILES = 2_000
_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PolicyModule:
    """One Rego file.

    ``package`` is its name below ``data.tidewaiter`` (``host_access``); a library has
    none and no ``rule``. ``syntax`` is regorus's tree of it.
    """

    path: str
    text: str
    package: str
    rule: PolicyRule | None
    syntax: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def query(self) -> str:
        """The rule that is evaluated."""
        return f"{_ROOT}{self.package}.findings"


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Modules, tests and data of one source; ``revision`` is a hash of their content."""

    source: str
    modules: tuple[PolicyModule, ...]
    tests: Mapping[str, str]
    data: dict[str, Any]
    revision: str

    @property
    def rules(self) -> dict[str, PolicyRule]:
        """The rules by id."""
        return {one.rule.id: one.rule for one in self.modules if one.rule is not None}

    @property
    def queries(self) -> dict[str, str]:
        """What to evaluate, by rule id."""
        return {one.rule.id: one.query for one in self.modules if one.rule is not None}

    def groups(self) -> list[PolicySet]:
        """The set in parts that are evaluated apart, each with every library.

        An evaluation in regorus costs more the more modules its engine has: in one engine
        the cost of a review would grow with the square of the rules. Rules that read each
        other stay together.
        """
        rules = [one for one in self.modules if one.rule is not None]
        libraries = [one for one in self.modules if one.rule is None]
        if any(_READS_RULES.search(one.text) for one in self.modules):
            return [self]
        parts = [rules[start : start + _GROUP] for start in range(0, len(rules), _GROUP)]
        return [replace(self, modules=(*libraries, *part)) for part in parts]

    def module(self, rule: str) -> PolicyModule:
        """The module of a rule that exists."""
        return next(one for one in self.modules if one.rule is not None and one.rule.id == rule)


def policy_set(source: str, files: Mapping[str, bytes]) -> PolicySet:
    """The policies in ``files`` (content by path); raises ``PolicyError`` with every problem of every file."""
    if len(files) > _MAX_FILES or sum(map(len, files.values())) > _MAX_BYTES:
        raise PolicyError(
            f"policies of {source} are too big: at most {_MAX_FILES} files of {_MAX_BYTES >> 20} MiB together"
        )
    texts = {path: _text(path, content) for path, content in sorted(files.items()) if is_policy_file(path)}
    tests = {path: text for path, text in texts.items() if path.endswith(TEST_SUFFIX)}
    rego = {path: text for path, text in texts.items() if path.endswith(_REGO) and path not in tests}
    if not rego:
        raise PolicyError(f"{source} has no .rego file; give a folder, ConfigMap or bundle of policies")
    modules, problems = _modules(rego)
    problems += _twice(modules)
    try:
        data = merged_data({path: text for path, text in texts.items() if not path.endswith(_REGO)})
    except PolicyError as error:
        data = {}
        problems.append(str(error))
    if not problems and not any(one.rule for one in modules):
        problems.append(f"{source} has no rule: every package is a library; write one in package tidewaiter.my_rule")
    if problems:
        raise PolicyError("\n".join(problems))
    content = json.dumps([(path, text) for path, text in texts.items() if path not in tests])
    revision = hashlib.sha256(content.encode()).hexdigest()[:12]
    return PolicySet(source, tuple(modules), tests, data, revision)


def is_policy_file(path: str) -> bool:
    """Whether a file is Rego or data."""
    return path.endswith(_REGO) or PurePosixPath(path).name in _DATA_FILES


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None


def _modules(rego: Mapping[str, str]) -> tuple[list[PolicyModule], list[str]]:
    modules, problems = [], []
    for path, text in rego.items():
        try:
            modules.append(_module(path, text))
        except PolicyError as error:
            problems.append(str(error))
    return modules, problems


def _module(path: str, text: str) -> PolicyModule:
    package, syntax = parsed(path, text)
    if package.startswith(_LIBRARY):
        return PolicyModule(path, text, "", None, syntax)
    name = package.removeprefix(_ROOT)
    if name == package or not all(part.isidentifier() for part in name.split(".")):
        raise PolicyError(
            f"{path}:{syntax['package']['span']['line']}: package {package.removeprefix('data.')} is neither a rule "
            "nor a library; use package tidewaiter.my_rule, or package lib.my_library"
        )
    if not any("findings" in _head_names(rule) for rule in syntax["rules"]):
        raise PolicyError(
            f"{path}:{syntax['package']['span']['line']}: package tidewaiter.{name} has no set `findings`; "
            "write `findings contains finding if { ... }`"
        )
    return PolicyModule(path, text, name, rule_of(path, text), syntax)


def parsed(path: str, text: str) -> tuple[str, dict[str, Any]]:
    """The package (with ``data.``) and syntax tree of one file."""
    _check_depth(path, text)
    held = RegorusEngine()
    try:
        package: str = held.engine.add_policy(path, text)
        tree: dict[str, Any] = json.loads(held.engine.get_ast_as_json())[0]["ast"]
    except Exception as error:  # noqa: BLE001  # regorus raises plain exceptions
        raise PolicyError(sentence(error)) from None
    return package, tree


def _check_depth(path: str, text: str) -> None:
    """Refuse deep nesting: the parser takes exponential time over it."""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        for character in line:
            depth += (character in "([{") - (character in ")]}")
            if depth > _DEEPEST:
                raise PolicyError(f"{path}:{number}: brackets are nested more than {_DEEPEST} deep; split the rule")


def _head_names(rule: Mapping[str, Any]) -> list[str]:
    head: Mapping[str, Any] = next(iter((rule.get("Spec") or {}).get("head", {}).values()), {})
    name = (head.get("refr") or {}).get("Var", {}).get("value")
    return [name] if isinstance(name, str) else []


def rule_names(syntax: Mapping[str, Any]) -> list[str]:
    """The names of a module's rules, each once."""
    return list(dict.fromkeys(name for rule in syntax["rules"] for name in _head_names(rule)))


def _twice(modules: Iterable[PolicyModule]) -> list[str]:
    problems, ids, packages = [], dict[str, str](), dict[str, str]()
    for one in modules:
        if one.rule is None:
            continue
        for seen, key, what in ((ids, one.rule.id, "rule id"), (packages, one.package, "package")):
            if key in seen:
                problems.append(f"{one.path}: {what} {key} stands in {seen[key]} too; rename one")
            seen.setdefault(key, one.path)
    return problems


def merged_data(texts: Mapping[str, str]) -> dict[str, Any]:
    """Data files merged as OPA does: each below its folder's name; two values of one key are refused."""
    merged: dict[str, Any] = {}
    for path, text in texts.items():
        value = read_data(path, text)
        if not isinstance(value, dict):
            raise PolicyError(f"{path}: data must be a mapping, found {type(value).__name__}")
        for folder in reversed(PurePosixPath(path).parts[:-1]):
            value = {folder: value}
        _merge(merged, value, path, "data")
    if "tidewaiter" in merged:
        raise PolicyError("data.tidewaiter is where the rules stand; give the data another name")
    return merged


def _merge(into: dict[str, Any], value: Mapping[str, Any], path: str, place: str) -> None:
    for key, one in value.items():
        here = f"{place}.{key}"
        if isinstance(into.get(key), dict) and isinstance(one, dict):
            _merge(into[key], one, path, here)
        elif key in into:
            raise PolicyError(f"{path}: {here} is set in another data file too; keep one")
        else:
            into[key] = one
