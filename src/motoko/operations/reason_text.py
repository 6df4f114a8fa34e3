"""Texts of reasons. Names and recorded reasons in them are untrusted: print them safely."""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from motoko.core.holds import Hold
from motoko.core.reasons import Code, Reason
from motoko.launcher.attempt_outcome import signal_name
from motoko.printable import join_names, value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DAY: Final = 86_400.0
HOUR: Final = 3_600.0
MINUTE: Final = 60.0
VALUES: Final = 6  # values with their numbers
RESUMES: Final = "that resumes when an orchestrator runs"


def reason_text(found: Reason, now: float) -> str:
    """Return a reason in words; ``now`` is the time of day, in seconds since the epoch."""
    return _TEXTS[found.code](dict(found.fields), now)


def moment(at: float, now: float) -> str:
    """Return a time in the local time zone, with its date unless that is today's."""
    local = datetime.fromtimestamp(at).astimezone()
    today = datetime.fromtimestamp(now).astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M:%S}"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if seconds < MINUTE:
        return f"{max(0.0, seconds):.0f} s"
    for unit, name, smaller, smaller_name in (
        (DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1.0, "s"),
    ):  # fmt: skip
        if seconds >= unit:
            whole, rest = divmod(seconds, unit)
            return f"{whole:.0f} {name} {rest // smaller:.0f} {smaller_name}"
    raise AssertionError


def since(at: float | None, now: float) -> str:
    """Return since when something holds, and for how long; empty if that is unknown."""
    return "" if at is None else f" since {moment(at, now)} ({duration(now - at)})"


def _after(fields: Mapping[str, Any]) -> str:
    return f", after: {fields['after']}" if fields["after"] else ""


def _by(fields: Mapping[str, Any]) -> str:
    return f", by {fields['cause']}" if fields["cause"] else ""


def _launcher(fields: Mapping[str, Any], now: float) -> str:
    host = f" on {fields['host']}" if fields["host"] else ""
    state = "" if fields["live"] else ", which is no longer running"
    return f"{since(fields['at'], now)}, by launcher {fields['launcher']}{host}{state}"


def _ended(fields: Mapping[str, Any], now: float) -> str:
    code, number = fields["exit_code"], fields["signal"]
    how = "" if code is None else f" with exit code {code}"
    if number is not None:
        how = f", killed by {signal_name(number)}"
    return f"it ended{_at(fields['at'], now)}{how}"


def _held(hold: Hold, now: float) -> str:
    subject = "it" if hold.id is not None else hold.subject
    when = since(hold.at, now)
    verb = "are" if subject == "all runs" else "is"
    return f"{subject} {verb} held{when}, by {hold.cause}; `motoko release {hold.arguments}`"


def _timeout(fields: Mapping[str, Any], now: float) -> str:
    at = fields["timeout_at"]
    limit = "" if at is None else f", at the latest at {moment(at, now)} (timeout)"
    return f"it ends when its script exits{limit}"


def _by_event(fields: Mapping[str, Any], now: float) -> str:
    action = f" (action {fields['action']})" if fields["action"] else ""
    text = f"created by event {fields['event']}{action}{_at(fields['at'], now)}"
    if not fields["recorded"]:
        return f"{text}; which runs it fired for is not recorded, by an older Motoko"
    trigger = _runs(fields)
    if not trigger:
        trigger = f"study {fields['study']}" if fields["study"] else "no runs"
    code = f", code {fields['digest']}" if fields["digest"] else ""
    state = "" if fields["done"] is not None else ", not finished yet"
    return f"{text}; it fired for {trigger}, committed{_at(fields['opened'], now)}{state}{code}"


def _at(at: float | None, now: float) -> str:
    return "" if at is None else f" at {moment(at, now)}"


def _ago(at: float | None, now: float) -> str:
    return "" if at is None else f"{_at(at, now)} ({duration(now - at)} ago)"


def _by_user(fields: Mapping[str, Any], now: float) -> str:
    function = fields["function"]
    place = f" in {function}()" if function.isidentifier() else ""
    return f"created by a program outside the orchestrator{place}{_at(fields['at'], now)}"


def nearest_text(nearest: Mapping[str, Any]) -> str:
    """Return the nearest run of a diagnosis, and what it lacks."""
    return f"{nearest['run']}: {'; '.join(map(miss_text, nearest['misses']))}"


def miss_text(miss: Mapping[str, Any]) -> str:
    """Return a value and the need that it does not satisfy."""
    column, needs = miss["column"], miss["needs"].removeprefix("= ")
    if miss["missing"]:
        has = f"it did not set {column}" if miss["ended"] else f"it has no {column} yet"
        return f"{has}, needs {needs}"
    return f"{column} = {value_text(miss['value'])}, needs {needs}"


def counts_text(values: Mapping[str, int]) -> str:
    """Return the number of runs for each value, the most frequent first."""
    ordered = sorted(values.items(), key=lambda item: -item[1])
    parts = [f"{number:,} {value_text(value)}" for value, number in ordered[:VALUES]]
    more = len(ordered) - VALUES
    return ", ".join(parts) + (f" and {more} other values" if more > 0 else "")


def _clause_fails(fields: Mapping[str, Any], _: float) -> str:
    examined = fields["examined"]
    runs = "no run" if examined is None else f"none of the newest {examined:,} runs"
    values = f" ({counts_text(fields['values'])})" if fields["values"] else ""
    text = f"{runs} of {fields['study']} satisfies {fields['clause']}{values}"
    found = fields["nearest"]
    return text if found is None else f"{text}; nearest {nearest_text(found)}"


def _runs(fields: Mapping[str, Any]) -> str:
    more = fields["number"] - len(fields["runs"])
    return ", ".join(fields["runs"]) + (f" and {more:,} more" if more > 0 else "")


def _firing(fields: Mapping[str, Any], now: float) -> str:
    runs = f" with {_runs(fields)}" if fields["number"] else ""
    count = f" {fields['firings']} times" if fields["firings"] > 1 else ""
    start = since(fields["since"], now)
    if fields["running"]:
        return f"it is firing{count}{runs}{start}"
    return f"it began to fire{count}{runs}{start}; {RESUMES}"


def _answered(text: str, fields: Mapping[str, Any], now: float) -> str:
    study = f" for {fields['study']}" if fields["study"] else ""
    reads = f"; it read {join_names(fields['reads'])}" if fields["reads"] else ""
    took = f"it took {seconds_text(fields['seconds'])}"
    return f"its condition{study} {text}, asked{_ago(fields['asked'], now)}; {took}{reads}"


def seconds_text(seconds: float) -> str:
    """Return a short duration."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < MINUTE else duration(seconds)


def _failed(fields: Mapping[str, Any]) -> str:
    number, code = fields["signal"], fields["exit_code"]
    how = f"exit code {code}" if number is None else f"killed by {signal_name(number)}"
    recorded = fields["reason"]
    parts = [how if code is not None and recorded != how else "", recorded]
    return ", ".join(filter(None, parts)) or fields["outcome"]


def _because(fields: Mapping[str, Any], now: float) -> str:
    rest = {name: value for name, value in fields.items() if name != "code"}
    return reason_text(Reason(Code(fields["code"]), rest), now)


def _not_selected(events: int) -> str:
    if not events:
        return "no event is registered for its study"
    if events == 1:
        return "the only event of its study does not select it"
    return f"none of the {events} events of its study selects it"


def _selected(fields: Mapping[str, Any]) -> str:
    if fields["firing"] and not fields["running"]:
        return f"event {fields['event']} began to fire with it; {RESUMES}"
    if fields["firing"]:
        return f"event {fields['event']} is firing with it"
    if fields["once_done"]:
        return f"event {fields['event']} fired for it, and fires once only"
    then = "" if fields["running"] else ", when an orchestrator runs"
    return f"event {fields['event']} selects it{then}"


_TEXTS: Final[Mapping[Code, Callable[[dict[str, Any], float], str]]] = MappingProxyType(
    {
        Code.BY_MAIN: lambda f, now: f"created by main{_at(f['at'], now)}",
        Code.BY_EVENT: _by_event,
        Code.BY_SCRIPT: lambda f, now: f"created by the script of {f['run']}{_at(f['at'], now)}",
        Code.BY_USER: _by_user,
        Code.DELETED: lambda _, __: "deleted since",
        Code.CREATED: lambda f, now: f"it was created{_ago(f['at'], now)}{_by(f)}",
        Code.REQUEUED: lambda f, now: f"it is CREATED again{since(f['at'], now)}{_by(f)}",
        Code.CLAIMED: lambda f, now: f"it is claimed{_launcher(f, now)}",
        Code.STARTED: lambda f, now: f"it is running{_launcher(f, now)}",
        Code.ENDED: _ended,
        Code.LABELLED: lambda f, now: f"it is labelled {f['label']}{since(f['at'], now)}{_by(f)}",
        Code.RECORDED: lambda f, _: str(f["reason"]),
        Code.NO_LAUNCHER: lambda _, __: "no launcher is running",
        Code.STUDY_NOT_SERVED: lambda f, _: f"no launcher serves study {f['study']!r}",
        Code.MACHINE_NOT_SERVED: lambda f, _: f"no launcher serves machine {f['machine']!r}",
        Code.LAUNCHER_SUSPENDED: lambda f, _: (
            f"the launcher (process {f['pid']}) is suspended (SIGSTOP): `kill -CONT {f['pid']}` "
            "continues it"
        ),
        Code.NOT_MANAGED: lambda f, now: f"not managed: {_because(f['because'], now)}",
        Code.HELD: lambda f, now: _held(Hold(**f), now),
        Code.RETRY_DELAYED: lambda f, now: (
            f"it is retried in {f['seconds']:.0f} s, at {moment(f['at'], now)}{_after(f)}"
        ),
        Code.RETRY_DUE: lambda f, _: f"it is retried{_after(f)}",
        Code.CLAIMS_PAUSED: lambda _, __: (
            "its launcher claims no runs, because it is about to stop"
        ),
        Code.RUN_NAME_SUSPENDED: lambda _, __: (
            "its run name is suspended; `motoko run` or `motoko orchestrator start` resumes it"
        ),
        Code.STUDY_LIMIT: lambda f, _: (
            f"the limit of {f['limit']} active runs of {f['study']} is reached (max_concurrent)"
        ),
        Code.QUEUE_LIMIT: lambda f, _: f"{f['used']} runs are in the queue (max_queued)",
        Code.SLOTS_IN_USE: lambda f, _: (
            f"{min(f['used'], f['limit'])} of {f['limit']} slots are in use (max_concurrent)"
        ),
        Code.CLAIM_DUE: lambda _, __: "its launcher will claim it",
        Code.START_DUE: lambda _, __: "its launcher starts it when a slot is free",
        Code.IN_QUEUE: lambda f, _: f"it waits in the queue of {f['generator']}",
        Code.RUNNING: _timeout,
        Code.CANCELLING: lambda _, __: "its cancellation is requested; its launcher ends it",
        Code.TERMINAL: lambda f, _: f"nothing: it is {f['outcome']}, a terminal state",
        Code.AWAITED: lambda f, _: f"{f['owner']} waits for it",
        Code.NOT_SELECTED: lambda f, _: _not_selected(f["events"]),
        Code.SELECTED: lambda f, _: _selected(f),
        Code.FAILED: lambda f, _: _failed(f),
        Code.NOT_RUNNING: lambda f, _: f"no orchestrator of run name {f['run_name']!r} is running",
        Code.NO_RUNS: lambda f, _: f"{f['study']} has no runs of this run name yet",
        Code.CLAUSE_FAILS: _clause_fails,
        Code.MATCHES: lambda f, _: f"its condition selects {_runs(f)}",
        Code.FIRING: _firing,
        Code.FIRED_ONCE: lambda f, _: f"it fired for {_runs(f)}, and fires once only for each run",
        Code.COOLING: lambda f, _: (
            f"{f['number']} of its triggers fired and still hold: they wait for another commit, or "
            "for poll_interval"
        ),
        Code.CONDITION_FALSE: lambda f, now: _answered("is false", f, now),
        Code.CONDITION_TRUE: lambda f, now: _answered("is true", f, now),
        Code.CONDITION_SELECTS: lambda f, now: _answered(f"selects {_runs(f)}", f, now),
        Code.CONDITION_RAISED: lambda f, now: _answered(f"raised {f['error']}", f, now),
        Code.CONDITION_NOT_ASKED: lambda f, _: (
            f"its condition{' for ' + f['study'] if f['study'] else ''} was not asked yet"
        ),
    }
)
