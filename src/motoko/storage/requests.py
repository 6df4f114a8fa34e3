"""Requests for runs: found where they exist, created where they do not, many at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from motoko.core.changes import CreateRun
from motoko.core.records import RunKey
from motoko.runtime import faults

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motoko.core.records import RunRecord
    from motoko.storage.session import Session


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run that was asked for; its ids are filled in when it is created."""

    identity: bytes
    job_identity: bytes
    record: RunRecord


class Request(Protocol):
    """A request for runs of one study that is noted but perhaps not looked up yet."""

    @property
    def study(self) -> str:
        """Return the name of the study."""
        ...

    @property
    def wanted(self) -> Sequence[Wanted]:
        """Return what was asked for, without duplicates, in order."""
        ...

    def resolved(self, keys: list[RunKey]) -> None:
        """Learn which runs these are."""
        ...

    def committed(self, session: Session) -> None:
        """Learn what the commit made of them."""
        ...


def resolve(session: Session, requests: Iterable[Request]) -> None:
    """Look up what is asked for and create what is missing, with one reservation of ids a study."""
    by_study: dict[str, list[Request]] = {}
    for request in requests:
        by_study.setdefault(request.study, []).append(request)
    for study, of_study in by_study.items():
        wanted = {w.identity: w for request in of_study for w in request.wanted}
        ids = _find_or_create(session, study, list(wanted.values()))
        for request in of_study:
            request.resolved([RunKey(study, ids[w.identity]) for w in request.wanted])


def _find_or_create(session: Session, study: str, wanted: list[Wanted]) -> dict[bytes, int]:
    table = session.tables.study(study)
    ids: dict[bytes, int] = {}
    new: list[Wanted] = []
    for item in wanted:
        found = table.find(item.identity)
        if found is None:
            new.append(item)
        else:
            ids[item.identity] = found
    if not new:
        return ids
    jobs = {item.job_identity: table.find_job(item.job_identity) for item in new}
    unknown = [digest for digest, job_id in jobs.items() if job_id is None]
    run_id, job_id = session.reserve(study, len(new), len(unknown))
    faults.point("storage.ids_reserved")
    jobs.update({digest: job_id + n for n, digest in enumerate(unknown)})
    for n, item in enumerate(new):
        ids[item.identity] = run_id + n
        record = replace(item.record, id=run_id + n, job_id=jobs[item.job_identity] or 0)
        session.add(CreateRun(record, item.job_identity))
    return ids
