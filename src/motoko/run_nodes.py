"""Nodes of a step graph that are runs of a study, built through the launcher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from motoko.graph import Node, Verdict, fresh_because, stale_because, undecided_because

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from motoko.storage.handles import Run
    from motoko.task_manager import TaskManager

SHOWN = 3


class RunNode:
    """What a node asks and does. Functions among ``job_params`` are called when it is ready."""

    def __init__(
        self,
        manager: TaskManager,
        name: str,
        requires: Sequence[str],
        run_params: Mapping[str, Any] | None,
        replicate: int,
        job_params: Mapping[str, Any],
    ) -> None:
        self._manager = manager
        self._name = name
        self._requires = tuple(requires)
        self._run_params = dict(run_params or {})
        self._replicate = replicate
        self._job_params = dict(job_params)

    def node(self) -> Node:
        """Return the node."""
        return Node(
            self._name,
            self._requires,
            self._ask,
            self._build,
            origin=f"study {self._manager.name}",
            when_ready=self._look,
        )

    def _ask(self) -> Verdict:
        late = [name for name, value in self._job_params.items() if callable(value)]
        if late and self._requires:
            return undecided_because(f"{', '.join(late)} will be known when what it requires is")
        return self._look()

    def _look(self) -> Verdict:
        runs = self._manager.find_task(
            self._run_params, replicate=self._replicate, **self._values()
        )
        if runs is None:
            return stale_because("there is no such run")
        unfinished = [run for run in runs if run.lifecycle != "FINISHED"]
        if unfinished:
            return stale_because(*(f"run {run.key} is {run.lifecycle}" for run in unfinished))
        return fresh_because(f"{_named(runs)} ended FINISHED")

    def _values(self) -> dict[str, Any]:
        return {
            name: value() if callable(value) else value for name, value in self._job_params.items()
        }

    async def _build(self) -> Verdict:
        """Create the runs and wait for them; RunFailed where one ends badly."""
        tasks = self._manager.create_task(
            self._run_params, replicate=self._replicate, **self._values()
        )
        for run in tasks.runs:
            if run.record.lifecycle.bad:
                run.retry()
        await tasks
        return fresh_because(f"{_named(tasks.runs)} ended FINISHED")


def _named(runs: Sequence[Run]) -> str:
    names = ", ".join(str(run.key) for run in runs[:SHOWN])
    more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    return f"run {names}{more}" if len(runs) == 1 else f"runs {names}{more}"
