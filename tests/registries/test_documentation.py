"""Every example of docs/registries.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
import yaml

from admission.approval import Approval, ApprovalState
from registries.cache import UNREACHED
from registries.file import FileRegistry
from registries.manifest import Manifest
from registries.settings import BreakerSettings, CacheSettings, RegistriesSettings

PAGE = (Path(__file__).parents[2] / "docs" / "registries.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def block(language: str, word: str) -> str:
    return next(text for kind, text in BLOCKS if kind == language and word in text)


def test_the_settings_are_settings() -> None:
    settings = RegistriesSettings.model_validate(yaml.safe_load(block("yaml", "registries:")))
    assert [one.name for one in settings.registries] == ["ml-platform", "archive"]


def test_the_manifest_is_an_approval() -> None:
    manifest = Manifest.model_validate(orjson.loads(block("json", "approvals")))
    assert manifest.approval().state is ApprovalState.APPROVED


def test_the_file_is_a_registry(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(block("yaml", "models:\n"))
    assert isinstance(FileRegistry(tmp_path / "models.yaml").lookup("team-a/bert", "7"), Approval)


@pytest.mark.parametrize("field", [*CacheSettings.model_fields])
def test_every_setting_of_the_cache_is_told_with_its_default(field: str) -> None:
    described = CacheSettings.model_fields[field]
    default = "" if described.default is None else f"{described.default:g}"
    assert re.search(rf"^\| `{described.alias}` \| {default} ?\|", PAGE, re.MULTILINE), (described.alias, default)


def test_the_stated_time_of_a_revocation_and_the_breakers_numbers_are_those_of_the_settings() -> None:
    cache, breaker = CacheSettings(), BreakerSettings()
    seen = cache.fresh_seconds + cache.revalidate_seconds + cache.deadline_seconds
    assert f"({seen:g} s)" in PAGE
    assert f"`breaker.failures` ({breaker.failures})" in PAGE
    assert f"`breaker.waitSeconds` ({breaker.wait_seconds:g})" in PAGE
    assert f"`breaker.longestWaitSeconds` ({breaker.longest_wait_seconds:g})" in PAGE


@pytest.mark.parametrize("cause", sorted(UNREACHED - {"internal"}))
def test_every_cause_that_counts_for_the_breaker_is_in_the_table(cause: str) -> None:
    assert f"| `{cause}` |" in PAGE
