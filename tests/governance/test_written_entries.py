"""What the command line writes beside the entries of others, and when others are faster."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from admission.approval import ApprovalState
from tests.governance.objects import entry, version_of
from webhook.commands import model
from webhook.governance.connection_options import plain
from webhook.governance.objects import ConflictError, RefusedError


class _Stored:
    """A stored object that somebody else changes `conflicts` times, each time just before we write."""

    def __init__(self, obj: dict[str, Any], conflicts: int = 0) -> None:
        self.obj = obj
        self._conflicts = conflicts

    def user(self) -> str:
        return "ada"

    def get(self, _name: str, _role: str) -> dict[str, Any]:
        return copy.deepcopy(self.obj)

    def replace_status(self, obj: dict[str, Any], _role: str) -> dict[str, Any]:
        if self._conflicts:
            self._conflicts -= 1
            entries = self.obj.setdefault("status", {}).setdefault("approvals", [])
            entries.append(entry("staging", f"other-{self._conflicts}"))
            raise ConflictError("changed meanwhile")
        self.obj = obj
        return obj


def _write(stored: _Stored, *environments: str, expires: str = "") -> list[dict[str, Any]]:
    found = model._write_entries(stored, "resnet50:3", environments, ApprovalState.APPROVED, "", expires)  # type: ignore[arg-type]  # as much of Objects as is used
    return list(found["status"]["approvals"])


def test_an_entry_stands_beside_those_of_others() -> None:
    kept = [entry("staging", "sam"), entry("production", "ada"), entry("staging", "ada", "rejected", reason="late")]

    written = _write(_Stored(version_of("resnet50", "3", *kept)), "staging", expires="2090-01-01T00:00:00Z")

    assert written == [*kept[:2], entry("staging", "ada", expires="2090-01-01T00:00:00Z")]


def test_what_somebody_else_wrote_meanwhile_is_kept() -> None:
    written = _write(_Stored(version_of(), conflicts=2), "staging")

    assert [one["approver"] for one in written] == ["other-1", "other-0", "ada"]


def test_somebody_who_is_always_faster_is_told_of() -> None:
    with pytest.raises(RefusedError, match="is being changed by others all the time"):
        _write(_Stored(version_of(), conflicts=100), "staging")


def test_nothing_that_people_write_moves_the_cursor() -> None:
    assert plain("bad\x1b[2Jreason\nline") == "bad [2Jreason line"
