"""Lines that no program of ours wrote are shown, passed over or blamed, and never end the command."""

from __future__ import annotations

import io
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.chain import START, Entry
from audit.checkpoint import SCHEMA as CHECKPOINT
from audit.presentation import LISTS, STATISTICS, VERIFIED, show_text
from audit.record import SCHEMA as RECORD
from audit.records import JsonLines
from audit.selection import Selection
from audit.verification import verify
from tests.audit.sealed import KEY, public, record
from tests.audit.test_chain import JSON

FIELDS = sorted(
    {*record(), "id", "replica", "sequence", "previous", "hash", "key", "signature", "reason", "patch", "injections",
     "approval", "governance", "error", "ignored"}
)  # fmt: skip
PLAUSIBLE = st.sampled_from(["p/a", "q/b", 1, 2, 3, 10**18, START, "a" * 64, "interval", "close", "retention", ["x"]])
OBJECTS = st.lists(
    st.dictionaries(st.sampled_from(["rule", "action", "path", "op", "value", "changes"]), JSON), max_size=2
)
VALUES = st.dictionaries(st.sampled_from(FIELDS), JSON | PLAUSIBLE | OBJECTS)
SCHEMAS = st.sampled_from([RECORD, CHECKPOINT])


def _lines(values: list[tuple[str, dict[str, Any]]], noise: list[bytes]) -> bytes:
    ours = [orjson.dumps({**value, "schema": schema}) for schema, value in values]
    return b"\n".join([*ours, *noise])


@given(st.lists(st.tuples(SCHEMAS, VALUES), max_size=4), st.lists(st.binary(max_size=20), max_size=2))
@settings(deadline=None)
def test_whatever_the_lines_say_every_command_gives_an_answer(
    values: list[tuple[str, dict[str, Any]]], noise: list[bytes]
) -> None:
    data = _lines(values, noise)
    found = JsonLines(io.BytesIO(data)).search(Selection(), 10)

    assert len(found) == len([schema for schema, _ in values if schema == RECORD])
    for form in LISTS.values():
        assert form(found)[:1] or not found
    for one in found:
        assert show_text(Entry(one.value, one.line)).endswith("\n")
    for count in STATISTICS.values():
        assert count(JsonLines(io.BytesIO(data)).statistics(Selection()))
    for keys in ({}, public(KEY)):
        for tell in VERIFIED.values():
            verified = verify(JsonLines(io.BytesIO(data)).entries(), keys, whole=True, uncovered=0)
            assert tell(verified)
            assert verified.all_problems or not values
