"""What pages of other sites can do in a real browser that has a session."""

from __future__ import annotations

import asyncio
import re
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal

import pytest

from tests.support.browser import accessibility_findings
from tests.support.command_line import Shell, small_workflow
from tests.support.web import Served
from tests.support.web_server import SECRET_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

pytestmark = [
    pytest.mark.integration,
    pytest.mark.blocks_loop,
    pytest.mark.asyncio(loop_scope="module"),
]

ATTACKS = """<!doctype html><title>evil</title>
<form id=f method=post action="{base}/change"><input name=csrf_token value=x></form>
<iframe id=frame src="{base}/text"></iframe>
<script>
window.results = {{}};
async function attempt(name, action) {{
  try {{ window.results[name] = await action(); }}
  catch (error) {{ window.results[name] = "failed: " + error.name; }}
}}
const text = options => async () => (await fetch("{base}/text", options)).text();
const post = options => async () =>
  (await fetch("{base}/change", {{method: "POST", ...options}})).text();
const stream = url => () => new Promise(resolve => {{
  const source = new EventSource(url, {{withCredentials: true}});
  source.onmessage = event => {{ source.close(); resolve(event.data); }};
  source.onerror = () => {{ source.close(); resolve("failed: stream"); }};
}});
const image = () => new Promise(resolve => {{
  const one = new Image();
  one.onload = () => resolve("loaded");
  one.onerror = () => resolve("failed: image");
  one.src = "{base}/static/motoko.svg";
}});
window.done = Promise.all([
  attempt("read", text({{credentials: "include"}})),
  attempt("read without cors", text({{credentials: "include", mode: "no-cors"}})),
  attempt("post", post({{credentials: "include", body: "csrf_token=x"}})),
  attempt("header", post({{credentials: "include", headers: {{"X-CSRF-Token": "x"}}}})),
  attempt("stream", stream("{base}/stream")),
  attempt("image", image),
]);
</script>
"""


class OtherSite:
    """A web server at another port, of the pages that an attacker writes."""

    def __init__(self, page: str) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, page))
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        self.cross_site = self.address.replace("127.0.0.1", "localhost")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, page: str, *args: object) -> None:
        self._page = page.encode()
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self._page)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    shell = small_workflow(tmp_path / "w")
    with Served(shell.directory, "--port", "0") as process:
        yield process


@pytest.fixture
def other_site(served: Served) -> Iterator[OtherSite]:
    site = OtherSite(ATTACKS.format(base=served.base))
    yield site
    site.close()


async def open_page(browser: Browser, address: str) -> Page:
    """Return a page of a new user at this address."""
    page = await (await browser.new_context()).new_page()
    await page.goto(address)
    return page


async def title(page: Page) -> str:
    return await page.locator("h1").inner_text()


async def test_a_link_signs_in_a_browser_once(browser: Browser, served: Served) -> None:
    page = await open_page(browser, served.link)
    assert await title(page) == "Campaign"
    assert page.url == f"{served.base}/"
    (cookie,) = await page.context.cookies()
    assert cookie["name"] == f"motoko-{served.port}"
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert await page.evaluate("document.cookie") == ""
    stranger = await open_page(browser, served.link)
    assert await title(stranger) == "This link is not valid"
    assert await stranger.locator("nav").count() == 0
    tab = await page.context.new_page()
    await tab.goto(f"{served.base}/runs")
    assert await title(tab) == "Runs"


async def test_a_link_on_another_site_signs_in(
    browser: Browser, served: Served, other_site: OtherSite
) -> None:
    for place in (other_site.address, other_site.cross_site):
        page = await open_page(browser, place)
        printed = await asyncio.to_thread(Shell(served.directory).ok, "serve", "--link")
        link = next(word for word in printed.split() if "token=" in word)
        await follow(page, link)
        await page.wait_for_url(f"{served.base}/")
        assert await title(page) == "Campaign"
        # A later link from there finds the session, although its cookie is strict.
        await page.goto(place)
        await follow(page, f"{served.base}/runs?x=1")
        await page.wait_for_url(re.compile(r"/runs\?x=1$"))
        await page.get_by_role("heading", name="Runs").wait_for()


async def follow(page: Page, link: str) -> None:
    await page.evaluate(
        """link => {
            const anchor = document.createElement("a");
            anchor.href = link;
            document.body.append(anchor);
            anchor.click();
        }""",
        link,
    )


async def test_the_page_submits_its_own_form(browser: Browser, served: Served) -> None:
    page = await open_page(browser, served.link)
    origins: list[str | None] = []
    page.on("request", lambda one: origins.append(one.headers.get("origin")))
    async with page.expect_navigation(url="**/deep/page"):
        await page.evaluate(
            """() => {
                const form = document.createElement("form");
                form.method = "post";
                form.action = document.body.dataset.root + "change";
                const field = document.createElement("input");
                field.name = "csrf_token";
                field.value = document.body.dataset.csrfToken;
                form.append(field);
                document.body.append(form);
                form.submit();
            }"""
        )
    assert "null" not in origins
    assert await page.title() != "pwned"
    assert "<script>" in await title(page), "as text"
    link = page.get_by_role("link", name="Runs")
    assert await link.get_attribute("href") == "../runs"
    await link.click()
    assert await title(page) == "Runs"


async def test_the_page_reads_its_own_stream(browser: Browser, served: Served) -> None:
    page = await open_page(browser, served.link)
    received = await page.evaluate(
        """() => new Promise(resolve => {
            const source = new EventSource("./stream");
            source.onmessage = event => { source.close(); resolve(event.data); };
        })"""
    )
    assert received.startswith(SECRET_TEXT)


@pytest.mark.parametrize("place", ["address", "cross_site"])
async def test_another_site_neither_reads_nor_acts(
    browser: Browser, served: Served, other_site: OtherSite, place: str
) -> None:
    page = await open_page(browser, served.link)
    evil = await page.context.new_page()
    answers: list[tuple[str, int]] = []
    evil.on("response", lambda one: answers.append((one.url, one.status)))
    await evil.goto(getattr(other_site, place))
    await evil.evaluate("window.done")
    results = await evil.evaluate("window.results")
    assert results == {
        "read": "failed: TypeError",
        "read without cors": "failed: TypeError",
        "post": "failed: TypeError",
        "header": "failed: TypeError",
        "stream": "failed: stream",
        "image": "failed: image",
    }
    frame = evil.frame_locator("#frame")
    assert await frame.get_by_text(SECRET_TEXT).count() == 0
    async with evil.expect_navigation():
        await evil.evaluate("document.getElementById('f').submit()")
    assert await title(evil) == "Request from another site"
    ours = [(url, status) for url, status in answers if url.startswith(served.base)]
    bad = [(url, status) for url, status in ours if status < 400 and "/static/" not in url]
    assert bad == []


async def test_no_page_can_run_a_script_of_its_own(browser: Browser, served: Served) -> None:
    page = await open_page(browser, served.link)
    await page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'pwned'";
            document.body.append(script);
            const html = "<img src=x onerror=document.title='pwned'>"
                + "<p id=styled style='display:none'>x</p>";
            document.body.insertAdjacentHTML("beforeend", html);
        }"""
    )
    assert await page.locator("#styled").is_visible(), "inline style is not applied"
    assert await page.title() != "pwned"


async def test_a_name_that_leads_to_this_machine_shows_nothing(
    browser: Browser, served: Served
) -> None:
    page = await open_page(browser, served.link)
    # localhost stands for the attacker's name: the browser has no session there.
    tab = await page.context.new_page()
    response = await tab.goto(served.base.replace("127.0.0.1", "localhost"))
    assert response is not None
    assert response.status == 403
    response = await tab.goto(served.base.replace("127.0.0.1", "evil.localhost"))
    assert response is not None
    assert response.status == 421
    assert await title(tab) == "Unknown host name"


@pytest.mark.parametrize("width", [360, 1280, 2560])
async def test_the_page_fits_its_window(browser: Browser, served: Served, width: int) -> None:
    context = await browser.new_context(viewport={"width": width, "height": 800})
    page = await context.new_page()
    await page.goto(served.link)
    for path in ("/", "/deep/page", "/nothing"):
        await page.goto(served.base + path)
        overflow = await page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow == 0, path


async def test_the_first_key_reaches_the_content(browser: Browser, served: Served) -> None:
    page = await open_page(browser, served.link)
    await page.keyboard.press("Tab")
    focused = "document.activeElement.textContent"
    assert await page.evaluate(focused) == "Skip to the content"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_are_accessible(
    browser: Browser, served: Served, scheme: Literal["light", "dark"]
) -> None:
    context = await browser.new_context(color_scheme=scheme)
    page = await context.new_page()
    await page.goto(f"{served.base}/")
    assert await title(page) == "No access from this browser"
    assert await accessibility_findings(page) == []
    await page.goto(served.link)
    for path in ("/", "/runs", "/deep/page", "/nothing", "/fail"):
        await page.goto(served.base + path)
        assert await accessibility_findings(page) == [], path


async def test_accessibility_findings_are_found(browser: Browser, served: Served) -> None:
    page = await open_page(browser, served.link)
    await page.evaluate("document.querySelector('main').innerHTML = '<input>'")
    (finding,) = await accessibility_findings(page)
    assert finding.startswith("label: ")
