"""What the names of a constraint mean in one study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.core.constraints.faults import ConstraintFault
from motoko.core.constraints.syntax_tree import Column
from motoko.core.records import RUN_COLUMNS
from motoko.core.values import TYPE_NAMES
from motoko.errors import likeness, nearest, suggestion
from motoko.worker.validation import RESERVED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUN_NAME: Final = "run_name"


@dataclass(frozen=True, slots=True)
class Columns:
    """The fields of one study: names and types, as ``bd.yaml`` declares them.

    Where ``run`` is empty scripts may add any run field, so unknown names are accepted.
    """

    study: str
    job: Mapping[str, str]
    run: Mapping[str, str]

    def resolve(self, written: str, at: int) -> Column | ConstraintFault:
        """Return the column called ``written``, or what is wrong with the name."""
        prefix, dot, name = written.rpartition(".")
        if not dot:
            return self._bare(name, at)
        if prefix == "jobs":
            return self._of_job(name, at)
        if prefix == "runs":
            return self._of_run(name, at)
        singular = prefix in ("job", "run")
        hint = f"Write {prefix}s.{name}." if singular else "Only jobs. and runs. may stand there."
        return ConstraintFault(at, f"unknown column {written!r}", hint, nearness=0.0)

    def warning(self, column: Column) -> str | None:
        """Return a warning if ``column`` is not declared but spelt almost like one that is."""
        if column.type is not None or column.name in self.run:
            return None
        near = nearest(column.name, self._known())
        if near is None or column.name in self.job:
            return None
        return f"study {self.study!r} declares no field {column.name!r}; did you mean {near!r}?"

    def is_known(self, name: str) -> bool:
        """Return whether ``name`` is a declared field or a column that every run has."""
        return name in self.job or name in self.run or name in RUN_COLUMNS

    def _bare(self, name: str, at: int) -> Column | ConstraintFault:
        if name == _RUN_NAME:
            return _run_name(at)
        of_run = name in self.run or name in RUN_COLUMNS
        if name in self.job and of_run:
            what = f"column {name!r} is ambiguous: jobs and runs both have it"
            return ConstraintFault(at, what, f"Write jobs.{name} or runs.{name}.", nearness=2.0)
        return self._of_job(name, at) if name in self.job else self._of_run(name, at)

    def _of_job(self, name: str, at: int) -> Column | ConstraintFault:
        if name in self.job:
            shared = name in self.run or name in RUN_COLUMNS
            return Column("job", name, f"jobs.{name}" if shared else name, _type(self.job[name]))
        if name == "id":
            return Column("own", "job_id", self._shown("job_id"), "int")
        known = list(self.job)
        hint, nearness = suggestion(name, known), likeness(name, known)
        return ConstraintFault(at, f"jobs have no field {name!r}", hint, nearness)

    def _of_run(self, name: str, at: int) -> Column | ConstraintFault:
        if name == _RUN_NAME:
            return _run_name(at)
        if name in RUN_COLUMNS:
            return Column("own", name, self._shown(name), RUN_COLUMNS[name])
        if name in self.run:
            return Column("field", name, self._shown(name), _type(self.run[name]))
        if self.run or name in RESERVED_FIELDS:
            nearness = likeness(name, self._known())
            return ConstraintFault(at, f"unknown column {name!r}", self._suggestion(name), nearness)
        return Column("field", name, self._shown(name), None)

    def _suggestion(self, name: str) -> str:
        if nearest(name, self._known()) is not None:
            return suggestion(name, self._known())
        return suggestion(name, [*dict.fromkeys([*self.job, *self.run, "id", "state"])])

    def _shown(self, name: str) -> str:
        return f"runs.{name}" if name in self.job else name

    def _known(self) -> list[str]:
        names = dict.fromkeys([*self.job, *self.run, *RUN_COLUMNS])
        return [name for name in names if name != _RUN_NAME or name in self.job]


def _type(declared: str) -> str | None:
    return declared if declared in TYPE_NAMES else None


def _run_name(at: int) -> ConstraintFault:
    return ConstraintFault(
        at,
        "'run_name' is not a column: a run name never enters this language",
        "Selections are scoped by workflow.run_name; set that instead.",
    )
