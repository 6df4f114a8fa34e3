"""The error hierarchy and its messages."""

from __future__ import annotations

import inspect

import pytest

from motoko import errors
from motoko.errors import (
    ConfigError,
    ConflictError,
    MotokoError,
    NotAWorkflowError,
    ParameterError,
    RunFailed,
    ServerError,
    StateError,
    StorageError,
    UnknownNameError,
    UnknownRunError,
    WorkflowFailed,
    nearest,
    suggestion,
)

pytestmark = pytest.mark.unit


def test_every_error_has_the_base_class_and_a_docstring() -> None:
    classes = [
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, BaseException) and not issubclass(found, Warning)
    ]
    assert len(classes) > 15
    for found in classes:
        assert issubclass(found, MotokoError)
        assert found.__doc__


@pytest.mark.parametrize(
    ("error", "caught_as"),
    [
        (ParameterError, ValueError),
        (StateError, ValueError),
        (UnknownNameError, AttributeError),
        (UnknownRunError, LookupError),
        (NotAWorkflowError, ConfigError),
        (ServerError, StorageError),
        (ConflictError, StorageError),
    ],
)
def test_errors_derive_from_the_matching_builtin(
    error: type[MotokoError], caught_as: type[Exception]
) -> None:
    with pytest.raises(caught_as, match="text"):
        raise error("text")


def test_the_hint_follows_the_message() -> None:
    error = MotokoError("the run is gone", hint="Look for it.")
    assert str(error).splitlines() == ["the run is gone", "  Look for it."]
    assert (error.message, error.hint) == ("the run is gone", "Look for it.")
    assert str(MotokoError("the run is gone")) == "the run is gone"


@pytest.mark.parametrize(
    ("file", "line", "text"),
    [
        (None, None, "wrong"),
        ("bd.yaml", None, "bd.yaml: wrong"),
        ("bd.yaml", 3, "bd.yaml:3: wrong"),
    ],
)
def test_configuration_errors_start_with_the_place(
    file: str | None, line: int | None, text: str
) -> None:
    error = ConfigError("wrong", file=file, line=line, hint="Mend it.")
    assert str(error).splitlines() == [text, "  Mend it."]
    assert (error.file, error.line) == (file, line)


@pytest.mark.parametrize("kind", [RunFailed, WorkflowFailed])
def test_failures_have_their_runs(kind: type[RunFailed | WorkflowFailed]) -> None:
    error = kind("mult.3 ended FAILED", iter([3, 4]), hint="See stderr.")
    assert error.runs == [3, 4]
    assert kind("none").runs == []


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("stat", ["state", "run_name"], "Did you mean 'state'?"),
        ("zzz", ["b", "a"], "Known: a, b."),
        ("zzz", [], "There are none."),
    ],
)
def test_suggestions(name: str, known: list[str], hint: str) -> None:
    assert suggestion(name, known) == hint


def test_the_nearest_name() -> None:
    assert nearest("nprocs", ["nproc", "timeout"]) == "nproc"
    assert nearest("color", ["nproc", "timeout"]) is None
