"""Logging in and out, and what every answer carries."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tests.page.serving import ALPHA, AUDITOR, Client, Cluster, served, sqlite_page
from webhook.page.access import LocalAccess
from webhook.page.sessions import OneTimeToken, Sessions


def test_a_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_do_not_get(port: int) -> None:
    answer = Client(port).post("/login", {"token": f"  {ALPHA}\n", "next": "/rules?range=30d"})

    cookie = answer.headers["set-cookie"]
    assert (answer.status, answer.headers["location"]) == (303, "/rules?range=30d")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert ALPHA not in cookie
    assert "alice" in Client(port, cookie=cookie.partition(";")[0]).get("/").text


def test_behind_tls_the_cookie_is_of_this_host_and_of_tls_alone(log_file: Path) -> None:
    page = dataclasses.replace(sqlite_page(log_file, Cluster()), secure=True)
    with served(page) as port:
        cookie = Client(port).post("/login", {"token": ALPHA}).headers["set-cookie"]

    assert cookie.startswith("__Host-tidewaiter-page=")
    assert "Secure" in cookie
    assert "Domain" not in cookie


def test_a_token_that_the_cluster_does_not_know_is_a_sentence_on_the_form(port: int) -> None:
    answer = Client(port).post("/login", {"token": "forged"})

    assert answer.status == 401
    assert "The cluster does not know this token" in answer.text
    assert "set-cookie" not in answer.headers
    assert "forged" not in answer.text


@pytest.mark.parametrize(
    "given",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/login",
        "/once/x",
        "/\r\nX: y",
    ],
)
def test_the_login_leads_nowhere_but_to_this_page(given: str, port: int) -> None:
    answer = Client(port).post("/login", {"token": ALPHA, "next": given})

    assert answer.headers["location"] == "/"


def test_a_form_of_another_site_does_not_log_in(port: int) -> None:
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = Client(port).post("/login", {"token": ALPHA}, **headers)

        assert answer.status == 403
        assert "set-cookie" not in answer.headers


def test_too_long_a_form_is_refused(port: int) -> None:
    assert Client(port).post("/login", {"token": "x" * 50_000}).status == 413


def test_without_a_login_the_form_comes_and_knows_where_to_go_on(port: int) -> None:
    answer = Client(port).get("/decisions?verdict=denied")

    assert (answer.status, answer.headers["location"]) == (303, "/login?next=%2Fdecisions%3Fverdict%3Ddenied")
    form = Client(port).get(answer.headers["location"])
    assert 'value="/decisions?verdict=denied"' in form.text


def test_after_logging_out_the_cookie_is_worth_nothing(port: int) -> None:
    cookie = Client(port).post("/login", {"token": ALPHA}).headers["set-cookie"].partition(";")[0]
    client = Client(port, cookie=cookie)
    assert client.get("/").status == 200

    assert client.post("/logout", {}).status == 303
    assert client.get("/").status == 303


def test_a_login_lasts_so_long_and_no_longer() -> None:
    now = [0.0]
    sessions = Sessions(60, lambda: now[0])
    name = sessions.begin("t")
    now[0] = 59.9
    assert sessions.find(name) is not None
    now[0] = 60.0
    assert sessions.find(name) is None
    now[0] = 0.0
    assert sessions.find(name) is None


def test_logins_are_bounded_and_the_oldest_goes() -> None:
    sessions = Sessions(60, lambda: 0.0)
    names = [sessions.begin("t") for _ in range(1001)]

    assert sessions.find(names[0]) is None
    assert sessions.find(names[1]) is not None


def test_a_one_time_address_is_good_once_and_does_not_stay_in_the_address_bar(log_file: Path) -> None:
    used: list[int] = []
    token = OneTimeToken(lambda: used.append(1))
    with served(sqlite_page(log_file, Cluster(), access=LocalAccess(token))) as port:
        assert Client(port).get("/once/guessed").status == 401
        first = Client(port).get(f"/once/{token.value}")
        second = Client(port).get(f"/once/{token.value}")
        cookie = first.headers["set-cookie"].partition(";")[0]
        shown = Client(port, cookie=cookie).get("/")
        bearer = Client(port, token.value).get("/", Accept="*/*")

    assert (first.status, first.headers["location"]) == (303, "/")
    assert second.status == 401
    assert "set-cookie" not in second.headers
    assert used == [1]
    assert "all namespaces" in shown.text
    assert bearer.status == 401


ADDRESSES = ["/", "/decisions", "/decisions?x=1", "/nowhere", "/login", "/once/x", "/static/page.css", "/decisions/none",
             "/live/stream?x=1"]  # fmt: skip


@pytest.mark.parametrize("path", ADDRESSES)
def test_every_answer_carries_the_headers(path: str, auditor: Client) -> None:
    headers = auditor.get(path).headers

    policy = dict(one.strip().split(" ", 1) for one in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("max-age=3600" if path.startswith("/static") else "no-store")


def test_a_crash_is_a_page_with_a_sentence_and_the_headers(log_file: Path) -> None:
    class Broken:
        def __call__(self) -> object:
            raise RuntimeError("the secret cause")

    page = sqlite_page(log_file, Cluster())
    page.reading._open = Broken()  # type: ignore[assignment]
    with served(page) as port:
        answer = Client(port, AUDITOR).get("/")

    assert answer.status == 500
    assert "Something went wrong in Tidewaiter itself" in answer.text
    assert "secret cause" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/decisions", "/rules/image-pinned", "/models/resnet50", "/approvals"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(path: str, method: str, auditor: Client) -> None:
    found = auditor.get(path, method)

    assert found.status == 405
    assert "nothing is changed here" in found.text


@pytest.mark.parametrize("path", ["/", "/decisions?range=all", "/models", "/rules", "/live"])
def test_head_is_answered_as_get_without_the_body(path: str, auditor: Client) -> None:
    found = auditor.get(path, "HEAD")

    assert (found.status, found.text) == (200, "")


def test_no_page_asks_for_anything_outside(auditor: Client) -> None:
    for path in (
        "/",
        "/decisions?range=all",
        "/models/resnet50",
        "/rules/image-pinned?range=all",
        "/live",
        "/approvals",
    ):
        text = auditor.get(path).text
        assert re.findall(r'(?:src|href|action)="(?!/|#|\?)[^"]*"', text) == []
        assert " style=" not in text
        assert not re.search(r"<script(?![^>]* src=)", text)
        assert not re.search(r" on[a-z]+=", text)


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e%2fapp.py", "..", "templates", "page.css.map"])
def test_only_the_pages_own_files_are_served(name: str, port: int) -> None:
    assert Client(port).get(f"/static/{name}").status == 404
