"""Steps, the status table and diagrams."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import GraphError
from motoko.products import WorkflowRunner, diagram, render, workflow_step
from tests.support.products import module_of, step_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


class TestStep:
    def test_a_decorator_without_and_with_arguments(self) -> None:
        @workflow_step
        def bare(x: int) -> int:
            """Return more."""
            return x + 1

        @workflow_step(produces=["a"], requires=("b", "c"), description="Said")
        def full() -> None:
            """Unused."""

        made: list[Any] = [bare, full]
        assert [one.workflow_description for one in made] == ["Return more.", "Said"]
        assert [one.workflow_produces for one in made] == [[], ["a"]]
        assert [one.workflow_requires for one in made] == [[], ["b", "c"]]
        assert all(one._is_workflow_step is True for one in made)
        assert bare(2) == 3
        assert bare.__name__ == "bare"

    def test_a_string_is_a_single_name(self) -> None:
        step: Any = workflow_step(lambda: 1, produces="mesh", requires="bed")
        assert (step.workflow_produces, step.workflow_requires) == (["mesh"], ["bed"])

    @pytest.mark.parametrize("wrong", [5, ["a", 5]])
    def test_invalid_product_names(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match=r"produces=.* names no products"):
            workflow_step(lambda: 1, produces=wrong)
        with pytest.raises(TypeError, match=r"requires=.* names no products"):
            workflow_step(requires=wrong)(lambda: 1)

    def test_an_unknown_direction_is_refused(self) -> None:
        with pytest.raises(ValueError, match="rankdir='ZZ' is not a direction\n  Use one of LR"):
            diagram(module_of(), rankdir="ZZ")

    def test_the_function_itself_is_not_changed(self) -> None:
        def plain() -> int:
            return 1

        workflow_step(plain, produces="x")
        assert WorkflowRunner(module_of(plain), None).build_all() == []

    def test_view_prints_the_source(self, capsys: pytest.CaptureFixture[str]) -> None:
        @workflow_step(produces="x")
        def make() -> str:
            return "in the source"

        made: Any = make
        assert made.view() is None
        assert 'return "in the source"' in capsys.readouterr().out


def runner() -> WorkflowRunner:
    nothing = workflow_step(lambda: None)
    module = module_of(step_of("b", "a", "z", called=[]), step_of("a", called=[]), none=nothing)
    made = WorkflowRunner(module, None)
    made.get("a")
    return made


class TestTable:
    def test_table_as_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        runner().dag()
        assert capsys.readouterr().out.splitlines() == [
            "flow — runner status",
            "  Step      Produces  Requires  Status",
            "  --------  --------  --------  ------",
            "  <lambda>  —         —         (no product)",
            "  make_a    a         —         cached",
            "  make_b    b         a, z      missing",
        ]

    def test_table_without_steps(self, capsys: pytest.CaptureFixture[str]) -> None:
        WorkflowRunner(module_of(), None).dag()
        assert capsys.readouterr().out.splitlines() == [
            "flow — runner status",
            "  Step  Produces  Requires  Status",
            "  ----  --------  --------  ------",
        ]

    def test_table_in_a_notebook_is_html(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shown: list[str] = []
        ipython(monkeypatch, shown, shell=object())
        runner().dag()
        (text,) = shown
        assert text.startswith("<h4>flow — runner status</h4><table")
        assert "&lt;lambda&gt;" in text
        assert text.count("<tr>") == 4
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("shell", [None, type("TerminalInteractiveShell", (), {})()])
    def test_table_in_a_terminal_is_text_even_with_ipython(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: object
    ) -> None:
        shown: list[str] = []
        ipython(monkeypatch, shown, shell=shell)
        runner().dag()
        assert shown == []
        assert "make_a    a" in capsys.readouterr().out


def ipython(monkeypatch: pytest.MonkeyPatch, shown: list[str], *, shell: object) -> None:
    package, display = ModuleType("IPython"), ModuleType("IPython.display")
    vars(package).update(get_ipython=lambda: shell, display=display)
    vars(display).update(HTML=str, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)


class TestDiagram:
    def test_diagram_of_a_runner_is_coloured_by_status(self) -> None:
        text = runner().diagram(rankdir="TB")
        lines = [line.strip().rstrip(";") for line in text.splitlines()]
        assert lines[0] == 'digraph "flow" {'
        assert "rankdir=TB" in lines
        assert '"a" [fillcolor="#bce6bc", tooltip="produced by make_a()"]' in lines
        assert '"b" [fillcolor="#e6e6e6", tooltip="produced by make_b()"]' in lines
        (unproduced,) = [line for line in lines if line.startswith('"z" [')]
        assert "dashed" in unproduced
        assert "#fff8d0" in unproduced
        assert {'"a" -> "b"', '"z" -> "b"'} <= {*lines}

    @pytest.mark.parametrize(
        ("status", "colour"),
        [
            ("cached", "#bce6bc"),
            ("on_disk", "#bcd7e6"),
            ("loaded", "#bcd7e6"),
            ("building", "#f7e389"),
            ("missing", "#e6e6e6"),
            ("stale", "#e6bcbc"),
        ],
    )
    def test_diagram_of_a_module(self, status: str, colour: str) -> None:
        module = module_of(step_of("a", called=[]))
        text = diagram(module, lambda _: status, title="Title")
        assert text.startswith('digraph "Title" {')
        assert f'"a" [fillcolor="{colour}"' in text
        assert 'fillcolor="#e6e6e6"' in diagram(module)

    def test_render_without_dot(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(
            FileNotFoundError, match="the program dot, which draws diagrams, is not"
        ) as caught:
            render(module_of(), tmp_path / "x.png")
        assert "Install Graphviz" in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "keywords", "kind"),
        [("x.svg", {}, "svg"), ("x", {}, "png"), ("x.svg", {"format": "pdf"}, "pdf")],
    )
    def test_render(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        name: str,
        keywords: dict[str, Any],
        kind: str,
    ) -> None:
        program(tmp_path / "dot", 'echo "$@"; exec cat')
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        module = module_of(step_of("a", called=[]))
        path = render(module, tmp_path / name, **keywords)
        assert path == tmp_path / name
        assert path.read_text() == f"-T{kind}\n{diagram(module)}"

    def test_render_reports_the_error_of_dot(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        program(tmp_path / "dot", "echo 'no such format' >&2; exit 1")
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(GraphError, match="cannot be drawn: no such format"):
            render(module_of(), tmp_path / "x.xyz")
        assert not (tmp_path / "x.xyz").exists()


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
