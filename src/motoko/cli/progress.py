"""The progress of a running workflow: a live table, or lines in a log."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table

from motoko.cli.output import echo
from motoko.cli.tables import (
    console,
    counts_line,
    ordered_states,
    others_text,
    safe_text,
    state_text,
)
from motoko.core.pacing import FailureLimiter, LinePacer
from motoko.operations.reason_text import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console, RenderableType

    from motoko.core.progress import StudyProgress, TimeLeft
    from motoko.operations.progress import Failure, Progress, Wait
    from motoko.runtime.ports import Clock

LIVE_SECONDS: Final = 0.25
PLAIN_SECONDS: Final = 1.0
NAMED_WAITS: Final = 3


@contextlib.contextmanager
def progress(clock: Clock) -> Iterator[tuple[Callable[[Progress], None], float]]:
    """Yield a function that shows the progress, and the least seconds between two calls."""
    failures = _FailureLines(clock)
    if sys.stderr.isatty():
        with _live(failures) as show:
            yield show, LIVE_SECONDS
            failures.show_rest()
    else:
        yield _Lines(clock, failures).show, PLAIN_SECONDS
        failures.show_rest()


class _FailureLines:
    """Prints new failures, at most a few a minute, and the number of the others."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start = clock.monotonic()
        self._limiter = FailureLimiter()

    @property
    def elapsed(self) -> str:
        """The time since the start."""
        minutes, seconds = divmod(int(self._clock.monotonic() - self._start), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"

    def show(self, found: Progress) -> bool:
        """Print the new failures that the limit admits; return whether there are any."""
        shown, omitted = self._limiter.admit(self._clock.monotonic(), found.failed)
        self._show_omitted(omitted)
        for failure in found.failures[:shown]:
            self._print(failure_text(failure))
        return shown > 0

    def show_rest(self) -> None:
        """Print the number of failures that were not printed."""
        self._show_omitted(self._limiter.flush())

    def _show_omitted(self, number: int) -> None:
        if number:
            self._print(f"... and {number} more failed")

    def _print(self, text: str) -> None:
        echo(f"{self.elapsed} {text}", file=sys.stderr, flush=True)


class _Lines:
    """Prints a line for changes, less often as time goes by."""

    def __init__(self, clock: Clock, failures: _FailureLines) -> None:
        self._clock = clock
        self._failures = failures
        self._pacer = LinePacer()
        self._last: object = None

    def show(self, found: Progress) -> None:
        """Print the failures, and the progress if that is due."""
        urgent = self._failures.show(found) or self._last is None
        counts = {name: study.counts for name, study in found.studies.items()}
        content = counts, found.total.silent is None, found.waits, found.others
        if content != self._last and self._pacer.is_due(self._clock.monotonic(), urgent=urgent):
            self._last = content
            parts = [total_text(found.total), counts_line(counts) if found.total.known else ""]
            line = "; ".join(filter(None, [*parts, *notes(found)]))
            echo(f"{self._failures.elapsed} {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _live(failures: _FailureLines) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Group
    from rich.live import Live

    # The output of user code appears above the table, unless it is redirected.
    out = console(stderr=True)
    with Live(
        console=out, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty()
    ) as live:

        def show(found: Progress) -> None:
            failures.show(found)
            lines = [f"{failures.elapsed} {total_text(found.total)}", *notes(found)]
            first, *rest = (safe_text(line) for line in lines)
            shown: list[RenderableType] = [first]
            if found.total.known:
                shown.append(studies_table(found.studies, out))
            live.update(Group(*shown, *rest), refresh=True)

        yield show


def total_text(total: StudyProgress) -> str:
    """Return the progress of all runs: share, failures, rate, time left."""
    if not total.known:
        return "no runs yet"
    known = "known runs" if total.grows else "run" if total.known == 1 else "runs"
    parts = [f"{total.percent} % of {total.known:,} {known}"]
    if total.failed:
        parts.append(f"{total.failed:,} failed")
    if total.rate is not None:
        parts.append(rate_text(total.rate))
    if total.left is not None:
        parts.append(left_text(total.left))
    if total.silent is not None:
        parts.append(f"no run has ended for {duration(total.silent)}")
    return ", ".join(parts)


def rate_text(rate: float) -> str:
    """Return a rate per second in the unit that gives a number of at least 1."""
    for seconds, unit in ((1.0, "s"), (60.0, "min"), (3600.0, "h")):
        if rate * seconds >= 1:
            return f"{rate * seconds:.{1 if rate * seconds < 10 else 0}f}/{unit}"
    return f"{rate * 86_400:.1f}/d"


def left_text(left: TimeLeft) -> str:
    """Return the time left, with its interval if that is known."""
    text = f"about {duration(max(1.0, left.seconds))} left"
    if left.low is None or left.high is None:
        return text
    low, high = duration(left.low), duration(left.high)
    return text if low == high else f"{text} ({low} to {high})"


def failure_text(failure: Failure) -> str:
    """Return a failed run, its exit code and its last words on one line."""
    code = "" if failure.exit_code is None else f" with exit code {failure.exit_code}"
    text = f": {failure.text}" if failure.text else ""
    return f"{failure.key} ended {failure.outcome.value}{code}{text}"


def notes(found: Progress) -> list[str]:
    """Return what the CREATED runs wait for."""
    texts = [wait_text(wait) for wait in found.waits]
    if len(texts) > NAMED_WAITS:
        texts[NAMED_WAITS:] = [f"{len(texts) - NAMED_WAITS} more reasons (motoko why)"]
    return [text for text in (*texts, others_text(found.others)) if text]


def wait_text(wait: Wait) -> str:
    """Return how many runs wait, and for what."""
    about = "about " if wait.about else ""
    return f"{about}{wait.runs:,} {'run waits' if wait.runs == 1 else 'runs wait'}: {wait.text}"


def studies_table(studies: Mapping[str, StudyProgress], out: Console) -> Table:
    """Return a table of the studies; leave out the last columns if the terminal is narrow."""
    extra = ("mean", "rate", "left")
    for number in range(len(extra), 0, -1):
        table = _table(studies, extra[:number])
        if out.measure(table).maximum <= out.width:
            return table
    return _table(studies, ())


def _table(studies: Mapping[str, StudyProgress], extra: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("study")
    states = ordered_states(state for study in studies.values() for state in study.counts)
    for state in states:
        table.add_column(state_text(state), justify="right")
    for title in extra:
        table.add_column(title, justify="right")
    for name, study in studies.items():
        numbers = [str(study.counts.get(state, 0)) for state in states]
        cells = {
            "mean": None if study.mean is None else _mean_text(study.mean),
            "rate": None if study.rate is None else rate_text(study.rate),
            "left": None if study.left is None else duration(max(1.0, study.left.seconds)),
        }
        table.add_row(*map(safe_text, [name, *numbers, *(cells[title] or "" for title in extra)]))
    return table


def _mean_text(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
