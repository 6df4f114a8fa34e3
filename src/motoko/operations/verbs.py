"""The commands that change runs, as the screens offer them: previewed first, then performed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from shlex import quote
from typing import TYPE_CHECKING, Final

from motoko.api.workflow import Workflow
from motoko.core.states import Lifecycle
from motoko.launcher.services import Services
from motoko.operations import bulk_edit, holds
from motoko.operations.cancel import cancel
from motoko.operations.preview import preview
from motoko.printable import count_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from motoko.core.records import RunKey, RunRecord
    from motoko.operations.bulk_edit import RunSelection

NAMED: Final = 6  # runs in a preview


class Verb(StrEnum):
    """A command that changes runs."""

    RETRY = "retry"
    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"

    @property
    def effect(self) -> str:
        """Completes "7 runs would"."""
        return _EFFECTS[self]


_EFFECTS: Final[Mapping[Verb, str]] = {
    Verb.RETRY: "go back to CREATED",
    Verb.CANCEL: "be cancelled",
    Verb.HOLD: "be held",
    Verb.RELEASE: "be released",
}
_AFFECTS: Final[Mapping[Verb, Callable[[RunRecord], bool]]] = {
    Verb.RETRY: bulk_edit.is_failed,
    Verb.CANCEL: bulk_edit.is_cancellable,
    Verb.HOLD: lambda record: record.lifecycle is Lifecycle.CREATED,
    Verb.RELEASE: lambda record: record.lifecycle is Lifecycle.CREATED,
}


@dataclass(frozen=True, slots=True)
class VerbPreview:
    """What a command would do: the number of runs that it would change, and of the others.

    ``active``: those that are SUBMITTED or START. ``counts``: by study and state.
    """

    verb: Verb
    command: str
    number: int
    active: int
    unaffected: int
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    first: Sequence[RunKey] = ()

    @property
    def text(self) -> str:
        """One line about the effect."""
        text = f"{count_runs(self.number)} would {self.verb.effect}"
        if self.active:
            text += f"; {self.active} of them {'is' if self.active == 1 else 'are'} active"
        if self.unaffected:
            text += f"; {count_runs(self.unaffected)} not affected"
        return text


@dataclass(frozen=True, slots=True)
class VerbResult:
    """What a command did. ``problem``: why it could not do all, with the remedy; else empty."""

    text: str
    problem: str = ""


def command_line(verb: Verb, selection: RunSelection) -> str:
    """Return the command line that does the same."""
    words = ["motoko", verb.value, *(quote(str(target)) for target in selection.targets)]
    for constraint in selection.constraints:
        words += ["--where", quote(constraint)]
    if selection.run_name is not None:
        words += ["--run_name", quote(selection.run_name)]
    if not selection.is_narrowed and (verb is Verb.CANCEL or selection.run_name is None):
        words.append("--all")
    return " ".join(words)


def preview_verb(workflow: Workflow, verb: Verb, selection: RunSelection) -> VerbPreview:
    """Return what a command would do now.

    Raise UnknownRunError, UnknownNameError or ConstraintError for an invalid selection.
    """
    selection.check_exists(workflow)
    found = preview(selection.find(workflow), _AFFECTS[verb])
    return VerbPreview(
        verb,
        command_line(verb, selection),
        len(found.runs),
        len(found.active),
        sum(found.unaffected.values()) if selection.names_ids else 0,
        found.counts,
        found.keys[:NAMED],
    )


def perform(workflow: Workflow, verb: Verb, selection: RunSelection, cause: str) -> VerbResult:
    """Do what the command does; ``cause`` names the actor in the history."""
    if verb is Verb.HOLD:
        return VerbResult(holds.hold(workflow, selection, cause).summary)
    if verb is Verb.RELEASE:
        released = holds.release(workflow, selection)
        rest = f"runs stay held: {released.rest} releases them" if released.rest else ""
        return VerbResult(released.summary, rest)
    records = [record for record in selection.find(workflow) if _AFFECTS[verb](record)]
    if verb is Verb.RETRY:
        keys = bulk_edit.retry(workflow, records, cause)
        return VerbResult(f"{count_runs(len(keys))} to retry")
    cancelled = cancel(workflow, records, cause)
    problem = "" if cancelled.problem is None else cancelled.problem.message
    return VerbResult(cancelled.summary, problem)


def perform_alone(file: str, verb: Verb, selection: RunSelection, cause: str) -> VerbResult:
    """Perform a verb on the workflow of a ``motoko.yaml``, with its server running meanwhile."""
    workflow = Workflow(file, tolerant=True)
    with Services(workflow, temporary=True):
        return perform(workflow, verb, selection, cause)
