"""Invalid task functions are reported before anything is built."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from motoko import assets as a
from motoko.assets import asset, external, task, tasks
from motoko.errors import CycleError, GraphError, MotokoError, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit


def yields(*values: Any) -> Any:
    """Return a function that yields these values."""

    def function() -> Iterator[Any]:
        yield from values

    return function


def first_line(function: Any) -> str:
    """Return the first line of the multi-line error of a call."""
    with pytest.raises(TaskError) as caught:
        function()
    lines = str(caught.value).splitlines()
    assert len(lines) > 1
    return lines[0]


@pytest.mark.parametrize(
    ("decorator", "values", "missing"),
    [
        (task, (), "task name"),
        (task, ("x",), "assets"),
        (task, ("x", None), "requirements"),
        (tasks, (), "task name"),
        (tasks, ("x",), "requirements"),
        (external, (), "task name"),
        (external, ("x",), "assets"),
    ],
)
def test_a_missing_yield(decorator: Any, values: tuple[Any, ...], missing: str) -> None:
    with pytest.raises(TaskError) as caught:
        decorator(yields(*values))()
    first, second = str(caught.value).splitlines()
    assert first == f"Failed to get {missing}: Check yield statements."
    assert "yields.<locals>.function" in second
    assert decorator.__name__ in second
    assert ("'x'" in second) == bool(values)


def test_an_extra_yield(caplog: pytest.LogCaptureFixture) -> None:
    node = task(yields("x", asset(1, lambda: False), None, 4))()
    assert not a.ready(node)
    assert "x: Task failed: Task 'x' yields too often" in caplog.messages[0]


@pytest.mark.parametrize("value", [42, "text", [asset(1, lambda: True), 42], {"k": object()}])
def test_invalid_assets(value: Any) -> None:
    for decorator in (task, external):
        line = first_line(decorator(yields("x", value, None)))
        assert line.startswith("Task 'x' yielded asset ")
        assert line.endswith(": Expected an asset() value.")


@pytest.mark.parametrize("value", [42, "text", [[]], {"k": object()}])
def test_invalid_requirements(value: Any) -> None:
    for function in (task(yields("x", None, value)), tasks(yields("x", value))):
        line = first_line(function)
        assert line.startswith("Task 'x' yielded requirement ")
        assert line.endswith(": Expected a task-call value.")


def test_an_asset_where_a_task_was_expected() -> None:
    with pytest.raises(TaskError, match="yield the task that makes it ready"):
        tasks(yields("x", [asset(1, lambda: True)]))()


def test_a_task_where_an_asset_was_expected() -> None:
    @task
    def function() -> Iterator[Any]:
        yield "x"
        yield external(yields("box", None))()
        yield None

    with pytest.raises(TaskError, match="This is a task: a requirement"):
        function()


def test_an_uncalled_function_is_refused() -> None:
    box = external(yields("box", None))
    with pytest.raises(TaskError, match="the result of calling the task function"):
        tasks(yields("x", box))()


def test_a_ready_that_is_not_callable() -> None:
    line = first_line(external(yields("x", asset("file", True))))  # type: ignore[arg-type]
    assert line == "Task 'x' yielded asset 'file' with ready=True, which cannot be called"


def test_a_function_that_does_not_yield() -> None:
    assert first_line(task(lambda: 5)).endswith("<lambda> does not yield")  # type: ignore[arg-type,return-value]


def test_an_async_function_is_not_a_task_function() -> None:
    async def awaited() -> None:
        raise AssertionError

    async def generating() -> Any:
        yield "x"

    for function in (awaited, generating):
        with pytest.raises(TaskError, match=r"is an async function\n.*`def`, not `async def`"):
            task(function)()  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [-1, "two", None, 1.5])
async def test_threads_must_be_a_number(threads: Any) -> None:
    called: list[str] = []

    @task
    def function() -> Iterator[Any]:
        called.append("it")
        yield from ("x", None, None)

    with pytest.raises(ValueError, match="is not a number of threads") as caught:
        function(threads=threads)
    assert isinstance(caught.value, MotokoError)
    with pytest.raises(ValueError, match="is not a number of threads"):
        await a.build(function, threads=threads)
    assert called == []


async def test_build_requires_a_task_function() -> None:
    box = external(yields("box", None))
    with pytest.raises(TaskError, match=r"not the result of its call: box.*\n.*build\(function, 1"):
        await a.build(box())  # type: ignore[arg-type]
    with pytest.raises(TaskError, match=r"not 5\n.*decorated with @task"):
        await a.build(5)  # type: ignore[arg-type]
    with pytest.raises(TaskError, match=r"len returned 1: it is not a task function"):
        await a.build(len, [1])  # type: ignore[arg-type]
    assert a.ready(await a.build(partial(box)))


def test_helpers_accept_none() -> None:
    assert (a.assets(None), a.refs(None), a.requirements(None)) == (None, None, None)


def test_helpers_accept_only_nodes() -> None:
    for helper in (a.assets, a.refs, a.ready, a.requirements, a.graph):
        with pytest.raises(TaskError, match=rf"{helper.__name__}\(\) takes"):
            helper(42)  # type: ignore[arg-type]


class TestCycles:
    def test_a_task_that_requires_itself(self) -> None:
        @task
        def function() -> Iterator[Any]:
            yield "x"
            yield None
            yield function()

        with pytest.raises(CycleError, match="'x' requires itself"):
            function()

    def test_a_mutual_requirement_is_reported_with_its_path(self) -> None:
        @task
        def start() -> Iterator[Any]:
            yield "start"
            yield asset(1, lambda: False)
            yield a_(0)

        @task
        def a_(number: int) -> Iterator[Any]:
            yield f"a{number}"
            yield asset(1, lambda: False)
            yield b(number)

        @tasks
        def b(number: int) -> Iterator[Any]:
            yield f"b{number}"
            yield [a_((number + 1) % 2)]

        with pytest.raises(CycleError) as caught:
            start()
        assert caught.value.path == ("a0", "b0", "a1", "b1", "a0")

    def test_endless_recursion_before_the_name_is_refused(self) -> None:
        @task
        def function() -> Iterator[Any]:
            function()
            yield "never"

        with pytest.raises(GraphError, match="call each other endlessly") as caught:
            function()
        assert isinstance(caught.value, MotokoError)


def test_a_body_is_not_executed_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    there = [False]

    @task
    def function() -> Iterator[Any]:
        yield "x"
        yield asset(1, lambda: there[0])
        yield None
        there[0] = True

    kept = function()
    there[0] = False
    caplog.clear()
    caplog.set_level(logging.INFO)
    tasks(yields("again", [kept]))()
    assert "Task 'x' was executed before" in caplog.text


def test_errors_of_the_function_itself_reach_the_caller() -> None:
    @task
    def function(x: int) -> Iterator[Any]:
        yield f"{1 / x}"

    @tasks
    def outer() -> Iterator[Any]:
        yield "outer"
        yield function(0)

    with pytest.raises(ZeroDivisionError) as caught:
        outer()
    # The error names only the innermost task, whose own name is not known yet.
    place = f"{__name__}.test_errors_of_the_function_itself_reach_the_caller.<locals>.function"
    assert caught.value.__notes__ == [f"in the task {place}"]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        function()
