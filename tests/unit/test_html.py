"""What notebooks show of workflows, selections and runs."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from motoko.core.changes import DeleteRun
from motoko.testing import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.workflow import Workflow

pytestmark = pytest.mark.unit

EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """The tags, the cells and the text of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1] == "td":
            self.cells[-1] += data


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    (tmp_path / "motoko.yaml").write_text("task_managers: {s: }\norchestrator: orchestrator.main\n")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "bd.yaml").write_text("job: {x: int, name: str}\n")
    (tmp_path / "s" / "launch.sh").write_text("true\n")
    (tmp_path / "orchestrator.py").write_text(
        "async def main(workflow, **points):\n    await workflow.s.create_task(**points)\n"
    )
    with simulate(tmp_path, {"s": lambda _: {"note": f"{EVIL}\x1b[2J"}}, run_name=EVIL[:8]) as made:
        yield made


def test_a_selection_shows_its_first_runs(workflow: Workflow) -> None:
    workflow.execute(x=list(range(25)), name=EVIL)
    page = Page(workflow.s.select("x >= 0")._repr_html_())
    assert page.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    assert len(page.cells) == 20 * 5
    assert page.cells[5:10] == ["2", "FINISHED", "1", EVIL, f"{EVIL}\\x1b[2J"]
    assert page.text.startswith("runs of s with x >= 0idstatexnamenote")
    assert page.text.endswith("5 more runs")


def test_a_list_of_runs_and_an_empty_one(workflow: Workflow) -> None:
    page = Page(workflow.s.create_task(x=[1, 2], name="a")._repr_html_())
    assert page.text.startswith("2 runs of s")
    assert page.cells[0] == "1"
    assert Page(workflow.s.create_tasks([])._repr_html_()).cells == []


def test_a_run_shows_its_values(workflow: Workflow) -> None:
    workflow.execute(x=1, name="a" * 10_000)
    run = workflow.s.select().runs[0]
    run.state = "CHECKED"
    run.long, run.huge = [0.5] * 10_000, 10**4199
    page = Page(run._repr_html_())
    assert "script" not in page.tags
    found = dict(zip(page.cells[::2], page.cells[1::2], strict=True))
    assert (found["state"], found["lifecycle"]) == ("CHECKED", "FINISHED")
    assert (found["run name"], found["x"], found["exit code"]) == (EVIL[:8], "1", "0")
    assert max(map(len, page.cells)) < 200


def test_many_columns_and_values_are_cut(workflow: Workflow) -> None:
    workflow.execute(x=1, name="a")
    run = workflow.s.select().runs[0]
    for n in range(40):
        setattr(run, f"f{n}", n)
    assert Page(workflow.s.select()._repr_html_()).text.endswith("28 more columns")
    assert Page(run._repr_html_()).text.endswith("23 more values")


def test_a_workflow_shows_its_studies(workflow: Workflow) -> None:
    workflow.execute(x=[1, 2], name="a")
    page = Page(workflow._repr_html_())
    assert page.cells == ["s", "2", "2 FINISHED"]
    assert EVIL[:8] in page.text


def test_an_error_is_shown_as_text(workflow: Workflow) -> None:
    run = workflow.s.create_task(x=1, name="a").runs[0]
    workflow.store.autocommit_scope.write(DeleteRun(run.key))
    page = Page(run._repr_html_())
    assert page.text == "<run s.1>: study 's' has no run 1"
    assert page.tags == {"p"}
