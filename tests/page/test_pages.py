"""What each page says, and what each filter does."""

from __future__ import annotations

import html
import re
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from audit.chain import Chain
from audit.postgres_records import PostgresRecords
from audit.postgres_store import PostgresStore
from audit.sqlite_store import SqliteStore
from tests.audit.sealed import chain_of, edited
from tests.audit.sealed import stored as stored_chain
from tests.page.seeded import NOW, log, stored
from tests.page.serving import AUDITOR, Client, Cluster, page_of, served, sqlite_page
from webhook.page.plan import workload_of


def text_of(page: str) -> str:
    """What is read, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def names(page: str) -> list[str]:
    """The objects of a list, from the top."""
    return re.findall(r'class="object">([^<]*)<', page)


def test_the_overview_counts_verdicts_and_names_what_is_noisy(auditor: Client) -> None:
    said = text_of(auditor.get("/").text)

    # Of 24 hours: the approvals are older.
    assert "14 Decisions 2 Refused 5 Warned 1 Mutated 6 Allowed" in said
    assert "image-pinned 7" in said
    assert "bravo 1 4" in said
    assert "alpha 1 1" in said


def test_the_overview_names_the_versions_that_were_let_in_last(auditor: Client) -> None:
    said = text_of(auditor.get("/").text)

    assert re.search(r"resnet50 version 7 2 h ago approved by ada , tom", said), said
    assert "bert version 2 9 h ago approved by ada" in said


def test_the_overview_tells_of_exceptions_that_end_soon(auditor: Client) -> None:
    assert "alpha-until-migrated in 2 days image-pinned in alpha · OPS-alpha alpha moves its images" in text_of(
        auditor.get("/").text
    )


def test_the_chart_has_a_table_of_the_same_numbers(auditor: Client) -> None:
    page = auditor.get("/").text
    rows = re.findall(r"<tr><th scope=\"row\"><a href=\"/decisions\?from=.*?</tr>", page)

    numbers = [int(n) for row in rows for n in re.findall(r'class="num">(\d+)<', row)]
    assert sum(numbers) == 14


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("verdict=denied", ["alpha/resnet50-canary", "bravo/bravo-shared"]),
        ("namespace=bravo&verdict=warned", [f"bravo/bravo-server-7d8f9c6b5d-x7k2{one}" for one in "gfdb"]),
        ("model=bert&namespace=alpha", ["alpha/bert-5c9f7b6d8-abcde"]),
        ("model=resnet50&version=8", ["alpha/resnet50-canary"]),
        ("user=mia", ["alpha/resnet50-old", "alpha/resnet50-canary"]),
        ("rule=image-pinned&namespace=alpha", ["alpha/resnet50-old", "alpha/resnet50-canary"]),
        ("team=vision&verdict=denied", ["alpha/resnet50-canary"]),
        ("team=vision&namespace=bravo", []),
        ("text=RESNET50-CANARY", ["alpha/resnet50-canary"]),
        ("text=not+there", []),
        ("range=1h", []),
        ("range=150m", ["alpha/resnet50-old"]),
        ("from=2026-06-01T08:30&to=2026-06-01T09:30", ["alpha/resnet50-canary"]),
        ("to=2026-05-30T00:00", ["resnet50-7", "bravo-llm-1"]),
        ("range=7d&model=resnet50&user=tom", ["resnet50-7"]),
    ],
)
def test_a_filter_shows_what_has_all_of_it_the_newest_first(query: str, expected: list[str], auditor: Client) -> None:
    page = auditor.get(f"/decisions?{query}")

    assert page.status == 200
    assert names(page.text) == expected


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("colour=red", "There is no filter “colour”"),
        ("verdict=maybe", "There is no verdict “maybe”. The verdicts are"),
        ("range=often", "“often” is no range. Give 90m, 24h, 7d or all."),
        ("from=yesterday", "“yesterday” is no time."),
        ("from=0001-01-01", "is no time of any record"),
        ("before=here", "The place in the list cannot be read"),
        ("before=1-99999999999999999999", "The place in the list cannot be read"),
        ("user=a&user=b", "The filter “user” is given twice"),
        ("text=" + "x" * 601, "is longer than 600 characters"),
        ("text=%00", "is longer than 600 characters, or is no text"),
    ],
)
def test_what_cannot_be_asked_is_a_page_with_a_sentence(query: str, sentence: str, auditor: Client) -> None:
    answer = auditor.get(f"/decisions?{query}")

    assert answer.status == 400
    assert sentence in html.unescape(answer.text)


def test_a_form_with_empty_fields_becomes_a_short_address(auditor: Client) -> None:
    answer = auditor.get("/decisions?text=&verdict=denied&namespace=&range=7d")

    assert (answer.status, answer.headers["location"]) == (303, "/decisions?verdict=denied&range=7d")


def test_a_filter_can_be_taken_away_and_the_others_stay(auditor: Client) -> None:
    page = auditor.get("/decisions?verdict=denied&namespace=alpha&range=all").text

    assert 'href="/decisions?namespace=alpha&amp;range=all" aria-label="Remove the filter verdict denied"' in page


def test_pages_of_a_list_lead_from_one_to_the_next(tmp_path: Path) -> None:
    path = stored_chain(tmp_path / "audit.db", chain_of(120))
    with served(sqlite_page(path, Cluster(), clock=lambda: NOW.replace(day=2))) as port:
        client, found, address = Client(port, AUDITOR), [], "/decisions?range=all"
        for _ in range(3):
            page = client.get(address).text
            found += re.findall(r'href="/decisions/(aaaa-\d+)"><span', page)
            older = re.search(r'rel="next" href="([^"]+)"', page)
            address = html.unescape(older[1]) if older else ""

    assert found == [f"aaaa-{number}" for number in range(120, 0, -1)]
    assert address == ""


def _one(client: Client, uid: str) -> str:
    answer = client.get(f"/decisions/{uid}")
    assert answer.status == 200
    return answer.text


def test_a_refused_developer_reads_what_was_wrong_and_what_to_do(auditor: Client) -> None:
    said = text_of(_one(auditor, "uid-refused"))

    assert "Refused Pod alpha/resnet50-canary" in said
    assert "What was wrong, and what to do deny image-pinned" in said
    assert 'image "registry.example.com/triton:latest" is not pinned by digest' in said
    assert "spec.containers[0].image container triton" in said
    assert "To do name the image by digest: registry.example.com/triton@sha256:..." in said
    assert "decided with policies p1" in said


def test_a_decision_shows_what_was_injected_and_the_patch(auditor: Client) -> None:
    said = text_of(_one(auditor, "uid-served-0"))

    assert "What was injected gpu-scheduling tolerate nvidia.com/gpu" in said
    assert '+ /spec/tolerations + [ + { + "key": "nvidia.com/gpu" + } + ]' in said


def test_a_decision_names_who_approved_by_the_registry_and_by_the_log(auditor: Client) -> None:
    said = text_of(_one(auditor, "uid-alpha-resnet50-old"))

    assert "Registry file: approved Approved by ada , tom" in said
    assert "In the log approved for production by tom" in said


def test_a_decision_is_found_by_its_own_id_and_by_the_requests_uid(auditor: Client) -> None:
    entry = next(one for one in log() if one.value.get("uid") == "uid-refused")

    assert "alpha/resnet50-canary" in _one(auditor, entry.value["id"])
    assert "alpha/resnet50-canary" in _one(auditor, "uid-refused")


def test_a_whole_record_is_said_to_be_whole(auditor: Client) -> None:
    said = text_of(_one(auditor, "uid-served-0"))

    assert "✓ Its hash is that of what it says." in said
    assert "✓ It names the record before it." in said
    assert "✓ The record after it names it." in said
    assert re.search(r"✓ It is covered by the checkpoint at record \d+, whose signature is genuine.", said)


def test_the_newest_record_is_said_to_be_covered_by_no_checkpoint(auditor: Client) -> None:
    newest = next(one for one in reversed(log()) if "signature" not in one.value)

    assert "? No checkpoint covers it yet." in text_of(_one(auditor, newest.value["id"]))


def test_an_edited_record_is_said_to_be_edited(tmp_path: Path) -> None:
    entries = log()
    at = next(number for number, one in enumerate(entries) if one.value.get("uid") == "uid-refused")
    entries[at] = edited(entries[at], user="somebody-else")
    with closing(SqliteStore(tmp_path / "audit.db")) as store:
        store.append(entries)
    with served(sqlite_page(tmp_path / "audit.db", Cluster())) as port:
        said = text_of(_one(Client(port, AUDITOR), "uid-refused"))

    assert "✗ Its hash is not that of what it says: edited." in said


def test_a_removed_neighbour_is_told(tmp_path: Path) -> None:
    entries = log()
    at = next(number for number, one in enumerate(entries) if one.value.get("uid") == "uid-refused")
    del entries[at - 1]
    with closing(SqliteStore(tmp_path / "audit.db")) as store:
        store.append(entries)
    with served(sqlite_page(tmp_path / "audit.db", Cluster())) as port:
        assert "? The record before it is not here" in text_of(_one(Client(port, AUDITOR), "uid-refused"))


def test_a_model_shows_its_versions_where_they_went_and_what_was_refused(auditor: Client) -> None:
    said = text_of(auditor.get("/models/resnet50").text)

    assert "Version 7 seen 2 h ago 1 refused · 7 let in" in said
    assert "alpha production ×7" in said
    assert "approved for production by ada , tom" in said
    assert "Version 8 seen 3 h ago 1 refused · 0 let in Let in to nowhere" in said
    assert "Approval proposed for production" in said
    assert "production approved tom seen with ada" in said
    assert "production approved ada evaluation passed" in said
    assert "alpha/resnet50-canary" in said


def test_approvals_of_one_person_are_told_with_what_was_let_in_on_them(auditor: Client) -> None:
    said = text_of(auditor.get("/approvals?by=ada").text)

    assert "bert :2 production approved ada small change" in said
    assert "resnet50 :7 production approved ada evaluation passed" in said
    assert "seen with ada" not in said
    assert "resnet50 :7 production ada , tom 7" in said


def test_a_rule_shows_what_it_would_have_refused_by_namespace_and_workload(auditor: Client) -> None:
    said = text_of(auditor.get("/rules/image-pinned?range=7d").text)

    assert "5 requests of 2 workloads in 2 namespaces would have been refused, that were let through." in said
    assert "2 were refused as it is." in said
    assert re.search(r"bravo Pod bravo-server production 4 bravo runs an image that is not pinned", said)
    assert re.search(r"alpha Pod resnet50-old production 1", said)


@pytest.mark.parametrize(
    ("query", "requests"), [("range=7d&namespace=alpha", 1), ("range=150m", 1), ("range=7d&team=bravo-team", 4)]
)
def test_a_plan_can_be_narrowed(query: str, requests: int, auditor: Client) -> None:
    said = text_of(auditor.get(f"/rules/image-pinned?{query}").text)

    assert f"Had it denied {requests} requests" in said


def test_a_plan_leaves_out_dry_runs_exceptions_and_what_was_seen_before_mutation(tmp_path: Path) -> None:
    chain, made = Chain("p/r"), []
    base = next(one.value for one in log() if one.value.get("uid") == "uid-alpha-resnet50-old")
    finding = base["findings"][0]
    for number, change in enumerate(
        (
            {},
            {"dry_run": True},
            {"webhook": "mutate"},
            {"findings": [{**finding, "exception": "until-migrated"}]},
            {"verdict": "denied", "allowed": False},
        )
    ):
        plain = {
            key: value for key, value in base.items() if key not in ("id", "replica", "sequence", "previous", "hash")
        }
        made.append(chain.seal({**plain, "uid": f"u{number}", "name": f"pod-{number}", **change}))
    with closing(SqliteStore(tmp_path / "audit.db")) as store:
        store.append(made)
    with served(sqlite_page(tmp_path / "audit.db", Cluster())) as port:
        said = text_of(Client(port, AUDITOR).get("/rules/image-pinned?range=7d").text)

    assert "1 requests of 1 workloads" in said
    assert "1 are excused by exceptions." in said
    assert "1 were refused as it is." in said


def test_a_rule_tells_what_it_does_now_in_each_environment(auditor: Client) -> None:
    said = text_of(auditor.get("/rules/approved-version").text)

    assert "Does now development" in said
    assert "Written in Python, comes with Tidewaiter" in said


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("resnet50-6f7c8d9b4f-x7k2p", "resnet50"),
        ("resnet50-6f7c8d9b4f-*", "resnet50"),
        ("trainer-x7k2p", "trainer"),
        ("resnet50", "resnet50"),
        ("my-service", "my-service"),
        ("llama-0", "llama-0"),
        ("", ""),
    ],
)
def test_a_workload_is_named_without_what_controllers_add(pod: str, workload: str) -> None:
    assert workload_of(pod) == workload


@pytest.mark.parametrize("path", ["/nowhere", "/decisions/none-1", "/models/none", "/rules/none"])
def test_what_is_not_there_is_a_page_with_a_sentence(path: str, auditor: Client) -> None:
    answer = auditor.get(path)

    assert answer.status == 404
    assert re.search(r'<p class="lead">There is no [^<]+</p>', answer.text)


HOSTILE = '"><script>alert(1)</script>{{7*7}}\u202e'


def test_what_a_request_says_is_shown_and_never_done(tmp_path: Path) -> None:
    chain = Chain("p/r")
    base = next(one.value for one in log() if one.value.get("uid") == "uid-served-0")
    hostile: dict[str, Any] = {
        **{key: value for key, value in base.items() if key not in ("id", "replica", "sequence", "previous", "hash")},
        "uid": "u-hostile", "name": HOSTILE, "namespace": HOSTILE, "user": HOSTILE, "kind": HOSTILE,
        "groups": [HOSTILE], "environment": HOSTILE, "recognised": HOSTILE, "policy_revision": HOSTILE,
        "model": {"name": HOSTILE, "version": HOSTILE, "uri": HOSTILE, "digest": HOSTILE},
        "approval": {"registry": HOSTILE, "state": HOSTILE, "freshness": HOSTILE, "age_seconds": 1.0, "approvers": [HOSTILE]},
        "findings": [{"rule": HOSTILE, "action": HOSTILE, "path": HOSTILE, "container": HOSTILE, "message": HOSTILE, "remedy": HOSTILE}],
        "injections": [{"mutator": HOSTILE, "changes": [HOSTILE], "preview": False}],
        "patch": [{"op": "add", "path": HOSTILE, "value": {HOSTILE: HOSTILE}}],
    }  # fmt: skip
    with closing(SqliteStore(tmp_path / "audit.db")) as store:
        store.append([chain.seal(hostile)])
    with served(sqlite_page(tmp_path / "audit.db", Cluster())) as port:
        client = Client(port, AUDITOR)
        for path in ("/?range=7d", "/decisions?range=all", "/decisions/u-hostile", "/models?range=all", f"/models/{quote(HOSTILE, safe='')}",
                     "/rules?range=all", f"/rules/{quote(HOSTILE, safe='')}?range=all", "/approvals", f"/approvals?by={quote(HOSTILE)}", "/live"):  # fmt: skip
            answer = client.get(path)
            assert answer.status in (200, 404), path
            assert "<script>" not in answer.text, path
            assert "\u202e" not in answer.text, path


@pytest.mark.parametrize(
    "change",
    [
        {"findings": "none"}, {"findings": [1, {"rule": 7}]}, {"model": 3}, {"approval": []}, {"injections": {"a": 1}},
        {"patch": [{"op": 1}, 5]}, {"groups": 4}, {"governance": []}, {"time": 5}, {"user": None}, {"name": {"a": 1}},
        {"latency_ms": None}, {"policy_revision": []}, {"findings": [{"rule": "r", "action": "warn"}]},
    ],
)  # fmt: skip
def test_a_record_that_is_not_as_it_should_be_breaks_no_page(change: dict[str, Any], tmp_path: Path) -> None:
    chain = Chain("p/r")
    base = next(one.value for one in log() if one.value.get("uid") == "uid-alpha-resnet50-old")
    plain = {key: value for key, value in base.items() if key not in ("id", "replica", "sequence", "previous", "hash")}
    with closing(SqliteStore(tmp_path / "audit.db")) as store:
        store.append([chain.seal({**plain, "uid": "u-odd", **change})])
    with served(sqlite_page(tmp_path / "audit.db", Cluster())) as port:
        client = Client(port, AUDITOR)
        for path in ("/?range=7d", "/decisions?range=all", "/decisions/u-odd", "/models?range=all", "/models/resnet50",
                     "/rules?range=all", "/rules/image-pinned?range=all", "/approvals", "/live"):  # fmt: skip
            assert client.get(path).status in (200, 404), path


def test_a_store_that_cannot_be_read_is_a_page_with_a_sentence_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    with served(sqlite_page(path, Cluster())) as port:
        gone = Client(port, AUDITOR).get("/decisions")
        stored(path)
        back = Client(port, AUDITOR).get("/decisions")

    assert gone.status == 503
    assert "The store of records does not answer" in gone.text
    assert back.status == 200


def test_the_pages_show_records_of_postgresql_alike(postgres_server: Any, database: str, auditor: Client) -> None:
    with closing(PostgresStore(database, postgres_server.password_file)) as store:
        store.append(log())
    page = page_of(lambda: PostgresRecords(database, postgres_server.password_file), Cluster())
    with served(page) as port:
        client = Client(port, AUDITOR)
        for path in ("/", "/decisions?range=all", "/decisions?verdict=warned&text=bravo", "/decisions/uid-refused",
                     "/models?range=all", "/models/resnet50", "/rules?range=all", "/rules/image-pinned?range=30d", "/approvals", "/live"):  # fmt: skip
            assert text_of(client.get(path).text) == text_of(auditor.get(path).text), path
