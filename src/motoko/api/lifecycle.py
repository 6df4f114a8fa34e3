"""Create a workflow's database, start its server and launcher, and stop what was started."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from motoko.errors import MotokoError, StateError
from motoko.handles.html import html_or_message, table_html
from motoko.runtime.completion import to_completion
from motoko.storage.query import count_active_attempts
from motoko.storage.store import WorkflowStore
from motoko.storage.threads import run_in_thread

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Self

    from motoko.api.task_manager import TaskManager
    from motoko.launcher.services import Services
    from motoko.orchestrator.awaiting import AwaitContext

logger = logging.getLogger("motoko.api.workflow")


class WorkflowLifecycle:
    """The database, server and launcher of a workflow.

    A ``with`` or ``async with`` block creates the database if none exists, and runs the server. At
    its end it stops the server, and the launcher that it started, unless other processes use them.
    Runs stay active. Blocks may be nested and repeated. After a block the workflow can be read, but
    not changed. With ``read_only``, or with a database in memory, a block starts nothing.
    """

    context: AwaitContext
    store: WorkflowStore
    task_managers: dict[str, TaskManager]

    def __init__(self, *, is_managed: bool) -> None:
        self._is_managed = is_managed
        self._depth = 0
        self._services: Services | None = None

    def create(self, validated: bool | None = None) -> None:
        """Create an empty database, and move run directories aside.

        Raise DatabaseExistsError if results exist, unless ``validated``; then delete them. Raise
        StateError while the orchestrator runs.
        """
        from motoko.launcher.workflow_creation import create_workflow

        self._check_not_running("created")
        self.store.close()
        create_workflow(self.store, replace=bool(validated))

    def start_launcher_daemons(self, args: argparse.Namespace | None = None) -> None:
        """Start the launcher, which executes created tasks, unless it is running.

        Create the database if it does not exist. ``args`` may have ``generator`` and ``bd_study``:
        a study, an alias, or "all". Outside of a ``with`` block, the launcher runs until it is
        stopped. With a database in memory, also in a dry run, start nothing.
        """
        if not self._is_managed and not self.store.read_only:
            return
        from motoko.launcher.control import start_launcher
        from motoko.launcher.workflow_users import detach_services

        study = getattr(args, "bd_study", None)
        chosen = None if study in (None, "", "all") else [self.task_manager(study).name]
        options: dict[str, Any] = {"generator": getattr(args, "generator", None), "studies": chosen}
        if self._services is not None:
            self._services.start_launcher(self.run_name, **options)
            return
        if not self.store.connected and not self.store.state.database.exists():
            self.create()
        start_launcher(self.store.state, **options)
        detach_services(self.store.state)

    def close(self) -> None:
        """Disconnect from the database; the next use connects again.

        Raise StateError while the orchestrator runs.
        """
        self._check_not_running("closed")
        self.store.close()

    def _check_not_running(self, change: str) -> None:
        if self.context.execution is not None:
            hint = "To end it, assign workflow.finished = True."
            raise StateError(f"a running workflow cannot be {change}", hint=hint)

    # -- what a workflow adds ---------------------------------------------------------------

    @property
    def run_name(self) -> str | None:
        """Return the run name that scopes every task and selection; None until it is set."""
        raise NotImplementedError

    def task_manager(self, study: str) -> TaskManager:
        """Return the task manager of a study or alias."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return html_or_message(self._html, self)

    def _html(self) -> str:
        store, name = self.store, self.run_name
        which = "all run names" if name is None else f"run name {name}"
        title = f"{which}, workflow {store.state.path.parent}"  # the end of a long path is cut
        if not store.connected:  # showing it starts no server
            if not store.state.database.exists():
                return table_html(title, (), (), "no database exists yet")
            store = WorkflowStore(store.state, store.studies, read_only=True, runtime=store.runtime)
        try:
            with store.autocommit_scope.read() as session:
                tables = [session.tables.study(study) for study in session.tables.study_names()]
                counts = [(table.name, table.counts(name)) for table in tables]
        finally:
            if store is not self.store:
                store.close()
        rows = [
            (study, sum(numbers.values()), ", ".join(f"{n} {s}" for s, n in numbers.items()))
            for study, numbers in counts
        ]
        return table_html(title, ("study", "runs", "states"), rows)

    # -- blocks ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        _outside_event_loop(self._enter)
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        _outside_event_loop(lambda: self._exit(error))

    async def __aenter__(self) -> Self:
        await to_completion(run_in_thread(self._enter))
        return self

    async def __aexit__(self, _: object, error: BaseException | None, *__: object) -> None:
        await to_completion(run_in_thread(lambda: self._exit(error)))

    def _enter(self) -> None:
        from motoko.launcher.services import Services

        self._check_not_running("opened again")
        if not self._depth and self._is_managed:
            self.store.close()
            self.store.read_only = False
            services = Services(self, temporary=True, create=True)
            services.__enter__()
            self._services = services
        self._depth += 1

    def _exit(self, error: BaseException | None) -> None:
        self._depth -= 1
        if self._depth:
            return
        services, self._services = self._services, None
        if services is None:
            self.store.close()
            return
        try:
            self._stop_launcher(services)
        finally:
            services.__exit__(None, error)
            self.store.read_only = True

    def _stop_launcher(self, services: Services) -> None:
        """Stop a launcher that the block started, and report the runs that continue."""
        try:
            if services.stop_launcher():
                with self.store.autocommit_scope.read() as session:
                    active = count_active_attempts(session)
                if active:
                    logger.warning(
                        "%d run%s still running; the next launcher adopts %s",
                        active, " is" if active == 1 else "s are", "it" if active == 1 else "them",
                    )  # fmt: skip
        except (MotokoError, OSError) as problem:
            logger.warning("cannot find out whether runs are still running: %s", problem)


def _outside_event_loop(work: Callable[[], None]) -> None:
    """Run ``work`` here, or in a thread of its own if an event loop runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
        return
    done: Future[None] = Future()

    def call() -> None:
        try:
            work()
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 - raised in the caller
            done.set_exception(error)

    threading.Thread(target=call, name="motoko-services").start()
    done.result()
