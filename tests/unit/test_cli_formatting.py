"""The output of the command line, without a process."""

from __future__ import annotations

import errno
import math
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from motoko.cli import complete, json_output
from motoko.cli.error_report import report
from motoko.cli.json_output import overview_to_json
from motoko.cli.parser import build_parser, parse
from motoko.cli.remaining_runs import describe_active_runs
from motoko.cli.tables import (
    counts_line,
    counts_table,
    ordered_states,
    others_text,
    print_overview,
    print_wide,
    results_table,
    runs_table,
    unserved_text,
)
from motoko.core.records import RunRecord
from motoko.core.run_columns import ColumnTable
from motoko.core.states import Lifecycle
from motoko.core.values import to_json
from motoko.errors import (
    ConfigError,
    ConstraintError,
    DatabaseExistsError,
    ExitStatus,
    MotokoError,
    RunFailed,
    RunNameError,
    WorkflowFailed,
)
from motoko.operations.overview import Overview, StudyOverview
from motoko.orchestrator.error_summary import status_of
from motoko.orchestrator.run_ends import EndKind, RunEnd, file_stem
from motoko.printable import value_text
from motoko.runtime import processes
from motoko.storage.launcher_leases import LauncherRegistration
from motoko.storage.orchestrator_leases import LeaseHolder

pytestmark = pytest.mark.unit


def record(run_id: int, *, label: str | None = None, **fields: object) -> RunRecord:
    return RunRecord(
        study="s", id=run_id, job_id=run_id, run_name="a", identity=b"", job={"x": run_id / 3},
        lifecycle=Lifecycle.FINISHED, label=label, fields=fields,
    )  # fmt: skip


def printed(table: object) -> str:
    console = Console(width=200, record=True, markup=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


# -- tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"),
        (1 / 3, "0.3333333333"),
        (math.nan, "nan"),
        (12345678901, "12345678901"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("two\nlines", "'two\\nlines'"),
        (None, "None"),
        ([1, 2], "[1, 2]"),
        ("y" * 60, "y" * 45 + "..."),
    ],
)
def test_values_are_shortened_to_one_line(value: object, text: str) -> None:
    assert value_text(value) == text


def test_states_are_in_lifecycle_order_before_labels() -> None:
    states = ["FORWARDED", "FAILED", "CREATED", "BEST", "START"]
    assert ordered_states(states) == ["CREATED", "START", "FAILED", "BEST", "FORWARDED"]


def test_counts_on_one_line() -> None:
    assert counts_line({"s": {}, "t": {}}) == "no runs yet"
    line = counts_line({"s": {"FINISHED": 3, "START": 1}, "t": {}, "u": {"[b]": 2}})
    assert line == "s: 1 START, 3 FINISHED; u: 2 [b]"


def test_runs_of_other_run_names_are_shown_with_the_progress() -> None:
    assert others_text({}) == ""
    assert others_text({"a": 1}) == "1 run of 'a' also waiting or running"
    text = others_text(dict.fromkeys("hgfedcba", 2))
    assert text == "16 runs of 'a', 'b', 'c', 'd', 'e', 'f', ... also waiting or running"


def test_unserved_runs_are_shown_with_the_reason() -> None:
    assert unserved_text({}) == ""
    large, small = "no launcher serves machine 'large'", "no launcher serves machine 'small'"
    assert unserved_text({small: 1, large: 2}) == f"2 runs wait: {large}; 1 run waits: {small}"


def test_the_reason_of_a_failure_is_on_one_line() -> None:
    bad = replace(record(1), lifecycle=Lifecycle.FAILED, reason="no\n\n  convergence")
    (row,) = [line for line in printed(runs_table([bad])).splitlines() if "s.1" in line]
    assert row.split("FAILED")[1].strip() == "no convergence"
    assert "reason" not in printed(runs_table([record(1)]))


def test_a_narrow_terminal_loses_no_word() -> None:
    values = {f"column{n}": [f"word{n}", 12345678.5 + n] for n in range(9)}
    table = ColumnTable("s", dict.fromkeys(values), values, length=2)
    out = Console(file=StringIO(), width=40)
    print_wide(out, results_table(table))
    assert isinstance(out.file, StringIO)
    text = out.file.getvalue()
    assert all(f"column{n}" in text and f"word{n}" in text for n in range(9))
    assert all(f"{12345678.5 + n:.1f}" in text for n in range(9))
    assert out.width == 40


def test_active_runs_of_other_run_names_are_named() -> None:
    own = describe_active_runs({"b": 2, "a": 0}, "b")
    assert own.startswith("2 runs are still running; `motoko kill --stop-runs` stops them, ")
    assert describe_active_runs({"b": 1, "a": 1}, "b").startswith(
        "2 runs are still running (1 of 'a', 1 of 'b'); "
    )
    assert describe_active_runs({"a": 1}, "b").startswith("1 run is still running (1 of 'a'); ")


def test_markup_in_names_states_and_values_is_text() -> None:
    out = printed(counts_table({"[bold]a[/bold]": {"[red]": 1}}, "run name"))
    assert "[bold]a[/bold]" in out
    assert "[red]" in out
    out = printed(runs_table([record(1, label="[x]", y="[link=z]")]))
    assert "[x]" in out
    assert "[link=z]" in out


def test_the_table_has_a_column_for_every_field() -> None:
    out = printed(runs_table([record(1, y=1.5), record(2, z=[1])]))
    header, first, second = (
        line.split() for line in out.splitlines() if "s." in line or "run" in line
    )
    assert header == ["run", "x", "state", "y", "z"]
    assert first == ["s.1", "0.3333333333", "FINISHED", "1.5"]
    assert second == ["s.2", "0.6666666667", "FINISHED", "[1]"]


# -- JSON --------------------------------------------------------------------------------------


def test_values_unknown_to_json_become_text() -> None:
    value = {
        "a": math.nan,
        "b": -math.inf,
        "c": datetime(2026, 1, 2, tzinfo=UTC),
        "d": b"\x00\xff",
        "e": (1, {2}),
        "f": True,
    }
    expected = {
        "a": "nan",
        "b": "-inf",
        "c": "2026-01-02T00:00:00+00:00",
        "d": "00ff",
        "e": [1, [2]],
        "f": True,
    }
    assert to_json(value) == expected


def test_json_contains_runs_only_on_request() -> None:
    study = StudyOverview("s", {"a": {"SEEN": 1}}, [record(1, label="SEEN", y=math.inf)])
    overview = Overview("/w", database=True, server=None, studies=[study])
    short = overview_to_json(overview, runs=False)
    (found,) = short["studies"]
    assert (found["name"], found["counts"]) == ("s", {"a": {"SEEN": 1}})
    assert "runs" not in found
    assert short["server"] is None
    run = overview_to_json(overview, runs=True)["studies"][0]["runs"][0]
    assert (run["state"], run["lifecycle"]) == ("SEEN", "FINISHED")
    assert run["fields"] == {"y": "inf"}


def test_info_shows_suspended_processes_and_directories_that_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    process = (7, 0, "", 0, "")
    launcher = LauncherRegistration(
        "l", "t", "h", process, 0.0, "bash", ("s",), ("localhost",), 30.0
    )
    overview = Overview(
        "/w", database=True, server=8, server_suspension=", suspended", launchers=[launcher],
        directories={"l": "the directory of run s.1 stays: \x1b[31m pipe"},
    )  # fmt: skip
    monkeypatch.setattr(processes, "is_stopped", lambda _: True)
    monkeypatch.setattr(json_output, "is_stopped", lambda _: True)
    print_overview(overview, runs=False)
    out = capsys.readouterr().out
    assert "process 8, suspended\n" in out
    assert "suspended (SIGSTOP): `kill -CONT 7` continues it\n" in out
    assert "run s.1 stays: \\x1b[31m pipe (see `motoko doctor`)\n" in out
    found = overview_to_json(overview, runs=False)
    assert found["server"] == {"pid": 8, "suspended": True}
    (shown,) = found["launchers"]
    assert (shown["suspended"], shown["directories"]) == (True, overview.directories["l"])
    assert overview_to_json(replace(overview, server=None), runs=False)["server"] is None


def test_info_shows_no_last_end_while_a_run_name_is_executed_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    end = RunEnd("a", EndKind.FAILED, 3, "2 failed", 9.0, 1.0, (), detached=False, log=None)
    overview = Overview(
        "/w", database=True, server=None, ends={"a": end, "b": replace(end, run_name="b")},
        orchestrators={"a": LeaseHolder("h", 7, 0, "", 10.0)},
    )  # fmt: skip
    print_overview(overview, runs=False)
    out = capsys.readouterr().out
    assert out.count("last end") == 1
    assert "last end      b: 1970-01-01" in out
    assert [found["run_name"] for found in overview_to_json(overview, runs=False)["ends"]] == [
        "a",
        "b",
    ]


# -- errors ------------------------------------------------------------------------------------


def with_note(error: Exception, *notes: str) -> Exception:
    for note in notes:
        error.add_note(note)
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MotokoError("x"), ExitStatus.ERROR),
        (DatabaseExistsError("x"), ExitStatus.ERROR),
        (ConfigError("x"), ExitStatus.USAGE),
        (RunNameError("x"), ExitStatus.USAGE),
        (ConstraintError("x"), ExitStatus.USAGE),
        (with_note(ConstraintError("x"), "in the orchestrator function main"), ExitStatus.ERROR),
        (RunFailed("x"), ExitStatus.FAILED),
        (WorkflowFailed("x"), ExitStatus.FAILED),
        (ValueError("x"), ExitStatus.ERROR),
    ],
)
def test_exit_status(error: Exception, status: int) -> None:
    assert status_of(error) == status


def test_motoko_errors_print_message_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    report(MotokoError("it is wrong", hint="Do this."), verbose=False)
    assert capsys.readouterr().err == "error: it is wrong\n  Do this.\n"


def test_errors_in_user_code_start_with_the_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = with_note(KeyError("k"), "in the action of event 'e', f (o.py:3)", "and this")
    report(error, verbose=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: in the action of event 'e', f (o.py:3): KeyError: 'k'"
    assert "and this" in lines


def test_a_group_of_one_is_reported_as_its_member(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = ExceptionGroup("g", [ExceptionGroup("h", [ConfigError("it", file="f", line=2)])])
    assert report(group, verbose=False) == ExitStatus.USAGE
    assert capsys.readouterr().err == "error: f:2: it\n"


def test_a_group_is_reported_with_all_members(capsys: pytest.CaptureFixture[str]) -> None:
    def raised(error: Exception) -> Exception:
        try:
            raise error
        except (ValueError, KeyError) as caught:
            return caught

    members = [raised(ValueError("one")), ExceptionGroup("h", [raised(KeyError("two"))])]
    group = with_note(ExceptionGroup("g", members), "in the action of event 'e', f (o.py:3)")
    assert report(group, verbose=False) == ExitStatus.ERROR
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: in the action of event 'e', f (o.py:3): 2 exceptions were raised"
    assert lines[1] == "  ValueError: one"
    assert re.fullmatch(r"    at .*test_cli_formatting\.py:\d+, in raised", lines[2])
    assert lines[3] == "  KeyError: 'two'"


def test_the_place_of_a_group_is_shown_with_its_only_member(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = with_note(
        ExceptionGroup("g", [KeyError("k")]), "in the action of event 'e', f (o.py:3)"
    )
    report(group, verbose=False)
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "error: in the action of event 'e', f (o.py:3): KeyError: 'k'"


def test_a_base_exception_is_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Stop(BaseException):
        pass

    group = BaseExceptionGroup("g", [Stop("bye")])
    group.add_note("in the action of event 'e', f (o.py:3)")
    assert report(group, verbose=False) == ExitStatus.ERROR
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "error: in the action of event 'e', f (o.py:3): Stop was raised: bye"


def test_an_exception_that_cannot_be_printed_is_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    report(with_note(Mute(), "in the action of event 'e', f (o.py:3)"), verbose=False)
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "error: in the action of event 'e', f (o.py:3): Mute: (it cannot be printed)"


def test_failed_runs_in_a_group_have_their_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    group = ExceptionGroup("g", [RunFailed("run s.1", hint="Again."), RunFailed("run s.2")])
    assert report(group, verbose=False) == ExitStatus.FAILED
    assert capsys.readouterr().err.splitlines() == [
        "error: 2 exceptions were raised", "  run s.1", "    Again.", "  run s.2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "  Free disk space, and repeat the command: nothing is lost."),
        (errno.EDQUOT, "  Free disk space, and repeat the command: nothing is lost."),
        (errno.EROFS, "  This command needs a writable directory; `motoko info` only reads."),
        (errno.EACCES, "  This command needs a writable directory; `motoko info` only reads."),
    ],
)
def test_write_errors_are_reported_with_a_hint(
    capsys: pytest.CaptureFixture[str], number: int, advice: str
) -> None:
    why = os.strerror(number)
    assert report(OSError(number, why, "/w/.wf/x"), verbose=False) == ExitStatus.ERROR
    expected = [f"error: /w/.wf/x cannot be written: {why}", advice]
    assert capsys.readouterr().err.splitlines() == expected
    report(OSError(number, why), verbose=False)
    assert capsys.readouterr().err.splitlines() == [f"error: {why}", advice]


def test_write_errors_in_user_code_start_with_the_place(capsys: pytest.CaptureFixture[str]) -> None:
    full = with_note(OSError(errno.ENOSPC, "No space left on device", "/d"), "in the action of 'e'")
    report(full, verbose=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "error: in the action of 'e': OSError: [Errno 28] No space left on device: '/d'"
    )
    assert lines[1] == "OSError: [Errno 28] No space left on device: '/d'"


def test_other_file_errors_are_unexpected(capsys: pytest.CaptureFixture[str]) -> None:
    report(FileNotFoundError(errno.ENOENT, "No such file or directory", "/d"), verbose=False)
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("error: unexpected error: FileNotFoundError")


# -- parsing -----------------------------------------------------------------------------------


def test_verbose_is_accepted_before_and_after_the_command() -> None:
    for arguments in (["--verbose", "kill"], ["kill", "--verbose"]):
        assert parse(build_parser(), arguments).verbose is True
    assert parse(build_parser(), ["kill"]).verbose is False


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workflow", "d", "kill"],
        ["--workflow=d", "kill"],
        ["--verbose", "--workflow", "d", "kill", "--stop-runs"],
        ["kill", "--workflow", "d"],
        ["--workflow", "d", "orchestrator", "stop", "-n", "a"],
        ["orchestrator", "--workflow", "d", "stop"],
    ],
)
def test_the_workflow_may_be_named_before_the_command(arguments: list[str]) -> None:
    assert parse(build_parser(), arguments).workflow_dir == "d"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["kil"], "error: motoko has no command 'kil'\n  Did you mean 'kill'?"),
        (["kill", "--stop_runs"], "error: motoko kill does not know '--stop_runs'\n  Did you mean"),
        (["clean", "--where"], "error: argument --where/--constraints: expected one argument\n"),
        (
            ["run", "--run_nam", "a"],
            "error: motoko run does not know '--run_nam'\n  Did you mean '--run_name'?",
        ),
        (["completion", "bas"], "error: argument shell cannot be 'bas'\n  Did you mean 'bash'?"),
        (
            ["orchestrator", "stats"],
            "error: motoko orchestrator has no command 'stats'\n  Did you mean 'status'?",
        ),
        (["kill", "--stop"], "error: motoko kill does not know '--stop'\n"),
        (["--workflow"], "error: argument --workflow: expected one argument\n"),
        (["--workflow", "d"], "error: the following arguments are required: COMMAND\n"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_refused(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for parser in (build_parser(), build_parser(arguments)):
        parser_of_run = complete.subparsers(parser).get("run")
        if parser_of_run is not None:
            parser_of_run.extend = None  # this needs a workflow
        with pytest.raises(SystemExit) as exit_info:
            parse(parser, arguments)
        assert exit_info.value.code == ExitStatus.USAGE
        assert capsys.readouterr().err.startswith(expected)


# -- files of a run name -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "..", "a: b", "*", "\N{SNOWMAN}" * 100, "%2e"])
def test_every_run_name_has_a_unique_file_name(name: str) -> None:
    stem = file_stem(name)
    assert "/" not in stem
    assert "*" not in stem
    assert len(f"orchestrator-{stem}.json.tmp".encode()) < 255
    assert stem != file_stem(name[:-1] + "z")
