"""Telling when nothing can move any more: a stalled workflow says which awaits wait for what."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from motoko.core.firing import ConditionKind
from motoko.core.states import OUTCOMES, Lifecycle
from motoko.errors import WorkflowStalled
from motoko.orchestrator.lease import Stall
from motoko.storage.off_loop import in_thread
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motoko.orchestrator.execution import Execution

logger = logging.getLogger("motoko.orchestrator")

# Seconds from an event to the question whether anything can follow it.
QUIET: Final = 0.5
MAIN: Final = "main"
SHOWN: Final = 20  # of those that wait
UNENDED: Final = tuple(state.value for state in Lifecycle if state not in OUTCOMES)


class StallWatch:
    """Knows who waits in Motoko's own awaits, and looks whether anything can still happen.

    It errs on the side of waiting: a task that waits for anything else (a sleep, a request, a
    thread) may still do something.
    """

    def __init__(self, execution: Execution, *, ends: bool) -> None:
        self._execution = execution
        self._ends = ends
        self._waits: dict[asyncio.Task[Any], tuple[str, Callable[[], str]]] = {}
        self._foreign = asyncio.all_tasks()
        self._timer: asyncio.TimerHandle | None = None
        self._stall: Stall | None = None

    @contextlib.contextmanager
    def waiting(self, owner: str, describe: Callable[[], str]) -> Iterator[None]:
        """Note that the current task waits in one of Motoko's own awaits."""
        task = asyncio.current_task()
        assert task is not None
        self._waits[task] = (owner, describe)
        if owner == MAIN:
            self._execution.say_events()
        self.stir()
        try:
            yield
        finally:
            self._waits.pop(task, None)
            self.stir()

    def stir(self) -> None:
        """Note that something has happened; a little later the question is asked."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(QUIET, self._ask)

    def close(self) -> None:
        """Ask nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self) -> None:
        self._timer = None
        if self._execution.ending or not self._execution.asked_everything():
            return  # what is being asked stirs again when it is answered
        if self._quiet():
            self._execution.bad_ends.consider_old()
            self._execution.background(self._look)
        else:
            self._go_on()

    def _quiet(self) -> bool:
        execution = self._execution
        return (
            not execution.ending
            and execution.asked_everything()
            and execution.engine.exhausted(execution.dispatcher.last_number)
            and all(self._stuck(task) for task in asyncio.all_tasks())
        )

    def _go_on(self) -> None:
        if self._stall is not None:
            self._stall = None
            self._execution.lease.say_stall(None)
            logger.warning("the workflow is not stalled any more")

    def _stuck(self, task: asyncio.Task[Any]) -> bool:
        if task in self._waits or task in self._foreign or task.done():
            return True
        name = task.get_name()
        if name.startswith("motoko.") and not name.endswith("_guarded"):
            return True
        waits_for = getattr(task, "_fut_waiter", None)  # what it waits for: tasks, asked too
        return isinstance(waits_for, asyncio.Task) or hasattr(waits_for, "_children")

    async def _look(self) -> None:
        moving = await in_thread(self._moving)
        if moving:
            self._go_on()
        if moving or not self._quiet():
            return
        waits = self._describe()
        if self._ends and not self._polled():
            await self._execution.bad_ends.conclude()  # what failed says more than what waits
            text = "\n  ".join(waits)
            raise WorkflowStalled(
                f"the workflow is stalled: no run can move, and nothing fires\n  {text}",
                hint="Set workflow.finished = True where the work is done.",
            )
        if self._stall is None or self._stall.waits != waits:
            self._stall = Stall(self._execution.store.now(), waits)
            self._execution.lease.say_stall(self._stall)
            logger.warning("the workflow is stalled, and waits: %s", "; ".join(waits))

    def _moving(self) -> int:
        execution = self._execution
        session = Session(execution.store.database)
        try:
            tables = session.tables
            return sum(
                len(tables.study(name).ids(execution.run_name, lifecycles=UNENDED))
                for name in tables.study_names()
            )
        finally:
            session.close()

    def _polled(self) -> bool:
        kinds = {event.kind for event in self._execution.engine.events()}
        return ConditionKind.PLAIN in kinds

    def _describe(self) -> tuple[str, ...]:
        lines = [f"{owner} waits for {describe()}" for owner, describe in self._waits.values()]
        for action in self._execution.actions.values():
            condition = action.condition
            shown = condition if isinstance(condition, str | list) else action.kind.value
            lines.append(f"event {action.id} waits for {shown}")
        lines = list(dict.fromkeys(lines))
        if len(lines) > SHOWN:
            lines[SHOWN:] = [f"... and {len(lines) - SHOWN} more"]
        return tuple(lines) or ("main has returned",)
