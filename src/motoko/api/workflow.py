"""The workflow: its studies, variables, actions and execution."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from motoko.api.lifecycle import WorkflowLifecycle
from motoko.api.registration import ActionRegistration
from motoko.api.task_manager import TaskManager
from motoko.api.transaction import Transaction
from motoko.api.variables import Variables, WorkflowVars
from motoko.config import StudyConfig, load_workflow
from motoko.core.parameter_space import check_run_name
from motoko.core.records import RunKey
from motoko.errors import (
    EventError,
    MotokoError,
    RunNameError,
    UnknownNameError,
    UnknownRunError,
    suggestion,
)
from motoko.orchestrator.actions import (
    ALL,
    Action,
    EventCallback,
    check_callback,
)
from motoko.orchestrator.awaiting import AwaitContext
from motoko.orchestrator.loading import load_function, load_module
from motoko.runtime.ports import SYSTEM
from motoko.server.state_dir import StateDir
from motoko.storage.store import WorkflowStore
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from motoko.handles.run import Run
    from motoko.orchestrator.execution import WorkflowExecution
    from motoko.runtime.ports import Runtime
    from motoko.storage.database import Database


class Workflow(ActionRegistration, WorkflowLifecycle):
    """Studies, an orchestrator and their state, described by a ``motoko.yaml``.

    ``workflow.<name>`` is the task manager of a study or alias. Set ``run_name`` before creating
    or selecting tasks; ``execute()`` runs the orchestrator. A ``with`` block runs the server and
    stops it. With ``read_only`` (formerly ``look``), never start the database server; if none is
    running, read the file. ``database``: use this open database. With ``tolerant``, studies may
    have an invalid configuration; ``config.faults`` lists the errors. With ``dry_run``, no launcher
    executes the runs: ``execute`` raises WorkflowStalled when it waits for one.
    """

    def __init__(
        self,
        filename: str | Path,
        *,
        read_only: bool = False,
        look: bool = False,
        database: Database | None = None,
        tolerant: bool = False,
        dry_run: bool = False,
        runtime: Runtime = SYSTEM,
    ) -> None:
        ActionRegistration.__init__(self)
        WorkflowLifecycle.__init__(self, is_managed=not (read_only or look or database))
        self.config = load_workflow(Path(filename), tolerant=tolerant)
        self.config_path = str(self.config.path)
        self.directory = str(self.config.directory)
        self.store = WorkflowStore(
            StateDir.of(self.config.directory),
            self.config.studies,
            read_only=read_only or look,
            database=database,
            runtime=runtime,
        )
        self.context = AwaitContext(self.store)
        self.task_managers: dict[str, TaskManager] = {
            name: TaskManager(
                self,
                name,
                self.config.studies.get(name) or StudyConfig.unread(self.config.directory / name),
                options,
            )
            for name, options in self.config.task_managers.items()
        }
        self.aliases: dict[str, str] = dict(self.config.aliases)
        self.orchestrator_script: str = self.config.orchestrator
        self.orchestrator_function: Callable[..., Awaitable[Any]] | None = None
        self._orchestrator_module: Any = None
        self._run_name: str | None = None
        self._run_vars: dict[str, Variables] = {}
        self._vars = WorkflowVars(str(self.store.state.database), store=self.store)
        self._finished = False
        self.end_when_stalled = False
        self._dry_run = dry_run

    # -- studies and variables -------------------------------------------------------------

    def __getattr__(self, name: str) -> TaskManager:
        return self.task_manager(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.task_managers, *self.aliases})

    def task_manager(self, study: str) -> TaskManager:
        """Return the task manager of a study or alias."""
        managers: dict[str, TaskManager] = self.__dict__.get("task_managers", {})
        aliases: dict[str, str] = self.__dict__.get("aliases", {})
        manager = managers.get(aliases.get(study, study))
        if manager is None:
            raise UnknownNameError(
                f"the workflow has no study {study!r}",
                hint=suggestion(study, [*managers, *aliases]),
            )
        return manager

    @property
    def run_name(self) -> str | None:
        """Return the run name that scopes every task and selection; None until it is set."""
        return self._run_name

    @run_name.setter
    def run_name(self, name: str | None) -> None:
        if self.context.execution is not None and name != self._run_name:
            raise RunNameError(
                f"the run name of a running workflow cannot be changed: {name!r}",
                hint=f"It is {self._run_name!r} until the workflow ends. Another run name needs "
                "another orchestrator.",
            )
        self._run_name = None if name is None else check_run_name(name)

    @property
    def vars(self) -> WorkflowVars:
        """Return the workflow's variables, shared by all run names."""
        return self._vars

    @property
    def run_vars(self) -> Variables:
        """Return the variables of the current run name."""
        if self._run_name is None:
            hint = "Set workflow.run_name first."
            raise RunNameError("run_vars belong to a run name, and none is set", hint=hint)
        new = Variables(self.store, self._run_name)
        return self._run_vars.setdefault(self._run_name, new)

    @property
    def finished(self) -> bool:
        """Whether the workflow has been ended; assign True to end it."""
        scope = self.store.scope() if self.context.execution is not None else None
        return self._finished or bool(getattr(scope, "finish_requested", False))

    @finished.setter
    def finished(self, value: bool) -> None:
        execution = self.context.execution
        if execution is None or not value:
            self._finished = bool(value)
            return
        scope: Any = self.store.scope()
        if hasattr(scope, "request_finish"):
            scope.request_finish()  # takes effect with the segment's commit
            return
        self._finished = True
        execution.finish()

    # -- runs ------------------------------------------------------------------------------

    def get_runs(self, run_list: Iterable[str]) -> dict[str, list[Run]]:
        """Return run handles for names such as ``add.1``, by task manager, in the given order."""
        found: dict[str, list[Run]] = {}
        for uri in run_list:
            name, run_id = RunKey.parse(str(uri))
            manager = self.task_manager(name)
            if run_id not in manager.base.runs:
                raise UnknownRunError(f"study {name!r} has no run {run_id}")
            found.setdefault(manager.name, []).append(manager.base.runs[run_id])
        return found

    def is_empty(self) -> bool:
        """Return whether no study has any run."""
        return not any(len(manager.base.runs) for manager in self.task_managers.values())

    def transaction(self) -> Transaction:
        """Group the changes of a ``with`` or ``async with`` block into one commit.

        An exception discards them. In an action the block is part of the current segment. Raise
        ConflictError if another process changed the same values.
        """
        return Transaction(self.store.scope())

    # -- orchestrator ----------------------------------------------------------------------

    def get_orchestrator_function(self) -> Callable[..., Awaitable[Any]]:
        """Load ``module.function`` from the workflow's directory, or raise OrchestratorLoadError.

        The directory becomes the last one of ``sys.path``, so that modules there can be imported.
        """
        if self.orchestrator_function is None:
            self.orchestrator_function = load_function(self.load_orchestrator_module(), self.config)
        return self.orchestrator_function

    def load_orchestrator_module(self) -> Any:
        """Import the module of the orchestrator function, once."""
        if self._orchestrator_module is None:
            self._orchestrator_module = load_module(self.config)
        return self._orchestrator_module

    # -- execution -------------------------------------------------------------------------

    def execute(self, **params: Any) -> None:
        """Run the orchestrator until the workflow ends; raise the exception that ended it.

        ``params`` are passed to the orchestrator function and to every action. In a running event
        loop use ``await workflow.execute_async(...)``.
        """
        try:
            import asyncio

            asyncio.get_running_loop()
        except RuntimeError:
            self._execute_alone(params)
            return
        raise MotokoError(
            "execute() was called inside a running event loop",
            hint="Use `await workflow.execute_async(...)` there.",
        )

    def _execute_alone(self, params: Mapping[str, Any]) -> None:
        from motoko.orchestrator.asyncio_tasks import end_other_tasks
        from motoko.orchestrator.end_recorder import ending_of

        async def execute() -> None:
            try:
                await self.execute_async(**params)
            finally:
                with anyio.CancelScope(shield=True):
                    await end_other_tasks()

        try:
            anyio.run(execute)
        except KeyboardInterrupt as interrupt:
            if self.context.recorder is not None:
                self.context.recorder.end(ending_of(interrupt))
            raise

    async def execute_async(self, **params: Any) -> None:
        """Run the orchestrator until the workflow ends, as ``execute`` does."""
        await self._run(self.get_orchestrator_function(), params)

    async def _run(self, main: Callable[..., Awaitable[Any]], params: Mapping[str, Any]) -> None:
        execution = self._execution(params)
        try:
            for manager in self.task_managers.values():
                await run_in_thread(manager.report_changes)
            await execution.run(main, self.context, self._registered())
        finally:
            self._finished = execution.ending

    def _execution(self, params: Mapping[str, Any], *, single: bool = False) -> WorkflowExecution:
        from motoko.orchestrator.end_recorder import EndRecorder
        from motoko.orchestrator.execution import WorkflowExecution

        if self._run_name is None:
            hint = "Set workflow.run_name, or use --run_name."
            raise RunNameError("no run name is set", hint=hint)
        context = self.context
        watch = self._notifier_watch(self._run_name)
        recorder = EndRecorder(self.store, self._run_name, context.origin, on_alive=watch)
        context.recorder = None if single or self._dry_run else recorder
        execution = WorkflowExecution(
            self,
            self.store,
            self._run_name,
            params,
            handlers=self._error_handlers,
            poll_interval=self.config.poll_interval,
            safety_poll=self.config.safety_poll,
            recorder=context.recorder,
            single=single,
            end_when_stalled=self.end_when_stalled,
            dry_run=self._dry_run,
        )
        self._finished = False
        return execution

    def _notifier_watch(self, run_name: str) -> Callable[[], object]:
        """Return a function that keeps a notifier running, if one is configured."""
        if not self.config.notify or not self._is_managed:
            return lambda: None
        from motoko.notifier.control import ExecutionWatch

        return ExecutionWatch(self.store.state, run_name, self.store.clock)

    async def check_events(self, **params: Any) -> None:
        """Evaluate all registered events once, and wait for their firings."""
        await self._check(self._registered(), params)

    async def check_event(
        self, event_name: str, task_manager_name: str = ALL, **params: Any
    ) -> bool:
        """Evaluate one registered event once, wait for its firings, and return whether it fired."""
        named = [action for action in self._registered() if action.name == event_name]
        found = [action for action in named if action.task == task_manager_name]
        found = named if not found and task_manager_name == ALL else found
        if len(found) != 1:
            raise EventError(
                f"task {task_manager_name!r} has no event {event_name!r}",
                hint=suggestion(event_name, [action.name for action in self._registered()]),
            )
        return await self._check(found, params)

    async def _check(self, actions: list[Action], params: Mapping[str, Any]) -> bool:
        from motoko.orchestrator.execution import evaluate_once

        return await evaluate_once(self.context, self._execution(params, single=True), actions)

    async def loop_check_events(self, **params: Any) -> None:
        """Fire the registered events whenever they hold, until ``finished`` is set."""

        async def wait_until_finished(workflow: Workflow, **_: Any) -> None:
            del workflow
            await anyio.sleep_forever()

        await self._run(wait_until_finished, params)

    async def fire_event(
        self,
        event_name: str,
        task_manager_name: str,
        f: EventCallback,
        trigger: bool | Iterable[tuple[Any, Any]],
        get_params: Callable[[], Any] | Any | None,
        params: Mapping[str, Any],
    ) -> AsyncIterator[Any]:
        """Call an action as if its event had fired, and yield its result."""
        from motoko.orchestrator.execution import fire_now

        check_callback(event_name, f)
        execution = self._execution(params, single=True)
        yield await fire_now(
            self.context, execution, event_name, task_manager_name, f, trigger, get_params
        )

    def __repr__(self) -> str:
        return f"<workflow {self.directory}>"
