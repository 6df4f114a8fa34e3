"""One build, as decisions only: it is told what was found and says what to do next.

A driver (:mod:`motoko.graph.thread_driver`, :mod:`motoko.graph.async_driver`) queries the nodes
and calls their actions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType, MethodType

from motoko.errors import BuildError
from motoko.graph.node import FRESH, Verdict, no_reason, stale_because

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from motoko.graph.plan import BuildPlan


class Status(StrEnum):
    """How things stand with a node."""

    STALE = "stale"  # was asked; not dealt with yet, or not reached
    UNDECIDED = "undecided"  # was asked; only its requirements can tell
    FRESH = "fresh"  # nothing to do
    BUILDING = "building"  # its action is at work
    BUILT = "built"  # its action made it, or all that it collects is there
    INCOMPLETE = "incomplete"  # its action ended, and it is not fresh
    MISSING = "missing"  # it is not there, and nothing makes it
    FAILED = "failed"  # asking it or its action raised an exception
    BLOCKED = "blocked"  # a requirement is not there
    WOULD_BUILD = "would_build"  # dry run: its action would be called


AVAILABLE = frozenset({Status.FRESH, Status.BUILT})
BAD = frozenset({Status.FAILED, Status.INCOMPLETE, Status.MISSING})
SETTLED = AVAILABLE | BAD | {Status.BLOCKED, Status.WOULD_BUILD}


# Why something is not there, where the node itself gives no reason.
USUAL_REASONS = MappingProxyType(
    {
        Status.MISSING: "nothing makes it",
        Status.INCOMPLETE: "its action ended, but it is not fresh",
        Status.WOULD_BUILD: "it was a dry run",
    }
)
MAKE_IT = "Give the node an action that makes it, or an is_fresh() that says when it is there."


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A node has come into a status.

    ``waits_for`` are the requirements that are not there: of a blocked node, and in a dry run.
    ``done`` of the ``total`` nodes seen so far are settled.
    """

    name: str
    status: Status
    verdict: Verdict | None = None
    error: Exception | None = None
    waits_for: tuple[str, ...] = ()
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class BuildReport:
    """How a build went: what became of each node that was visited."""

    targets: tuple[str, ...]
    statuses: dict[str, Status] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all targets are there."""
        return all(self.statuses.get(name) in AVAILABLE for name in self.targets)

    def names(self, *statuses: Status) -> list[str]:
        """Return the names of the nodes that ended in one of ``statuses``, as they were visited."""
        return [name for name, status in self.statuses.items() if status in statuses]

    def raise_failure(self) -> None:
        """Raise the first exception of the build; BuildError where a target is missing without."""
        for error in self.errors.values():
            raise error
        if self.complete:
            return
        for name in self.names(Status.MISSING, Status.INCOMPLETE, Status.WOULD_BUILD):
            status = self.statuses[name]
            reasons = "; ".join(self.verdicts[name].reasons) or USUAL_REASONS[status]
            hint = MAKE_IT if status is Status.MISSING else None
            raise BuildError(f"{name!r} is not there: {reasons}", hint=hint)


class NextAction(Enum):
    """What a driver does next with a node."""

    NOTHING = "nothing"
    ASK = "ask"
    ACT = "act"
    WAIT = "wait"  # another node's action, which makes this one too, is at work


class BuildState:
    """The state of one build; see the module."""

    def __init__(
        self,
        plan: BuildPlan,
        *,
        dry_run: bool,
        keep_going: bool,
        emit: Callable[[StatusChange], None],
    ) -> None:
        self.nodes = plan.nodes
        self.report = BuildReport(plan.targets)
        self.statuses = self.report.statuses
        self._dry_run = dry_run
        self._keep_going = keep_going
        self.emit = emit
        self._done = 0
        self._acted: dict[object, str] = {}  # an action -> the node it was called for
        self.stopped = False

    def entered(self, name: str, verdict: Verdict | Exception) -> bool:
        """Note what the node answered; return whether its requirements are to be visited.

        Where they are not, the event comes when it is the node's turn.
        """
        if isinstance(verdict, Exception):
            self.report.errors[name] = verdict
            self.statuses[name] = Status.FAILED
            return False
        self.report.verdicts[name] = verdict
        if verdict.fresh:
            self.statuses[name] = Status.FRESH
            return False
        self._come(name, Status.STALE if verdict.fresh is False else Status.UNDECIDED, verdict)
        return True

    def decide(self, name: str) -> NextAction:
        """Return what to do with a node whose turn it is: its requirements are settled."""
        status = self.statuses[name]
        if status in SETTLED:
            self._come(
                name, status, self.report.verdicts.get(name), (), self.report.errors.get(name)
            )
            return NextAction.NOTHING
        node = self.nodes[name]
        lacking = tuple(r for r in node.requires if self.statuses[r] not in AVAILABLE)
        if lacking:
            would_come = all(self.statuses[r] is Status.WOULD_BUILD for r in lacking)
            self._come(name, Status.WOULD_BUILD if would_come else Status.BLOCKED, None, lacking)
            return NextAction.NOTHING
        if status is Status.UNDECIDED or (node.action is None and node.requires):
            return NextAction.ASK  # now that they are there
        return self._decide_stale(name)

    def _decide_stale(self, name: str) -> NextAction:
        action = self.nodes[name].action
        verdict = self.report.verdicts[name]
        if action is None and not self.nodes[name].requires:
            self._come(name, Status.MISSING, verdict)
            return NextAction.NOTHING
        if action is None:
            self._incomplete(name, verdict, "all that it requires is there, but it is not fresh")
            return NextAction.NOTHING
        if self._dry_run:
            self._come(name, Status.WOULD_BUILD, verdict)
            return NextAction.NOTHING
        maker = self._acted.get(_identity(action))
        if maker is None:
            return NextAction.ACT
        if self.statuses[maker] is Status.BUILDING:
            return NextAction.WAIT
        if maker in self.report.errors:
            self.failed(name, self.report.errors[maker])
            return NextAction.NOTHING
        if self.nodes[name].is_fresh is no_reason:
            self._come(name, self.statuses[maker], self.report.verdicts[maker])
            self.report.verdicts[name] = self.report.verdicts[maker]
            return NextAction.NOTHING
        return NextAction.ASK

    def answered(self, name: str, verdict: Verdict | Exception) -> NextAction:
        """Note what a node that was asked again answered; return what to do with it."""
        if isinstance(verdict, Exception):
            self.failed(name, verdict)
            return NextAction.NOTHING
        before = self.statuses[name]
        self.report.verdicts[name] = verdict
        node = self.nodes[name]
        if verdict.fresh:
            built = node.action is None and (
                before is Status.STALE
                or any(self.statuses[one] is Status.BUILT for one in node.requires)
            )
            self._come(name, Status.BUILT if built else Status.FRESH, verdict)
            return NextAction.NOTHING
        maker = self._acted.get(_identity(node.action))
        if maker is not None:
            reason = f"its action was called for {maker!r} too, but it is not fresh"
            self._incomplete(name, verdict, reason)
            return NextAction.NOTHING
        if before is Status.UNDECIDED:
            self._come(name, Status.STALE, verdict)
        return self._decide_stale(name)

    def started(self, name: str) -> None:
        """Note that the node's action is called now."""
        self._acted[_identity(self.nodes[name].action)] = name
        self._come(name, Status.BUILDING, self.report.verdicts[name])

    def ended(self, name: str, result: object) -> None:
        """Note that the node's action returned ``result``."""
        verdict = result if isinstance(result, Verdict) else FRESH
        self.report.verdicts[name] = verdict
        self._come(name, Status.BUILT if verdict.fresh else Status.INCOMPLETE, verdict)

    def failed(self, name: str, error: Exception) -> None:
        """Note that asking the node, or its action, raised ``error``."""
        self.report.errors[name] = error
        self._come(name, Status.FAILED, error=error)

    def _incomplete(self, name: str, verdict: Verdict, usual: str) -> None:
        """Note that nothing more is done for a node; it is said why, if need be with ``usual``."""
        told = verdict if verdict.reasons else stale_because(usual)
        self.report.verdicts[name] = told
        self._come(name, Status.INCOMPLETE, told)

    def _come(
        self,
        name: str,
        status: Status,
        verdict: Verdict | None = None,
        waits_for: tuple[str, ...] = (),
        error: Exception | None = None,
    ) -> None:
        self.statuses[name] = status
        if status in SETTLED:
            self._done += 1
            if status in BAD and not self._keep_going:
                self.stopped = True
        total = len(self.statuses)
        self.emit(StatusChange(name, status, verdict, error, waits_for, self._done, total))


def _identity(action: Any) -> object:
    """Return what is the same for one action; each look at a method makes another object."""
    if isinstance(action, MethodType):
        return id(action.__self__), id(action.__func__)
    return id(action)
