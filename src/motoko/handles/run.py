"""Handles: the light ``run`` and ``job`` objects that users hold.

A handle is (store, study, id). Each use resolves it in the current scope, so it stays valid across
awaits, sessions and threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from motoko.core.changes import EditRun
from motoko.core.edits import Cancel, Retry, SetFields, SetLabel
from motoko.core.provenance import attempts_of
from motoko.core.values import MISSING, coerce_result, copy_plain, to_plain
from motoko.errors import ParameterError, UnknownNameError, nearest, suggestion
from motoko.handles.frames import require_pandas
from motoko.handles.html import html_or_message, run_html
from motoko.handles.tracked import tracked
from motoko.runtime.packed_files import locate, open_file, read_end
from motoko.worker.validation import RESERVED_FIELDS

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.core.provenance import AttemptProvenance
    from motoko.core.records import RunKey, RunRecord, Transition
    from motoko.core.states import Lifecycle
    from motoko.storage.store import WorkflowStore


MAX_OUTPUT: Final = 16 * 2**20  # bytes of a run's output that a handle returns


class Quantity(NamedTuple):
    """A named series: ``values[i]`` (a number or nested lists) was pushed for ``steps[i]``."""

    steps: list[Any]
    values: list[Any]

    def to_frame(self, name: str) -> Any:
        """Return a pandas DataFrame: ``step``, then one column for each component.

        A scalar's column has the series' name (``value`` if that is ``step``). Components of
        vectors and nested lists are numbered from 0, in row-major order.
        """
        pandas = require_pandas("get_quantity")
        rows = [_flat(value) for value in self.values]
        columns: list[Any] = list(range(max(map(len, rows), default=0)))
        if not any(isinstance(value, list | tuple) for value in self.values):
            columns = ["value" if name == "step" else name]
        frame = pandas.DataFrame(rows, columns=columns)
        frame.insert(0, "step", self.steps)
        return frame


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [number for item in value for number in _flat(item)]
    return [value]


class Job(Mapping[str, Any]):
    """A point of the parameter space; ``job.x`` and ``job["x"]`` are its values."""

    __slots__ = ("_id", "_store", "_study", "_values")

    def __init__(
        self, store: WorkflowStore, study: str, job_id: int, values: Mapping[str, Any]
    ) -> None:
        self._store = store
        self._study = study
        self._id = job_id
        self._values = values

    @property
    def id(self) -> int:
        """Return the job's id within its study."""
        return self._id

    @property
    def study(self) -> str:
        """Return the name of the job's study."""
        return self._study

    def __getitem__(self, name: str) -> Any:
        if name == "id" and name not in self._values:
            return self._id
        if name not in self._values:
            raise KeyError(f"job {self._study}.{self._id} has no parameter {name!r}")
        return copy_plain(self._values[name])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise UnknownNameError(
                f"job {self._study}.{self._id} has no parameter {name!r}",
                hint=suggestion(name, list(self._values)),
            )
        return copy_plain(self._values[name])

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise ParameterError(
                f"job {self._study}.{self._id}: {name!r} cannot be set",
                hint="A job is a point of the parameter space; create another one instead.",
            )
        object.__setattr__(self, name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[Any, ...]:
        return (self._store.state.path, self._study, self._id)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
        return f"<job {self._study}.{self._id} {values}>"


class Run:
    """One execution of a job. Fields are attributes: ``run.y``, ``run.y = 3``, ``run["y"]``."""

    __slots__ = ("_key", "_store")

    _key: RunKey
    _store: WorkflowStore

    def __init__(self, store: WorkflowStore, key: RunKey) -> None:
        object.__setattr__(self, "_store", store)
        object.__setattr__(self, "_key", key)

    @property
    def record(self) -> RunRecord:
        """Return the current record of the run."""
        with self._store.scope().read() as session:
            return session.run(self._key)

    @property
    def key(self) -> RunKey:
        """Return study and id."""
        return self._key

    @property
    def id(self) -> int:
        """Return the run's id within its study."""
        return self._key.id

    @property
    def study(self) -> str:
        """Return the name of the run's study."""
        return self._key.study

    @property
    def run_name(self) -> str:
        """Return the run name that the run belongs to."""
        return self.record.run_name

    @property
    def state(self) -> str:
        """Return the run's label, or else its lifecycle. Assign to label a terminal run."""
        return self.record.state

    @state.setter
    def state(self, label: str) -> None:
        scope = self._store.scope()
        edit = SetLabel(label, self._store.now(), scope.cause)
        scope.write(EditRun(self._key, edit, blind=scope.blind))

    @property
    def lifecycle(self) -> Lifecycle:
        """Return the run's lifecycle state, whatever its label."""
        return self.record.lifecycle

    @property
    def label(self) -> str | None:
        """Return the run's label, None if it has none."""
        return self.record.label

    @property
    def exit_code(self) -> int | None:
        """Return the exit code of the last attempt; -N if signal N killed it."""
        return self.record.exit_code

    @property
    def reason(self) -> str | None:
        """Return why the run failed."""
        return self.record.reason

    @property
    def attempt(self) -> int:
        """Return the number of started attempts, without those that Ctrl-C requeued."""
        return self.record.tries

    @property
    def history(self) -> tuple[Transition, ...]:
        """Return all lifecycle transitions and labels with time, cause and attempt."""
        with self._store.scope().read() as session:
            return session.complete_record(self._key).history

    @property
    def attempts(self) -> tuple[AttemptProvenance, ...]:
        """Return all attempts, oldest first: times, host, git commit, interpreter, versions."""
        with self._store.scope().read() as session:
            return attempts_of(session.complete_record(self._key), session.tables.provenance)

    @property
    def job(self) -> Job:
        """Return the run's job."""
        record = self.record
        return Job(self._store, self._key.study, record.job_id, record.job)

    @property
    def fields(self) -> dict[str, Any]:
        """Return a copy of all free-form fields."""
        return {name: copy_plain(value) for name, value in self.record.fields.items()}

    @property
    def workflow(self) -> str:
        """Return the path of the workflow's ``motoko.yaml``."""
        return str(self._store.workflow_file)

    @property
    def directory(self) -> Path:
        """Return the directory in which the run's script runs.

        With ``keep: packed`` it is moved into a pack when the run has ended: use ``open_file``.
        """
        return self._store.run_directory(self._key.study, self._key.id)

    @property
    def stdout(self) -> str:
        """Return the end of the last attempt's standard output."""
        return self._output("stdout")

    @property
    def stderr(self) -> str:
        """Return the end of the last attempt's standard error."""
        return self._output("stderr")

    def open_file(self, name: str | Path, mode: str = "r") -> IO[Any]:
        """Open a file of the run's directory for reading: text ("r", UTF-8) or bytes ("rb").

        The file may be in a pack. ``name`` is relative to the directory, or a path in it, such as
        ``run.directory / "stdout"``. OSError if it is elsewhere, does not exist, or is no regular
        file.
        """
        if mode not in ("r", "rb"):
            raise ValueError(f"files of a run are opened with mode 'r' or 'rb', not {mode!r}")
        file = open_file(self.directory, name)
        return file if mode == "rb" else TextIOWrapper(file, encoding="utf-8")

    def _output(self, name: str) -> str:
        """Return the end of one of the run's files, or the error in parentheses."""
        found = read_end(locate(self.directory) / name, MAX_OUTPUT)
        return found.text if found.fault is None else f"({found.fault})"

    def quantity(self, name: str) -> Quantity:
        """Return a series as plain steps and values; UnknownNameError if it was never pushed."""
        with self._store.scope().read() as session:
            table = session.tables.study(self._key.study)
            points = table.quantity(self._key.id, name)
            known = table.quantity_names(self._key.id)
        if points is None:
            raise UnknownNameError(
                f"run {self._key} has no quantity {name!r}", hint=suggestion(name, known)
            )
        return Quantity([step for step, _ in points], [value for _, value in points])

    def quantities(self) -> list[str]:
        """Return the names of the run's series, sorted."""
        with self._store.scope().read() as session:
            return session.tables.study(self._key.study).quantity_names(self._key.id)

    def get_quantity(self, name: str) -> Any:
        """Return a series as a pandas DataFrame: ``step``, then one column a component."""
        return self.quantity(name).to_frame(name)

    def retry(self) -> None:
        """Reset a failed run to CREATED; StateError for any other."""
        scope = self._store.scope()
        edit = Retry(self._store.now(), scope.cause)
        scope.write(EditRun(self._key, edit, blind=scope.blind))

    def cancel(self) -> None:
        """Cancel the run, at once if it is CREATED, otherwise through its launcher."""
        scope = self._store.scope()
        scope.write(EditRun(self._key, Cancel(self._store.now(), scope.cause), blind=True))

    # -- fields ----------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = self._read(name)
        if value is MISSING:
            raise UnknownNameError(
                f"run {self._key} has no field {name!r}", hint=self._field_hint(name)
            )
        return value

    def _field_hint(self, name: str) -> str:
        record, declared = self.record, self._store.field_types(self._key.study)
        if name in declared or nearest(name, record.fields) is None:
            if not record.lifecycle.is_terminal:
                return f"It is {record.lifecycle}: await the run before you read its results."
            if name in declared:
                return "bd.yaml declares it, but the run did not set it."
        return suggestion(name, list(record.fields))

    def _read(self, name: str) -> Any:
        record = self.record
        value = record.column(name)
        if isinstance(value, list | dict | set | tuple):
            whole = tracked(value, lambda: self._set(name, whole))
            return whole
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "state":
            Run.state.__set__(self, value)  # type: ignore[attr-defined]
        else:
            self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        if name in RESERVED_FIELDS or name.startswith("_") or not name.isidentifier():
            raise ParameterError(
                f"run {self._key}: {name!r} cannot be set",
                hint="The name is Motoko's own; choose another for your field.",
            )
        scope = self._store.scope()
        what = f"run {self._key}: field {name!r}"
        declared = self._store.field_types(self._key.study).get(name)
        stored = to_plain(value, what) if declared is None else coerce_result(value, declared, what)
        scope.write(EditRun(self._key, SetFields({name: stored}), blind=scope.blind))

    def __delattr__(self, name: str) -> None:
        if self.record.fields.get(name, MISSING) is MISSING:
            raise UnknownNameError(f"run {self._key} has no field {name!r}")
        scope = self._store.scope()
        scope.write(EditRun(self._key, SetFields({name: MISSING}), blind=scope.blind))

    def __getitem__(self, name: str) -> Any:
        if name == "state":
            return self.state
        value = self._read(name)
        if value is MISSING:
            raise KeyError(f"run {self._key} has no field {name!r}")
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.record.column(name) is not MISSING

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[Any, ...]:
        return (self._store.state.path, self._key)

    def __repr__(self) -> str:
        return f"<run {self._key}>"

    def _repr_html_(self) -> str:
        return html_or_message(lambda: run_html(self.record), self)


# The runs that an action receives as ``runs``, with their jobs.
Runs: TypeAlias = list[tuple[Run, Job]]


def run_job_pair(store: WorkflowStore, record: RunRecord) -> tuple[Run, Job]:
    """Return the (run, job) handles for a record."""
    return Run(store, record.key), Job(store, record.study, record.job_id, record.job)


def run_job_pairs(store: WorkflowStore, records: Iterable[RunRecord]) -> Runs:
    """Return (run, job) handles for these records."""
    return [run_job_pair(store, record) for record in records]
