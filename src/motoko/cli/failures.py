"""The failed runs of an overview, grouped by cause."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from motoko.cli.output import echo
from motoko.core.states import Lifecycle
from motoko.printable import one_line
from motoko.views.failed_runs import CAUSES, FailedRuns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.operations.overview import Overview
    from motoko.views.failures import FailureGroup

RUN_NAMES: Final = 6  # with the most failed runs
SHOWN: Final = 5  # groups of a run name
LINE: Final = 160  # characters


def read_failures(workflow: Workflow, overview: Overview) -> dict[str, Sequence[FailureGroup]]:
    """Return the causes of the newest failed runs of the overview's studies, by run name."""
    found: dict[str, Sequence[FailureGroup]] = {}
    studies = {study.name for study in overview.studies}
    with workflow.store.autocommit_scope.read() as session:
        for name, _ in _failed(overview).most_common(RUN_NAMES):
            failed = FailedRuns(workflow.store, name)
            failed.look(session.tables, {})
            found[name] = [group for group in failed.groups if group.study in studies]
    return found


def _failed(overview: Overview) -> Counter[str]:
    """Return the number of failed runs by run name, without cancelled ones."""
    causes = {Lifecycle(state).value for state in CAUSES}
    numbers = Counter[str]()
    for study in overview.studies:
        for name, counts in study.counts.items():
            numbers[name] += sum(counts.get(state, 0) for state in causes)
    return +numbers


def print_failures(failures: Mapping[str, Sequence[FailureGroup]]) -> None:
    """Print the groups, the largest first, with the command that explains one."""
    for name, groups in failures.items():
        echo(f"\nfailures of {name} (newest)")
        for group in groups[:SHOWN]:
            text = one_line(f"{group.cause} {group.text}".rstrip(), limit=LINE)
            echo(f"{group.number:7,} of {group.study}: {text} (motoko why {group.runs[0]})")
        if len(groups) > SHOWN:
            echo(f"        and {len(groups) - SHOWN} more causes")


def failures_to_json(failures: Mapping[str, Sequence[FailureGroup]]) -> list[dict[str, Any]]:
    """Return the groups as JSON objects."""
    return [
        {
            "run_name": name,
            "study": group.study,
            "outcome": group.outcome,
            "exit_code": group.exit_code,
            "text": group.text,
            "number": group.number,
            "runs": list(map(str, group.runs)),
        }
        for name, groups in failures.items()
        for group in groups
    ]
