"""sbatch commands, user options and replies of sbatch."""

from __future__ import annotations

import pytest

from motoko.core.sbatch_options import (
    first_fault,
    option_arguments,
    user_arguments,
    with_suggestion,
)
from motoko.errors import ConfigError
from motoko.launcher.schedulers.base import SubmitFailure, SubmitRequest
from motoko.launcher.schedulers.slurm.submit import (
    classify_failure,
    error_message,
    escape_pattern,
    parse_submitted,
    submit_command,
    time_limit,
)

pytestmark = pytest.mark.unit


def test_the_minimal_command() -> None:
    assert submit_command(SubmitRequest("/w/s.sh", "n", "c", "/w", "/w/%j")) == (
        "sbatch", "--parsable", "--no-requeue", "--job-name=n", "--comment=c", "--output=/w/%%j",
        "--chdir=/w", "--open-mode=append", "/w/s.sh",
    )  # fmt: skip


def test_the_users_options_override_all_others() -> None:
    request = SubmitRequest(
        "/w/s.sh",
        "a name; $(x)",
        "c",
        "/w",
        "o",
        tasks=10,
        nproc=4,
        timeout=90.2,
        options=("time=5", "--requeue", "-N 2"),
    )
    assert submit_command(request) == (
        "sbatch", "--parsable", "--no-requeue", "--nodes=1", "--ntasks=4", "--time=1:31",
        "--job-name=a name; $(x)", "--comment=c", "--output=o", "--chdir=/w",
        "--open-mode=append", "--time=5", "--requeue", "-N", "2", "--array=0-9", "/w/s.sh",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("partition=debug", ("--partition=debug",)),
        ("--partition=debug", ("--partition=debug",)),
        (" partition debug ", ("--partition", "debug")),
        ("--partition  debug", ("--partition", "debug")),
        ("-p debug", ("-p", "debug")),
        ("-pdebug", ("-pdebug",)),
        ("-p=debug", ("-p", "debug")),
        ("p debug", ("-p", "debug")),
        ("n=4", ("-n", "4")),
        ("-H", ("-H",)),
        ("exclusive", ("--exclusive",)),
        ("--exclusive=user", ("--exclusive=user",)),
        ("constraint=[a&b]|c d", ("--constraint=[a&b]|c d",)),
        ("export=A=1,B=2", ("--export=A=1,B=2",)),
        ("mail-user=a b", ("--mail-user=a b",)),
        ("signal B:TERM@60", ("--signal", "B:TERM@60")),
    ],
)
def test_one_option(option: str, expected: tuple[str, ...]) -> None:
    assert option_arguments(option) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-p", "debug", "-n", "4"], ("-p", "debug", "-n", "4")),
        (["--partition", "debug", "mem=4G"], ("--partition", "debug", "--mem=4G")),
        (["--exclusive", "debug"], ("--exclusive", "--debug")),
        (["-H", "mem=4G"], ("-H", "--mem=4G")),
        (["--a-new-flag", "mem=4G"], ("--a-new-flag", "--mem=4G")),
        (["--a-new-flag", "--mem=4G"], ("--a-new-flag", "--mem=4G")),
        (["--job-name", "array"], ("--job-name", "array")),
        (["-n", "-1"], ("-n", "-1")),
        (["hold", "debug"], ("--hold", "--debug")),
    ],
)
def test_an_option_and_its_value(options: list[str], expected: tuple[str, ...]) -> None:
    assert user_arguments(options) == expected


@pytest.mark.parametrize(
    "option",
    ["array=1-3", "--array=1-3", "-a 1-3", "-a1", "--arr=1", "comment=x", "wrap=ls", "--wait",
     "-W", "M=other", "--clusters=a,b", "test-only", "-h", "-V", "parsable", "", "--", " - ",
     # A flag has no value: the next word would be an option or the script.
     "--hold --wrap=ls", "hold --array=1-3", "mem --wrap=ls", "-H --wrap=ls", "-Ha1-3",
     "--exclusive user", "-H other.sh"],
)  # fmt: skip
def test_invalid_options_are_named(option: str) -> None:
    with pytest.raises(ConfigError, match="slurm_options: ") as caught:
        user_arguments(["mem=4G", option])
    assert repr(option) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "index", "near"),
    [
        (["mem=4G", "partitoin=debug"], 1, "partition"),
        (["--ntask-per-node=4"], 0, "ntasks-per-node"),
        (["-n", "4", "--acount physics"], 2, "account"),
        (["jobname=x"], 0, "job-name"),
    ],
)
def test_a_misspelt_option_gets_a_suggestion(options: list[str], index: int, near: str) -> None:
    fault = first_fault(options)
    assert fault is not None
    assert (fault.index, fault.hint) == (index, f"Did you mean {near!r}?")
    assert repr(options[index]) in fault.message
    with pytest.raises(ConfigError, match=f"Did you mean '{near}'"):
        user_arguments(options)


@pytest.mark.parametrize(
    "option",
    # Options of later versions and plugins, abbreviated names, and ambiguous values.
    ["container-image=a.sqsh", "container-mounts=/a:/b", "x11", "private-tmp", "a-new-option=3",
     "part=debug", "ntask=4", "-p debug", "-Z", "signal=B:TERM@60", "gpus-per-node=2"],
)  # fmt: skip
def test_unknown_but_possible_options_are_accepted(option: str) -> None:
    assert first_fault([option]) is None


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("unrecognized option '--partitoin=debug'", "partition"),
        ("unrecognized option '--ntask-per-node'", "ntasks-per-node"),
        ("unrecognized option '--qqqqqqqq'", None),
        ("invalid partition specified: partitoin", None),
        ("option '--par=x' is ambiguous; possibilities: '--parsable' '--partition'", None),
    ],
)
def test_an_unknown_option_gets_a_suggestion(words: str, near: str | None) -> None:
    expected = words if near is None else f"{words}. Did you mean {near!r}?"
    assert with_suggestion(words) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.1, "0:01"), (59, "0:59"), (59.5, "1:00"), (60, "1:00"), (90, "1:30"),
     (86400, "1440:00"), (1e7, "166666:40")],
)  # fmt: skip
def test_time_limits_are_rounded_up(seconds: float, expected: str) -> None:
    assert time_limit(seconds) == expected


@pytest.mark.parametrize(("tasks", "expected"), [(1, []), (2, ["--array=0-1"])])
def test_indexes_of_an_array(tasks: int, expected: list[str]) -> None:
    command = submit_command(SubmitRequest("s", "n", "c", "/w", "o", tasks=tasks))
    assert [word for word in command if word.startswith("--array")] == expected


def test_percent_signs_in_a_path_are_escaped() -> None:
    assert escape_pattern("/w/100%j/%%") == "/w/100%%j/%%%%"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("123\n", "123"), ("123;cluster\n", "123"), ("Welcome!\n\n 77 \n", "77")],
)
def test_the_printed_job_id(text: str, expected: str) -> None:
    assert parse_submitted(text) == expected


@pytest.mark.parametrize("text", ["", "\n", "Submitted batch job 5\n", "12a", "5\nbye\n", "-5"])
def test_output_without_job_id(text: str) -> None:
    with pytest.raises(ValueError, match="no job id"):
        parse_submitted(text)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Socket timed out on send/recv operation", SubmitFailure.UNCONFIRMED),
        ("Unable to contact slurm controller (connect failure)", SubmitFailure.UNCONFIRMED),
        ("Zero Bytes were transmitted or received", SubmitFailure.UNCONFIRMED),
        ("Job violates accounting/QOS policy (job submit limit, ...)", SubmitFailure.RETRY_LATER),
        (
            "Slurm temporarily unable to accept job, sleeping and retrying",
            SubmitFailure.RETRY_LATER,
        ),
        ("Invalid account or account/partition combination specified", SubmitFailure.REFUSED),
        ("Requested node configuration is not available", SubmitFailure.REFUSED),
    ],
)
def test_the_meaning_of_failures(said: str, expected: SubmitFailure) -> None:
    assert classify_failure(f"sbatch: error: Batch job submission failed: {said}\n") is expected


def test_a_failure_without_output_is_unconfirmed() -> None:
    assert classify_failure("\n") is SubmitFailure.UNCONFIRMED


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("sbatch: error: invalid partition specified: x\nsbatch: error: more", "invalid partition"),
        ("Welcome\nsqueue: error: it is wrong\n", "it is wrong"),
        ("Slurm accounting storage is disabled\n", "Slurm accounting storage is disabled"),
        ("  \n", ""),
    ],
)
def test_the_error_message(stderr: str, expected: str) -> None:
    assert error_message(stderr).startswith(expected)
    assert bool(error_message(stderr)) == bool(expected)


@pytest.mark.parametrize("option", ["--account=a\0b", "-A a\0b", "--account=\ud800"])
def test_invalid_characters_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="is not an option of sbatch"):
        user_arguments([option])
