"""A Chromium for tests, driven by Playwright; scripts/chromium finds or installs it."""

from __future__ import annotations

import functools
import subprocess
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

SCRIPT = Path(__file__).parents[2] / "scripts" / "chromium"
CANNOT_RUN = 77
SERIOUS = ("serious", "critical")


class NoBrowserError(Exception):
    """This machine has no Chromium and cannot install it; the message gives the reason."""


@functools.cache
def chromium() -> str:
    """Return the path of Chromium; raise NoBrowserError."""
    done = subprocess.run(
        [SCRIPT], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode == CANNOT_RUN:
        raise NoBrowserError(done.stderr.strip())
    done.check_returncode()
    return done.stdout.strip()


@asynccontextmanager
async def started_browser() -> AsyncIterator[Browser]:
    """Start Chromium without a window. Each of its contexts is a user with cookies of their own."""
    from playwright.async_api import async_playwright  # imports slowly

    async with async_playwright() as playwright:
        # Root, as in containers, cannot use the sandbox.
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            await browser.close()


async def accessibility_findings(page: Page) -> list[str]:
    """Return the serious findings of axe-core in a page, each with its first element."""
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    await page.evaluate(axe)
    found = await page.evaluate("axe.run()")
    return [
        f"{one['id']}: {one['help']}: {one['nodes'][0]['html']}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]
