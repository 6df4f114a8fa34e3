"""The screen with a list of runs: filter, sort, pages, and a selection for the verbs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from motoko.errors import MotokoError
from motoko.views.runs import NEWEST_FIRST, RunList, RunLists, RunQuery
from motoko.views.text import ordered
from motoko.web.screen import Screen, Visit

if TYPE_CHECKING:
    from motoko.views.connection import ReadConnection
    from motoko.views.runs import RunRow

PAGE: Final = 50  # runs
RECOUNT: Final = 5.0  # seconds between two counts of what matches now
COLUMNS: Final = 12  # parameters and fields of one study that are shown


class RunsScreen(Screen):
    """The runs that match a filter. An open page keeps its rows and announces others."""

    name = "runs"
    path = "/runs"
    parts = ("chips", "news", "rows")

    async def load(self, visit: Visit, state: dict[str, Any]) -> dict[str, Any]:
        """Find the runs at first; later only read the rows again, and count now and then."""
        query = _query(visit)
        page = _page(visit)
        managers = visit.views.workflow.task_managers
        found, error = await _list(visit, query, state)
        keys = found.keys[(page - 1) * PAGE : page * PAGE]
        rows: list[RunRow] = []
        if keys:
            rows = await visit.views.read(lambda one: _lists(one, state).rows(keys))
        job, fields = ((), ()) if query.study is None else _columns(visit, query.study)
        return {
            "title": "Runs", "command": _command(query), "studies": [*managers],
            "study": query.study or "", "where": query.where, "sort": query.sort,
            "error": error, "warnings": found.warnings, "rows": rows, "page": page,
            "number": len(found), "first": min(len(found), (page - 1) * PAGE + 1),
            "last": min(len(found), page * PAGE), "news": state.get("news", 0),
            "shown_columns": (*job, *fields)[:COLUMNS],
            "columns": [*job, *fields, "state", "lifecycle", "exit_code", "attempt", "reason"],
            "counts": _counts(visit, query.study),
            "page_query": lambda number: _address(query, page=str(number)),
            "sort_query": lambda name: _address(replace(query, sort=_turned(query.sort, name))),
            "state_query": lambda name: _address(replace(query, where=f"lifecycle = {name}")),
            "selection": _selection(query),
        }  # fmt: skip


def _query(visit: Visit) -> RunQuery:
    study = visit.argument("study") or None
    if study is not None and study not in visit.views.workflow.task_managers:
        visit.views.workflow.task_manager(study)  # raises the error with the nearest name
    sort = visit.argument("sort") or NEWEST_FIRST
    return RunQuery(visit.run_name, study, visit.argument("where"), sort)


def _page(visit: Visit) -> int:
    text = visit.argument("page", "1")
    return max(1, int(text)) if text.isdecimal() and len(text) < 9 else 1


async def _list(visit: Visit, query: RunQuery, state: dict[str, Any]) -> tuple[RunList, str]:
    """Return the list that the page shows, and the error in its query."""
    campaign = visit.campaign
    at = 0.0 if campaign is None else campaign.at
    commit = "" if campaign is None else campaign.commit
    try:
        if "list" not in state:
            state["list"] = await visit.views.query(partial(_find, query=query))
            state["counted"], state["commit"] = at, state["list"].commit
        elif at - state["counted"] >= RECOUNT and commit != state["commit"]:
            state["counted"] = at
            present = await visit.views.query(partial(_find, query=query))
            state["commit"] = present.commit  # of another connection than the campaign's
            state["news"] = len(present) - len(state["list"])
    except MotokoError as error:
        found: RunList = state.setdefault("list", RunList(query, ()))
        return found, "\n".join(filter(None, (error.message, error.hint)))
    return state["list"], ""


def _find(connection: ReadConnection, *, query: RunQuery) -> RunList:
    return RunLists(connection).find(query)


def _lists(connection: ReadConnection, state: dict[str, Any]) -> RunLists:
    found: RunLists = state.setdefault("lists", RunLists(connection))
    return found


def _columns(visit: Visit, study: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    declared = visit.views.workflow.task_managers[study].columns
    return tuple(declared.job), tuple(declared.run)


def _counts(visit: Visit, study: str | None) -> list[tuple[str, int]]:
    campaign = visit.campaign
    if campaign is None:
        return []
    if study is None:
        counts = campaign.lifecycles
    else:
        found = (one.lifecycles for one in campaign.studies if one.name == study)
        counts = dict(next(found, {}))
    return [(name, counts[name]) for name in ordered(counts)]


def _turned(sort: str, name: str) -> str:
    """Return the order after a click on a column: the largest first, then the smallest."""
    return name if sort == f"-{name}" else f"-{name}"


def _address(query: RunQuery, **more: str) -> str:
    values = {"run_name": query.run_name, "study": query.study or "", "where": query.where}
    if query.sort != NEWEST_FIRST:
        values["sort"] = query.sort
    return urlencode({name: value for name, value in {**values, **more}.items() if value})


def _selection(query: RunQuery) -> str:
    values = {"run_name": query.run_name, "runs": query.study or "", "where": query.where}
    return urlencode({name: value for name, value in values.items() if value})


def _command(query: RunQuery) -> str:
    words = ["motoko", "info"]
    if query.study is not None:
        words.append(quote(query.study))
    words += ["--where", quote(query.where)] if query.where.strip() else ["--verbose"]
    return " ".join([*words, "--run_name", quote(query.run_name)])
