"""Make pictures of the screens: ``python -m tests.support.screenshots DIRECTORY``."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.api.workflow import Workflow
from motoko.tui.app import WatchApp
from motoko.tui.signs import signs_for
from motoko.views.live import LiveViews
from tests.support.browser import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES: Final = {
    "motoko.yaml": """\
task_managers:
  solve:
  fit:
orchestrator: orchestrator.main
max_concurrent: 6
""",
    "orchestrator.py": """\
from motoko import event


@event
async def refine(workflow, runs):
    for run, job in runs:
        workflow.fit.create_task(x=job.x, error=run.error)
        run.state = "REFINED"


@event
async def accept(workflow, runs):
    for run, _ in runs:
        run.state = "ACCEPTED"


async def main(workflow):
    workflow.add_action("refine", task="solve", event="state = FINISHED, error < 0.5", f=refine)
    workflow.add_action("accept", task="fit", event="state = FINISHED, quality > 5", f=accept)
    await workflow.solve.create_task(x=[n / 10 for n in range(900)]).settled()
""",
    "solve/bd.yaml": "job:\n  x: float\nrun:\n  error: float\n",
    "fit/bd.yaml": "job:\n  x: float\n  error: float\nrun:\n  quality: float\n",
    "solve/doIt.py": """\
import random, sys
from motoko.worker import job, run

for step in range(20):
    run.push_quantity("residual", 1 / (step + 1) + random.random() / 50, step)
if random.random() < 0.05:
    sys.exit(f"ConvergenceError: no convergence in {random.randint(100, 300)} steps")
if random.random() < 0.02:
    print(f"MemoryError: cannot allocate {random.randint(10, 99)} MB", file=sys.stderr)
    sys.exit(7)
run.error = random.random()
""",
    "fit/doIt.py": """\
import random
from motoko.worker import run

run.quality = 6 * random.random()
""",
}
SCRIPT: Final = "sleep 0.$((RANDOM % 50 + 30))\npython3 doIt.py\n"
RUN_NAME: Final = "second"
PART: Final = 400  # runs that have ended when the pictures are made
FONT: Final = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # from another host


def main(target: Path) -> None:
    """Run the workflow, and make the pictures while it runs."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "pendulum"
        for study in ("solve", "fit"):
            (directory / study).mkdir(parents=True)
            (directory / study / "launch.sh").write_text(SCRIPT)
        for name, text in FILES.items():
            (directory / name).write_text(text)
        command = [sys.executable, "-m", "motoko"]
        run = subprocess.Popen([*command, "run", "--run_name", RUN_NAME], cwd=directory)
        try:
            _wait(directory)
            picture_page(directory, target / "page.png")
            drawing = asyncio.run(picture_terminal(directory))
            (target / "terminal.svg").write_text(drawing)
        finally:
            run.terminate()
            run.wait()
            subprocess.run([*command, "kill", "--stop-runs", "--yes"], cwd=directory, check=True)


def _wait(directory: Path) -> None:
    """Wait until a part of the runs has ended."""
    ended = 0
    while ended < PART:
        time.sleep(0.5)
        if (directory / ".wf" / "wf.db").exists():
            workflow = Workflow(directory, read_only=True)
            with workflow.store.autocommit_scope.read() as session:
                table = session.tables.study("solve")
                ended = table.count(RUN_NAME, lifecycles=["FINISHED", "FAILED"])
            workflow.close()


def picture_page(directory: Path, file: Path) -> None:
    """Write the first screen of the page."""
    from playwright.sync_api import sync_playwright

    server = subprocess.Popen(
        [sys.executable, "-m", "motoko", "serve", "--port", "0"],
        cwd=directory, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    lines = (re.search(r"http://\S+", line) for line in server.stdout)
    link = next(found for found in lines if found)[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme="light")
        page.goto(link)
        page.wait_for_selector(".throughput")
        page.wait_for_timeout(8000)  # the page reads the past in steps
        page.screenshot(path=file)
        browser.close()
    server.terminate()
    server.wait()


async def picture_terminal(directory: Path) -> str:
    """Return the first screen of the terminal as SVG."""

    @contextlib.contextmanager
    def open_writer() -> Iterator[Workflow]:
        yield Workflow(directory)

    views = LiveViews(lambda: Workflow(directory, read_only=True))
    signs = signs_for({"LANG": "C.UTF-8", "TERM": "xterm-256color"})
    app = WatchApp(views, open_writer, RUN_NAME, signs)
    async with app.run_test(size=(100, 28)) as pilot:
        await pilot.pause(8)
        text = app.export_screenshot(title=f"motoko watch --run_name {RUN_NAME}")
    await views.close()
    return FONT.sub("", text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
