"""A launcher without processes: a function determines the end of each run.

It serves to test an orchestrator in milliseconds::

    with FakeLauncher(workflow.store, {"mult": lambda job: {"y": 2 * job["x"]}}):
        workflow.execute()
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from motoko.core.changes import EditRun
from motoko.core.edits import ApplyOutbox, Claim, EndAttempt, MarkStarted
from motoko.core.states import Lifecycle
from motoko.errors import StateError, UnknownRunError
from motoko.launcher.harvest import convert_fields
from motoko.storage.session import Session

if TYPE_CHECKING:
    from motoko.core.records import RunRecord
    from motoko.storage.store import WorkflowStore


@dataclass(frozen=True, slots=True)
class FakeOutcome:
    """The end of a fake run."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    outcome: Lifecycle = Lifecycle.FINISHED
    exit_code: int = 0
    reason: str | None = None
    label: str | None = None


def failing(reason: str = "on purpose", exit_code: int = 1) -> FakeOutcome:
    """Return a failure."""
    return FakeOutcome(outcome=Lifecycle.FAILED, exit_code=exit_code, reason=reason)


Script = Callable[[Mapping[str, Any]], "FakeOutcome | Mapping[str, Any] | None"]


class FakeLauncher:
    """Ends CREATED runs at once, with the result of ``scripts[study](job values)``.

    A script returns fields to set, a FakeOutcome, or None. If it raises an exception, the run
    fails; ``error`` is the first of these exceptions. Runs of studies without script stay CREATED.
    """

    def __init__(self, store: WorkflowStore, scripts: Mapping[str, Script]) -> None:
        self._store = store
        self._scripts = scripts
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="fake-launcher", daemon=True)
        self.executed: list[tuple[str, Mapping[str, Any]]] = []
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self._unsubscribe = self._store.database.feed.subscribe(lambda _: self._wake.set())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._unsubscribe()
        if self.error is not None:
            raise self.error

    def _serve(self) -> None:
        session = Session(self._store.database)
        try:
            while not self._stop.is_set():
                session.refresh()
                for study in self._scripts:
                    self._execute(session, study)
                self._wake.wait(0.5)
                self._wake.clear()
        except BaseException as error:  # noqa: BLE001 - __exit__ raises it again
            self.error = error
        finally:
            session.close()

    def _execute(self, session: Session, study: str) -> None:
        table = session.tables.study(study)
        for record in list(table.records(session.tables.created(study).ids())):
            self.executed.append((study, record.job))
            result = self._result(study, record)
            try:
                self._end(session, record, result)
            except (StateError, UnknownRunError):
                session.refresh()  # cancelled, claimed or deleted meanwhile

    def _result(self, study: str, record: RunRecord) -> FakeOutcome | Mapping[str, Any] | None:
        try:
            return self._scripts[study](record.job)
        except Exception as error:  # noqa: BLE001 - __exit__ raises it again
            self.error = self.error or error
            return failing(f"its function raised {type(error).__name__}: {error}")

    def _end(
        self, session: Session, record: RunRecord, result: FakeOutcome | Mapping[str, Any] | None
    ) -> None:
        end = result if isinstance(result, FakeOutcome) else FakeOutcome(fields=result or {})
        types = self._store.field_types(record.study)
        fields, _ = convert_fields(end.fields, types, f"run {record.key}")
        token, now = secrets.token_hex(4), self._store.now()
        for edit in (
            Claim("fake", token, now),
            MarkStarted(token, now, "fake launcher"),
            ApplyOutbox(token, 1, now, fields, end.label),
            EndAttempt(token, end.outcome, now, "fake launcher", end.exit_code, end.reason),
        ):
            session.add(EditRun(record.key, edit, blind=True))
        self._store.database.submit(session.commit).result()
