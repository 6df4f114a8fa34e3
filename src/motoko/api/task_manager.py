"""Task managers: a workflow's handles on its studies. They create and select runs."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload
from weakref import ref

from motoko.api.study_base import StudyBase
from motoko.core.changed_study import changed_text
from motoko.core.constraints import Columns, Constraint, parse
from motoko.core.parameter_space import (
    check_replicate,
    check_run_name,
    expand,
    job_identity,
    run_identity,
    run_values,
)
from motoko.core.records import RunKey, RunRecord, Transition
from motoko.errors import ParameterError, RunNameError
from motoko.handles.run import Job, Run, pairs
from motoko.orchestrator.awaiting import (
    existing_records,
    note_returned,
    recorded,
    recorded_records,
    run_failed,
    wait_for_all,
    wait_for_match,
    wait_for_runs,
    wait_until_committed,
)
from motoko.orchestrator.conditions import select_runs
from motoko.storage.run_requests import RequestedRun, RunRequest
from motoko.storage.scripts import scripts_digest
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.api.workflow import Workflow
    from motoko.config import StudyConfig, TaskManagerSettings
    from motoko.graph import Node
    from motoko.orchestrator.awaiting import AwaitContext
    from motoko.storage.scope import Scope
    from motoko.storage.store import WorkflowStore


logger = logging.getLogger("motoko.api.task_manager")


class RunList(Sequence[tuple[Run, Job]]):
    """The runs that one ``create_task`` asked for, as (run, job), in list order.

    ``await`` it to wait until all are in a terminal state; then RunFailed is raised if some failed,
    with all of those in ``runs``. With ``fail_fast`` the first failure raises it. ``settled()``
    never raises it. What another action or ``main`` asked for can be awaited too: that waits until
    it is committed. To read it is StateError before that.
    """

    def __init__(
        self, manager: TaskManager, request: RunRequest, *, fail_fast: bool = False
    ) -> None:
        self._manager = manager
        self._request = request
        self._fail_fast = fail_fast

    # -- reading ---------------------------------------------------------------------------

    def _known(self) -> list[RunKey]:
        return self._request.keys(self._manager.store.scope())

    def __len__(self) -> int:
        return len(self._request)

    @overload
    def __getitem__(self, index: int) -> tuple[Run, Job]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[Run, Job]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Run, Job] | list[tuple[Run, Job]]:
        chosen = self._known()[index]
        if isinstance(chosen, list):
            return self._handles(chosen)
        return self._handles([chosen])[0]

    def __iter__(self) -> Iterator[tuple[Run, Job]]:
        return iter(self._handles(self._known()))

    def _handles(self, keys: list[RunKey]) -> list[tuple[Run, Job]]:
        store = self._manager.store
        with store.scope().view() as session:
            return pairs(store, [session.run(key) for key in keys])

    @property
    def runs(self) -> list[Run]:
        """Return the runs, in list order."""
        return [Run(self._manager.store, key) for key in self._known()]

    @property
    def ids(self) -> list[int]:
        """Return the runs' ids, in list order."""
        return [key.id for key in self._known()]

    def __repr__(self) -> str:
        return f"<{len(self)} runs of {self._manager.name}>"

    # -- waiting ---------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, RunList]:
        return self._ended().__await__()

    async def _ended(self) -> RunList:
        context, scope = self._waiting()

        async def wait() -> list[RunKey]:
            keys = await self._committed(scope)
            failed = await wait_for_all(context, scope, keys, fail_fast=self._fail_fast)
            if failed:
                raise run_failed(context, scope, failed)
            await scope.renew()
            return keys

        keys = await recorded(context, scope, self._manager.name, wait)
        return self._with(keys)

    async def settled(self) -> RunList:
        """Wait until all runs are in a terminal state; return them, failed ones too.

        Failures are handled by this, if the caller completes.
        """
        context, scope = self._waiting()

        async def wait() -> list[RunKey]:
            keys = await self._committed(scope)
            failed.append(await wait_for_all(context, scope, keys))
            await scope.renew()
            return keys

        failed: list[list[RunRecord]] = []
        keys = await recorded(context, scope, self._manager.name, wait)
        if not failed:  # a rerun: the await is on record
            failed.append(await self._recorded(scope, keys))
        note_returned(context, scope, failed[0])
        return self._with(keys)

    @staticmethod
    async def _recorded(scope: Scope, keys: list[RunKey]) -> list[RunRecord]:
        return await run_in_thread(lambda: recorded_records(scope, keys))

    def _waiting(self) -> tuple[AwaitContext, Scope]:
        scope = self._manager.store.scope()
        self._request.ask_again(scope)
        return self._manager.workflow.context, scope

    def _with(self, keys: list[RunKey]) -> RunList:
        return self if keys == self._request.committed else self._of(keys)

    def _of(self, keys: list[RunKey]) -> RunList:
        request = RunRequest(self._manager.name, self._request.wanted, self._manager.store.scope())
        request.replays(keys)
        return RunList(self._manager, request, fail_fast=self._fail_fast)

    async def _committed(self, scope: Scope) -> list[RunKey]:
        context = self._manager.workflow.context
        with context.about_to_wait():
            await scope.settle()
        return await wait_until_committed(context, scope, self._request)

    async def as_completed(self) -> AsyncIterator[Run]:
        """Yield each run as it reaches a terminal state, failed ones too.

        Failures are handled by this, if the caller completes.
        """
        context, scope = self._waiting()
        yielded: list[RunKey] = []
        records: list[AsyncIterator[RunRecord]] = []

        async def wait() -> list[RunKey]:
            if records:
                await scope.settle()
            else:
                keys = await self._committed(scope)
                left = [key for key in keys if key not in yielded]
                records.append(wait_for_runs(context, scope, left))
            record = await anext(records[0], None)
            if record is None:
                return []
            note_returned(context, scope, [record])
            await scope.renew()
            return [record.key]

        while keys := await recorded(context, scope, self._manager.name, wait):
            if not records:  # a rerun: the await is on record
                note_returned(context, scope, await self._recorded(scope, keys))
            yielded += keys
            yield Run(self._manager.store, keys[0])


class _Pairs(Iterator[tuple[Run, Job]]):
    """An iteration over a selection; it queries when it is first asked for anything."""

    def __init__(self, query: Callable[[], list[tuple[Run, Job]]]) -> None:
        self._query = query
        self._found: list[tuple[Run, Job]] | None = None
        self._next = 0

    @property
    def started(self) -> bool:
        return self._next > 0

    def count(self) -> int:
        return len(self._pairs())

    def _pairs(self) -> list[tuple[Run, Job]]:
        if self._found is None:
            self._found = self._query()
        return self._found

    def __next__(self) -> tuple[Run, Job]:
        self._next += 1
        if self._next > len(self._pairs()):
            raise StopIteration
        return self._pairs()[self._next - 1]


class TaskSelection:
    """A query over one study's runs of the current run name, asked anew at each use.

    Iteration yields (run, job) in id order. ``await`` it to wait until something matches.
    """

    def __init__(self, manager: TaskManager, constraint: Constraint) -> None:
        self._manager = manager
        self.constraint = constraint
        self._begun: ref[_Pairs] | None = None

    def _keys(self) -> list[RunKey]:
        manager = self._manager
        with manager.store.scope().view() as session:
            return select_runs(session, manager.name, manager.workflow.run_name, self.constraint)

    def pairs(self) -> list[tuple[Run, Job]]:
        """Return (run, job) of what matches now, in id order."""
        manager = self._manager
        with manager.store.scope().view() as session:
            keys = select_runs(session, manager.name, manager.workflow.run_name, self.constraint)
            table = session.tables.study(manager.name)
            return pairs(manager.store, list(table.records(key.id for key in keys)))

    def __iter__(self) -> Iterator[tuple[Run, Job]]:
        begun = _Pairs(self.pairs)
        self._begun = ref(begun)
        return begun

    def __len__(self) -> int:
        begun = None if self._begun is None else self._begun()
        if begun is not None and not begun.started:
            return begun.count()  # list() asks for both
        return len(self._keys())

    def __bool__(self) -> bool:
        return bool(self._keys())

    @overload
    def __getitem__(self, index: int) -> tuple[Run, Job]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[Run, Job]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Run, Job] | list[tuple[Run, Job]]:
        return self.pairs()[index]

    def __call__(self, constraints: str | Sequence[str] | None = None) -> list[tuple[Run, Job]]:
        """Return what matches now (these constraints too) as a list."""
        chosen = self if constraints is None else self & constraints
        return chosen.pairs()

    def __and__(self, other: TaskSelection | str | Sequence[str]) -> TaskSelection:
        if isinstance(other, TaskSelection):
            if other._manager.name != self._manager.name:
                raise ParameterError(
                    f"selections of the studies {self._manager.name!r} and "
                    f"{other._manager.name!r} cannot be combined"
                )
            return TaskSelection(self._manager, self.constraint & other.constraint)
        return self & self._manager.select(other)

    @property
    def runs(self) -> list[Run]:
        """Return the matching runs, in id order."""
        return [Run(self._manager.store, key) for key in self._keys()]

    @property
    def ids(self) -> list[int]:
        """Return the matching runs' ids, ascending."""
        return [key.id for key in self._keys()]

    def __await__(self) -> Generator[Any, None, list[tuple[Run, Job]]]:
        return self._matched(self.pairs).__await__()

    async def all(self, *constraints: str | Sequence[str]) -> list[tuple[Run, Job]]:
        """Wait until there are selected runs and every one of them satisfies ``constraints``."""
        wanted = self
        for constraint in constraints:
            wanted = wanted & constraint

        def settled() -> list[tuple[Run, Job]]:
            found = self.pairs()
            return found if len(found) == len(wanted) else []

        return await self._matched(settled)

    async def _matched(self, ask: Callable[[], list[tuple[Run, Job]]]) -> list[tuple[Run, Job]]:
        manager = self._manager
        scope = manager.store.scope()
        context = manager.workflow.context
        found: list[tuple[Run, Job]] = []

        async def wait() -> list[RunKey]:
            await scope.settle()
            wish = f"a run of {manager.name} with {self._wish}"
            found.extend(await wait_for_match(context, scope, manager.name, ask, wish))
            return [run.key for run, _ in found]

        keys = await recorded(context, scope, manager.name, wait)
        return found or await run_in_thread(lambda: self._current(keys))

    def _current(self, keys: list[RunKey]) -> list[tuple[Run, Job]]:
        store = self._manager.store
        with store.scope().view() as session:
            return pairs(store, existing_records(session, keys))

    def __repr__(self) -> str:
        return f"<runs of {self._manager.name} with {self._wish}>"

    @property
    def _wish(self) -> str:
        return self.constraint.text or "any state"


class TaskManager:
    """Creates and selects the runs of one study."""

    def __init__(
        self, workflow: Workflow, name: str, config: StudyConfig, options: TaskManagerSettings
    ) -> None:
        self.workflow = workflow
        self.name = name
        self.bd_config = config
        self.options = options
        self.columns = Columns(name, config.job, config.run)
        self._digest: str | None = None
        self._warned: set[str] = set()
        self._compared: set[str] = set()  # run names

    @property
    def store(self) -> WorkflowStore:
        """Return the workflow's store."""
        return self.workflow.store

    @property
    def study(self) -> str:
        """Return the study's own name, from ``bd.yaml``."""
        return self.bd_config.study

    @property
    def study_dir(self) -> Path:
        """Return the study's directory."""
        return self.bd_config.directory

    @property
    def bd_dir(self) -> Path:
        """Return the directory of the study's run directories."""
        return self.store.runs_root(self.name)

    @property
    def host(self) -> str:
        """Return the address of the database that holds the study."""
        return f"zeo://{self.store.state.socket()}"

    @property
    def base(self) -> StudyBase:
        """Return the study's ``runs`` and ``jobs`` by id."""
        return self.connect()

    def connect(self) -> StudyBase:
        """Connect to the database; returns the study's ``runs`` and ``jobs`` by id."""
        _ = self.store.database
        return StudyBase(self.store, self.name)

    # -- creating --------------------------------------------------------------------------

    def create_task(
        self,
        run_params: Mapping[str, Any] | None = None,
        commit: bool = False,
        *,
        replicate: int = 0,
        fail_fast: bool = False,
        **job_params: Any,
    ) -> RunList:
        """Ask for the runs of these job parameters; those that exist are returned, not repeated.

        A list of values spans an axis of the parameter space unless the parameter's type is
        ``list``. ``run_params`` holds run fields and resources (``nproc``, ``timeout``, ...);
        ``replicate`` asks for the same calculation once more. With ``fail_fast`` an await raises
        RunFailed at the first failure. Raises ParameterError, RunNameError.
        """
        run_name = self._run_name()
        if self.workflow.context.execution is None:
            self.report_changes()
        caller = _calling_function() if self.store.scope().event_name == "" else ""
        wanted = self._wanted(run_name, run_params or {}, replicate, job_params, caller)
        scope = self.store.scope()
        request = RunRequest(self.name, wanted, scope)
        scope.defer(request)
        return RunList(self, request, fail_fast=fail_fast)

    createTask = create_task  # noqa: N815 - the documented second name

    def node(
        self,
        name: str,
        requires: Sequence[str] = (),
        /,
        *,
        run_params: Mapping[str, Any] | None = None,
        replicate: int = 0,
        **job_params: Any,
    ) -> Node:
        """Return a node of a step graph that is runs of this study, as ``create_task`` makes them.

        It is fresh when they have ended well, whatever their labels; building it creates them, or
        tries badly ended ones again, and waits for them. Its value is the run, or a list of runs
        where a job parameter spans an axis.

        A job parameter that is a function is called once the nodes ``requires`` are there, for what
        only they can tell. In front-ends whose nodes have values its parameters name the values
        that it is given, and a job parameter that is not given is the value of its name.
        """
        from motoko.api.run_nodes import RunNode

        return RunNode(self, name, requires, run_params, replicate, job_params).node()

    def find_task(
        self, run_params: Mapping[str, Any] | None = None, *, replicate: int = 0, **job_params: Any
    ) -> list[Run] | None:
        """Return the runs that ``create_task`` would give; None unless all of them are there."""
        wanted = self._wanted(self._run_name(), run_params or {}, replicate, job_params, "")
        with self.store.scope().view() as session:
            table = session.tables.study(self.name)
            found = [item.find(table) for item in wanted]
        keys = [RunKey(self.name, run_id) for run_id in found if run_id is not None]
        return [Run(self.store, key) for key in keys] if len(keys) == len(wanted) else None

    def _run_name(self) -> str:
        if self.workflow.run_name is None:
            raise RunNameError(
                "there is no run name, so no task can be created",
                hint="Set workflow.run_name first, or use --run_name.",
            )
        return check_run_name(self.workflow.run_name)

    def _wanted(
        self,
        run_name: str,
        run_params: Mapping[str, Any],
        replicate: int,
        job_params: Mapping[str, Any],
        caller: str,
    ) -> list[RequestedRun]:
        config, scope = self.bd_config, self.store.scope()
        if not isinstance(run_params, Mapping):
            raise ParameterError(
                f"study {self.name!r}: run_params is {run_params!r}, not a dictionary",
                hint="Job parameters are given by name: create_task(x=1.0).",
            )
        points = expand(self.name, config.job, config.job_space, job_params)
        declared, other, resources = run_values(
            self.name, config.run, config.run_params, run_params
        )
        replicate = check_replicate(replicate, self.name)
        event_name = scope.event_name or caller
        move = Transition(self.store.now(), "CREATED", scope.cause, 0)
        wanted: dict[bytes, RequestedRun] = {}
        for point in points:
            identity = run_identity(self.name, run_name, point, declared, replicate)
            record = RunRecord(
                study=self.name,
                id=0,
                job_id=0,
                run_name=run_name,
                identity=identity,
                job=point,
                replicate=replicate,
                event_name=event_name,
                scripts=self._scripts(),
                resources=MappingProxyType(resources),
                fields=MappingProxyType({**other, **declared}),
                history=(move,),
            )
            wanted.setdefault(identity, self._request(record, declared))
        return list(wanted.values())

    def _request(self, record: RunRecord, declared: Mapping[str, Any]) -> RequestedRun:
        job = record.job
        literal = run_identity(
            self.name, record.run_name, job, declared, record.replicate, literal=True
        )
        literal_job = job_identity(job, literal=True)
        return RequestedRun(record.identity, job_identity(job), record, literal, literal_job)

    def report_changes(self) -> None:
        """Log, once, how many runs were made when ``bd.yaml`` declared other parameters. Blocks."""
        run_name = self.workflow.run_name
        if run_name is None or run_name in self._compared:
            return
        self._compared.add(run_name)
        with self.store.scope().view() as session:
            if self.name not in session.tables.study_names():
                return
            changed = session.tables.study(self.name).changed(self.bd_config.job, run_name)
        if changed:
            logger.warning(
                "study %s: the job parameters in %s have changed since runs of run name %s were "
                "made: %s. Requests no longer find these runs: what they calculated is calculated "
                "again. They are kept and can be selected. To go on using them, undo the change, "
                "and give the changed parameters a study of their own.",
                self.name, self.bd_config.path, run_name, changed_text(changed),
            )  # fmt: skip

    def _scripts(self) -> str:
        if self._digest is None:
            self._digest = scripts_digest(self.bd_config)
        return self._digest

    # -- selecting -------------------------------------------------------------------------

    def parse(self, constraints: str | Sequence[str] | None) -> Constraint:
        """Return a constraint of this study, parsed and typed; ConstraintError if it is bad."""
        return parse(constraints, self.columns)

    def select(self, constraints: str | Sequence[str] | None = None) -> TaskSelection:
        """Return the runs of the current run name that satisfy ``constraints``, lazily.

        What is perhaps misspelt in them is logged as a warning, once.
        """
        constraint = self.parse(constraints)
        for warning in constraint.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                logger.warning("select: %s", warning)
        return TaskSelection(self, constraint)

    def __repr__(self) -> str:
        return f"<task manager {self.name}>"


def _calling_function() -> str:
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("motoko."):
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_name
