"""``tidewaiter audit``, as it is called."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from admission.decision import Injection
from audit.chain import Chain, Entry
from tests.audit.sealed import KEY, OTHER_KEY, chain_of, edited, key_files, lines, record, records_of, stored
from webhook.cli import main

ENTRIES = chain_of(30)


def _run(*arguments: str | Path, given: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments)], input=given)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return stored(tmp_path / "audit.db", ENTRIES)


def test_tail_shows_the_newest_records_last(path: Path) -> None:
    shown = _run("tail", "-r", path, "--limit", "2").output.splitlines()

    assert ["aaaa-29" in shown[0], "aaaa-30" in shown[1], len(shown)] == [True, True, 2]


@pytest.mark.parametrize("source", ["file", "lines", "standard input"])
def test_search_reads_files_lines_and_standard_input(path: Path, tmp_path: Path, source: str) -> None:
    (tmp_path / "log").write_bytes(lines(ENTRIES))
    where = {"file": path, "lines": tmp_path / "log", "standard input": Path("-")}[source]

    ran = _run("search", "-r", where, "--verdict", "denied", "--user", "user-0", given=lines(ENTRIES))

    assert ran.exit_code == 0, ran.output
    assert [line.split()[-1] for line in ran.output.splitlines()] == ["aaaa-30", "aaaa-20", "aaaa-10"]


def test_search_says_that_there_is_more(path: Path) -> None:
    ran = _run("search", "-r", path, "--limit", "5")

    assert len(ran.stdout.splitlines()) == 5
    assert "more than 5" in ran.stderr
    assert not _run("search", "-r", path, "--limit", "30").stderr


def test_search_gives_json_and_csv(path: Path) -> None:
    found = json.loads(_run("search", "-r", path, "--namespace", "team-1", "--format", "json").output)
    rows = list(
        csv.DictReader(io.StringIO(_run("search", "-r", path, "--namespace", "team-1", "--format", "csv").output))
    )

    assert [one["id"] for one in found] == [row["id"] for row in rows]
    assert {one["namespace"] for one in found} == {"team-1"}


def test_a_spreadsheet_finds_no_formula_and_a_terminal_no_escape(tmp_path: Path) -> None:
    entry = Chain("p/aaaa").seal({**record(1), "user": "=cmd()", "name": "\x1b[2J\u202egone"})
    path = stored(tmp_path / "audit.db", [entry])

    row = next(csv.DictReader(io.StringIO(_run("search", "-r", path, "--format", "csv").output)))
    assert row["user"] == "'=cmd()"
    for command in (("tail",), ("show", "aaaa-1")):
        shown = _run(*command, "-r", path, "--color", "never").output
        assert "\\x1b[2J" in shown
        assert "\x1b" not in shown
        assert "\u202e" not in shown


def test_colours_are_as_asked_for(path: Path) -> None:
    assert "\x1b[31mdenied" in _run("tail", "-r", path, "--color", "always").output
    assert "\x1b" not in _run("tail", "-r", path).output


def test_show_tells_all_of_one_record(tmp_path: Path) -> None:
    value = record(
        2,
        injections=(
            Injection("gpu-scheduling", ("add a toleration",)),
            Injection("probes", ("add one",), preview=True),
        ),
        patch=({"op": "add", "path": "/spec/tolerations", "value": [{"key": "gpu"}]}, {"op": "remove", "path": "/x"}),
    )
    approval = {
        "registry": "company",
        "state": "approved",
        "freshness": "fresh",
        "age_seconds": 1,
        "approvers": ["ada"],
    }
    path = stored(tmp_path / "audit.db", [Chain("p/aaaa").seal({**value, "approval": approval})])

    shown = _run("show", "aaaa-1", "-r", path).output

    for text in (
        "image-pinned spec.containers[0] (main)", "remedy: pin it", "approved by ada, says registry company (fresh)",
        "gpu-scheduling\n      add a toleration", "probes (preview: not done)", "+ /spec/tolerations",
        '+       "key": "gpu"', "- /x", "user         user-2",
    ):  # fmt: skip
        assert text in shown


def test_show_of_nothing_says_where_ids_are(path: Path) -> None:
    ran = _run("show", "aaaa-99", "-r", path)

    assert (ran.exit_code, ran.stderr.startswith("there is no record aaaa-99;")) == (2, True)


def test_stats_count(path: Path) -> None:
    assert "15  denied" in _run("stats", "-r", path).output
    assert json.loads(_run("stats", "-r", path, "--format", "json").output)["total"] == 30
    assert "verdict,denied,15" in _run("stats", "-r", path, "--format", "csv").output
    assert _run("stats", "-r", path, "--user", "nobody").output == "0 records\n"


def test_verify_checks_signatures_by_several_keys(path: Path, tmp_path: Path) -> None:
    _, public = key_files(tmp_path)
    _, other = key_files(tmp_path, OTHER_KEY, "other")

    ran = _run("verify", "-r", path, "--public-key", other, "--public-key", public)
    assert (ran.exit_code, "intact: 30 records in 1 chains, 4 signatures checked" in ran.output) == (0, True)
    assert _run("verify", "-r", path, "--public-key", other).exit_code == 1
    assert "no signature checked" in _run("verify", "-r", path).output


def test_verify_names_the_bad_record() -> None:
    entries: list[Entry] = list(ENTRIES)
    entries[4] = edited(entries[4], user="eve")

    ran = _run("verify", given=lines(entries))
    report = json.loads(_run("verify", "--format", "json", given=lines(entries)).output)

    assert ran.exit_code == 1
    assert "record aaaa-5 (5 of pod-1/aaaa) was edited" in ran.output
    assert (report["intact"], len(report["problems"])) == (False, 1)


def test_verify_takes_checkpoints_from_another_place(tmp_path: Path) -> None:
    cut = stored(tmp_path / "cut.db", records_of(ENTRIES)[:12])
    (tmp_path / "log").write_bytes(b"INFO\n" + lines(ENTRIES))

    assert _run("verify", "-r", cut).exit_code == 0
    ran = _run("verify", "-r", cut, "--checkpoints", tmp_path / "log")
    assert (ran.exit_code, "record 13 of pod-1/aaaa is missing" in ran.output) == (1, True)


def test_what_is_exported_can_be_verified(path: Path, tmp_path: Path) -> None:
    _, public = key_files(tmp_path, KEY)
    out = tmp_path / "out.jsonl"

    assert _run("export", "-r", path, "--output", out).exit_code == 0
    assert _run("verify", "-r", out, "--public-key", public, "--uncovered", "0").exit_code == 0
    assert sorted(out.read_bytes().splitlines()) == sorted(one.line for one in ENTRIES)
    assert _run("export", "-r", path).stdout_bytes == out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("tail", "-r", "/nowhere/audit.db"), "records /nowhere/audit.db cannot be read: No such file or directory"),
        (("search", "--since", "yesterday"), "is no time; give 2026-06-01"),
        (("verify", "--public-key", "/nowhere/key"), "key file /nowhere/key cannot be read"),
        (("export", "--output", "/nowhere/out"), "--output /nowhere/out cannot be written"),
    ],
)
def test_bad_input_gets_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    ran = _run(*arguments)

    assert (ran.exit_code, sentence in ran.stderr) == (2, True), ran.stderr
    assert "Traceback" not in ran.output


def test_a_file_that_is_damaged_gets_a_sentence(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:6000] + b"\x55" * (len(data) - 6000))

    ran = _run("tail", "-r", path)

    assert ran.exit_code == 2
    assert "cannot be read" in ran.stderr


def test_any_other_sqlite_file_gets_a_sentence(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("CREATE TABLE t (a)")
    database.close()

    ran = _run("tail", "-r", tmp_path / "x.db")

    assert (ran.exit_code, "cannot be read as a file of records" in ran.stderr) == (2, True)


@pytest.mark.parametrize("ago", ["90m", "24h", "7d", "2w", "30s", "2026-06-01", "2026-06-01T12:00:00Z"])
def test_times_may_be_given_as_how_long_ago(path: Path, ago: str) -> None:
    assert _run("search", "-r", path, "--since", ago).exit_code == 0
