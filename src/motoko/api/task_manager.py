"""Task managers: handles on the studies of a workflow, which create and select runs."""

from __future__ import annotations

import inspect
import logging
from functools import partial
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from motoko.api.run_list import RunList
from motoko.api.run_nodes import RunNode
from motoko.api.selection import TaskSelection
from motoko.api.study_base import StudyBase
from motoko.core.axes import MAX_POINTS, MAX_RUNS, check_count
from motoko.core.changes import EditHolds
from motoko.core.constraints import Columns, Constraint, parse
from motoko.core.holds import AddHolds, RemoveHolds
from motoko.core.parameter_space import RunIdentities, check_run_name, format_changes
from motoko.core.records import RunKey, Transition
from motoko.core.requests import PlannedProduct, PlannedRun, plan_points, plan_product
from motoko.errors import RunNameError
from motoko.handles.frames import require_pandas, to_frame
from motoko.handles.run import Run
from motoko.storage.columns import read_columns
from motoko.storage.commit import collector_paused
from motoko.storage.query import check_run_name_exists
from motoko.storage.run_requests import DeferredRuns, RequestedRun, RunRequest, find_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pandas import DataFrame

    from motoko.api.study import WorkflowView
    from motoko.config import StudyConfig, TaskManagerSettings
    from motoko.graph import Node
    from motoko.storage.store import WorkflowStore

T = TypeVar("T")

logger = logging.getLogger("motoko.api.task_manager")

PIECE: Final = 20_000  # runs of one call in one commit, if there may be several


class TaskManager:
    """Creates and selects the runs of one study."""

    def __init__(
        self, workflow: WorkflowView, name: str, config: StudyConfig, options: TaskManagerSettings
    ) -> None:
        self.workflow = workflow
        self.name = name
        self.bd_config = config
        self.options = options
        self.columns = Columns(name, config.job, config.run)
        self._scripts_digest: str | None = None
        self._warned: set[str] = set()
        self._checked_run_names: set[str] = set()

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
        """Connect to the database; return the study's ``runs`` and ``jobs`` by id."""
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
        """Return the runs of these job parameters; create those that do not exist.

        A list of values spans an axis of the parameter space, unless the parameter's type is
        ``list``. ``run_params`` holds run fields and run options (``nproc``, ``timeout``, ...).
        ``replicate`` numbers repetitions of a calculation. With ``fail_fast``, an await raises
        RunFailed at the first failure. Raise ParameterError or RunNameError.
        """
        run_name = self._run_name_to_create()
        planned = self._planned(run_params or {}, replicate, job_params)
        return self._request(run_name, planned, fail_fast=fail_fast)

    createTask = create_task  # noqa: N815 - the documented second name

    def create_tasks(
        self,
        points: Iterable[Mapping[Any, Any]],
        run_params: Mapping[str, Any] | None = None,
        *,
        fail_fast: bool = False,
    ) -> RunList:
        """Return the runs of these points, in list order; create those that do not exist.

        Each point is a dictionary of the arguments of ``create_task`` for one run: job parameters,
        ``run_params`` and ``replicate``. Its values are taken as they are and span no axis.
        ``run_params`` holds run fields and run options of all points. Raise ParameterError for an
        invalid point, with its index in the list, and create nothing; RunNameError.
        """
        run_name = self._run_name_to_create()
        planned = plan_points(self.name, self.bd_config, points, run_params or {})
        return self._request(run_name, planned, fail_fast=fail_fast)

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
        """Return a step-graph node that stands for the runs which ``create_task`` would return.

        The node is fresh if all runs have FINISHED, whatever their labels. Building it creates the
        runs, or retries failed ones, and waits for them. Its value is the run, or a list of runs if
        a job parameter spans an axis.

        A job parameter may be a function, which is called when the nodes in ``requires`` are ready.
        If nodes have values, the function's parameters name the values that it receives. A missing
        job parameter is then the value of its name.
        """
        return RunNode(self, name, requires, run_params, replicate, job_params).node()

    def find_task(
        self, run_params: Mapping[str, Any] | None = None, *, replicate: int = 0, **job_params: Any
    ) -> list[Run] | None:
        """Return the runs that ``create_task`` would return; None unless all of them exist."""
        run_name = self._run_name()
        planned = self._planned(run_params or {}, replicate, job_params)
        check_count(len(planned), f"study {self.name!r}: ")
        requested = self._maker(run_name, "")(planned)
        with self.store.scope().read() as session:
            table = session.tables.study(self.name)
            found = find_runs(table, requested)
        if len(found) < len(requested):
            return None
        return [Run(self.store, RunKey(self.name, found[item.identity])) for item in requested]

    def _run_name(self) -> str:
        if self.workflow.run_name is None:
            raise RunNameError(
                "no run name is set, so no task can be created",
                hint="Set workflow.run_name first, or use --run_name.",
            )
        return check_run_name(self.workflow.run_name)

    def _run_name_to_create(self) -> str:
        run_name = self._run_name()
        if self.workflow.context.execution is None:
            self.report_changes()
        return run_name

    def _planned(
        self, run_params: Mapping[str, Any], replicate: int, job_params: Mapping[str, Any]
    ) -> PlannedProduct:
        return plan_product(self.name, self.bd_config, run_params, replicate, job_params)

    def _request(self, run_name: str, planned: Sequence[PlannedRun], *, fail_fast: bool) -> RunList:
        scope = self.store.scope()
        caller = _calling_function() if scope.event_name == "" else ""
        make = self._maker(run_name, caller)
        splits = scope.splits and isinstance(planned, PlannedProduct)
        check_count(len(planned), f"study {self.name!r}: ", MAX_RUNS if splits else MAX_POINTS)

        def make_piece(start: int, end: int) -> list[RequestedRun]:
            return make(planned[start:end])

        requests = []
        if splits and len(planned) > PIECE:
            for start in range(0, len(planned), PIECE):
                end = min(start + PIECE, len(planned))
                runs = DeferredRuns(end - start, partial(make_piece, start, end))
                requests.append(RunRequest(self.name, runs, scope))
        else:
            with collector_paused(len(planned)):
                requests.append(RunRequest(self.name, make(planned), scope))
        for request in requests:
            self.workflow.context.on_request(request)
            scope.enqueue(request)
        return RunList(self, requests, fail_fast=fail_fast)

    def _maker(
        self, run_name: str, caller: str
    ) -> Callable[[Iterable[PlannedRun]], list[RequestedRun]]:
        """Return a function that makes requested runs of planned ones, now or later."""
        scope, scripts = self.store.scope(), self._scripts()
        common = {
            "study": self.name,
            "run_name": run_name,
            "event_name": scope.event_name or caller,
            "scripts": scripts,
            "history": (Transition(self.store.now(), "CREATED", scope.cause, 0),),
            "firing": scope.firing,
        }
        identities = RunIdentities(self.name, run_name)

        def make(planned: Iterable[PlannedRun]) -> list[RequestedRun]:
            requested: dict[bytes, RequestedRun] = {}
            for run in planned:
                identity, job_identity = identities.of(run.job, run.declared, run.replicate)
                if identity not in requested:
                    requested[identity] = RequestedRun(identity, job_identity, run, common)
            return list(requested.values())

        return make

    def report_changes(self) -> None:
        """Warn once about runs made when ``bd.yaml`` declared other parameters. Blocks."""
        run_name = self.workflow.run_name
        if run_name is None or run_name in self._checked_run_names:
            return
        self._checked_run_names.add(run_name)
        with self.store.scope().read() as session:
            if self.name not in session.tables.study_names():
                return
            table, types = session.tables.study(self.name), self.bd_config.job
            changed = table.count_other_parameters(types, run_name)
        if changed:
            logger.warning(
                "study %s: the job parameters in %s have changed since runs of run name %s were "
                "made: %s. New requests do not find these runs and repeat their calculations. The "
                "runs are kept and can be selected. To use them again, change their "
                "parameters with `motoko adopt %s`.",
                self.name, self.bd_config.path, run_name, format_changes(changed), self.name,
            )  # fmt: skip

    def _scripts(self) -> str:
        if self._scripts_digest is None:
            self._scripts_digest = self.bd_config.scripts_digest()
        return self._scripts_digest

    # -- selecting -------------------------------------------------------------------------

    def hold(self) -> None:
        """Hold the study's runs of the current run name (None: of all), later ones included."""
        scope, rule = self.store.scope(), (self.name, self.workflow.run_name)
        scope.write(EditHolds(AddHolds(self.store.now(), scope.cause, [rule])))

    def release(self) -> None:
        """Remove all holds of the study's runs of the current run name (None: of all)."""
        scope, rule = self.store.scope(), (self.name, self.workflow.run_name)
        with scope.read() as session:
            runs = session.tables.held_singly(rule)
        scope.write(EditHolds(RemoveHolds([rule], runs)))

    def parse(self, constraints: str | Sequence[str] | None) -> Constraint:
        """Return a typed constraint of this study, or raise ConstraintError."""
        return parse(constraints, self.columns)

    def select(self, constraints: str | Sequence[str] | None = None) -> TaskSelection:
        """Return the runs of the current run name that satisfy ``constraints``, lazily.

        Warn once about names that are probably misspelt.
        """
        constraint = self.parse(constraints)
        for warning in constraint.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                logger.warning("select: %s", warning)
        return TaskSelection(self, constraint)

    def frame(
        self,
        where: str | Sequence[str] | None = None,
        run_name: str | EllipsisType | None = ...,
        columns: Sequence[str] | None = None,
        quantities: Sequence[str] | None = None,
    ) -> DataFrame:
        """Return runs as a pandas DataFrame with typed columns, a row for each run, by id.

        ``where`` are constraints. Without ``run_name`` it has the runs of the workflow's run name,
        or all if that is not set; with None, of all run names. ``columns`` are job parameters,
        fields and columns of runs, by default all. With ``quantities`` it has a row for each step
        of each run. Raise RunNameError or UnknownNameError for names that do not exist.
        """
        require_pandas("frame")
        constraint = self.parse(where)
        chosen = self.workflow.run_name if isinstance(run_name, EllipsisType) else run_name
        scope = self.store.scope()
        with scope.read() as session:
            if isinstance(run_name, str):
                check_run_name_exists(session, run_name)
            table = read_columns(
                session, self.columns, chosen, constraint, columns,
                quantities=quantities, root=self.bd_dir, keep=True,
                copied=scope is self.store.autocommit_scope,  # else in an action, which decides
            )  # fmt: skip
        return to_frame(table)

    def __repr__(self) -> str:
        return f"<task manager {self.name}>"


def _calling_function() -> str:
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("motoko."):
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_name
