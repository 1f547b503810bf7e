"""The hash chain: what it proves, and what it takes."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.chain import START, Chain, Entry, canonical, hash_of
from tests.audit.sealed import KEY, chain_of, edited, lines, public, record, records_of, verified_lines

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_each_record_names_the_hash_of_the_one_before_it() -> None:
    first, second = records_of(chain_of(2))

    assert (first.value["sequence"], first.value["previous"]) == (1, START)
    assert (second.value["sequence"], second.value["previous"]) == (2, first.value["hash"])
    assert first.value["id"] == "aaaa-1"


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=5))
def test_whatever_is_in_a_record_its_line_says_it_and_hashes_to_it(records: list[dict[str, Any]]) -> None:
    chain = Chain("pod/run")
    for one in records:
        entry = chain.seal(one)
        again = Entry(orjson.loads(entry.line), entry.line)
        assert again.value == orjson.loads(orjson.dumps(entry.value))
        assert hash_of(again) == entry.value["hash"]


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=3))
def test_a_record_that_another_program_wrote_anew_is_still_the_same(records: list[dict[str, Any]]) -> None:
    chain = Chain("pod/run")
    for one in records:
        entry = chain.seal(one)
        line = json.dumps(orjson.loads(entry.line), indent=1).encode()
        assert hash_of(Entry(orjson.loads(line), line)) == entry.value["hash"]


@given(st.data())
@settings(max_examples=60)
def test_no_bit_of_a_log_can_be_flipped_unseen(data: st.DataObject) -> None:
    text = bytearray(lines(chain_of(4, every=2)))
    place = data.draw(st.integers(0, len(text) - 2).filter(lambda at: text[at] != ord("\n")))
    text[place] ^= 1 << data.draw(st.integers(0, 7))

    assert verified_lines(bytes(text), public(KEY), uncovered=0).all_problems


@pytest.mark.parametrize(
    "value", [2**70, "\ud800", {1: "a"}, {"\udfff": 1}, ("a",), b"bytes", float("nan"), -(2**64), [object]]
)
def test_nothing_that_is_no_json_keeps_a_record_out_of_the_chain(value: Any) -> None:
    chain = Chain("pod/run")
    entry = chain.seal({"uid": "u", "patch": [{"value": value}]})

    assert orjson.loads(entry.line)["uid"] == "u"
    assert hash_of(Entry(orjson.loads(entry.line), entry.line)) == entry.value["hash"]
    assert chain.sequence == 1


def test_a_record_cannot_say_its_own_place_in_the_chain() -> None:
    entry = Chain("pod/run").seal({"uid": "u", "sequence": 9, "previous": "x", "hash": "y", "replica": "z", "id": "w"})

    assert (entry.value["sequence"], entry.value["previous"], entry.value["replica"]) == (1, START, "pod/run")
    assert hash_of(Entry(orjson.loads(entry.line), entry.line)) == entry.value["hash"]


def test_an_edit_beside_a_right_hash_is_seen() -> None:
    entry = Chain("pod/run").seal(record())

    assert hash_of(edited(entry, user="eve")) != entry.value["hash"]
    assert canonical({"b": 1, "a": "ä"}) == '{"a":"ä","b":1}'.encode()
