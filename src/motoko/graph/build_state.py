"""The decisions of one build: which node to check, build or skip next.

A driver (:mod:`motoko.graph.thread_driver`, :mod:`motoko.graph.async_driver`) checks the nodes,
calls their actions and records the results here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType, MethodType

from motoko.errors import BuildError
from motoko.graph.node import FRESH, Verdict, always_stale, stale_because

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from motoko.graph.plan import BuildPlan

    Observer = Callable[["StatusChange"], object]


class Status(StrEnum):
    """The state of a node in a build."""

    STALE = "stale"  # checked; not processed yet, or not reached
    UNDECIDED = "undecided"  # checked; its requirements decide
    FRESH = "fresh"  # needs no build
    BUILDING = "building"  # its action is running
    BUILT = "built"  # its action succeeded, or all members of the group are ready
    INCOMPLETE = "incomplete"  # its action finished, but it is not fresh
    MISSING = "missing"  # it is stale and has no action
    FAILED = "failed"  # the check or the action raised an exception
    BLOCKED = "blocked"  # a requirement is not ready
    WOULD_BUILD = "would_build"  # dry run: its action would be called


AVAILABLE = frozenset({Status.FRESH, Status.BUILT})
FAILURES = frozenset({Status.FAILED, Status.INCOMPLETE, Status.MISSING})
FINAL = AVAILABLE | FAILURES | {Status.BLOCKED, Status.WOULD_BUILD}

# Used if the node itself gives no reason.
DEFAULT_REASONS = MappingProxyType(
    {
        Status.MISSING: "no action builds it",
        Status.INCOMPLETE: "its action finished, but it is not fresh",
        Status.WOULD_BUILD: "this was a dry run",
    }
)
MISSING_HINT = "Give the node an action that builds it, or an is_fresh() that checks for it."


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A node has a new status; ``done`` of the ``total`` visited nodes have a final one."""

    name: str
    status: Status
    verdict: Verdict | None = None
    error: Exception | None = None
    waits_for: tuple[str, ...] = ()  # the requirements that are not ready
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class BuildReport:
    """The outcome of a build: the status of each visited node."""

    targets: tuple[str, ...]
    statuses: dict[str, Status] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all targets are ready."""
        return all(self.statuses.get(name) in AVAILABLE for name in self.targets)

    def names(self, *statuses: Status) -> list[str]:
        """Return the names of the nodes in one of ``statuses``, in the order of the visit."""
        return [name for name, status in self.statuses.items() if status in statuses]

    def raise_failure(self) -> None:
        """Raise the first exception of the build; BuildError for a missing target without one."""
        for error in self.errors.values():
            raise error
        if self.complete:
            return
        for name in self.names(Status.MISSING, Status.INCOMPLETE, Status.WOULD_BUILD):
            status = self.statuses[name]
            reasons = "; ".join(self.verdicts[name].reasons) or DEFAULT_REASONS[status]
            hint = MISSING_HINT if status is Status.MISSING else None
            raise BuildError(f"{name!r} is not ready: {reasons}", hint=hint)


class NextAction(Enum):
    """What a driver must do next with a node."""

    DONE = "done"
    CHECK = "check"
    RUN = "run"
    WAIT = "wait"  # a running action builds this node too


class BuildState:
    """The statuses of one build, and the next action for each node."""

    def __init__(self, plan: BuildPlan, emit: Observer, *, dry_run: bool, keep_going: bool) -> None:
        self.nodes = plan.nodes
        self.report = BuildReport(plan.targets)
        self.statuses = self.report.statuses
        self._dry_run = dry_run
        self._keep_going = keep_going
        self.emit = emit
        self._done = 0
        self._called: dict[object, str] = {}  # an action -> the node it was called for
        self.stopped = False

    def record_visit(self, name: str, verdict: Verdict | Exception) -> bool:
        """Record the first check; return whether to visit the requirements."""
        if isinstance(verdict, Exception):
            self.report.errors[name] = verdict
            self.statuses[name] = Status.FAILED
            return False
        self.report.verdicts[name] = verdict
        if verdict.fresh:
            self.statuses[name] = Status.FRESH
            return False
        status = Status.STALE if verdict.fresh is False else Status.UNDECIDED
        self._set_status(name, status, verdict)
        return True

    def next_action(self, name: str) -> NextAction:
        """Decide on a node whose requirements have their final status."""
        status = self.statuses[name]
        verdicts, errors = self.report.verdicts, self.report.errors
        if status in FINAL:
            return self._set_status(name, status, verdicts.get(name), error=errors.get(name))
        node = self.nodes[name]
        missing = tuple(r for r in node.requires if self.statuses[r] not in AVAILABLE)
        if missing:
            buildable = all(self.statuses[r] is Status.WOULD_BUILD for r in missing)
            blocked = Status.WOULD_BUILD if buildable else Status.BLOCKED
            return self._set_status(name, blocked, waits_for=missing)
        if status is Status.UNDECIDED or (node.action is None and node.requires):
            return NextAction.CHECK
        return self._decide_stale(name)

    def _decide_stale(self, name: str) -> NextAction:
        node, verdict = self.nodes[name], self.report.verdicts[name]
        if node.action is None and not node.requires:
            return self._set_status(name, Status.MISSING, verdict)
        if node.action is None:
            reason = "all its requirements are ready, but it is not fresh"
            return self._finish_incomplete(name, verdict, reason)
        if self._dry_run:
            return self._set_status(name, Status.WOULD_BUILD, verdict)
        builder = self._called.get(_identity(node.action))
        if builder is None:
            return NextAction.RUN
        if self.statuses[builder] is Status.BUILDING:
            return NextAction.WAIT
        if builder in self.report.errors:
            return self.record_failure(name, self.report.errors[builder])
        if node.is_fresh is always_stale:
            verdict = self.report.verdicts[name] = self.report.verdicts[builder]
            return self._set_status(name, self.statuses[builder], verdict)
        return NextAction.CHECK

    def record_recheck(self, name: str, verdict: Verdict | Exception) -> NextAction:
        """Record the check of a node whose requirements are ready; decide on the node."""
        if isinstance(verdict, Exception):
            return self.record_failure(name, verdict)
        before = self.statuses[name]
        self.report.verdicts[name] = verdict
        node = self.nodes[name]
        if verdict.fresh:
            built = node.action is None and (
                before is Status.STALE
                or any(self.statuses[one] is Status.BUILT for one in node.requires)
            )
            return self._set_status(name, Status.BUILT if built else Status.FRESH, verdict)
        builder = self._called.get(_identity(node.action))
        if builder is not None:
            reason = f"its action was called for {builder!r} too, but it is not fresh"
            return self._finish_incomplete(name, verdict, reason)
        if before is Status.UNDECIDED:
            self._set_status(name, Status.STALE, verdict)
        return self._decide_stale(name)

    def record_start(self, name: str) -> None:
        """Record that the action of the node starts."""
        self._called[_identity(self.nodes[name].action)] = name
        self._set_status(name, Status.BUILDING, self.report.verdicts[name])

    def record_result(self, name: str, result: object) -> None:
        """Record the result of the action."""
        verdict = result if isinstance(result, Verdict) else FRESH
        self.report.verdicts[name] = verdict
        self._set_status(name, Status.BUILT if verdict.fresh else Status.INCOMPLETE, verdict)

    def record_failure(self, name: str, error: Exception) -> NextAction:
        """Record that the check or the action raised ``error``."""
        self.report.errors[name] = error
        return self._set_status(name, Status.FAILED, error=error)

    def _finish_incomplete(self, name: str, verdict: Verdict, reason: str) -> NextAction:
        if not verdict.reasons:
            verdict = self.report.verdicts[name] = stale_because(reason)
        return self._set_status(name, Status.INCOMPLETE, verdict)

    def _set_status(
        self,
        name: str,
        status: Status,
        verdict: Verdict | None = None,
        waits_for: tuple[str, ...] = (),
        error: Exception | None = None,
    ) -> NextAction:
        """Set the status and emit the change; no action remains after a final one."""
        self.statuses[name] = status
        if status in FINAL:
            self._done += 1
            if status in FAILURES and not self._keep_going:
                self.stopped = True
        total = len(self.statuses)
        self.emit(StatusChange(name, status, verdict, error, waits_for, self._done, total))
        return NextAction.DONE


def _identity(action: Any) -> object:
    """Return a key of the action; each access to a method creates a new object."""
    if isinstance(action, MethodType):
        return id(action.__self__), id(action.__func__)
    return id(action)
