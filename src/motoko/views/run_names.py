"""The run name that a screen shows unless its user names one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from motoko.errors import MotokoError
from motoko.operations.orchestrator_facts import known_run_names
from motoko.operations.wait import executions_to_await

if TYPE_CHECKING:
    from motoko.views.connection import ReadConnection


def default_run_name(connection: ReadConnection) -> str:
    """Return the run name that is running, or the one that ended last, or any that has runs.

    Raise MotokoError if there is none.
    """
    store = connection.workflow.store
    with contextlib.suppress(MotokoError):
        return executions_to_await(store.state, (), store.clock)[-1].run_name
    with connection.read() as session:
        names = [] if session is None else known_run_names(session.tables)
    if not names:
        raise MotokoError(
            "this workflow has no runs yet", hint="Start it with `motoko run --run_name NAME`."
        )
    return names[-1]
