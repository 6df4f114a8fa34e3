"""The screens of the page in a real browser, beside a real launcher."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from motoko.api.workflow import Workflow
from motoko.runtime.daemons import PidFile
from motoko.server.lifecycle import ensure_server
from tests.support.browser import accessibility_findings
from tests.support.launching import WorkflowHarness
from tests.support.web import Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

    from motoko.core.records import RunKey

pytestmark = [
    pytest.mark.integration,
    pytest.mark.blocks_loop,
    pytest.mark.asyncio(loop_scope="module"),
]
expect.set_options(timeout=60_000)

# A run ends when a file with the number of its parameter exists; odd ones fail.
SCRIPT = """\
echo "x is $MOTOKO_JOB_X"
python3 -c "from motoko.worker import run; run.push_quantity('residual', 0.5, 1)"
until [ -e "$GATES/$MOTOKO_JOB_X" ]; do sleep 0.05; done
echo "<script>document.title='pwned'</script> step $MOTOKO_JOB_X" >&2
[ $((MOTOKO_JOB_X % 2)) = 0 ]
"""
FOUR = [{"x": x} for x in (1, 2, 3, 4)]


class Site:
    """A workflow with a page; ``gate`` lets runs end."""

    def __init__(self, directory: Path) -> None:
        self._gates = directory / "gates"
        self._gates.mkdir()
        script = SCRIPT.replace("$GATES", str(self._gates))
        self.harness = WorkflowHarness.make(
            directory / "w", {"solve": script}, options={"max_concurrent": 4}
        )

    def gate(self, *numbers: int) -> None:
        """Let the runs with these parameters end."""
        for number in numbers:
            (self._gates / str(number)).touch()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    found.gate(*range(1, 10))
    found.harness.close()


@pytest.fixture
def served(site: Site) -> Iterator[Served]:
    with Served(site.harness.directory, "--port", "0") as process:
        yield process


async def signed_in(browser: Browser, served: Served, path: str = "") -> Page:
    """Return a page of a browser with a session."""
    page = await (await browser.new_context()).new_page()
    await page.goto(served.link)
    await page.goto(f"{served.base}/{path}")
    return page


def row(page: Page, key: RunKey) -> str:
    return f'tr[id="row-{key}"]'


async def test_a_page_follows_runs_to_their_ends(
    browser: Browser, site: Site, served: Served
) -> None:
    keys = site.harness.create(FOUR)
    page = await signed_in(browser, served)
    await expect(page.locator("[data-part=summary]")).to_contain_text("0 of 4 runs")
    await expect(page.locator("[data-part=needs]")).to_contain_text("no launcher is running")
    second = await page.context.new_page()
    await second.goto(f"{served.base}/runs")
    await expect(second.locator(row(second, keys[1]))).to_contain_text("CREATED")

    site.harness.start()
    await expect(second.locator(row(second, keys[1]))).to_contain_text("START")
    site.gate(1, 2, 3)
    await expect(page.locator("[data-part=summary]")).to_contain_text("3 of 4 runs")
    await expect(second.locator(row(second, keys[1]))).to_contain_text("FINISHED")
    await expect(second.locator(row(second, keys[0]))).to_contain_text("FAILED")
    await expect(page.locator("[data-part=needs]")).to_contain_text("2")
    assert await page.title() != "pwned"

    await page.get_by_role("link", name="show").click()
    await expect(page.locator("article")).to_contain_text("<script>")
    assert await page.title() != "pwned"


async def test_a_list_is_filtered_and_announces_new_runs(
    browser: Browser, site: Site, served: Served
) -> None:
    site.harness.create(FOUR)
    page = await signed_in(browser, served, "runs?study=solve")
    await page.get_by_label("Filter").fill("x > 2")
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(2)
    assert "where=x" in page.url

    site.harness.create([{"x": 9}])
    await expect(page.get_by_role("link", name="1 new: show them")).to_be_visible()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.get_by_role("link", name="1 new: show them").click()
    await expect(page.locator("tbody tr")).to_have_count(3)

    await page.get_by_label("Filter").fill("x >")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("x >")
    await expect(page.get_by_label("Filter")).to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_label("Filter")).to_have_value("x >")


async def test_a_run_shows_its_growing_output_and_is_retried(
    browser: Browser, site: Site, served: Served
) -> None:
    [key] = site.harness.create([{"x": 1}])
    site.harness.start()
    site.harness.wait_for(key, "START")
    page = await signed_in(browser, served, f"runs/{key}")
    await expect(page.get_by_label("stdout")).to_contain_text("x is 1")
    site.gate(1)
    await expect(page.locator("[data-part=run]")).to_contain_text("FAILED")
    await expect(page.get_by_label("stderr")).to_contain_text("<script>")
    await expect(page.locator("svg.plot")).to_be_visible()
    assert await page.title() != "pwned"

    await page.get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("1 run would go back to CREATED")
    await expect(dialog).to_contain_text(f"motoko retry {key}")
    await dialog.get_by_role("button", name="Retry 1 run").click()
    await expect(dialog).to_contain_text("1 run to retry")
    record = site.harness.record(key)
    causes = [entry.cause for entry in record.history]
    assert any(re.fullmatch(r"page \(\w+\)", cause) for cause in causes)
    await expect(page.locator("[data-part=run]")).to_contain_text("2")


async def test_selected_runs_are_cancelled_held_and_released(
    browser: Browser, site: Site, served: Served
) -> None:
    keys = site.harness.create(FOUR)
    page = await signed_in(browser, served, "runs")
    await page.get_by_label(f"Select {keys[0]}").check()
    await page.get_by_label(f"Select {keys[2]}").check()
    await expect(page.locator("[data-selected]")).to_have_text("2 selected")
    await page.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("2 runs would be cancelled")
    await dialog.get_by_role("button", name="Cancel 2 runs").click()
    await expect(dialog).to_contain_text("2 runs cancelled")
    await dialog.get_by_role("link", name="Close").click()
    await expect(page.locator(row(page, keys[2]))).to_contain_text("CANCELLED")
    assert [str(r.lifecycle) for r in site.harness.records(keys)] == [
        "CANCELLED", "CREATED", "CANCELLED", "CREATED",
    ]  # fmt: skip

    for name, text in (("Hold", "2 waiting"), ("Release", "2 runs released")):
        await page.goto(f"{served.base}/runs?where=lifecycle+%3D+CREATED")
        await page.get_by_role("button", name=name, exact=True).click()
        await expect(dialog).to_contain_text("2 runs would be")
        await dialog.get_by_role("button", name=re.compile(name)).click()
        await expect(dialog).to_contain_text(text)


async def test_a_page_is_right_again_after_the_server_was_killed(
    browser: Browser, site: Site, served: Served
) -> None:
    site.harness.create(FOUR[:2])
    page = await signed_in(browser, served)
    summary = page.locator("[data-part=summary]")
    await expect(summary).to_contain_text("of 2 runs")

    record = PidFile(site.harness.state.server_record).read()
    assert record is not None
    os.kill(record.process.pid, signal.SIGKILL)
    ensure_server(site.harness.state)
    site.harness.create([{"x": 7}])
    await expect(summary).to_contain_text("of 3 runs")

    served.stop(signal.SIGKILL)
    await expect(page.get_by_role("status").first).to_contain_text("disconnected")
    site.harness.create([{"x": 8}])
    with Served(site.harness.directory, "--port", str(served.port)):
        await expect(summary).to_contain_text("of 4 runs")
        await expect(page.get_by_role("status").first).not_to_contain_text("disconnected")


async def test_plots_are_drawn_and_a_range_becomes_a_filter(
    browser: Browser, site: Site, served: Served
) -> None:
    site.harness.create([{"x": x} for x in range(1, 10)])
    problems: list[str] = []
    page = await signed_in(browser, served)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda one: problems.append(one.text) if one.type == "error" else None)
    await page.goto(f"{served.base}/plots?study=solve&x=x&y=id&color=state")
    await expect(page.locator("[data-plot-note]")).to_contain_text("9 runs")
    await expect(page.locator("[data-chart=scatter] canvas")).to_be_visible()
    await page.goto(f"{served.base}/plots?study=solve&where=x+%3E")
    await expect(page.locator("[data-plot-note]")).to_contain_text("x >")
    assert [one for one in problems if "400" not in one] == []


async def test_every_screen_is_accessible_and_complete_without_script(
    browser: Browser, site: Site, served: Served
) -> None:
    keys = site.harness.create(FOUR)
    site.gate(1, 2)
    site.harness.start()
    site.harness.wait(keys[:2])
    page = await signed_in(browser, served)
    # Without script: the numbers are in the page itself.
    plain = await browser.new_context(
        java_script_enabled=False, storage_state=await page.context.storage_state()
    )
    still = await plain.new_page()
    screens = {
        "": "2 of 4 runs", "runs": "solve.4", f"runs/{keys[0]}": "solve.1", "failures": "exit 1",
        "flow": "solve", "events": "No orchestrator", "plots?study=solve": "These plots need",
        f"do/retry?runs={keys[0]}": "motoko retry solve.1",
    }  # fmt: skip
    for path, text in screens.items():
        await still.goto(f"{served.base}/{path}")
        await expect(still.locator("main")).to_contain_text(text)
        await page.goto(f"{served.base}/{path}")
        assert await accessibility_findings(page) == [], path
        for width in (360, 2560):
            await page.set_viewport_size({"width": width, "height": 800})
            wide = "document.documentElement.scrollWidth > innerWidth"
            assert not await page.evaluate(wide), (path, width)


async def test_the_keyboard_alone_opens_screens_and_the_filter(
    browser: Browser, site: Site, served: Served
) -> None:
    site.harness.create(FOUR)
    page = await signed_in(browser, served)
    await page.keyboard.press("2")
    await expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    await page.wait_for_load_state()  # the script handles keys by then
    await page.keyboard.press("/")
    await page.keyboard.type("x = 3")
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("link", name="solve.3").press("Enter")
    await expect(page.get_by_role("heading", name="solve.3", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Cancel").press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("1 run would be cancelled")
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()


async def test_a_read_only_page_has_no_verbs(browser: Browser, site: Site) -> None:
    [key] = site.harness.create([{"x": 1}])
    with Served(site.harness.directory, "--port", "0", "--read-only") as served:
        page = await signed_in(browser, served, "runs")
        await expect(page.get_by_role("link", name=str(key))).to_be_visible()
        for path in ("runs", f"runs/{key}", "failures"):
            await page.goto(f"{served.base}/{path}")
            assert await page.get_by_role("button", name="Cancel").count() == 0
            assert await page.get_by_role("checkbox").count() == 0


async def test_a_hundred_thousand_runs_are_listed_and_filtered(
    browser: Browser, site: Site, served: Served
) -> None:
    with Workflow(site.harness.directory) as workflow:
        workflow.run_name = "large"
        for start in range(0, 100_000, 10_000):
            workflow.solve.create_task(x=[*range(start, start + 10_000)])
    page = await signed_in(browser, served, "?run_name=large")
    await expect(page.locator("[data-part=summary]")).to_contain_text("of 100,000 runs")
    await page.goto(f"{served.base}/runs?run_name=large&study=solve")
    await expect(page.locator(".pages")).to_contain_text("1 to 50 of 100,000")
    await page.get_by_role("link", name="Next").click()
    await expect(page.locator("tbody tr").first).to_contain_text("solve.99950")
    await page.get_by_label("Filter").fill("x >= 99990 and x < 99993")
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(3)
    await page.goto(f"{served.base}/plots?run_name=large&study=solve&x=x&y=id")
    await expect(page.locator("[data-plot-note]")).to_contain_text("of 100,000 runs")


async def test_a_stream_keeps_the_rows_of_its_page(site: Site, served: Served) -> None:
    site.harness.create(FOUR)
    with served.signed_in() as client:
        page = client.get("/runs?run_name=test&study=solve")
        name = re.search(r'data-live="(\w+)"', page.text)
        assert name is not None
        site.harness.create([{"x": 9}])  # before the stream begins
        address = f"/runs?run_name=test&study=solve&live={name[1]}"
        with client.stream("GET", address) as stream:
            for line in stream.iter_lines():
                parts = dict(json.loads(line[6:])["parts"]) if line.startswith("data: ") else {}
                assert "solve.5<" not in parts.get("rows", "")
                if "1 new" in parts.get("news", ""):
                    return
