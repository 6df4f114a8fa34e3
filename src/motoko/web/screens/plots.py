"""The screen with plots: two columns, parallel coordinates, and quantities over steps."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response
from starlette.routing import Route

from motoko.errors import MotokoError
from motoko.views.plots import quantity_names, read_lines, read_plot
from motoko.views.runs import RunQuery
from motoko.web.screen import Screen, Visit, choose_run_name, option

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from motoko.views.connection import ReadConnection
    from motoko.views.live import LiveViews

OWN: Final = ("duration", "state", "attempt", "exit_code", "created", "ended", "id")
LINES: Final = 30  # runs whose quantities are drawn
AXES: Final = 10  # of parallel coordinates


class PlotsScreen(Screen):
    """Plots of one study. The browser asks for the values and draws them."""

    name = "plots"
    path = "/plots"
    parts = ()

    async def load(self, visit: Visit, state: dict[str, Any]) -> dict[str, Any]:
        """Return the choices."""
        managers = visit.views.workflow.task_managers
        study = visit.argument("study") or _first_study(visit)
        if study and study not in managers:
            visit.views.workflow.task_manager(study)  # raises the error with the nearest name
        job, fields = _declared(visit, study)
        columns = [*job, *fields, *OWN]
        x = visit.argument("x") or (job or OWN)[0]
        y = visit.argument("y") or (fields or OWN)[0]
        color = visit.argument("color")
        words = ["motoko", "plot", quote(study), quote(x), quote(y)]
        words += ["--color", quote(color)] if color else []
        where = visit.argument("where")
        words += ["--where", quote(where)] if where else []
        return {
            "title": "Plots", "studies": [*managers], "study": study, "columns": columns, "x": x,
            "y": y, "color": color, "where": where, "quantity": visit.argument("quantity"),
            "axes": ",".join([*job, *fields][:AXES]),
            "command": " ".join(words) + option(visit.run_name),
        }  # fmt: skip


def _first_study(visit: Visit) -> str:
    """Return the study with the most runs."""
    campaign = visit.campaign
    studies = () if campaign is None else campaign.studies
    names = sorted(studies, key=lambda study: -study.progress.known)
    managers = visit.views.workflow.task_managers
    return names[0].name if names else next(iter(managers), "")


def _declared(visit: Visit, study: str) -> tuple[list[str], list[str]]:
    if not study:
        return [], []
    declared = visit.views.workflow.task_managers[study].columns
    return [*declared.job], [*declared.run]


def plot_route() -> BaseRoute:
    """Return the route of the values of a plot."""
    return Route("/plots/data", _data)


async def _data(request: Request) -> Response:
    views: LiveViews = request.app.state.views
    arguments = request.query_params
    run_name = await choose_run_name(request, views)
    query = RunQuery(run_name, arguments.get("study", ""), arguments.get("where", ""))
    names = [name for name in arguments.get("columns", "").split(",") if name]
    try:
        found = await views.query(
            partial(_read, query=query, names=names, quantity=arguments.get("quantity"))
        )
    except MotokoError as error:
        text = "\n".join(filter(None, (error.message, error.hint)))
        return _answer({"error": text}, 400)
    return _answer(found)


def _answer(content: dict[str, Any], status: int = 200) -> Response:
    """Return JSON in ASCII: names of quantities may have lone surrogates."""
    return Response(json.dumps(content, allow_nan=False), status, media_type="application/json")


def _read(
    connection: ReadConnection, *, query: RunQuery, names: list[str], quantity: str | None
) -> dict[str, Any]:
    data = read_plot(connection, query, list(dict.fromkeys(names)))
    newest = data.ids[-LINES:]
    found = asdict(data)
    found["quantities"] = quantity_names(connection, data.study, newest[-3:])
    if quantity:
        lines = read_lines(connection, data.study, newest, quantity)
        found["lines"] = [asdict(line) for line in lines]
    return found
