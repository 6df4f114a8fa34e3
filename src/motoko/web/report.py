"""A report of one run name: one HTML file that needs no server, no script and no network."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from motoko.core.states import FAILURES
from motoko.runtime.files import write_atomic
from motoko.storage.query import check_run_name_exists
from motoko.version import __version__
from motoko.views.connection import ReadConnection
from motoko.views.flow import flow_of, read_creators
from motoko.views.reader import CampaignReader
from motoko.views.runs import RunLists, RunQuery
from motoko.web.application import STATIC_FILES
from motoko.web.rendering import environment

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.api.workflow import Workflow
    from motoko.views.runs import RunRow

ROWS: Final = 200  # runs of a study that are listed, failed ones first
READINGS: Final = 40
LINK: Final = re.compile(r"</?a\b[^>]*>")


@dataclass(frozen=True, slots=True)
class StudyRuns:
    """The listed runs of a study, its columns, and the number of its other runs."""

    name: str
    columns: tuple[str, ...]
    rows: list[RunRow]
    left_out: int


def write_report(workflow: Workflow, run_name: str, file: Path) -> None:
    """Write the report of a run name; RunNameError if it never had a run or an orchestrator."""
    connection = ReadConnection(workflow)
    with contextlib.closing(connection):
        with connection.read() as session:
            if session is not None:
                check_run_name_exists(session, run_name)
        text = report_text(connection, run_name)
    write_atomic(file, text.encode())


def report_text(connection: ReadConnection, run_name: str) -> str:
    """Return the report of a run name as HTML."""
    reader = CampaignReader(connection, run_name)
    with contextlib.closing(reader):
        campaign = reader.read()
        for _ in range(READINGS):  # each reads more causes of failures, and earlier ends
            campaign = reader.read()
    studies = [_runs(connection, run_name, study.name) for study in campaign.studies]
    variables: dict[str, Any] = {
        "campaign": campaign,
        "run_name": run_name,
        "now": campaign.at,
        "studies": studies,
        "flow": flow_of(read_creators(connection, run_name), campaign.events),
        "style": (STATIC_FILES / "motoko.css").read_text(),
        "version": __version__,
        "root": "", "keep_name": "", "read_only": True, "problem": "",
        "no_query": lambda name: "", "graphs": (),
    }  # fmt: skip
    # Links lead nowhere from a file. No text of a run has a tag: they are escaped.
    return LINK.sub("", environment().get_template("report.html").render(variables))


def _runs(connection: ReadConnection, run_name: str, study: str) -> StudyRuns:
    lists = RunLists(connection)
    failed = " or ".join(f"lifecycle = {state}" for state in sorted(FAILURES))
    queries = [RunQuery(run_name, study, where, "id") for where in (failed, f"not ({failed})")]
    found = [lists.find(query).keys for query in queries]
    keys = [key for part in found for key in part[:ROWS]][:ROWS]
    number = sum(len(part) for part in found)
    job, fields = lists.columns(study)
    return StudyRuns(study, (*job, *fields), lists.rows(keys), number - len(keys))
