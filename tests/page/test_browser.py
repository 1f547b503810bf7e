"""The page in a real Chromium: whether it can be used by everybody, and the ways that people go through it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from audit.chain import Chain
from audit.sqlite_store import SqliteStore
from tests.page import browser as chromium
from tests.page.browser import SCHEMES, SCREENSHOTS, SIZES, accessibility_problems
from tests.page.seeded import NOW, log, stored
from tests.page.serving import ALPHA, AUDITOR, NOBODY, Cluster, served, sqlite_page

PAGES = {
    "overview": "/?range=7d",
    "decisions": "/decisions?range=all",
    "filtered": "/decisions?range=all&verdict=denied&namespace=alpha",
    "nothing-found": "/decisions?text=not+there",
    "refused": "/decisions/uid-refused",
    "mutated": "/decisions/uid-served-0",
    "models": "/models?range=all",
    "model": "/models/resnet50",
    "approvals": "/approvals?by=ada",
    "rules": "/rules",
    "plan": "/rules/image-pinned",
    "live": "/live",
    "login": "/login",
    "not-there": "/decisions/none-1",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.browser() as started:
        yield started


@contextmanager
def visiting(browser: Browser, port: int, token: str = AUDITOR, **options: Any) -> Iterator[Page]:
    """A tab of somebody who has logged in; ends with a check that the browser complained of nothing."""
    context = browser.new_context(base_url=f"http://127.0.0.1:{port}", **options)
    context.set_default_timeout(15_000)
    complaints: list[str] = []
    outside: list[str] = []
    try:
        page = context.new_page()
        page.on("console", lambda one: complaints.append(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda one: complaints.append(str(one)))
        page.on("request", lambda one: outside.append(one.url) if f"127.0.0.1:{port}/" not in one.url else None)
        if token:
            page.goto("/login")
            page.get_by_label("Token of the cluster").fill(token)
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        yield page
        # A 404 that was asked for is told by the browser too.
        assert [one for one in complaints if "404" not in one] == []
        assert outside == []
    finally:
        context.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_and_nothing_is_cut_off(browser: Browser, port: int, scheme: str, size: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    problems: dict[str, list[str]] = {}
    with visiting(browser, port, color_scheme=scheme, viewport=SIZES[size]) as page:
        for name, address in PAGES.items():
            page.goto(address)
            page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{size}.png", full_page=True, animations="disabled")
            found = accessibility_problems(page)
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > SIZES[size]["width"]:
                found.append(f"it is {wide} pixels wide")
            if found:
                problems[name] = found
    assert problems == {}


def test_axe_finds_nothing_with_everything_unfolded(browser: Browser, port: int) -> None:
    problems = {}
    with visiting(browser, port) as page:
        for name, address in PAGES.items():
            page.goto(address)
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            if found := accessibility_problems(page):
                problems[name] = found
    assert problems == {}


def test_an_auditor_learns_who_let_a_version_into_production_and_what_else_they_approved(
    browser: Browser, port: int
) -> None:
    with visiting(browser, port) as page:
        page.get_by_role("link", name="Models", exact=True).click()
        page.get_by_role("link", name="all", exact=True).click()
        page.get_by_role("link", name="resnet50", exact=True).click()
        version = page.locator("article", has=page.get_by_role("link", name="Version 7"))
        expect(version).to_contain_text("approved for production by ada, tom")
        expect(version).to_contain_text("alpha production ×7")
        given = page.get_by_role("region", name="Approvals in the log").locator("tbody tr")
        expect(given.first).to_contain_text("tom")
        expect(given.last).to_contain_text("evaluation passed")

        version.get_by_role("link", name="ada").click()

        expect(page.get_by_role("heading", level=1)).to_have_text("Approvals by ada")
        rows = page.get_by_role("region", name="Given, as the log has it").locator("tbody tr")
        expect(rows).to_have_count(2)
        expect(rows.first).to_contain_text("bert:2")
        rows.first.get_by_role("link").first.click()
        expect(page.get_by_role("region", name="Is this record whole?")).to_contain_text(
            "Its hash is that of what it says."
        )
        expect(page.locator(".checks .bad")).to_have_count(0)


def test_a_developer_learns_why_they_were_refused_and_what_to_change(browser: Browser, port: int) -> None:
    with visiting(browser, port, ALPHA, viewport=SIZES["phone"]) as page:
        page.get_by_role("link", name="Decisions", exact=True).click()
        page.get_by_label("Verdict").select_option("Refused")
        page.get_by_role("button", name="Show").click()
        expect(page).to_have_url(re.compile(r"/decisions\?verdict=denied&range=7d$"))
        expect(page.locator(".decisions tbody tr")).to_have_count(1)
        page.get_by_role("link", name="alpha/resnet50-canary").click()

        finding = page.locator("article.finding")
        expect(finding).to_contain_text("is not pinned by digest")
        expect(finding).to_contain_text("spec.containers[0].image")
        expect(finding.locator(".remedy")).to_contain_text("name the image by digest")
        expect(page.get_by_role("region", name="Model")).to_contain_text("proposed")


def test_a_platform_engineer_learns_what_breaks_if_a_rule_denies(browser: Browser, port: int) -> None:
    with visiting(browser, port) as page:
        page.get_by_role("link", name="Rules", exact=True).click()
        row = page.locator("tr", has=page.get_by_role("link", name="image-pinned"))
        expect(row.locator("td").last).to_have_text("5")
        row.get_by_role("link", name="image-pinned").click()

        expect(page.locator(".verdictline")).to_contain_text("5 requests of 2 workloads in 2 namespaces")
        workloads = page.get_by_role("group", name="Workloads that would have been refused").locator("tbody tr")
        expect(workloads.first).to_contain_text("bravo-server")
        expect(workloads.first).to_contain_text("name the image by digest")
        workloads.first.get_by_role("link", name="bravo", exact=True).click()
        expect(page.locator(".decisions tbody tr")).to_have_count(5)


def test_a_list_can_be_searched_and_opened_with_the_keyboard_alone(browser: Browser, port: int) -> None:
    with visiting(browser, port) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.goto("/decisions?range=all")
        page.keyboard.press("/")
        page.keyboard.type("canary")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(r"text=canary"))
        link = page.get_by_role("link", name="alpha/resnet50-canary")
        for _ in range(60):
            page.keyboard.press("Tab")
            if link.evaluate("(one) => one === document.activeElement"):
                break
        expect(link).to_be_focused()
        assert link.evaluate("(one) => getComputedStyle(one).outlineStyle") != "none"
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_contain_text("resnet50-canary")


def test_everything_can_be_read_without_scripts(browser: Browser, port: int) -> None:
    with visiting(browser, port, java_script_enabled=False) as page:
        for name, address in PAGES.items():
            page.goto(address)
            assert page.locator("main").inner_text().strip(), name
        page.goto("/decisions?range=all")
        page.locator("summary", has_text="More filters").click()
        page.get_by_label("User").fill("mia")
        page.get_by_role("button", name="Show").click()
        expect(page.locator(".decisions tbody tr")).to_have_count(2)
        page.goto("/live")
        assert page.locator("#live-state").inner_text() == "Reload to see newer decisions."


def test_new_decisions_come_in_while_one_looks(browser: Browser, tmp_path: Path) -> None:
    path = stored(tmp_path / "audit.db")
    base = next(one.value for one in log() if one.value.get("uid") == "uid-refused")
    plain = {key: value for key, value in base.items() if key not in ("id", "replica", "sequence", "previous", "hash")}
    chain = Chain("tidewaiter-0/1111")
    time = NOW.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with served(sqlite_page(path, Cluster())) as port, visiting(browser, port, ALPHA) as page:
        page.get_by_role("link", name="Live", exact=True).click()
        expect(page.locator("#live-state")).to_have_text("Live")
        before = page.locator("#live-rows tbody tr").count()
        with closing(SqliteStore(path)) as store:
            store.append([
                chain.seal({**plain, "uid": "u-1", "name": "came-just-now", "time": time}),
                chain.seal({**plain, "uid": "u-2", "name": "bravo-came-too", "namespace": "bravo", "time": time}),
            ])  # fmt: skip
        expect(page.locator("#live-rows tbody tr").first).to_contain_text("came-just-now")
        expect(page.locator("#live-rows tbody tr")).to_have_count(before + 1)

        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#live-state")).to_have_text("Paused")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#live-state")).to_have_text("Live")


def test_whoever_may_see_nothing_is_told_so(browser: Browser, port: int) -> None:
    with visiting(browser, port, NOBODY) as page:
        expect(page.get_by_role("status")).to_contain_text("You may see no decisions yet")
        assert accessibility_problems(page) == []


def test_logging_out_leads_to_the_login_and_back_is_shut(browser: Browser, port: int) -> None:
    with visiting(browser, port) as page:
        page.goto("/decisions?range=all")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
        page.goto("/decisions?range=all")
        expect(page).to_have_url(re.compile(r"/login\?next="))
