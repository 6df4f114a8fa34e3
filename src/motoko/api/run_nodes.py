"""Nodes of a step graph that are runs of a study, built through the launcher."""

from __future__ import annotations

import inspect
import reprlib
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol

from motoko.api.selection import Study
from motoko.core.parameter_space import expand_points, is_axis, merge_defaults, run_values
from motoko.errors import ParameterError, RunFailed, suggestion
from motoko.graph import Node, Verdict, fresh_because, stale_because, undecided_because
from motoko.orchestrator.scopes import idempotent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from motoko.api.selection import RunList
    from motoko.config import StudyConfig
    from motoko.handles.run import Run

SHOWN = 3


class TaskCreator(Study, Protocol):
    """The part of a task manager that its nodes use."""

    bd_config: StudyConfig

    @property
    def study_dir(self) -> Path:
        """Return the study's directory."""

    def create_task(
        self,
        run_params: Mapping[str, Any] | None = None,
        commit: bool = False,
        *,
        replicate: int = 0,
        **job_params: Any,
    ) -> RunList:
        """Request the runs of these job parameters."""

    def find_task(
        self, run_params: Mapping[str, Any] | None = None, *, replicate: int = 0, **job_params: Any
    ) -> list[Run] | None:
        """Return the runs of these job parameters; None unless all of them exist."""


class RunNode:
    """What a node asks and does.

    Functions among ``job_params`` are called when its requirements are there, with those of
    ``values`` that their parameters name. A job parameter that is not given is the value of its
    name. Without ``values`` (None) requirements are known to be there or not, and nothing more.
    """

    def __init__(
        self,
        manager: TaskCreator,
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
        self._given = values

    def node(self) -> Node:
        """Return the node."""
        return Node(
            self._name,
            self._requires,
            self._ask,
            self._build,
            origin=self._origin(),
            when_ready=self._look,
            value=self._value,
            bind=self._given_node,
            identity=self._made_of,
            is_same=self._is_same,
        )

    # -- what it is made of ----------------------------------------------------------------

    def _late(self) -> list[str]:
        """Return the job parameters that only the requirements can tell."""
        if self._given is not None or not self._requires:
            return []
        functions = [name for name, value in self._job_params.items() if callable(value)]
        return [*functions, *(name for name in self._requires if name in self._open())]

    def _open(self) -> list[str]:
        """Return the job parameters that are not given."""
        return [name for name in self._manager.bd_config.job if name not in self._job_params]

    def _values(self) -> dict[str, Any]:
        given = self._given or {}
        taken = {name: given[name] for name in self._open() if name in given}
        return {**taken, **self._evaluated(self._job_params)}

    def _evaluated(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {n: self._called(n, v) if callable(v) else v for n, v in params.items()}

    def _called(self, name: str, function: Callable[..., Any]) -> Any:
        values = self._given or {}
        parameters = _parameters(function)
        for one in parameters:
            if one.default is one.empty and one.name not in values:
                raise ParameterError(
                    f"node {self._name!r}: the function for {name!r} takes {one.name!r}, and there "
                    "is no value of that name",
                    hint="A function is given the products that the node requires, or the inputs "
                    "of a step of a pipeline. Elsewhere it takes nothing. There is no config here: "
                    "use it where the node is made.",
                )
        return function(**{one.name: values[one.name] for one in parameters if one.name in values})

    def _given_node(self, values: Mapping[str, Any]) -> Node:
        functions = [value for value in self._job_params.values() if callable(value)]
        taken = [one.name for function in functions for one in _parameters(function)]
        known = [*self._requires, *self._open(), *taken]
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

    def _made_of(self) -> dict[str, Any]:
        """Return what makes up the runs' identity, as far as it is known before they are needed."""
        name, config, late = self._manager.name, self._manager.bd_config, self._late()
        known = {n: value for n, value in self._job_params.items() if n not in late}
        job = self._evaluated(known)
        fields, _, _ = run_values(name, config.run, config.run_params, self._run_params)
        return {
            "study": name,
            "run_name": self._manager.workflow.run_name,
            "jobs": job if late else expand_points(name, config.job, config.job_space, job),
            "is_list": self._spans(job),
            "known_later": late,
            "fields": fields,
            "replicate": self._replicate,
        }

    def _origin(self) -> str:
        """Return the study and the job parameters, for messages."""
        shown = ", ".join(f"{name}={_shown(value)}" for name, value in self._job_params.items())
        return f"study {self._manager.name}" + (f" ({shown})" if shown else "")

    def _is_same(self, other: Node) -> bool:
        twin = getattr(other.identity, "__self__", None)
        return isinstance(twin, RunNode) and self._makes_the_same(twin)

    def _makes_the_same(self, twin: RunNode) -> bool:
        """Return whether another one is certain to be the same runs.

        Functions among job parameters are not called for that: their code is compared, and the
        values that it refers to.
        """
        if self._manager.study_dir != twin._manager.study_dir or self._requires != twin._requires:
            return False
        params = self._job_params, twin._job_params
        if self._as_given() == twin._as_given() and _same_params(*params):
            return True
        if any(callable(value) for one in params for value in one.values()):
            return False
        return bool(self._made_of() == twin._made_of())

    def _as_given(self) -> tuple[object, ...]:
        return self._manager.workflow.run_name, self._run_params, self._replicate, self._given

    # -- whether it is there, and making it ------------------------------------------------

    def _find(self) -> list[Run] | None:
        return self._manager.find_task(
            self._run_params, replicate=self._replicate, **self._values()
        )

    def _ask(self) -> Verdict:
        if late := self._late():
            return undecided_because(f"{', '.join(late)} will be known when what it requires is")
        return self._look()

    def _look(self) -> Verdict:
        runs = self._find()
        if runs is None:
            return stale_because("there is no such run")
        unfinished = [run for run in runs if run.lifecycle != "FINISHED"]
        if unfinished:
            return stale_because(*(f"run {run.key} is {run.lifecycle}" for run in unfinished))
        return fresh_because(f"{_named(runs)} ended FINISHED")

    async def _build(self) -> Verdict:
        """Create the runs and wait for them; RunFailed where one ends badly."""
        with idempotent():  # where it is there already, a rerun of an action does not build it
            tasks = self._manager.create_task(
                self._run_params, replicate=self._replicate, **self._values()
            )
            for run in tasks.runs:
                if run.record.lifecycle.is_failure:
                    run.retry()
            try:
                await tasks
            except RunFailed as error:
                error.hint = f"To build {self._name!r} again tries them again."
                raise
        return fresh_because(f"{_named(tasks.runs)} ended FINISHED")

    def _value(self) -> Run | list[Run] | None:
        """Return the run, or, where a job parameter spans an axis, the runs in list order."""
        runs = self._find()
        return runs if runs is None or self._spans(self._values()) else runs[0]

    def _spans(self, values: Mapping[str, Any]) -> bool:
        """Whether a job parameter spans an axis."""
        config = self._manager.bd_config
        job = merge_defaults(config.job_space, values)
        return any(is_axis(job[name], kind) for name, kind in config.job.items() if name in job)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that can be given by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some that are written in C do not say
        return []
    return [one for one in parameters if one.kind in kinds]


def _named(runs: Sequence[Run]) -> str:
    names = ", ".join(str(run.key) for run in runs[:SHOWN])
    more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    return f"run {names}{more}" if len(runs) == 1 else f"runs {names}{more}"


def _same_params(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(_same_value(value, other[name]) for name, value in one.items())


def _same_value(one: Any, other: Any) -> bool:
    if isinstance(one, FunctionType) and isinstance(other, FunctionType):
        return one is other or _same_function(one, other)
    if callable(one) or callable(other):
        return bool(one == other)
    return bool(_plain(one) == _plain(other))


def _same_function(one: FunctionType, other: FunctionType) -> bool:
    try:
        return (
            one.__code__ == other.__code__
            and one.__globals__ is other.__globals__
            and (one.__defaults__, one.__kwdefaults__) == (other.__defaults__, other.__kwdefaults__)
            and [cell.cell_contents for cell in one.__closure__ or ()]
            == [cell.cell_contents for cell in other.__closure__ or ()]
        )
    except ValueError:  # a variable without a value, or arrays: it cannot be told
        return False


def _plain(value: Any) -> Any:
    """Return an array as a list: arrays have no equality of their own."""
    return value.tolist() if hasattr(value, "tolist") else value


def _shown(value: Any) -> str:
    if callable(value):
        return str(getattr(value, "__name__", "a function"))
    return reprlib.repr(_plain(value))
