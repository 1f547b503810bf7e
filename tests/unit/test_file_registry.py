from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from admission.approval import Approval, ApprovalState, NotFound, Unavailable
from registries.file import FileRegistry

GOOD = """
models:
  - name: llama
    versions:
      - {version: "1", state: approved, environments: [production], expires: 2026-12-31}
      - {version: "2", state: revoked}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "models.yaml", GOOD)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_version_of_the_file_is_an_approval(path: Path) -> None:
    assert FileRegistry(path).lookup("llama", "1") == Approval(
        model="llama",
        version="1",
        state=ApprovalState.APPROVED,
        environments=("production",),
        expires=datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("written", "end"),
    [
        ("2026-01-02", datetime(2026, 1, 2, 23, 59, 59, 999999, tzinfo=UTC)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
    ],
)
def test_a_date_ends_with_its_day_and_a_time_without_a_zone_is_utc(path: Path, written: str, end: datetime) -> None:
    answer = FileRegistry(write(path, GOOD.replace("2026-12-31", written))).lookup("llama", "1")
    assert isinstance(answer, Approval)
    assert answer.expires == end


def test_an_unknown_version_is_told_which_are_known(path: Path) -> None:
    registry = FileRegistry(path)
    assert registry.lookup("llama", "9") == NotFound(("1", "2"))
    assert registry.lookup("nobody", "1") == NotFound(())


def test_the_file_is_read_again_when_it_changes_and_only_then(path: Path) -> None:
    registry = FileRegistry(path)
    assert registry.refresh() is False
    write(path, GOOD.replace("state: revoked", "state: approved"))
    assert registry.refresh() is True
    answer = registry.lookup("llama", "2")
    assert isinstance(answer, Approval)
    assert answer.state is ApprovalState.APPROVED


def test_a_file_that_is_replaced_by_renaming_is_read_again(path: Path) -> None:
    registry = FileRegistry(path)
    before = path.stat()
    other = write(path.with_name("new.yaml"), GOOD.replace("llama", "other"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert registry.refresh() is True
    assert isinstance(registry.lookup("other", "1"), Approval)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models: [", "models.yaml:2: this is not YAML"),
        (GOOD.replace("state: revoked", "state: maybe"), "models.yaml:6: models[0].versions[1].state: "),
        (GOOD.replace("version: \"2\"", "versoin: \"2\""), "models.yaml:6: models[0].versions[1].versoin: unknown key; allowed are "),
        (GOOD.replace("version: \"2\"", "version: \"1\""), "models.yaml: version llama:1 stands twice"),
        (GOOD.replace("2026-12-31", "2026-02-31"), "models.yaml: a value cannot be read: day is out of range for month"),
        (GOOD.replace("2026-12-31", "soon"), "models.yaml:5: "),
        (GOOD + "models: []\n", "models.yaml:7: key 'models' was given already on line 2"),
        (GOOD.replace("state: revoked", "digest: sha256:abc, state: revoked"), "a digest is sha256: and 64 hexadecimal digits, found 'sha256:abc'"),
        (GOOD.replace("state: revoked", "state: !!python/name:os.system x"), "models.yaml:6: this is not YAML"),
        (GOOD.replace("state: revoked", "{[a]: b}"), "models.yaml:6: "),
        ("[]", "models.yaml:1: this is no mapping"),
        ("a: &a [*a]", "models.yaml:1: "),
    ],
)  # fmt: skip
def test_a_broken_file_keeps_the_last_good_one_and_says_why(path: Path, text: str, reason: str) -> None:
    registry = FileRegistry(path)
    write(path, text)
    assert registry.refresh() is True
    assert reason in registry.problem
    assert isinstance(registry.lookup("llama", "1"), Approval)
    assert registry.refresh() is False
    write(path, GOOD)
    registry.refresh()
    assert registry.problem == ""


def test_a_file_that_was_never_good_answers_with_the_reason(path: Path) -> None:
    answer = FileRegistry(write(path, "models: [")).lookup("llama", "1")
    assert isinstance(answer, Unavailable)
    assert "this is not YAML" in answer.reason


def test_a_file_that_goes_away_and_comes_back_is_good_again(path: Path) -> None:
    registry = FileRegistry(path)
    path.rename(path.with_name("away"))
    assert registry.refresh() is True
    assert "cannot be read" in registry.problem
    assert isinstance(registry.lookup("llama", "1"), Approval)
    path.with_name("away").rename(path)
    assert registry.refresh() is True
    assert registry.problem == ""


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "models.yaml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    registry = FileRegistry(path)
    assert "cannot be read" in registry.problem
    assert isinstance(registry.lookup("llama", "1"), Unavailable)


def test_an_empty_file_knows_nothing(path: Path) -> None:
    registry = FileRegistry(write(path, ""))
    assert registry.lookup("llama", "1") == NotFound(())
    assert registry.problem == ""
