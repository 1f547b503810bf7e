"""Tampering is found, the first bad record is named, and what cannot be known is not claimed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from audit.chain import Chain, Entry
from audit.checkpoint import CLOSE, RETENTION, Reach, Signer
from audit.compression import Codec
from audit.sqlite_store import SqliteStore
from tests.audit.sealed import (
    KEY,
    NOW,
    OTHER_KEY,
    chain_of,
    edited,
    lines,
    public,
    record,
    records_of,
    stored,
    verified_file,
    verified_lines,
)

Tamper = Callable[[list[Entry]], list[Entry]]


def test_an_untouched_log_is_intact_and_says_how_far_it_is_covered() -> None:
    verified = verified_lines(lines(chain_of(25)), public(KEY), uncovered=0)

    assert (verified.all_problems, verified.records, verified.signatures) == ((), 25, 3)
    assert (verified.chains[0].covered, verified.chains[0].closed) == (25, True)


def test_chains_of_several_processes_may_be_mixed() -> None:
    one, two = chain_of(9, "a/1"), chain_of(9, "b/2")
    mixed = [entry for pair in zip(one, two, strict=True) for entry in pair]

    assert not verified_lines(lines(mixed), public(KEY)).all_problems


def _index(entries: list[Entry], sequence: int) -> int:
    return next(
        at for at, one in enumerate(entries) if one.value["sequence"] == sequence and "signature" not in one.value
    )


def _edit(entries: list[Entry]) -> list[Entry]:
    at = _index(entries, 7)
    entries[at] = edited(entries[at], user="eve")
    return entries


def _delete(entries: list[Entry]) -> list[Entry]:
    del entries[_index(entries, 7)]
    return entries


def _swap(entries: list[Entry]) -> list[Entry]:
    at = _index(entries, 7)
    entries[at], entries[at + 1] = entries[at + 1], entries[at]
    return entries


def _repeat(entries: list[Entry]) -> list[Entry]:
    entries.insert(_index(entries, 7), entries[_index(entries, 6)])
    return entries


def _begin_later(entries: list[Entry]) -> list[Entry]:
    return entries[_index(entries, 3) :]


def _cut_before_checkpoint(entries: list[Entry]) -> list[Entry]:
    """The last records are gone, and the checkpoints after them stayed."""
    return [one for one in entries if "signature" in one.value or one.value["sequence"] < 15]


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (_edit, "record aaaa-7 (7 of pod-1/aaaa) was edited"),
        (_delete, "record aaaa-8 (8 of pod-1/aaaa) comes after record 6: record 7 is missing"),
        (_swap, "record aaaa-8 (8 of pod-1/aaaa) comes after record 6"),
        (_repeat, "record aaaa-6 (6 of pod-1/aaaa) comes after record 6: it is there twice"),
        (_begin_later, "record aaaa-3 (3 of pod-1/aaaa) is the first of its chain: records 1 to 2 are missing"),
        (_cut_before_checkpoint, "record 15 of pod-1/aaaa is missing: a checkpoint says that there were 25 records"),
    ],
)  # fmt: skip
def test_tampering_is_found_and_the_first_bad_record_is_named(tamper: Tamper, named: str) -> None:
    (problem,) = verified_lines(lines(tamper(chain_of(25))), public(KEY)).all_problems

    assert problem.startswith(named)


def test_a_log_cut_off_after_its_last_checkpoint_is_not_said_to_have_ended() -> None:
    """Nothing can tell that from a process that died; the report says so instead of claiming more."""
    entries = chain_of(25)
    cut = entries[: _index(entries, 23)]

    verified = verified_lines(lines(cut), public(KEY), uncovered=5)

    assert not verified.all_problems
    assert (verified.chains[0].last, verified.chains[0].covered, verified.chains[0].closed) == (22, 20, False)
    assert verified_lines(lines(cut), public(KEY), uncovered=1).all_problems


def test_checkpoints_from_another_place_show_that_the_end_was_cut_off_with_its_checkpoints() -> None:
    entries = chain_of(25)
    kept_elsewhere = [one for one in entries if "signature" in one.value]
    cut = entries[: _index(entries, 13)]

    assert not verified_lines(lines(cut), public(KEY)).all_problems
    (problem,) = verified_lines(lines([*kept_elsewhere, *cut]), public(KEY)).all_problems
    assert "record 13 of pod-1/aaaa is missing" in problem


def test_swapped_records_of_two_chains_are_found() -> None:
    one, two = chain_of(5, "a/1", key=None), chain_of(5, "b/2", key=None)
    moved = edited(one[2], replica="b/2")
    other = edited(two[2], replica="a/1")

    problems = verified_lines(lines([*one[:2], other, *one[3:], *two[:2], moved, *two[3:]])).all_problems

    assert len(problems) == 2
    assert all("was edited" in one for one in problems)


def test_a_chain_written_anew_with_right_hashes_contradicts_its_checkpoints() -> None:
    genuine = chain_of(12, every=5)
    forged = Chain("pod-1/aaaa")
    records = [forged.seal({**record(number), "user": "eve"}) for number in range(1, 13)]
    checkpoints = [one for one in genuine if "signature" in one.value]

    (problem,) = verified_lines(lines([*records, *checkpoints]), public(KEY)).all_problems

    assert "up to 5 are not those that were signed" in problem


@pytest.mark.parametrize("named_as", ["its own", "the genuine"])
def test_a_checkpoint_of_another_key_is_not_believed(named_as: str) -> None:
    entries = chain_of(4, key=OTHER_KEY)
    if named_as == "the genuine":
        entries[-1] = edited(entries[-1], key=next(iter(public(KEY))))

    (problem,) = verified_lines(lines(entries), public(KEY)).all_problems

    assert "the checkpoint at record 4 of pod-1/aaaa is not genuine" in problem


def test_an_unsigned_checkpoint_is_not_believed() -> None:
    entries = records_of(chain_of(3))
    unsigned = Signer(None).sign(Reach("pod-1/aaaa", 3, entries[-1].value["hash"]), CLOSE, NOW)

    assert "not genuine" in verified_lines(lines([*entries, unsigned]), public(KEY)).all_problems[0]


def test_several_public_keys_verify_after_the_key_was_changed() -> None:
    entries = [*chain_of(4, "a/1"), *chain_of(4, "a/2", key=OTHER_KEY)]

    assert not verified_lines(lines(entries), public(KEY, OTHER_KEY), uncovered=0).all_problems
    assert verified_lines(lines(entries), public(KEY)).all_problems


def test_records_that_no_checkpoint_covers_are_too_many_with_a_key_given() -> None:
    (problem,) = verified_lines(lines(records_of(chain_of(20))), public(KEY), uncovered=10).all_problems

    assert "record 1 of pod-1/aaaa and the 19 after it are not covered by a checkpoint" in problem


def test_other_programs_lines_do_not_matter() -> None:
    data = b"INFO starting\n{}\n" + lines(chain_of(3)) + b'{"level":"info"}\n\xff\xfe\n'

    assert not verified_lines(data, public(KEY)).all_problems


def _execute(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as database:
        assert database.execute(statement, values).rowcount > 0
    database.close()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM records WHERE sequence = 7", "record aaaa-8 (8 of pod-1/aaaa) comes after record 6"),
        ("DELETE FROM records WHERE sequence > 14", "record 15 of pod-1/aaaa is missing"),
        ("DELETE FROM records WHERE sequence < 3", "record aaaa-3 (3 of pod-1/aaaa) is the first of its chain"),
        ("UPDATE records SET user = 'eve' WHERE sequence = 7", "record 7 of pod-1/aaaa is filed under something else"),
        ("UPDATE records SET time = 0 WHERE sequence = 7", "record 7 of pod-1/aaaa is filed under something else"),
        ("DELETE FROM findings WHERE record = 8", "record 8 of pod-1/aaaa is filed under something else"),
        ("UPDATE records SET body = 'x' WHERE sequence = 7", "record 7 of pod-1/aaaa cannot be read"),
        ("UPDATE records SET body = (SELECT body FROM records WHERE sequence = 9) WHERE sequence = 7",
         "record 7 of pod-1/aaaa is filed under something else"),
        ("UPDATE records SET dictionary = 99 WHERE sequence = 7", "record 7 of pod-1/aaaa cannot be read"),
    ],
)  # fmt: skip
def test_tampering_with_the_file_is_found(tmp_path: Path, statement: str, named: str) -> None:
    path = stored(tmp_path / "audit.db", chain_of(25))
    assert not verified_file(path, public(KEY), uncovered=0).all_problems

    _execute(path, statement)

    assert verified_file(path, public(KEY)).all_problems[0].startswith(named)


def test_a_record_edited_in_the_file_with_its_columns_is_found(tmp_path: Path) -> None:
    entries = chain_of(9)
    path = stored(tmp_path / "audit.db", entries)
    body = Codec().compress(edited(entries[6], user="eve").line)

    _execute(path, "UPDATE records SET user = 'eve', body = ? WHERE sequence = 7", body)

    assert verified_file(path).all_problems[0].startswith("record aaaa-7 (7 of pod-1/aaaa) was edited")


def test_a_whole_chain_cannot_be_taken_away_before_another(tmp_path: Path) -> None:
    first = chain_of(5, "a/1")
    second = chain_of(5, "a/2", previous=records_of(first)[-1].value["hash"])
    assert not verified_file(stored(tmp_path / "all.db", [*first, *second]), public(KEY)).all_problems

    (problem,) = verified_file(stored(tmp_path / "half.db", second), public(KEY)).all_problems

    assert "a/2 begins after a record" in problem


def test_what_retention_removed_is_no_tampering_but_more_than_that_is(tmp_path: Path) -> None:
    path = stored(tmp_path / "audit.db", chain_of(25))
    store, signer = SqliteStore(path), Signer(KEY)
    removed = store.prune(NOW + timedelta(minutes=11), lambda reach: signer.sign(reach, RETENTION, NOW))
    store.close()

    verified = verified_file(path, public(KEY), uncovered=0)
    assert removed == 10
    assert not verified.all_problems
    assert (verified.records, verified.chains[0].removed_by_retention) == (15, 10)

    _execute(path, "DELETE FROM records WHERE sequence = 11")
    assert "not the one that follows record 10" in verified_file(path, public(KEY)).all_problems[0]


def test_records_cannot_be_passed_off_as_removed_by_retention(tmp_path: Path) -> None:
    entries = chain_of(25)
    records = records_of(entries)
    claim = Signer(OTHER_KEY).sign(Reach("pod-1/aaaa", 10, records[9].value["hash"]), RETENTION, NOW)
    path = stored(tmp_path / "audit.db", [claim, *records[10:]])

    assert "not genuine" in verified_file(path, public(KEY)).all_problems[0]


def test_a_first_record_that_follows_no_hash_at_all_is_found(tmp_path: Path) -> None:
    path = stored(tmp_path / "audit.db", chain_of(3, previous="\u0661" * 64))

    assert "begins after a record" in verified_file(path, public(KEY)).all_problems[0]
