"""Give runs of an earlier ``bd.yaml`` the job parameters that it declares now."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.core.adoption import collisions, is_outdated, plan
from motoko.core.changes import EditRun
from motoko.core.edits import SetJob
from motoko.errors import ConflictError, ParameterError, StateError, nearest
from motoko.operations.preview import Preview, preview
from motoko.operations.usage import check_leases_free
from motoko.printable import join_names
from motoko.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motoko.api.workflow import Workflow
    from motoko.core.adoption import Adoption, ParameterChange
    from motoko.core.records import RunKey, RunRecord

SHOWN: Final = 3  # runs named in a message


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """The new values of runs of one study, and their preview."""

    adoptions: Sequence[Adoption]
    preview: Preview


def plan_adoption(
    workflow: Workflow, study: str, selected: Sequence[RunRecord], change: ParameterChange
) -> AdoptionPlan:
    """Plan a change of those selected runs that have other job parameters than ``bd.yaml``.

    Raise StateError for active runs, LeaseHeld if an orchestrator uses one of their run names, and
    ParameterError for runs that would still differ, or have the identity of another run.
    """
    config = workflow.task_manager(study).bd_config
    found = preview(selected, lambda run: is_outdated(run, config.job))
    outdated = found.runs
    _check_dropped(outdated, change)
    if found.active:
        active = join_names((run.key for run in found.active), SHOWN)
        raise StateError(
            f"{active} cannot adopt parameters while active: their scripts use the present ones",
            hint="Wait until they end, or leave them out: "
            "--where 'lifecycle not in (SUBMITTED, START)'.",
        )
    check_leases_free(
        workflow.store,
        {run.run_name for run in outdated},
        hint="Stop it first: `motoko orchestrator stop`.",
    )
    adoptions = plan(outdated, config.job, config.run, change)
    with workflow.store.autocommit_scope.read() as session:
        table = session.tables.study(study)
        pairs = collisions(adoptions, table.find)
    if pairs:
        shown = join_names((f"{one} and {other}" for one, other in pairs), SHOWN)
        raise ParameterError(
            f"runs would have the same parameters: {shown}",
            hint="Leave out one of each pair with --where, or delete it with `motoko clean`.",
        )
    return AdoptionPlan(adoptions, found)


def _check_dropped(outdated: Sequence[RunRecord], change: ParameterChange) -> None:
    known = {name for run in outdated for name in run.job}
    for name in sorted(change.dropped - known):
        near = nearest(name, known)
        raise ParameterError(
            f"no run to change has a job parameter {name!r}",
            hint=None if near is None else f"Did you mean {near!r}?",
        )


def adopt(workflow: Workflow, adoptions: Sequence[Adoption], cause: str) -> list[RunKey]:
    """Change these runs of one study in one commit; return them.

    Raise ConflictError, and change nothing, if another process changed one of them, or created a
    run with the same identity.
    """
    if not adoptions:
        return []
    database, now = workflow.store.database, workflow.store.now()
    study = adoptions[0].run.study
    with contextlib.closing(Session(database)) as session:
        table = session.tables.study(study)
        digests = dict.fromkeys(adoption.job_identity for adoption in adoptions)
        _, first = session.reserve(study, 0, len(digests))
        jobs = {digest: first + n for n, digest in enumerate(digests)}
        present = {run.id: run for run in table.records([one.run.id for one in adoptions])}
        try:
            for adoption in adoptions:
                if present.get(adoption.run.id) != adoption.run:
                    raise ConflictError(f"run {adoption.run.key} was changed")
                new = SetJob(
                    adoption.job, jobs[adoption.job_identity], adoption.identity, now, cause
                )
                session.add(EditRun(adoption.run.key, new))
            database.submit(session.commit).result()
        except (ConflictError, StateError) as error:
            raise ConflictError(
                f"nothing was changed: {error.message}", hint="Repeat the command."
            ) from error
    return [adoption.run.key for adoption in adoptions]
