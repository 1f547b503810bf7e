"""One ModelVersion object, read: names, standings, and what is not believed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.approval import ApprovalState
from registries.model_version import UnreadableObjectError, approval_of, object_name, read_model_version
from tests.governance.objects import entry, version_of

_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_WORDS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,80}[A-Za-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("model", "version", "name"),
    [
        ("resnet50", "3", "resnet50--3"),
        ("bert-base", "1.2.0", "bert-base--1.2.0"),
        ("meta-llama/Llama-3", "1", "meta-llama-llama-3-1---"),
        ("a--b", "1", "a-b-1---"),
        ("x" * 200, "1", "x" * 60 + "---"),
    ],
)
def test_a_name_is_readable_and_carries_a_hash_only_where_it_must(model: str, version: str, name: str) -> None:
    found = object_name(model, version)
    assert found == name if not name.endswith("---") else re.fullmatch(re.escape(name) + "[0-9a-f]{16}", found)


@given(_WORDS, _WORDS)
def test_every_name_is_a_dns_subdomain(model: str, version: str) -> None:
    found = object_name(model, version)
    assert _DNS_SUBDOMAIN.fullmatch(found)
    assert len(found) <= 253


_CLOSE = st.from_regex(r"[aA][-./]{0,2}[bB]?[-./]{0,3}1?", fullmatch=True)


@given(_CLOSE, _CLOSE, _CLOSE, _CLOSE)
def test_two_versions_never_share_a_name(model: str, version: str, other: str, of_other: str) -> None:
    assert ((model, version) == (other, of_other)) == (object_name(model, version) == object_name(other, of_other))


APPROVED, REJECTED, REVOKED, PROPOSED = (
    ApprovalState.APPROVED, ApprovalState.REJECTED, ApprovalState.REVOKED, ApprovalState.PROPOSED,
)  # fmt: skip
YEAR, LATER = "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("entries", "required", "state", "approvers", "expires"),
    [
        ([], {}, PROPOSED, (), None),
        ([entry("production", "ada")], {}, APPROVED, ("ada",), None),
        ([entry("production", "ada", expires=YEAR)], {}, APPROVED, ("ada",), YEAR),
        ([entry("production", "ada")], {"production": 2}, PROPOSED, ("ada",), None),
        ([entry("production", "ada")], {"*": 2}, PROPOSED, ("ada",), None),
        ([entry("production", "ada"), entry("staging", "tom")], {"production": 2}, PROPOSED, ("ada",), None),
        ([entry("production", "ada"), entry("production", "tom")], {"production": 2}, APPROVED, ("ada", "tom"), None),
        # It holds for as long as enough of them do.
        ([entry("production", "ada", expires=YEAR), entry("production", "tom")], {"production": 2}, APPROVED, ("ada", "tom"), YEAR),
        ([entry("production", "ada", expires=YEAR), entry("production", "tom", expires=LATER)], {}, APPROVED, ("ada", "tom"), LATER),
        # The proposer's own approval, should one ever be there, does not count.
        ([entry("production", "mia")], {}, PROPOSED, (), None),
        ([entry("production", "mia"), entry("production", "ada")], {"production": 2}, PROPOSED, ("ada",), None),
        ([entry("production", "ada"), entry("production", "tom", "rejected")], {}, REJECTED, ("tom",), None),
        ([entry("production", "ada", "revoked"), entry("production", "tom", "rejected")], {}, REVOKED, ("ada",), None),
    ],
)  # fmt: skip
def test_where_a_version_stands(
    entries: list[dict[str, Any]], required: dict[str, int], state: ApprovalState, approvers: tuple[str, ...],
    expires: str | None,
) -> None:  # fmt: skip
    found = read_model_version(version_of("resnet50", "3", *entries)).standing("production", required)

    assert (found.state, found.approvers) == (state, approvers)
    assert found.expires == (None if expires is None else datetime.fromisoformat(expires))


def test_without_an_environment_the_first_expiry_of_any_holds() -> None:
    read = read_model_version(
        version_of("resnet50", "3", entry("staging", "sam", expires=YEAR), entry("production", "ada", expires=LATER))
    )

    found = approval_of(read, {})

    assert found.environments == ("production", "staging")
    assert found.expires == datetime(2027, 1, 1, tzinfo=UTC)
    assert found.seen_from("production").expires == datetime(2028, 1, 1, tzinfo=UTC)
    assert found.approvers == ("ada", "sam")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"metadata": {"name": "other"}}, "ModelVersion other: resnet50:3 stands in resnet50--3 and nowhere else"),
        ({"spec": {"version": "3"}}, "spec.model and spec.version are required"),
        ({"spec": {"model": "resnet50", "version": "3", "proposedBy": "mia", "digest": "md5:1"}}, "'md5:1' is not sha256"),
        ({"spec": {"model": "resnet50", "version": "3", "digest": "sha256:" + "a" * 64}}, "spec.proposedBy is missing"),
        ({"status": {"approvals": [entry("staging", "sam", "fine")]}}, "state 'fine' is unknown"),
        ({"status": {"approvals": [entry("staging", "sam", expires="soon")]}}, "'soon' is not a time"),
    ],
)  # fmt: skip
def test_what_was_not_reviewed_is_not_believed(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnreadableObjectError, match=re.escape(sentence)):
        read_model_version({**version_of(), **change})
