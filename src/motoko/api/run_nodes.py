"""Step-graph nodes that stand for runs of a study, built through the launcher."""

from __future__ import annotations

import inspect
import reprlib
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol

from motoko.api.study import Study
from motoko.core.parameter_space import expand_points, is_axis, merge_defaults, run_values
from motoko.errors import ParameterError, RunFailed, suggestion
from motoko.graph import Node, Verdict, fresh_because, stale_because, undecided_because
from motoko.orchestrator.scopes import idempotent
from motoko.printable import join_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from motoko.api.run_list import RunList
    from motoko.handles.run import Run

SHOWN = 3


class NodeStudy(Study, Protocol):
    """The part of a task manager that its nodes use."""

    @property
    def create_task(self) -> Callable[..., RunList]:
        """Return the function that requests runs."""

    @property
    def find_task(self) -> Callable[..., list[Run] | None]:
        """Return the function that finds existing runs."""


class RunNode:
    """The freshness check and the action of a node.

    Functions among ``job_params`` are called when the requirements are ready. Their parameters name
    the ``values`` that they receive. A missing job parameter is the value of its name. Requirements
    have no values if ``values`` is None.
    """

    def __init__(
        self,
        manager: NodeStudy,
        name: str,
        requires: str | Iterable[str],
        run_params: Mapping[str, Any] | None,
        replicate: int,
        job_params: Mapping[str, Any],
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self._manager = manager
        self._name = name
        self._requires = (requires,) if isinstance(requires, str) else (*requires,)
        self._run_params = dict(run_params or {})
        self._replicate = replicate
        self._job_params = dict(job_params)
        self._node_values = values

    def node(self) -> Node:
        """Return the node."""
        return Node(
            self._name,
            self._requires,
            self._check,
            self._build,
            origin=self._origin(),
            when_ready=self._check_runs,
            value=self._value,
            bind=self._bind,
            identity=self._identity,
            is_same=self._is_same,
        )

    # -- identity --------------------------------------------------------------------------

    def _unknown_params(self) -> list[str]:
        """Return the job parameters that depend on the requirements."""
        if self._node_values is not None or not self._requires:
            return []
        functions = [name for name, value in self._job_params.items() if callable(value)]
        missing = self._missing_params()
        return [*functions, *(name for name in self._requires if name in missing)]

    def _missing_params(self) -> list[str]:
        """Return the job parameters that the caller did not pass."""
        return [name for name in self._manager.bd_config.job if name not in self._job_params]

    def _values(self) -> dict[str, Any]:
        values = self._node_values or {}
        missing = {name: values[name] for name in self._missing_params() if name in values}
        return {**missing, **self._evaluate(self._job_params)}

    def _evaluate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {n: self._call(n, v) if callable(v) else v for n, v in params.items()}

    def _call(self, name: str, function: Callable[..., Any]) -> Any:
        values = self._node_values or {}
        parameters = _parameters(function)
        for parameter in parameters:
            if parameter.default is parameter.empty and parameter.name not in values:
                raise ParameterError(
                    f"node {self._name!r}: the function for {name!r} takes {parameter.name!r}, but "
                    "no value has that name",
                    hint="The function can take the products that the node requires, or the inputs "
                    "of its pipeline step. In other front-ends it takes nothing. It cannot take "
                    "config: use config where you create the node.",
                )
        return function(**{p.name: values[p.name] for p in parameters if p.name in values})

    def _bind(self, values: Mapping[str, Any]) -> Node:
        functions = [value for value in self._job_params.values() if callable(value)]
        accepted = [parameter.name for f in functions for parameter in _parameters(f)]
        known = [*self._requires, *self._missing_params(), *accepted]
        for name in values:
            if name not in known:
                raise ParameterError(
                    f"node {self._name!r} of study {self._manager.name!r} takes no {name!r}",
                    hint=suggestion(name, known),
                )
        return RunNode(
            self._manager, self._name, self._requires,
            self._run_params, self._replicate, self._job_params, values,
        ).node()  # fmt: skip

    def _identity(self) -> dict[str, Any]:
        """Return the identity of the runs, as far as it is known before the requirements."""
        name, config, unknown = self._manager.name, self._manager.bd_config, self._unknown_params()
        known = {n: value for n, value in self._job_params.items() if n not in unknown}
        job = self._evaluate(known)
        fields, _, _ = run_values(name, config.run, config.run_params, self._run_params)
        return {
            "study": name,
            "run_name": self._manager.workflow.run_name,
            "jobs": job if unknown else expand_points(name, config.job, config.job_space, job),
            "is_list": self._spans_axis(job),
            "known_later": unknown,
            "fields": fields,
            "replicate": self._replicate,
        }

    def _origin(self) -> str:
        """Return the study and the job parameters, for messages."""
        shown = ", ".join(f"{name}={_shown(value)}" for name, value in self._job_params.items())
        return f"study {self._manager.name}" + (f" ({shown})" if shown else "")

    def _is_same(self, other: Node) -> bool:
        node = getattr(other.identity, "__self__", None)
        return isinstance(node, RunNode) and self._has_same_runs(node)

    def _has_same_runs(self, other: RunNode) -> bool:
        """Return whether another node certainly stands for the same runs; call no function."""
        if self._manager.study_dir != other._manager.study_dir or self._requires != other._requires:
            return False
        params = mine, its = self._job_params, other._job_params
        equal = mine.keys() == its.keys() and all(_same_value(mine[n], its[n]) for n in mine)
        if equal and self._arguments() == other._arguments():
            return True
        if any(callable(value) for one in params for value in one.values()):
            return False
        return bool(self._identity() == other._identity())

    def _arguments(self) -> tuple[object, ...]:
        run_name = self._manager.workflow.run_name
        return run_name, self._run_params, self._replicate, self._node_values

    # -- freshness and action --------------------------------------------------------------

    def _find(self) -> list[Run] | None:
        return self._manager.find_task(
            self._run_params, replicate=self._replicate, **self._values()
        )

    def _check(self) -> Verdict:
        if unknown := self._unknown_params():
            return undecided_because(f"{', '.join(unknown)} depends on the requirements")
        return self._check_runs()

    def _check_runs(self) -> Verdict:
        runs = self._find()
        if runs is None:
            return stale_because("no such run exists")
        unfinished = [run for run in runs if run.lifecycle != "FINISHED"]
        if unfinished:
            return stale_because(*(f"run {run.key} is {run.lifecycle}" for run in unfinished))
        return fresh_because(f"{_names(runs)} FINISHED")

    async def _build(self) -> Verdict:
        """Create the runs, or retry failed ones, and wait for them; raise RunFailed."""
        with idempotent():  # a rerun of an action finds the runs that exist
            tasks = self._manager.create_task(
                self._run_params, replicate=self._replicate, **self._values()
            )
            for run in tasks.runs:
                if run.record.lifecycle.is_failure:
                    run.retry()
            try:
                await tasks
            except RunFailed as error:
                error.hint = f"Build {self._name!r} again to retry them."
                raise
        return fresh_because(f"{_names(tasks.runs)} FINISHED")

    def _value(self) -> Run | list[Run] | None:
        """Return the run, or, if a job parameter spans an axis, the runs in list order."""
        runs = self._find()
        return runs if runs is None or self._spans_axis(self._values()) else runs[0]

    def _spans_axis(self, values: Mapping[str, Any]) -> bool:
        config = self._manager.bd_config
        job = merge_defaults(config.job_space, values)
        return any(is_axis(job[name], kind) for name, kind in config.job.items() if name in job)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that can be passed by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some functions in C have no signature
        return []
    return [parameter for parameter in parameters if parameter.kind in kinds]


def _names(runs: Sequence[Run]) -> str:
    names = join_names((run.key for run in runs), SHOWN)
    return f"run {names}" if len(runs) == 1 else f"runs {names}"


def _same_value(one: Any, other: Any) -> bool:
    if isinstance(one, FunctionType) and isinstance(other, FunctionType):
        return one is other or _same_function(one, other)
    if callable(one) or callable(other):
        return bool(one == other)
    return bool(_to_list(one) == _to_list(other))


def _same_function(one: FunctionType, other: FunctionType) -> bool:
    try:
        return (
            one.__code__ == other.__code__
            and one.__globals__ is other.__globals__
            and (one.__defaults__, one.__kwdefaults__) == (other.__defaults__, other.__kwdefaults__)
            and [cell.cell_contents for cell in one.__closure__ or ()]
            == [cell.cell_contents for cell in other.__closure__ or ()]
        )
    except ValueError:  # an unset variable, or arrays: equality is undecidable
        return False


def _to_list(value: Any) -> Any:
    """Return an array as a list, because arrays compare element by element."""
    return value.tolist() if hasattr(value, "tolist") else value


def _shown(value: Any) -> str:
    if callable(value):
        return str(getattr(value, "__name__", "a function"))
    return reprlib.repr(_to_list(value))
