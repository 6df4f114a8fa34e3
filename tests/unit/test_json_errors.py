"""Errors of commands with ``--json``."""

from __future__ import annotations

import errno
import inspect
import json
import os
import re
from typing import Any

import jsonschema
import pytest

from motoko import errors
from motoko.cli.entry_point import run
from motoko.cli.error_report import report
from motoko.cli.json_errors import error_code
from motoko.cli.json_schemas import OUTPUTS
from motoko.cli.parser import build_parser, parse, wants_json
from motoko.errors import ConfigError, ExitStatus, MotokoError, RunFailed, UnknownNameError

pytestmark = pytest.mark.unit


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the only object on standard output."""
    content = json.loads(capsys.readouterr().out)
    jsonschema.Draft7Validator(OUTPUTS["error"]).validate(content)
    found: dict[str, Any] = content["error"]
    return found


@pytest.mark.parametrize(
    ("error", "status", "code", "place", "fix"),
    [
        (
            ConfigError("is wrong", file="/w/motoko.yaml", line=3, hint="Correct it."),
            ExitStatus.USAGE, "config-error", {"file": "/w/motoko.yaml", "line": 3}, "Correct it.",
        ),
        (
            ConfigError("is wrong", file="/w/motoko.yaml"),
            ExitStatus.USAGE, "config-error", {"file": "/w/motoko.yaml", "line": None}, None,
        ),
        (UnknownNameError("is wrong"), ExitStatus.USAGE, "unknown-name-error", None, None),
        (RunFailed("is wrong", hint="Retry."), ExitStatus.FAILED, "run-failed", None, "Retry."),
    ],
)  # fmt: skip
def test_an_error_has_code_place_and_fix(
    error: MotokoError,
    status: int,
    code: str,
    place: dict[str, Any] | None,
    fix: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(error, verbose=False, as_json=True) == status
    expected = {"code": code, "message": "is wrong", "place": place, "fix": fix}
    assert printed(capsys) == expected


def test_errors_of_the_system_and_of_user_code_have_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report(OSError(errno.ENOSPC, "No space left", "/w/x"), verbose=False, as_json=True)
    found = printed(capsys)
    assert (found["code"], found["place"]) == ("not-writable", {"file": "/w/x", "line": None})

    try:
        exec(compile("\n\n1 / 0", "/w/steps.py", "exec"), {"__name__": "steps"})
    except ZeroDivisionError as error:
        report(error, verbose=False, as_json=True)
    found = printed(capsys)
    assert found["code"] == "unexpected-error"
    assert "division by zero" in found["message"]
    assert found["place"] == {"file": "/w/steps.py", "line": 3}


def test_the_code_is_the_name_of_the_class() -> None:
    classes = [
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, MotokoError)
    ]
    codes = {error_code(found) for found in classes}

    assert len(codes) == len(classes)
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in codes)
    assert {"not-a-workflow-error", "lease-held", "fenced", "run-failed"} <= codes


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["info", "--jsn", "--json"], "Did you mean '--json'?"),
        (["inof", "--json"], "Did you mean 'info'?"),
        (["--json", "orchestrator", "stats"], "Did you mean 'status'?"),
        (["history", "--json", "--event"], "See `motoko history --help`."),
    ],
)
def test_a_wrong_command_line_is_an_error_in_json(
    arguments: list[str], fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse(build_parser(arguments), arguments)

    assert exit_info.value.code == ExitStatus.USAGE
    found = printed(capsys)
    assert found["code"] == "usage"
    assert fix in found["fix"]


@pytest.mark.parametrize(
    "arguments", [["run", "--json"], ["orchestrator", "start", "--json"], ["info"], []]
)
def test_an_option_of_an_orchestrator_does_not_change_errors(arguments: list[str]) -> None:
    assert not wants_json(arguments)


@pytest.mark.parametrize("arguments", [["info", "--jsonx", "--json"], ["wait", "nope", "--json"]])
def test_an_error_that_stdout_cannot_hold_is_on_stderr(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w", buffering=1, encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert run(arguments) == ExitStatus.ERROR
        full.flush()  # the rest of the output is discarded
    assert capsys.readouterr().err.startswith("error: ")


def test_an_error_without_a_reader_has_the_status_of_a_closed_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        assert run(["wait", "nope", "--json"]) == ExitStatus.BROKEN_PIPE
