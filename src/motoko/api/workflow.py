"""The front door: a workflow, its variables, and how actions are registered and executed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from motoko.api.task_manager import TaskManager
from motoko.api.transaction import Transaction
from motoko.api.variables import Variables, WorkflowVars
from motoko.config import StudyConfig, load_workflow
from motoko.core.constraints import parse_each
from motoko.core.firing import ConditionKind
from motoko.core.parameter_space import check_run_name
from motoko.core.records import RunKey
from motoko.errors import (
    ConstraintError,
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
    ActionRegistry,
    EventCallback,
    EventCondition,
    check_callback,
    condition_kind,
    event,
    is_no_param_func,
    is_run_filter,
    is_workflow_filter,
    no_action,
)
from motoko.orchestrator.awaiting import AwaitContext
from motoko.orchestrator.failures import ErrorHandler
from motoko.orchestrator.loading import load_function, load_module
from motoko.server.state_dir import StateDir
from motoko.storage.store import WorkflowStore
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from motoko.core.constraints import Constraint
    from motoko.handles.run import Run
    from motoko.orchestrator.execution import WorkflowExecution
    from motoko.storage.database import Database
    from motoko.storage.tables import Tables

__all__ = [
    "ActionRegistry",
    "EventCallback",
    "EventCondition",
    "Workflow",
    "WorkflowVars",
    "event",
    "no_action",
]

logger = logging.getLogger("motoko.api.workflow")


def _served(tables: Tables, now: float) -> set[str]:
    from motoko.storage.leases import live_launchers

    return {study for launcher in live_launchers(tables, now) for study in launcher.studies}


class Workflow:
    """Studies, an orchestrator and their state, described by a ``motoko.yaml``.

    ``workflow.<name>`` is the task manager of a study or alias. Set ``run_name`` before creating
    or selecting tasks; ``execute()`` runs the orchestrator. ``look``: never start the database
    server, read the file where none runs. ``database``: use this one, open already.
    ``tolerant``: studies may be wrong, to look at what there is of them, or to cancel it; see
    ``config.faults``.
    """

    def __init__(
        self,
        filename: str | Path,
        *,
        look: bool = False,
        database: Database | None = None,
        tolerant: bool = False,
    ) -> None:
        self.config = load_workflow(Path(filename), tolerant=tolerant)
        self.config_path = str(self.config.path)
        self.directory = str(self.config.directory)
        self.store = WorkflowStore(
            StateDir.of(self.config.directory),
            self.config.studies,
            look=look,
            database=database,
        )
        self.context = AwaitContext(self.store, _served)
        self.task_managers: dict[str, TaskManager] = {
            name: TaskManager(self, name, self._study(name), options)
            for name, options in self.config.task_managers.items()
        }
        self.aliases: dict[str, str] = dict(self.config.aliases)
        self.orchestrator_script: str = self.config.orchestrator
        self.orchestrator_function: Callable[..., Awaitable[Any]] | None = None
        self._orchestrator_module: Any = None
        self.actions: ActionRegistry = {}
        self._error_handlers: list[ErrorHandler] = []
        self._run_name: str | None = None
        self._vars: WorkflowVars | None = None
        self._run_vars: tuple[str, Variables] | None = None
        self._finished = False
        self.end_when_stalled = False

    def _study(self, name: str) -> StudyConfig:
        found = self.config.studies.get(name)
        return StudyConfig.unread(self.config.directory / name) if found is None else found

    # -- what it is made of ----------------------------------------------------------------

    def __getattr__(self, name: str) -> TaskManager:
        managers = self.__dict__.get("task_managers", {})
        aliases = self.__dict__.get("aliases", {})
        manager = managers.get(aliases.get(name, name))
        if manager is None:
            raise UnknownNameError(
                f"the workflow has no task manager or alias {name!r}",
                hint=suggestion(name, [*managers, *aliases]),
            )
        assert isinstance(manager, TaskManager)
        return manager

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.task_managers, *self.aliases})

    def task_manager(self, study: str) -> TaskManager:
        """Return the task manager of a study or alias."""
        name = self.aliases.get(study, study)
        if name not in self.task_managers:
            raise UnknownNameError(
                f"the workflow has no task manager {study!r}",
                hint=suggestion(study, [*self.task_managers, *self.aliases]),
            )
        return self.task_managers[name]

    @property
    def run_name(self) -> str | None:
        """Return the run name that scopes every task and selection; None until it is set."""
        return self._run_name

    @run_name.setter
    def run_name(self, name: str | None) -> None:
        if self.context.execution is not None and name != self._run_name:
            raise RunNameError(
                f"the run name of a workflow that is executed cannot be changed: {name!r}",
                hint=f"It is {self._run_name!r} until it has ended. Another run name has an "
                "orchestrator of its own.",
            )
        self._run_name = None if name is None else check_run_name(name)

    @property
    def vars(self) -> WorkflowVars:
        """Return the workflow's variables, shared by all run names."""
        if self._vars is None:
            self._vars = WorkflowVars(str(self.store.state.database), store=self.store)
        return self._vars

    @property
    def run_vars(self) -> Variables:
        """Return the variables of the current run name."""
        if self._run_name is None:
            raise RunNameError(
                "run_vars belong to a run name, and there is none",
                hint="Set workflow.run_name first.",
            )
        if self._run_vars is None or self._run_vars[0] != self._run_name:
            self._run_vars = self._run_name, Variables(self.store, self._run_name)
        return self._run_vars[1]

    @property
    def finished(self) -> bool:
        """Whether the workflow was ended; assigning True ends it."""
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
            scope.request_finish()  # takes effect with the stretch's commit
        else:
            self._finished = True
            execution.finish()

    # -- its state -------------------------------------------------------------------------

    def create(self, validated: bool | None = None) -> None:
        """Make a new empty database; existing results are deleted only if ``validated``.

        Run directories of former runs are moved aside. DatabaseExistsError where there are
        results and nobody said that they may go.
        """
        from motoko.launcher.creation import create_workflow

        self.store.close()
        create_workflow(self.store, replace=bool(validated))

    def start_launcher_daemons(self, args: argparse.Namespace | None = None) -> None:
        """Start the launcher that runs created tasks, unless it runs already.

        A workflow without a database gets an empty one.
        ``args`` may have ``generator`` and ``bd_study``: a study, an alias, or "all".
        """
        from motoko.launcher.control import start_launcher
        from motoko.launcher.workflow_users import detach_services

        if not self.store.connected and not self.store.state.database.exists():
            self.create()
        study = getattr(args, "bd_study", None)
        chosen = None if study in (None, "", "all") else [self.task_manager(study).name]
        generator = getattr(args, "generator", None)
        start_launcher(self.store.state, generator=generator, studies=chosen)
        detach_services(self.store.state)

    def get_runs(self, run_list: Iterable[str]) -> dict[str, list[Run]]:
        """Return run handles for URIs such as ``add.1``, by task manager, in the order given."""
        found: dict[str, list[Run]] = {}
        for uri in run_list:
            name, run_id = RunKey.parse(str(uri))
            manager = self.task_manager(name)
            try:
                run = manager.base.runs[run_id]
            except KeyError:
                raise UnknownRunError(f"study {name!r} has no run {run_id}") from None
            found.setdefault(manager.name, []).append(run)
        return found

    def is_empty(self) -> bool:
        """Return whether no study has any run."""
        return all(not len(manager.base.runs) for manager in self.task_managers.values())

    def transaction(self) -> Transaction:
        """Group what is done in a ``with`` or ``async with`` block into one commit.

        An exception drops it all. Inside an action, whose stretches are transactions already, the
        block joins its stretch. ConflictError where somebody else changed what the block wrote.
        """
        return Transaction(self.store.scope())

    def close(self) -> None:
        """Disconnect from the database; the next use connects again."""
        self.store.close()

    # -- its orchestrator ------------------------------------------------------------------

    def get_orchestrator_function(self) -> Callable[..., Awaitable[Any]]:
        """Load ``module.function`` from beside ``motoko.yaml``; OrchestratorLoadError if it fails.

        It can import what lies beside it: its directory becomes the last of ``sys.path``.
        """
        if self.orchestrator_function is None:
            self.orchestrator_function = load_function(self.load_orchestrator_module(), self.config)
        return self.orchestrator_function

    def load_orchestrator_module(self) -> Any:
        """Return the module that holds the orchestrator function; it is imported only once."""
        if self._orchestrator_module is None:
            self._orchestrator_module = load_module(self.config)
        return self._orchestrator_module

    # -- events ----------------------------------------------------------------------------

    def add_action(
        self,
        event_name: str,
        task: str = ALL,
        event: EventCondition = None,
        get_params: Callable[[], Any] | None = None,
        f: EventCallback | None = None,
        *,
        once: bool = False,
    ) -> None:
        """Register an action and the condition under which it fires.

        ``event`` is a constraint or a list of them, ``f(run, job)``,
        ``f(workflow, task_manager)`` or ``f()``. With ``once``, at most one firing for each run is
        ever done. The same task and name replace an earlier action. Raises EventError,
        ConstraintError.
        """
        callback = no_action if f is None else f
        check_callback(event_name, callback)
        self._check_get_params(f"event {event_name!r}", get_params)
        kind = condition_kind(event_name, event)
        studies = self._studies_of(task)
        action = Action(
            event_name,
            task if task == ALL else studies[0],
            studies,
            kind,
            event,
            callback,
            get_params,
            once,
            self._constraints(event_name, studies, event),
        )
        self.actions.setdefault(action.task, {})[event_name] = action
        if self.context.execution is not None:
            self.context.execution.register(action)

    @staticmethod
    def _check_get_params(what: str, get_params: Any) -> None:
        if get_params is not None and not callable(get_params):
            raise EventError(f"{what}: get_params is not a function")

    def _studies_of(self, task: str) -> tuple[str, ...]:
        return tuple(self.task_managers) if task == ALL else (self.task_manager(task).name,)

    def _constraints(
        self, event_name: str, studies: tuple[str, ...], condition: Any
    ) -> Mapping[str, Constraint] | None:
        if condition_kind(event_name, condition) is not ConditionKind.CONSTRAINT:
            return None
        try:
            parsed = parse_each(condition, [self.task_managers[study].columns for study in studies])
        except ConstraintError as error:
            error.add_note(f"in the condition of event {event_name!r}")
            raise
        for constraint in parsed.values():
            for warning in constraint.warnings:
                logger.warning("event %s: %s", event_name, warning)
        return parsed

    def add_error_handler(
        self,
        event: EventCondition = "state = FAILED",
        f: EventCallback = no_action,
        *,
        task: str = ALL,
        get_params: Callable[[], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Register what is called with failed runs that nothing handles.

        The default condition stands for every failure. After the handlers the workflow ends and
        ``execute`` raises. ``task`` and ``get_params`` are as in ``add_action``. ``kwargs`` are
        passed on to ``f``, beside ``workflow`` and ``runs``.
        """
        check_callback("error handler", f)
        self._check_get_params("error handler", get_params)
        studies = self._studies_of(task)
        constraints = None
        if not is_run_filter(event):
            constraints = self._constraints("error handler", studies, event)
            if constraints is None:
                raise EventError(
                    "an error handler's condition must be a constraint or a function f(run, job)"
                )
        handler = ErrorHandler(event, studies, constraints, f, get_params, kwargs)
        if self.context.execution is not None:
            self.context.execution.failures.handlers.append(handler)
        else:
            self._error_handlers.append(handler)

    def is_run_filter(self, f: Any) -> bool:
        """Return whether ``f`` is a condition ``f(run, job)``."""
        return is_run_filter(f)

    def is_workflow_filter(self, f: Any) -> bool:
        """Return whether ``f`` is a condition ``f(workflow, task_manager)``."""
        return is_workflow_filter(f)

    def is_no_param_func(self, f: Any) -> bool:
        """Return whether ``f`` is a condition ``f()``."""
        return is_no_param_func(f)

    # -- executing -------------------------------------------------------------------------

    def execute(self, **params: Any) -> None:
        """Run the orchestrator until the workflow ends; raises what made it fail.

        ``params`` reach the orchestrator function and every action. In a running event loop use
        ``await workflow.execute_async(...)``.
        """
        try:
            import asyncio

            asyncio.get_running_loop()
        except RuntimeError:
            anyio.run(self._execute_alone, params)
            return
        raise MotokoError(
            "execute() was called inside a running event loop",
            hint="Use `await workflow.execute_async(...)` there.",
        )

    async def _execute_alone(self, params: Mapping[str, Any]) -> None:
        from motoko.orchestrator.asyncio_tasks import end_other_tasks

        try:
            await self.execute_async(**params)
        finally:
            with anyio.CancelScope(shield=True):
                await end_other_tasks()

    async def execute_async(self, **params: Any) -> None:
        """Run the orchestrator until the workflow ends, as ``execute`` does."""
        await self._run(self.get_orchestrator_function(), params)

    async def _run(self, main: Callable[..., Awaitable[Any]], params: Mapping[str, Any]) -> None:
        execution = self._execution(params)
        try:
            await run_in_thread(self._report_changes)
            await execution.run(main, self.context, self._registered())
        finally:
            self._finished = execution.ending

    def _report_changes(self) -> None:
        for manager in self.task_managers.values():
            manager.report_changes()

    def _execution(self, params: Mapping[str, Any], *, single: bool = False) -> WorkflowExecution:
        from motoko.orchestrator.execution import WorkflowExecution

        if self._run_name is None:
            raise RunNameError(
                "there is no run name", hint="Set workflow.run_name, or use --run_name."
            )
        execution = WorkflowExecution(
            self,
            self.store,
            self._run_name,
            params,
            handlers=self._error_handlers,
            poll_interval=self.config.poll_interval,
            safety_poll=self.config.safety_poll,
            single=single,
            end_when_stalled=self.end_when_stalled,
        )
        self._finished = False
        return execution

    async def check_events(self, **params: Any) -> None:
        """Evaluate all registered events now, and return when what they fired has ended."""
        await self._check(self._registered(), params)

    def _registered(self) -> list[Action]:
        return [action for of_task in self.actions.values() for action in of_task.values()]

    async def check_event(
        self, event_name: str, task_manager_name: str = ALL, **params: Any
    ) -> bool:
        """Evaluate one registered event now, and return when what it fired has ended.

        Returns whether it fired.
        """
        names = [action.name for action in self._registered()]
        action = self.actions.get(task_manager_name, {}).get(event_name)
        if action is None and task_manager_name == ALL and names.count(event_name) == 1:
            action = self._registered()[names.index(event_name)]
        if action is None:
            raise EventError(
                f"task {task_manager_name!r} has no event {event_name!r}",
                hint=suggestion(event_name, names),
            )
        return await self._check([action], params)

    async def _check(self, actions: list[Action], params: Mapping[str, Any]) -> bool:
        from motoko.orchestrator.execution import evaluate_once

        return await evaluate_once(self.context, self._execution(params, single=True), actions)

    async def loop_check_events(self, **params: Any) -> None:
        """Fire registered events as they happen until ``finished`` is set."""

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
        """Call an action as if its event had fired, and yield what it returns."""
        from motoko.orchestrator.execution import fire_now

        check_callback(event_name, f)
        execution = self._execution(params, single=True)
        yield await fire_now(
            self.context, execution, event_name, task_manager_name, f, trigger, get_params
        )

    def __repr__(self) -> str:
        return f"<workflow {self.directory}>"
