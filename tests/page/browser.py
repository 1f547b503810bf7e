"""The system's Chromium, driven by Playwright: Playwright's own browsers are not downloaded."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
SCHEMES = ("light", "dark")
_AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_HOW = "install Chromium, for example with `apt-get install chromium`, or name one by the variable CHROMIUM"


def program() -> str:
    """Chromium; skips where there is none, and fails in CI."""
    for name in (os.environ.get("CHROMIUM", ""), *_NAMES):
        found = shutil.which(name) if name else None
        if found:
            return found
    if os.environ.get("CI"):
        pytest.fail(f"there is no Chromium here: {_HOW}")
    pytest.skip(f"there is no Chromium here: {_HOW}")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A running one."""
    path = program()
    # Its sandbox does not work for root, and pages of our own are all that it opens.
    options = ["--no-sandbox", "--disable-dev-shm-usage"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield started
        finally:
            started.close()


def accessibility_problems(page: Page) -> list[str]:
    """What axe-core finds, a line each. The page's policy lets no script in, so it goes in by the debugger."""
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]}" for one in found["violations"] for node in one["nodes"][:3]
    ]
