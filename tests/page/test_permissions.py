"""Who sees what: every route, every filter, every id, and what is asked of the cluster."""

from __future__ import annotations

import asyncio
import html
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.routing import Route

from audit.selection import Selection
from audit.sqlite_records import SqliteRecords
from tests.page.seeded import NOW, log, stored
from tests.page.serving import ALPHA, AUDITOR, NOBODY, Client, Cluster, served, sqlite_page
from webhook.page.app import PUBLIC, page_app
from webhook.page.identity import Visible
from webhook.page.live import Streams, stream

BRAVO = next(one.value["id"] for one in log() if one.value.get("namespace") == "bravo")
BRAVO_UID = "uid-bravo"
APPROVAL = next(one.value["id"] for one in log() if one.value.get("kind") == "ModelVersion")
# Every address that a reader of alpha might try to learn of bravo by; by the route that answers it.
ATTEMPTS: dict[str, tuple[str, ...]] = {
    "/": ("/", "/?range=30d", "/?namespace=bravo", "/?team=bravo-team", "/?user=bravo-user"),
    "/decisions": (
        "/decisions", "/decisions?range=all", "/decisions?namespace=bravo&range=all",
        "/decisions?team=bravo-team&range=all", "/decisions?model=bravo-llm&range=all",
        "/decisions?model=resnet50&range=all", "/decisions?version=1&range=all",
        "/decisions?user=bravo-user&range=all", "/decisions?rule=image-pinned&range=all",
        "/decisions?verdict=warned&range=all", "/decisions?text=bravo&range=all",
        "/decisions?text=BRAVO-SERVER&range=all", "/decisions?from=2026-05-01&to=2026-07-01",
        "/decisions?range=all&before=1780315200000-999999",
    ),
    "/decisions/{identifier:path}": (f"/decisions/{BRAVO}", f"/decisions/{BRAVO_UID}", f"/decisions/{APPROVAL}"),
    "/models": ("/models", "/models?range=all", "/models?namespace=bravo&range=all", "/models?team=bravo-team"),
    "/models/{name:path}": ("/models/resnet50", "/models/bravo-llm"),
    "/approvals": ("/approvals", "/approvals?by=bravo-approver", "/approvals?by=ada"),
    "/rules": ("/rules", "/rules?namespace=bravo&range=all", "/rules?range=all"),
    "/rules/{rule}": ("/rules/image-pinned", "/rules/image-pinned?namespace=bravo&range=all", "/rules/image-pinned?user=bravo-user&range=all"),
    "/live": ("/live", "/live?namespace=bravo", "/live?text=bravo"),
    "/live/stream": (),  # a test of its own: it does not end
}  # fmt: skip


def _routes() -> set[str]:
    page = sqlite_page(Path("unread"), Cluster())
    try:
        return {route.path for route in page_app(page).routes if isinstance(route, Route)}
    finally:
        page.reading.close()


def test_every_route_is_either_public_or_tried_by_a_reader_of_one_namespace() -> None:
    assert set(ATTEMPTS) == _routes() - PUBLIC


@pytest.mark.parametrize("path", [path for paths in ATTEMPTS.values() for path in paths])
def test_a_reader_of_one_namespace_never_meets_another(path: str, alice: Client) -> None:
    found = alice.get(path)

    assert found.status in (200, 404)
    shown = found.text
    # What the reader has typed in may be said back to them.
    for echoed in (
        "bravo-team",
        "bravo-user",
        "bravo-llm",
        "bravo-approver",
        "BRAVO-SERVER",
        "bravo",
        BRAVO_UID,
        BRAVO,
    ):
        if echoed in path:
            shown = shown.replace(f'value="{echoed}"', "").replace(f"</span> {echoed} <span", "")
            shown = re.sub(
                rf"(filter \w+ |Approvals by |team=|namespace=|user=|text=|model=|decision |model |option selected>){re.escape(echoed)}",
                "",
                shown,
            )
    assert "bravo" not in shown.casefold(), re.findall(r".{60}bravo.{60}", shown, re.IGNORECASE | re.DOTALL)[:3]


@pytest.mark.parametrize("path", [paths[0] for paths in ATTEMPTS.values() if paths and "{" not in paths[0]])
def test_an_auditor_meets_both_where_a_reader_of_one_does_not(path: str, auditor: Client) -> None:
    joint = "&" if "?" in path else "?"
    wide = path if path.startswith("/approvals") else f"{path}{joint}range=30d"

    assert "bravo" in auditor.get(wide).text or path == "/rules"


def test_counts_are_those_of_the_namespaces_that_may_be_seen(alice: Client, auditor: Client) -> None:
    assert _let_through(alice.get("/rules?range=all").text) == 1
    assert _let_through(auditor.get("/rules?range=all").text) == 5


def _let_through(page: str) -> int:
    row = page[page.index("image-pinned</a>") :].partition("</tr>")[0]
    return int(re.sub(r"\D", "", html.unescape(re.findall(r'class="num">(.*?)</td>', row)[-1].split(">")[1])))


def test_an_exception_of_another_namespace_is_not_told_of(alice: Client, auditor: Client) -> None:
    assert "alpha-until-migrated" in alice.get("/").text
    assert "OPS-alpha" not in alice.get("/").text
    assert "OPS-bravo" in auditor.get("/").text


@pytest.mark.parametrize("path", [path for path in _routes() - PUBLIC if "{" not in path])
@pytest.mark.parametrize("token", ["", "no-token-of-this-cluster", "x" * 20_000])
def test_nobody_is_shown_anything(path: str, token: str, port: int) -> None:
    found = Client(port, token).get(path, Accept="text/html" if token else "*/*")

    assert found.status == 401
    assert "alpha" not in found.text


def test_who_may_see_nothing_is_told_which_role_to_ask_for(port: int) -> None:
    found = Client(port, NOBODY).get("/decisions?range=all")

    assert "You may see no decisions yet" in found.text
    assert "alpha" not in found.text
    assert "bravo" not in found.text


def test_a_role_is_asked_for_as_get_of_decisions_in_a_namespace(log_file: Path) -> None:
    cluster = Cluster()
    with served(sqlite_page(log_file, cluster)) as port:
        assert Client(port, ALPHA).get("/").status == 200

    asked = {(one.verb, one.group, one.resource, one.namespace) for one in cluster.asked}
    assert asked == {("get", "tidewaiter.dev", "decisions", name) for name in ("", "alpha", "bravo")}
    assert {one.username for one in cluster.asked} == {"alice"}


def test_a_role_that_is_taken_away_counts_for_a_login_that_is_open(log_file: Path) -> None:
    cluster = Cluster()
    with served(sqlite_page(log_file, cluster)) as port:
        client = Client(port, ALPHA)
        assert "resnet50-canary" in client.get("/decisions?range=all").text
        cluster.roles["alice"] = set()

        assert "resnet50-canary" not in client.get("/decisions?range=all").text


def test_a_token_that_is_taken_away_ends_the_login(log_file: Path) -> None:
    cluster = Cluster()
    with served(sqlite_page(log_file, cluster)) as port:
        cookie = _login(port, ALPHA)
        assert Client(port, cookie=cookie).get("/decisions").status == 200
        del cluster.tokens[ALPHA]

        assert Client(port, cookie=cookie).get("/decisions").status == 303


def test_a_cluster_that_does_not_answer_gives_no_leave(log_file: Path) -> None:
    cluster = Cluster(down=True)
    with served(sqlite_page(log_file, cluster)) as port:
        found = Client(port, AUDITOR).get("/decisions")

    assert found.status == 503
    assert "The cluster does not answer" in found.text


def test_a_stream_tells_of_no_other_namespace(log_file: Path) -> None:
    """The stream begins before the log's records, and has all of them to tell."""
    rendered = _streamed(log_file, Visible(frozenset(["alpha"])))

    assert "alpha" in rendered
    assert "bravo" not in rendered
    assert "bravo" in _streamed(log_file, Visible(None))


def _streamed(path: Path, visible: Visible) -> str:
    page = sqlite_page(path, Cluster())
    looks = iter([visible])

    async def look() -> Visible | None:
        return next(looks, None)

    async def told() -> str:
        # The clock stands: what is younger than the stream's beginning is everything from then on.
        events = stream(
            page.reading, Selection(), look, lambda found: json.dumps([one.value for one in found]), Streams(),
            lambda: NOW.replace(month=5),
        )  # fmt: skip
        return "".join([event async for event in events])

    try:
        return asyncio.run(told())
    finally:
        page.reading.close()


def test_a_stream_ends_with_the_login(tmp_path: Path) -> None:
    cluster = Cluster()
    with (
        served(sqlite_page(stored(tmp_path / "audit.db"), cluster)) as port,
        Client(port, ALPHA).stream("/live/stream") as answer,
    ):
        assert answer.readline() == b"retry: 3000\n"
        del cluster.tokens[ALPHA]

        assert b"event: ended" in answer.read()


def test_one_user_may_hold_only_so_many_streams_open(tmp_path: Path) -> None:
    with served(sqlite_page(stored(tmp_path / "audit.db"), Cluster())) as port:
        client, open_streams = Client(port, ALPHA), []
        for _ in range(5):
            held = client.stream("/live/stream")
            open_streams.append((held, held.__enter__()))
        try:
            assert all(answer.status == 200 for _, answer in open_streams)
            refused = client.get("/live/stream")
        finally:
            for held, _ in open_streams:
                held.__exit__(None, None, None)

    assert refused.status == 429
    assert "Too many live views" in refused.text


def test_no_selection_of_the_store_reaches_beyond_what_may_be_seen(log_file: Path) -> None:
    """Below the page: the same promise for whatever else will ask the store."""
    records = SqliteRecords(log_file)
    try:
        for asked in (
            Selection(),
            Selection(namespace="bravo"),
            Selection(text="bravo"),
            Selection(rule="image-pinned"),
        ):
            seen = Selection(
                **{**{f: getattr(asked, f) for f in Selection.__dataclass_fields__}, "namespaces": frozenset(["alpha"])}
            )
            for entry in [*records.search(seen, 100), *records.page(seen, 100).entries]:
                assert entry.value["namespace"] == "alpha"
            assert "bravo" not in records.statistics(seen).counts["namespace"]
            assert "bravo" not in records.most(seen, "namespace", 10)
    finally:
        records.close()


def _login(port: int, token: str) -> str:
    answer = Client(port).post("/login", {"token": token})
    assert answer.status == 303, answer.text
    return answer.headers["set-cookie"].partition(";")[0]


def test_an_address_with_a_namespace_that_nobody_has_shows_nothing(alice: Client) -> None:
    found = alice.get(f"/decisions?namespace={quote('no-such')}&range=all")

    assert found.status == 200
    assert "No decision has all that" in found.text
